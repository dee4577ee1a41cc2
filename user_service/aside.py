"""What cannot leave the outbox now, so that the rest can: the rows and the topics that one relay has set aside.

A row keeps its claim in the database until that ends, so that other relays leave it alone, too. A topic is left alone
for five seconds at the most, since somebody may subscribe to it at any moment. Each is named in the log once.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterable, Sequence

from sqlalchemy import ColumnElement, and_

from user_service.outbox import Entry
from user_service.tables import OutboxRow

log = logging.getLogger(__name__)

FIRST_BACKOFF_SECONDS = 0.1  #: doubled with each failure
LAST_BACKOFF_SECONDS = 5


def backoff_seconds(failures: int) -> float:
    """How long to wait after that many failures in a row."""
    return min(math.ldexp(FIRST_BACKOFF_SECONDS, min(failures - 1, 16)), LAST_BACKOFF_SECONDS)


class Aside:
    """One relay's memory of what did not leave; a new process begins with none, and finds out again."""

    def __init__(self) -> None:
        self.topics: dict[str, int] = {}  #: how often each has failed since anything of it left
        self.suspects: set[int] = set()  #: ids of rows that did not leave while another one did
        self._due: dict[str, float] = {}  # when to try a topic again, in `time.monotonic()` seconds
        self._named: set[int] = set()

    def others(self) -> ColumnElement[bool]:
        """Selects the rows that are no suspects, of topics that are not set aside now."""
        topics = [topic for topic, due in self._due.items() if due > time.monotonic()]
        return and_(OutboxRow.topic.not_in(topics), OutboxRow.id.not_in(self.suspects))

    def seconds(self) -> float:
        """How long until a topic is to be tried again; infinity when none is set aside."""
        now = time.monotonic()
        return min((due - now for due in self._due.values() if due > now), default=math.inf)

    def add_topic(self, topic: str, reason: object) -> None:
        """Leave the topic alone for a while, longer each time."""
        if topic not in self.topics:
            log.warning("topic %s is set aside, and the others go on: %s", topic, reason)
        self.topics[topic] = self.topics.get(topic, 0) + 1
        self._due[topic] = time.monotonic() + backoff_seconds(self.topics[topic])

    def add_rows(self, entries: Iterable[Entry], reason: object) -> None:
        """These cannot leave, not even by themselves."""
        for entry in entries:
            if entry.id not in self._named:
                about = {"event_id": entry.message.id}
                log.error(
                    "row %d of topic %s is set aside: %s", entry.id, entry.topic, entry.unfit or reason, extra=about
                )
            self._named.add(entry.id)

    def suspect(self, entries: Iterable[Entry]) -> None:
        """These did not leave while another one did."""
        self.suspects.update(entry.id for entry in entries)

    def left(self, entries: Sequence[Entry]) -> None:
        """These are published, so their topic works."""
        ids = {entry.id for entry in entries}
        self.suspects -= ids
        self._named -= ids
        for topic in {entry.topic for entry in entries} & self.topics.keys():
            del self.topics[topic], self._due[topic]
            log.info("topic %s is published again", topic)
