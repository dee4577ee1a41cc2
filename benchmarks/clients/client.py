"""What every way to use a server can be asked to do. Who implements it uses its library as its manual says."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from types import TracebackType
from typing import Self

from benchmarks.side_by_side import messages
from broker import Message

GROUP = "group"
LIBRARY = "library"  #: the name in tables of the client library used bare, whichever it is
BATCH = 100  #: messages read or acked at a time, where the library leaves that to us

Handler = Callable[[Message], bool]  #: whether that was enough


class Client(ABC):
    """Connected while its `with` statement runs. All send the same body and header, and confirm the same way."""

    name: str  #: as in the tables

    @abstractmethod
    def make(self, topic: str) -> None:
        """Let there be the topic, and the group that will receive what is published from now on."""

    @abstractmethod
    def publish_singly(self, topic: str, messages: Iterable[Message]) -> None:
        """Each confirmed by the server before the next is sent."""

    @abstractmethod
    def publish_batches(self, topic: str, batches: Iterable[Sequence[Message]]) -> None:
        """Those of a batch all at once, all confirmed before the next batch is sent."""

    def fill(self, topic: str, count: int) -> None:
        """Let so many messages wait for the group, in the quickest way."""
        waiting = messages(count)
        self.publish_batches(topic, (waiting[start : start + BATCH] for start in range(0, count, BATCH)))

    @abstractmethod
    def receive(self, topic: str, handle: Handler) -> None:
        """As the one member of the group, until `handle` has enough; each message is acked after it."""

    @abstractmethod
    def close(self) -> None:
        """Let go of everything."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
