"""The memory broker: one process, nothing to install. The reference implementation, to be read after `base.py`.

    memory://           the bus that every `memory` broker of this process shares
    memory://NAME       a bus of its own

It keeps the whole contract but durability: a bus lives as long as one broker is connected to it.
"""

from __future__ import annotations

import heapq
import threading
import time
import weakref
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import count
from typing import Any, ClassVar, Self

from broker.base import Broker, DeadLetter, Group, Promises
from broker.engine.source import BroadcastSource, Delivery, Source
from broker.errors import NoSubscriber
from broker.message import GROUP, Message
from broker.options import SubscribeOptions


class MemoryBroker(Broker):
    """Publisher and consumer in one process."""

    name = "memory"
    default_address = "memory://"
    promises = Promises(
        needs="nothing: one process",
        server=False,
        many_processes=False,
        durable=False,
        survives_kill=False,
        replays=False,
        tested_on="itself",
    )
    _bus: Bus

    def _open(self) -> None:
        self._bus = Bus.named(self.address)

    def _close(self, deadline: float) -> None:  # noqa: ARG002  # nothing here can take long
        del self._bus

    def _publish(self, topic: str, messages: tuple[Message, ...], mandatory: bool) -> None:
        groups = self._bus.groups_of(topic)
        if mandatory and not groups:
            raise NoSubscriber(self.describe(f"topic {topic!r} has no group yet"), messages)
        for group in groups:
            group.put(messages, keep_seconds=self.options.retention_seconds)
        for inbox in self._bus.broadcasts_of(topic):
            inbox.put(messages)

    def _source(self, topic: str, options: SubscribeOptions) -> Source[Any]:
        if options.group is None:
            return MemoryBroadcast(self._bus, topic)
        return MemorySource(self._bus, topic, options.group)

    def _group(self, topic: str, name: str) -> Group:
        return MemoryGroup(self._bus, topic, name)

    def _groups(self) -> list[Group]:
        return [MemoryGroup(self._bus, topic, name) for topic, name in self._bus.all_groups()]


class Bus:
    """What a server would be: the queues of every group, and who listens to broadcasts."""

    _named: ClassVar[weakref.WeakValueDictionary[str, Bus]] = weakref.WeakValueDictionary()
    _naming: ClassVar = threading.Lock()

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._groups: dict[tuple[str, str], Queue] = {}
        self._broadcasts: dict[str, tuple[Queue, ...]] = {}

    @classmethod
    def named(cls, address: str) -> Self:
        """The bus of that address, made when this process has none; it goes with its last broker."""
        with cls._naming:
            bus = cls._named.get(address) or cls()
            cls._named[address] = bus
            return bus  # type: ignore[return-value]  # the dictionary holds what `cls()` made

    def group(self, topic: str, name: str) -> Queue:
        """The group's queue, made when it is new."""
        with self._lock:
            return self._groups.setdefault((topic, name), Queue())

    def groups_of(self, topic: str) -> list[Queue]:
        """The queue of each group of the topic."""
        with self._lock:
            return [group for (of, _), group in self._groups.items() if of == topic]

    def all_groups(self) -> list[tuple[str, str]]:
        """Topic and name of each group."""
        with self._lock:
            return list(self._groups)

    def find(self, topic: str, name: str) -> Queue:
        """The group's queue; an empty one that belongs to nobody when there is no such group."""
        with self._lock:
            return self._groups.get((topic, name)) or Queue()

    def forget(self, topic: str, name: str) -> None:
        """Drop a group."""
        with self._lock:
            self._groups.pop((topic, name), None)

    def broadcasts_of(self, topic: str) -> tuple[Queue, ...]:
        """One queue for each broadcast subscription."""
        with self._lock:
            return self._broadcasts.get(topic, ())

    def listen(self, topic: str, inbox: Queue) -> None:
        """Give this queue every message of the topic from now on."""
        with self._lock:
            self._broadcasts[topic] = (*self._broadcasts.get(topic, ()), inbox)

    def unlisten(self, topic: str, inbox: Queue) -> None:
        """The opposite of `listen`."""
        with self._lock:
            self._broadcasts[topic] = tuple(other for other in self._broadcasts.get(topic, ()) if other is not inbox)


@dataclass(eq=False, slots=True)
class Entry:
    """One message in one group's queue."""

    message: Message
    published_at: float = field(default_factory=time.time)  #: seconds since 1970
    attempt: int = 0
    last_started: bool = False


