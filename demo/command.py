"""What the commands share that people type: they print on any terminal, and their exit status says what it should."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from rich.console import Console
from rich.text import Text

from chassis.streams import open_what_is_closed, print_nowhere
from chassis.text import print_anywhere, shown

FAILED = 2  #: exit status when the command itself could not do its work
INTERRUPTED = 130  #: by Ctrl-C, as shells have it


class Screen(Console):
    """Standard output, with colours in a terminal. When its reader has left, the command goes on in silence."""

    def __init__(self) -> None:
        super().__init__(highlight=False, markup=False, soft_wrap=True)

    def print(self, *objects: Any, **options: Any) -> None:
        """A string is one line, whatever strangers have written into it; a `Text` is printed as it is."""
        super().print(*(Text(shown(each)) if isinstance(each, str) else each for each in objects), **options)

    def on_broken_pipe(self) -> None:
        """Called by rich, which would exit with 1: a status with a meaning of its own."""
        self.quiet = True
        _let_go(sys.stdout)


def run(name: str, command: Callable[[], int]) -> int:
    """The command's exit status; `FAILED` when it raises, with one line that says what."""
    open_what_is_closed()
    print_anywhere()
    try:
        status = command()
        print(end="", flush=True)
        return status
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:  # `| head` has read enough
        return FAILED
    except Exception as error:  # noqa: BLE001  # Python's own status for it is 1, which means something here
        with suppress(OSError):  # of standard error
            print(f"{name}: failed: {type(error).__name__}: {shown(str(error))}", file=sys.stderr)
        return FAILED
    finally:
        for stream in (sys.stdout, sys.stderr):
            _let_go(stream)


def _let_go(stream: Any) -> None:
    """Write what is left. What nobody takes is dropped: at its end Python would try once more, and exit with 120."""
    try:
        if stream is not None:
            stream.flush()
    except OSError:
        print_nowhere(stream)
