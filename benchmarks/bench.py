"""What every question is given, and what it answers: `answer(bench) -> Answer`."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Self

BROKERS = ("memory", "http", "redis", "nats", "rabbitmq", "kafka")
DATABASES = ("SQLite", "MariaDB")
MEMORY = Path("/dev/shm")


@dataclass(frozen=True)
class Effort:
    """How much is done for a figure."""

    rounds: int  #: the median of these counts; one more before them, if there are several, warms up
    seconds: float  #: at most, of one measurement
    prepared: int  #: messages that one measurement of publishing has to give
    received: int  #: messages of one measurement of receiving
    paced: int  #: messages of one measurement of latency, a hundredth of a second apart
    registrations: int
    clients: int  #: at a time, under load
    load_seconds: float  #: of one measurement under load
    backlog: int  #: messages that wait for a member of the http broker
    waiting: tuple[int, ...]  #: rows of the outbox, sizes to be compared
    users: tuple[int, ...]  #: users stored, the same
    replicas: tuple[int, ...]  #: of the email service


FULL = Effort(
    5, 0.4, 30_000, 3_000, 150, 60, 8, 3.0, 10_000, (1_000, 100_000, 1_000_000), (1_000, 1_000_000), (1, 2, 4)
)
QUICK = Effort(5, 0.1, 10_000, 500, 50, 20, 8, 1.0, 1_000, (1_000, 20_000), (1_000, 20_000), (1, 2))
TINY = Effort(1, 0.01, 200, 20, 5, 3, 2, 0.3, 20, (20, 40), (20, 40), (1,))  #: shows that it works, and nothing else


@dataclass(frozen=True)
class Goal:
    """A figure and what it should be, at least or at most."""

    what: str
    value: float
    bound: float
    at_most: bool = False

    @property
    def met(self) -> bool:
        """Whether it is."""
        return self.value <= self.bound if self.at_most else self.value >= self.bound


@dataclass
class Answer:
    """One question's table, as text, and its goals."""

    question: str
    how: str  #: what exactly was measured
    rows: list[dict[str, str]] = field(default_factory=list)  #: column → cell
    goals: list[Goal] = field(default_factory=list)


class Bench:
    """Private servers and new folders. Each server is started for the first question that asks, and stays."""

    def __init__(
        self, effort: Effort, folder: Path, brokers: Sequence[str] = BROKERS, databases: Sequence[str] = DATABASES
    ) -> None:
        self.effort = effort
        self.brokers = brokers
        self.databases = databases
        self._folder = folder
        self._running = ExitStack()
        self._addresses: dict[str, str] = {}

    def folder(self) -> Path:
        """A new one."""
        made = self._folder / uuid.uuid4().hex[:8]
        made.mkdir(parents=True)
        return made

    def address(self, broker: str) -> str:
        """The URL of that broker, to which this process alone publishes unless it tells others."""
        if broker == "memory":
            return f"memory://{uuid.uuid4().hex}"
        if broker == "http":
            return "http://"
        if broker not in self._addresses:
            from tests.servers.brokers import broker_server  # noqa: PLC0415  # it needs every client library

            server = self._running.enter_context(broker_server(broker, self._memory() / broker))
            self._addresses[broker] = server.url
        return self._addresses[broker]

    def _memory(self) -> Path:
        """A new folder in memory, if there is such: what is compared is what the clients cost, not the disk."""
        where = MEMORY if MEMORY.is_dir() else self._folder
        return Path(self._running.enter_context(TemporaryDirectory(prefix="bench-", dir=where)))

    def database(self, kind: str) -> str:
        """The URL of a new database."""
        if kind == "SQLite":
            return f"sqlite:///{self.folder() / 'bench.db'}"
        if kind not in self._addresses:
            from tests.servers.mariadb import MariaDbServer  # noqa: PLC0415  # as above

            self._mariadb = self._running.enter_context(MariaDbServer(self.folder()))
            self._addresses[kind] = "started"
        return self._mariadb.url(f"bench_{uuid.uuid4().hex[:12]}")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._running.close()


def topic() -> str:
    """A name that no other measurement has."""
    return f"bench{uuid.uuid4().hex[:12]}"


def quantile(values: Sequence[float], share: float) -> float:
    """The value that this share of them does not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def ms(seconds: float) -> str:
    """For a table."""
    return f"{seconds * 1000:.1f} ms"


def rate(per_second: float) -> str:
    """For a table."""
    return f"{per_second:,.0f}/s" if per_second >= 10 else f"{per_second:.1f}/s"  # noqa: PLR2004  # digits that say something