class Queue:
    """The messages of one group: ready, delayed, in flight, dead. Members wait on its condition."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.dead: list[DeadLetter] = []
        self._ready: deque[Entry] = deque()
        self._delayed: list[tuple[float, int, Entry]] = []  # a heap by due time (`time.monotonic()`)
        self._flying: set[Entry] = set()
        self._order = count()

    def put(self, messages: Iterable[Message], keep_seconds: float = float("inf")) -> None:
        """Add to the end, and drop from the front what is older than `keep_seconds`."""
        with self.changed:
            oldest = time.time() - keep_seconds
            while self._ready and self._ready[0].published_at < oldest:
                self._ready.popleft()
            self._ready.extend(Entry(message) for message in messages)
            self.changed.notify_all()

    def take(self, limit: int, timeout_seconds: float, interrupted: threading.Event) -> list[Entry]:
        """Up to `limit` entries as soon as there is one; their attempts counted."""
        deadline = time.monotonic() + timeout_seconds
        with self.changed:
            while not self._wake_delayed() and not interrupted.is_set():
                wake_at = min(deadline, self._delayed[0][0]) if self._delayed else deadline
                if time.monotonic() >= deadline:
                    return []
                self.changed.wait(max(0.0, wake_at - time.monotonic()))
            if interrupted.is_set():
                return []
            taken = [self._ready.popleft() for _ in range(min(limit, len(self._ready)))]
            self._flying.update(taken)
        for entry in taken:
            entry.attempt += 1
        return taken

    def _wake_delayed(self) -> bool:
        while self._delayed and self._delayed[0][0] <= time.monotonic():
            self._ready.append(heapq.heappop(self._delayed)[2])
        return bool(self._ready)

    def settle(self, entries: Iterable[Entry]) -> None:
        """These are done with."""
        with self.changed:
            self._flying.difference_update(entries)

    def put_back(self, entries: Sequence[Entry]) -> None:
        """To the front, in their order."""
        with self.changed:
            self._flying.difference_update(entries)
            self._ready.extendleft(reversed(entries))
            self.changed.notify_all()

    def put_later(self, entry: Entry, delay_seconds: float) -> None:
        """Ready again after the delay."""
        with self.changed:
            self._flying.discard(entry)
            heapq.heappush(self._delayed, (time.monotonic() + delay_seconds, next(self._order), entry))
            self.changed.notify_all()

    def bury(self, entry: Entry, reason: str) -> None:
        """Move it to the dead letters."""
        published_at = datetime.fromtimestamp(entry.published_at, UTC)
        with self.changed:
            self.dead.append(DeadLetter(entry.message, reason, entry.attempt, published_at, datetime.now(UTC)))
            self._flying.discard(entry)

    def take_dead(self, *message_ids: str) -> list[DeadLetter]:
        """Remove and return the dead letters of those ids."""
        with self.changed:
            taken = [dead for dead in self.dead if dead.message.id in message_ids]
            self.dead = [dead for dead in self.dead if dead.message.id not in message_ids]
        return taken

    def __len__(self) -> int:
        with self.changed:
            return len(self._ready) + len(self._delayed) + len(self._flying)

    def __bool__(self) -> bool:
        return True  # an empty queue is still a queue


class MemorySource(Source[Entry]):
    """A member of a group. There is no lease to renew: no member dies without its process."""

    def __init__(self, bus: Bus, topic: str, group: str) -> None:
        self._bus = bus
        self._of = topic, group
        self._queue = bus.group(topic, group)
        self._interrupted = threading.Event()
        self._lock = threading.Lock()
        self._mine: set[Entry] = set()

    def fetch(self, limit: int, timeout_seconds: float) -> Sequence[Delivery[Entry]]:
        self._queue = self._bus.group(*self._of)  # made again when somebody has forgotten it
        entries = self._queue.take(limit, timeout_seconds, self._interrupted)
        with self._lock:
            self._mine.update(entries)
        return [Delivery(entry.message, entry.attempt, entry, entry.last_started) for entry in entries]

    def interrupt(self) -> None:
        self._interrupted.set()
        with self._queue.changed:
            self._queue.changed.notify_all()

    def close(self) -> None:
        with self._lock:
            left, self._mine = self._mine, set()
        self._queue.put_back(sorted(left, key=lambda entry: entry.published_at))

    def ack(self, deliveries: Sequence[Delivery[Entry]]) -> None:
        self._queue.settle(self._finished(deliveries))

    def retry(self, delivery: Delivery[Entry], delay_seconds: float) -> None:
        for entry in self._finished([delivery]):
            self._queue.put_later(entry, delay_seconds)

    def bury(self, delivery: Delivery[Entry], reason: str) -> None:
        if delivery.receipt in self._mine:
            self._queue.bury(delivery.receipt, reason)
            self._finished([delivery])

    def release(self, deliveries: Sequence[Delivery[Entry]]) -> None:
        entries = self._finished(deliveries)
        for entry in entries:
            entry.attempt -= 1
        self._queue.put_back(entries)

    def begin_last(self, delivery: Delivery[Entry]) -> None:
        delivery.receipt.last_started = True

    def _finished(self, deliveries: Sequence[Delivery[Entry]]) -> list[Entry]:
        """What is no longer this member's; without what was not any more, since `close` has put that back."""
        with self._lock:
            entries = [delivery.receipt for delivery in deliveries if delivery.receipt in self._mine]
            self._mine.difference_update(entries)
        return entries


class MemoryBroadcast(BroadcastSource):
    """A subscription of its own: a queue that only it takes from."""

    def __init__(self, bus: Bus, topic: str) -> None:
        self._bus = bus
        self._topic = topic
        self._inbox = Queue()
        self._interrupted = threading.Event()
        bus.listen(topic, self._inbox)

    def fetch(self, limit: int, timeout_seconds: float) -> Sequence[Delivery[None]]:
        entries = self._inbox.take(limit, timeout_seconds, self._interrupted)
        self._inbox.settle(entries)
        return [Delivery(entry.message, entry.attempt, None) for entry in entries]

    def interrupt(self) -> None:
        self._interrupted.set()
        with self._inbox.changed:
            self._inbox.changed.notify_all()

    def close(self) -> None:
        self._bus.unlisten(self._topic, self._inbox)


class MemoryGroup(Group):
    """A group's queue, for operators."""

    def __init__(self, bus: Bus, topic: str, name: str) -> None:
        super().__init__(topic, name)
        self._bus = bus

    def backlog(self) -> int:
        return len(self._queue)

    def dead_letters(self) -> list[DeadLetter]:
        return list(self._queue.dead)

    def replay(self, *message_ids: str) -> int:
        letters = self._queue.take_dead(*message_ids)
        self._queue.put(letter.message.with_header(**{GROUP: self.name}) for letter in letters)
        return len(letters)

    def discard(self, message_id: str) -> int:
        return len(self._queue.take_dead(message_id))

    def forget(self) -> None:
        self._bus.forget(self.topic, self.name)

    @property
    def _queue(self) -> Queue:
        return self._bus.find(self.topic, self.name)
