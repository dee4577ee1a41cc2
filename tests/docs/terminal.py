"""A terminal as a reader has it: a shell on a pseudo-terminal, typed into, and looked at.

It is a real one, so that programs behave as for the reader: they stay where they would, log for people, and end by
Ctrl-C. It calls itself dumb, so that nobody draws spinners; colours are taken out.
"""

from __future__ import annotations

import codecs
import os
import pty
import re
import sys
import termios
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

from broker.testing import eventually

PATIENCE_SECONDS = 120.0

#: A new session's leader makes its standard input the terminal that Ctrl-C is sent by, and does not ignore that, though
#: the tests may, which some shell has put into the background.
SHELL = (
    "import fcntl, os, signal, termios; signal.signal(signal.SIGINT, signal.SIG_DFL); "
    "fcntl.ioctl(0, termios.TIOCSCTTY, 0); "
    "os.execvp('bash', ['bash', '--norc', '--noprofile', '--noediting', '-i'])"
)
READY = re.compile("\x1e([0-9]+)\x1f")  #: the prompt, with the status of the last command
MORE = "\x1d"  #: the prompt in the middle of a command
PROMPTS = {"PS1": "\x1e$?\x1f", "PS2": MORE}
COLOURS = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")

KILLED, INTERRUPTED = 137, 130  #: exit status


class Terminal:
    """One of them. As a context manager, everything that was started in it is gone at the end."""

    def __init__(self, folder: Path, environ: Mapping[str, str]) -> None:
        self._ours, its = pty.openpty()
        _do_not_echo(its)
        self._shell = psutil.Popen(
            [sys.executable, "-c", SHELL],
            cwd=folder,
            env={**environ, **PROMPTS},
            stdin=its,
            stdout=its,
            stderr=its,
            start_new_session=True,
        )
        os.close(its)
        self._text = ""
        self._block_at = 0  # where the output of the last block begins
        self._typed_at = 0  # and that of its last line
        self._seen = 0  # so many characters of the block's output, as they are shown
        self._pressed = False  # since the last line was typed
        self._rest_is_open = False  # the page leaves out what comes after what was seen last
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def enter(self, block: str) -> None:
        """Type these lines, each when the one before has ended; the last one may run on."""
        self._end_of_line()
        self._block_at, self._seen, self._rest_is_open = len(self._text), 0, False
        for line in block.splitlines():
            self._end_of_line()
            self._typed_at, self._pressed = len(self._text), False
            os.write(self._ours, f"{line}\n".encode())

    def press_ctrl_c(self) -> None:
        """Interrupt what runs, and wait until it has ended."""
        self._pressed = True
        os.write(self._ours, b"\x03")
        self._end_of_line()

    def wait(self) -> None:
        """Return when what was typed has ended as it should, with nothing printed that nobody has looked at."""
        self._end_of_line()
        assert self._pressed or self._rest_is_open or not self.unseen.strip(), "this is not in the page"

    def look(self, find: Callable[[str, bool], int | None], *, rest_is_open: bool) -> None:
        """Wait until `find` sees what it looks for: it is given what is unseen, and whether that is all.

        It gives the number of characters up to the end of what it saw, or None. With `rest_is_open` nobody minds
        what is printed after that.
        """
        self._rest_is_open = rest_is_open

        def found() -> bool:
            is_all = self._is_ready()
            end = find(self.unseen, is_all)
            self._seen += end or 0
            assert end is not None or not is_all, "that is not what it printed"
            return end is not None

        eventually(found, "it prints what the page says", PATIENCE_SECONDS)

    @property
    def unseen(self) -> str:
        """What the last block has printed and nobody has looked at so far."""
        return _plain(self._text[self._block_at :])[self._seen :]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        family = [*self._shell.children(recursive=True), self._shell]
        for process in family:
            with suppress(psutil.NoSuchProcess):  # it was about to end
                process.kill()
        psutil.wait_procs(family)
        self._reader.join(PATIENCE_SECONDS)
        os.close(self._ours)

    def _end_of_line(self) -> None:
        """Wait until the shell takes another line; the one before must not have failed."""
        eventually(self._takes_input, "the terminal is free", PATIENCE_SECONDS)
        statuses = READY.findall(self._text, self._typed_at)
        expected = (0, KILLED, *((INTERRUPTED,) if self._pressed else ()))  # "Killed" is printed, so it is looked at
        assert not statuses or int(statuses[-1]) in expected, f"exit status {statuses[-1]}"

    def _is_ready(self) -> bool:
        return bool(READY.search(self._text, self._typed_at))

    def _takes_input(self) -> bool:
        return self._is_ready() or MORE in self._text[self._typed_at :]

    def _read(self) -> None:
        decode = codecs.getincrementaldecoder("utf-8")("replace").decode
        while True:
            try:
                output = os.read(self._ours, 65536)
            except OSError:  # the last process at the other end has gone
                return
            if not output:
                return
            self._text += decode(output)


def _plain(text: str) -> str:
    """The text without prompts and colours, line ends as in a file."""
    return COLOURS.sub("", READY.sub("", text.replace(MORE, ""))).replace("\r\n", "\n")


def _do_not_echo(terminal: int) -> None:
    settings = termios.tcgetattr(terminal)
    settings[3] &= ~termios.ECHO
    termios.tcsetattr(terminal, termios.TCSANOW, settings)
