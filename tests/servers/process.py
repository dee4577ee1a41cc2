"""A private server for a test: a process of ours on a free port, with its data in a folder of its own.

Started from whatever is installed. When its program is missing, the test is skipped with the line that installs it;
with REQUIRE_SERVERS=1 it fails instead.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import NoReturn, Self

import pytest

from broker.testing import eventually

START_SECONDS = 180.0


@contextmanager
def reserved_port() -> Iterator[int]:
    """A port of 127.0.0.1 that nobody listens on, and that nobody else is given meanwhile.

    On Linux, whoever asks for it by its number may listen on it all the same (with SO_REUSEADDR, as servers do); on
    other systems it is merely free at first.
    """
    with socket.socket() as reservation:
        reservation.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        reservation.bind(("127.0.0.1", 0))
        port: int = reservation.getsockname()[1]
        if sys.platform != "linux":
            reservation.close()
        yield port


def missing(what: str) -> NoReturn:
    """Skip this test, saying what it lacks; with REQUIRE_SERVERS=1 it fails instead."""
    if os.environ.get("REQUIRE_SERVERS") == "1":
        pytest.fail(what)
    pytest.skip(what)


class ServerProcess(ABC):
    """One server. As a context manager it is started, and in the end killed, with everything it started."""

    program: str  #: looked for on the PATH
    package: str  #: of Debian, that has it

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self._reservations = ExitStack()
        if shutil.which(self.program, path=f"{os.environ['PATH']}:/usr/sbin:/usr/local/sbin") is None:
            missing(f"{self.program} is not installed; try: apt-get install {self.package}")
        self.port = self.reserve_port()

    def reserve_port(self) -> int:
        """A port for it, also while it is down."""
        return self._reservations.enter_context(reserved_port())

    @abstractmethod
    def command(self) -> list[str]:
        """What to run."""

    @abstractmethod
    def is_ready(self) -> bool:
        """Whether it answers; False, never an error, while it does not."""

    def environ(self) -> Mapping[str, str]:
        """More environment variables for it."""
        return {}

    def start(self) -> None:
        """Run it, and wait until it answers."""
        with (self.folder / "server.log").open("ab") as output:
            self._process = subprocess.Popen(
                self.command(),
                cwd=self.folder,  # where it leaves a dump when it crashes
                env={**os.environ, "PATH": f"{os.environ['PATH']}:/usr/sbin:/usr/local/sbin", **self.environ()},
                stdout=output,
                stderr=output,
                stdin=subprocess.DEVNULL,
                start_new_session=True,  # so that the whole group can be signalled
            )
        eventually(self._ready_or_dead, f"{self.program} is ready; see {self.folder}/server.log", START_SECONDS)

    def _ready_or_dead(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, (self.folder / "server.log").read_text(errors="replace")[-2000:]
        return self.is_ready()

    @property
    def runs(self) -> bool:
        """Whether there is a process of it."""
        return self._process is not None and self._process.poll() is None

    def kill(self) -> None:
        """SIGKILL, as a power cut would."""
        self._signal(signal.SIGKILL)
        if self._process is not None:
            self._process.wait()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Meanwhile it does not run, but its connections stay."""
        self._signal(signal.SIGSTOP)
        if self._process is not None:
            os.waitpid(self._process.pid, os.WUNTRACED)  # its threads may run on for a moment
        try:
            yield
        finally:
            self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None and self.runs:
            os.killpg(self._process.pid, number)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        ServerProcess.kill(self)
        self._reservations.close()
