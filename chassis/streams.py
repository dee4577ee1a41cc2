"""Standard input, output and error, where whoever started this process has closed some of them.

Their numbers would go to the next files and sockets that are opened, and what C libraries and dying interpreters write
to number 2 would go there, too: to a database, to a broker.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import TextIO

READABLE = 0  #: the descriptor of standard input; 1 and 2 are written to


def open_what_is_closed() -> None:
    """Open those that are closed: as empty input, as output that nobody sees. Before anything else is opened."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if _is_closed(number):
            os.open(os.devnull, os.O_RDWR)  # the lowest number that is free is this one
        if getattr(sys, name) is None:
            mode = "r" if number == READABLE else "w"
            setattr(sys, name, open(number, mode, encoding="utf-8", errors="backslashreplace", closefd=False))  # noqa: SIM115  # for as long as the process lives


def print_nowhere(stream: TextIO) -> None:
    """Drop what is printed from now on, and what waits in the buffer: it would fail each time, and when Python ends."""
    with (
        Path(os.devnull).open("wb") as nowhere,
        suppress(OSError, ValueError),
    ):  # a closed one, or no file
        os.dup2(nowhere.fileno(), stream.fileno())


def _is_closed(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return True
    return False
