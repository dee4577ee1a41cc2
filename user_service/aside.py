"""What cannot leave the outbox now, so that the rest can: one relay's memory of the topics and rows that have failed.

A topic that fails is left alone for a while, at most five seconds: the broker may be away, or nobody has subscribed
yet. Then its rows leave one at a time, and one that fails by itself is passed over. When others leave after it, that
row is a suspect: it is published by itself, and when it fails again it is named, and waits until its lease ends.
Nothing is ever dropped, and a new process begins with no memory and finds out again.
"""

from __future__ import annotations

import logging
import math
import time
from collections import deque
from collections.abc import Iterable, Sequence

from sqlalchemy import ColumnElement, and_

from broker import NoSubscriber
from broker.errors import InvalidName
from user_service.outbox import Entry
from user_service.tables import OutboxRow

log = logging.getLogger(__name__)

BATCH = 500  #: messages published at a time; each batch costs two commits, which are most of its price
MANY = 1000  #: rows are passed over, one after another, before all are tried again
FIRST_BACKOFF_SECONDS = 0.1  #: doubled with each failure
LAST_BACKOFF_SECONDS = 5


def backoff_seconds(failures: int) -> float:
    """How long to wait after that many failures in a row."""
    return min(math.ldexp(FIRST_BACKOFF_SECONDS, min(failures - 1, 16)), LAST_BACKOFF_SECONDS)


class Aside:
    """What has failed since something else left, and how much to publish at a time."""

    def __init__(self) -> None:
        self.limit = BATCH  #: rows
        self.suspects: deque[int] = deque()  #: ids of rows that failed while others left; the first is next
        self.topics: dict[str, int] = {}  #: how often each has failed since anything of it left
        self._due: dict[str, float] = {}  # when to try a topic again, in `time.monotonic()` seconds
        self._passed_over: list[int] = []  # ids of rows that failed by themselves since anything left
        self._named: set[int] = set()

    def others(self) -> ColumnElement[bool]:
        """Selects the rows to publish now."""
        topics = [topic for topic, due in self._due.items() if due > time.monotonic()]
        return and_(OutboxRow.topic.not_in(topics), OutboxRow.id.not_in([*self.suspects, *self._passed_over]))

    def seconds(self) -> float:
        """How long until a topic is to be tried again; infinity when none is set aside."""
        now = time.monotonic()
        return min((due - now for due in self._due.values() if due > now), default=math.inf)

    def start_over(self) -> None:
        """Nothing is left to publish: what was passed over is next, once no topic waits."""
        if math.isinf(self.seconds()):
            self._passed_over.clear()

    def failed(self, entries: Sequence[Entry], unsent: Sequence[Entry], trouble: Exception) -> None:
        """Of these entries of one topic, published together, some have not left."""
        if len(unsent) < len(entries):  # what failed before one that left is not the broker's fault
            last = max({entry.id for entry in entries} - {entry.id for entry in unsent})
            self.suspects.extend(entry.id for entry in unsent if entry.id < last)
            return
        self._wait(entries[0].topic, trouble)
        if isinstance(trouble, NoSubscriber | InvalidName):
            return
        self.limit = 1
        if len(entries) == 1:
            self._passed_over.append(entries[0].id)
        if len(self._passed_over) > MANY:
            self._passed_over.clear()

    def name(self, entries: Iterable[Entry], reason: object) -> None:
        """Say of these rows, once, that they are to blame."""
        for entry in entries:
            if entry.id not in self._named:
                why, about = entry.unfit or reason, {"event_id": entry.message.id}
                log.error("row %d of topic %s is set aside: %s", entry.id, entry.topic, why, extra=about)
            self._named.add(entry.id)

    def left(self, entries: Sequence[Entry]) -> None:
        """These are published: so their topic works, and what failed before them is to blame for that."""
        ids = {entry.id for entry in entries}
        self.suspects = deque(row for row in [*self.suspects, *self._passed_over] if row not in ids)
        self._passed_over.clear()
        self.limit = min(BATCH, 2 * self.limit)
        self._named -= ids
        for topic in {entry.topic for entry in entries} & self.topics.keys():
            del self.topics[topic], self._due[topic]
            log.info("topic %s is published again", topic)

    def _wait(self, topic: str, trouble: Exception) -> None:
        if topic not in self.topics:
            log.warning("topic %s waits, and the others go on: %s", topic, trouble)
        self.topics[topic] = self.topics.get(topic, 0) + 1
        self._due[topic] = time.monotonic() + backoff_seconds(self.topics[topic])
