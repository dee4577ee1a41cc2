"""Runs one service with faults, for a demonstration: it dies at a named point, or its mail server refuses.

    DEMO_FAULTS=after-commit python -m demo.service user_service      dies the first time that it passes this point
    DEMO_FAULTS=after-send@3 python -m demo.service email_service     dies the third time
    DEMO_FAULTS=mail-refused@5 python -m demo.service email_service   its first five emails are refused

`faults.py` has the points. Everything else is as with `python -m user_service`: the service knows nothing of this.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from importlib import import_module
from types import ModuleType

from chassis.main import run
from chassis.settings import ServiceSettings, read
from demo.faults import POINTS, Faults


@dataclass(frozen=True)
class Settings:
    """What is read beside the service's own settings."""

    demo_faults: str = ""


def with_faults(
    module: ModuleType, environ: Mapping[str, str]
) -> Callable[[ServiceSettings], AbstractContextManager[object]]:
    """The service of that `__main__` module, with the faults that the environment names wrapped around its parts."""

    @contextmanager
    def service(settings: ServiceSettings) -> Iterator[object]:
        faults = Faults(read(Settings, environ).demo_faults)
        with module.service(settings, faults.around) as server:
            yield server

    return service


def run_service(name: str) -> int:
    """Run it until it is told to stop; the exit status."""
    module = import_module(f"{name}.__main__")
    return run(module.NAME, module.Settings, with_faults(module, os.environ), expected=module.EXPECTED)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m demo.service", description="Run one service with DEMO_FAULTS.")
    parser.add_argument("service", choices=sorted(POINTS))
    return run_service(parser.parse_args(arguments).service)


if __name__ == "__main__":
    sys.exit(main())
