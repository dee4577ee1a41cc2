"""The services as processes of their own, with the settings that a measurement wants."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import broker
from contracts.events import USER_REGISTERED
from demo.processes import Stage, free_ports

EMAIL_GROUP = "email-service"
ANY_PORT = 0
QUIET = {"LOG_LEVEL": "WARNING"}


@contextmanager
def services(settings: Mapping[str, str], *names: str, one_process: bool = False) -> Iterator[Stage]:
    """These services, serving; each on a port of its own."""
    ports = free_ports(*(ANY_PORT for _ in names))
    each = {name: {**QUIET, **settings, "PORT": str(port)} for name, port in zip(names, ports, strict=True)}
    with Stage(each, one_process, _say) as stage:
        yield stage


def _say(service: str, line: str) -> None:
    """What it complains of; the simulated emails are many."""
    if not line.startswith("[SENDING") and '"level": "info"' not in line:
        print(f"  {service}: {line}", file=sys.stderr)


@contextmanager
def bare_server(*words: str) -> Iterator[str]:
    """`python -m benchmarks.bare_server …`, and where it listens."""
    command = [sys.executable, "-m", "benchmarks.bare_server", *words]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=os.environ) as process:
        assert process.stdout
        yield process.stdout.readline().strip()
        assert process.stdin
        process.stdin.close()


def make_group(address: str, folder: Path) -> None:
    """Let the group of the email service be known, so that events can be published before it runs."""
    with broker.connect(address, data_dir=folder) as bus:
        bus.subscribe(USER_REGISTERED, lambda _: None, group=EMAIL_GROUP).unsubscribe()
