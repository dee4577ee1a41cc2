"""What the suite needs of a broker under test: connections, member processes, power over its server if it has one."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any, Self

import broker
from broker.base import Broker, Promises
from broker.errors import BrokerError
from broker.message import Message
from broker.testing.recorder import Received, Recorder, surely

DRAIN_SECONDS = 60.0  #: only a handler that never ends takes as long


class MemberProcess:
    """A subscription in a process of its own; see `broker/testing/member.py` for what its messages make it do."""

    def __init__(self, arguments: list[str], environ: Mapping[str, str]) -> None:
        command = [sys.executable, "-m", "broker.testing.member", *arguments]
        self._process = subprocess.Popen(
            command, env={**os.environ, **environ}, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.seen = Recorder()
        self.ready = threading.Event()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line == "ready\n":
                self.ready.set()
            else:
                fields = json.loads(line)
                message = Message(fields["text"].encode(), fields["header"])
                self.seen.add(Received(message, fields["attempt"], fields["group"]))
        self.ready.set()  # nobody waits for a process that has ended

    @property
    def alive(self) -> bool:
        """Whether it runs, or something that it said is still to be read."""
        return self._process.poll() is None or self._reader.is_alive()

    def kill(self) -> None:
        """SIGKILL."""
        self._process.kill()
        self._end()

    def stop(self) -> None:
        """Let it drain, and wait until it has ended."""
        if self._process.stdin and self.alive:
            with contextlib.suppress(BrokenPipeError):
                self._process.stdin.close()
        self._end()

    def _end(self) -> None:
        try:
            self._process.wait(timeout=60)
        finally:
            self._process.kill()
            self._reader.join()
            for stream in (self._process.stdin, self._process.stdout):
                with contextlib.suppress(BrokenPipeError):
                    stream.close()  # type: ignore[union-attr]  # both are pipes


class Harness(ABC):
    """Subclass it for a broker. As a context manager it ends, afterwards, whatever a test has left running."""

    promises: Promises

    def __init__(self, address: str) -> None:
        self.address = address
        self._brokers: list[Broker] = []
        self._processes: list[MemberProcess] = []

    def options(self) -> dict[str, object]:
        """Options that every broker of this test needs."""
        return {}

    def environ(self) -> dict[str, str]:
        """The same for member processes, as environment variables."""
        return {}

    @abstractmethod
    def paused(self) -> AbstractContextManager[None]:
        """Meanwhile the broker confirms nothing; afterwards it goes on where it was."""

    @abstractmethod
    def dead_letters_unreachable(self) -> AbstractContextManager[None]:
        """Meanwhile no dead letter can be stored."""

    def lose_group(self, topic: str, group: str) -> None:
        """Delete a group underneath its members, as an operator's mistake would."""
        raise NotImplementedError

    def cut(self) -> None:
        """Break every connection once; new ones are possible."""
        raise NotImplementedError

    def stop(self) -> None:
        """Take the server down, as hard as it can be."""
        raise NotImplementedError

    def start(self) -> None:
        """Bring it back with what it had stored."""
        raise NotImplementedError

    @contextlib.contextmanager
    def outage(self) -> Iterator[None]:
        """Meanwhile the server is down."""
        self.stop()
        try:
            yield
        finally:
            self.start()

    def new(self, **options: Any) -> Broker:
        """A broker that is not yet connected."""
        chosen: Any = {"drain_seconds": DRAIN_SECONDS, **self.options(), **options}
        made = broker.new(self.address, **chosen)
        self._brokers.append(made)
        return made

    def connect(self, **options: Any) -> Broker:
        """A connected broker."""
        made = self.new(**options)
        surely(made.connect)
        return made

    def member(self, topic: str, group: str, **options: object) -> MemberProcess:
        """A process with one subscription, in force."""
        process = self.start_member(topic, group, **options)
        assert process.ready.wait(60), "the member process was not ready in time"
        assert process.alive, "the member process has ended instead; see what it printed"
        return process

    def start_member(self, topic: str, group: str, **options: object) -> MemberProcess:
        """The same, not yet in force."""
        process = MemberProcess([self.address, topic, group, json.dumps(options)], self.environ())
        self._processes.append(process)
        return process

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for made in self._brokers:
            with contextlib.suppress(BrokerError):
                made.disconnect()
        for process in self._processes:
            process.kill()
