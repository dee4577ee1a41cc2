"""The receiving side: a consumer of a consumer group, or a reader of the stream that is in none."""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from broker.engine.source import BroadcastSource, Delivery, Source
from broker.redis.connection import GroupGone, RedisConnection
from broker.redis.reader import BlockingReader
from broker.redis.scripts import BURY, CLAIM, EXTEND, JOIN, LEAVE, PARK
from broker.redis.wire import GROUPS, Keys, to_fields, to_message

log = logging.getLogger(__name__)

LOOK_SECONDS = 1.0  #: how often a member looks for messages that are due, or that another has left


@dataclass(eq=False, slots=True)
class Receipt:
    """What settles a delivery: its id in the stream, and whether it is among those whose last attempt has started."""

    id: bytes
    marked: bool = False


class RedisSource(Source[Receipt]):
    """A member of a group: a consumer of a name of its own."""

    def __init__(self, connection: RedisConnection, keys: Keys, lease_seconds: float) -> None:
        self._connection = connection
        self._keys = keys
        self._lease_ms = int(lease_seconds * 1000)
        self._me = uuid.uuid4().hex
        self._reader = BlockingReader(connection)
        self._held: set[bytes] = set()
        self._lock = threading.Lock()
        self._look_at = 0.0  # `time.monotonic()`
        self._waits_until = 0.0  # the same; 0 when it does not wait
        self._join()

    def _join(self) -> None:
        self._connection.run(JOIN, [*self._keys.of_member, GROUPS], self._keys.group, self._keys.name)

    def fetch(self, limit: int, timeout_seconds: float) -> Sequence[Delivery[Receipt]]:
        try:
            deliveries = self._claim(limit) or self._read(limit, timeout_seconds)
        except GroupGone as error:
            self._join()
            log.warning("%s; it was made again", error)
            return []
        self._held.update(delivery.receipt.id for delivery in deliveries)
        return deliveries

    def _claim(self, limit: int) -> list[Delivery[Receipt]]:
        """What is due, or was left by others, when it is time to look again."""
        now = time.monotonic()
        with self._lock:
            if now < self._look_at:
                return []
            self._look_at = now + LOOK_SECONDS
        rows, due_in_ms = self._run(CLAIM, self._lease_ms, limit, *self._held)
        if due_in_ms >= 0:
            self._look_by(now + due_in_ms / 1000)
        return [
            Delivery(to_message(entry_id, flat), attempt, Receipt(entry_id, bool(last)), bool(last))
            for entry_id, attempt, last, flat in rows
        ]

    def _look_by(self, at: float) -> bool:
        """Look for what is due at that time at the latest; whether `fetch` waits for longer than that."""
        with self._lock:
            self._look_at = min(self._look_at, at)
            return self._waits_until > at

    def _read(self, limit: int, timeout_seconds: float) -> list[Delivery[Receipt]]:
        """What nobody has had yet, as soon as there is some."""
        with self._lock:
            now = time.monotonic()
            self._waits_until = min(now + timeout_seconds, self._look_at)
            seconds = self._waits_until - now
        command = ("XREADGROUP", "GROUP", self._keys.group, self._me, "COUNT", limit)
        rows = self._reader.read(command, self._keys.stream, ">", seconds)
        self._waits_until = 0.0
        return [Delivery(to_message(entry_id, flat), 1, Receipt(entry_id)) for entry_id, flat in rows]

    def interrupt(self) -> None:
        self._reader.end()

    def close(self) -> None:
        self._reader.close()
        with suppress(GroupGone):
            self._run(LEAVE, *self._held)

    def ack(self, deliveries: Sequence[Delivery[Receipt]]) -> None:
        ids = [delivery.receipt.id for delivery in deliveries]
        marked = [delivery.receipt.id for delivery in deliveries if delivery.receipt.marked]
        self._connection.call("XACK", self._keys.stream, self._keys.group, *ids)
        if marked:
            self._connection.call("SREM", self._keys.last, *marked)
        self._held.difference_update(ids)

    def retry(self, delivery: Delivery[Receipt], delay_seconds: float) -> None:
        self._held.discard(delivery.receipt.id)
        self._run(PARK, int(delay_seconds * 1000), delivery.receipt.id, delivery.attempt)
        if self._look_by(time.monotonic() + delay_seconds):
            self._reader.wake()

    def bury(self, delivery: Delivery[Receipt], reason: str) -> None:
        entry_id, why = delivery.receipt.id, reason.encode(errors="backslashreplace")
        story = ("reason", why, "attempts", delivery.attempt, "published_ms", entry_id.split(b"-")[0])
        keys = [*self._keys.of_member, self._keys.dead]
        self._connection.run(BURY, keys, self._keys.group, self._me, entry_id, *to_fields(delivery.message), *story)
        self._held.discard(entry_id)

    def release(self, deliveries: Sequence[Delivery[Receipt]]) -> None:
        self._held.difference_update(delivery.receipt.id for delivery in deliveries)
        before = [part for delivery in deliveries for part in (delivery.receipt.id, delivery.attempt - 1)]
        self._run(PARK, -1, *before)

    def begin_last(self, delivery: Delivery[Receipt]) -> None:
        delivery.receipt.marked = True
        self._connection.call("SADD", self._keys.last, delivery.receipt.id)

    def extend(self, deliveries: Sequence[Delivery[Receipt]]) -> None:
        self._run(EXTEND, *(delivery.receipt.id for delivery in deliveries))

    def _run(self, script: str, *arguments: bytes | int) -> Any:
        return self._connection.run(script, self._keys.of_member, self._keys.group, self._me, *arguments)


class RedisBroadcast(BroadcastSource):
    """A subscription of its own: it reads on from the last message it has seen, also on another connection."""

    def __init__(self, connection: RedisConnection, keys: Keys) -> None:
        self._stream = keys.stream
        self._reader = BlockingReader(connection)
        self._seen = _newest(connection, keys)

    def fetch(self, limit: int, timeout_seconds: float) -> Sequence[Delivery[None]]:
        rows = self._reader.read(("XREAD", "COUNT", limit), self._stream, self._seen, timeout_seconds)
        if rows:
            self._seen = rows[-1][0]
        return [Delivery(to_message(entry_id, flat), 1, None) for entry_id, flat in rows]

    def interrupt(self) -> None:
        self._reader.end()

    def close(self) -> None:
        self._reader.close()


def _newest(connection: RedisConnection, keys: Keys) -> bytes:
    """The id of the newest message of a topic."""
    entries = connection.call("XREVRANGE", keys.stream, "+", "-", "COUNT", 1)
    return entries[0][0] if entries else b"0-0"
