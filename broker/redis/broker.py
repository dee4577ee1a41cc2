"""The redis broker: Redis Streams and consumer groups. Redis 6.2 or newer, or a server that speaks the same.

    redis://[user:password@]host[:port][/database]        rediss:// is the same over TLS

What it keeps on the server; names are encoded by `names.py`:

    broker:groups                    a set of `TOPIC GROUP`: every group that was ever seen and not forgotten
    broker:stream:TOPIC              the messages: `header` (JSON) and `body`; a consumer group for each group
    broker:due:TOPIC:GROUP           by the time they are due: messages that failed, or were handed back. They are
                                     pending with a consumer called `~`, so that each keeps its delivery count
    broker:last:TOPIC:GROUP          the messages whose last attempt has started
    broker:dead:TOPIC:GROUP          a stream of dead letters

A message's attempt is its delivery count in the group's list of pending messages; its lease is its idle time there.
Messages stay for the retention, acked or not, and longer for a group that has not had them or not acked them: a group
that will not come back is to be forgotten (`python -m broker groups forget`).

Not promised: what Redis confirms outlives a crash only with `appendonly yes` and `appendfsync always`, and memory only
holds it all with `maxmemory-policy noeviction`. A replica may lack the last messages when it takes over. No Cluster.
"""

from __future__ import annotations

import logging
import re
import time
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

from broker.base import Broker, DeadLetter, Group, Promises
from broker.engine.source import Source
from broker.errors import BrokerError, PublishError
from broker.message import GROUP, Message
from broker.names import decode, encode
from broker.options import SubscribeOptions
from broker.redis.connections import Server, where
from broker.redis.layout import GROUPS, Keys, pairs, stream_of, to_fields, to_message
from broker.redis.member import RedisBroadcast, RedisSource
from broker.redis.scripts import BACKLOG, FORGET, REPLAY, TRIM

log = logging.getLogger(__name__)

OLDEST_SERVER = (6, 2)
TRIM_SECONDS = 60.0  #: how often a publisher trims a topic


class RedisBroker(Broker):
    """Streams on one Redis server."""

    name = "redis"
    default_address = "redis://localhost:6379/0"
    promises = Promises(needs="Redis 6.2 or newer, with `appendonly yes`, `appendfsync always`")
    _server: Server

    def _check(self) -> None:
        try:
            where(self.address)
        except ValueError:  # its text may quote a part of the password, so it is not passed on
            raise self.error("not an address like redis://user:password@host:6379/0") from None

    def _open(self) -> None:
        self._trim_at: dict[str, float] = {}
        self._server = Server(self.address, self.options, self.error)
        try:
            self._must_suit(pairs(self._server.call("HELLO", 2)))
        except BrokerError:
            self._server.close()
            raise
        self._warn_of_loss()

    def _must_suit(self, server: dict[bytes, Any]) -> None:
        version = server.get(b"version", b"0").decode()
        if tuple(map(int, re.findall(r"\d+", version)[:2])) < OLDEST_SERVER:
            raise self.error(f"it is version {version}, and 6.2 is the oldest that will do")
        if server.get(b"mode") == b"cluster":
            raise self.error("it is a Redis Cluster, where one script cannot reach all keys; use a single server")

    def _warn_of_loss(self) -> None:
        """Say so when the server is not set to keep what it confirms; one that hides its settings is believed."""
        with suppress(BrokerError):
            settings = pairs(self._server.call("CONFIG", "GET", "append*"))
            now = [settings[name].decode() for name in (b"appendonly", b"appendfsync") if name in settings]
            if now != ["yes", "always"]:
                wanted = "appendonly yes and appendfsync always"
                log.warning("%s", self.describe(f"it may lose messages when it crashes: set {wanted}; now {now}"))

    def _close(self, deadline: float) -> None:  # noqa: ARG002  # closing sockets takes no time
        self._server.close()

    def _publish(self, topic: str, messages: tuple[Message, ...], mandatory: bool) -> None:  # noqa: ARG002  # it replays
        stream = stream_of(topic)
        answers = self._server.pipeline([("XADD", stream, "*", *to_fields(message)) for message in messages])
        failed = [pair for pair in zip(messages, answers, strict=True) if isinstance(pair[1], Exception)]
        if failed:
            raise PublishError(self.describe(failed[0][1]), tuple(message for message, _ in failed)) from failed[0][1]
        if time.monotonic() >= self._trim_at.get(topic, 0):
            self._trim_at[topic] = time.monotonic() + TRIM_SECONDS
            self._trim(topic)

    def _trim(self, topic: str) -> None:
        keep = int(self.options.retention_seconds * 1000)
        try:
            self._server.run(TRIM, [stream_of(topic), GROUPS], encode(topic), keep)
        except BrokerError as error:  # no reason to fail a publish that is confirmed
            log.warning("topic %s was not trimmed: %s", topic, error)

    def _source(self, topic: str, options: SubscribeOptions) -> Source[Any]:
        if options.group is None:
            return RedisBroadcast(self._server, Keys(topic))
        return RedisSource(self._server, Keys(topic, options.group), options.lease_seconds)

    def _group(self, topic: str, name: str) -> Group:
        return RedisGroup(self._server, topic, name)

    def _groups(self) -> list[Group]:
        names = sorted(name.decode().split() for name in self._server.call("SMEMBERS", GROUPS))
        return [self._group(decode(topic), decode(name)) for topic, name in names]


class RedisGroup(Group):
    """A consumer group, for operators."""

    def __init__(self, server: Server, topic: str, name: str) -> None:
        super().__init__(topic, name)
        self._server = server
        self._keys = Keys(topic, name)

    def backlog(self) -> int:
        return int(self._server.run(BACKLOG, self._keys.of_member, self._keys.group))

    def dead_letters(self) -> list[DeadLetter]:
        return [letter for _, letter in self._dead()]

    def replay(self, *message_ids: str) -> int:
        keys = [self._keys.stream, self._keys.dead]
        return sum(
            self._server.run(REPLAY, keys, dead_id, *to_fields(letter.message.with_header(**{GROUP: self.name})))
            for dead_id, letter in self._dead()
            if letter.message.id in message_ids
        )

    def discard(self, message_id: str) -> int:
        ids = [dead_id for dead_id, letter in self._dead() if letter.message.id == message_id]
        return int(self._server.call("XDEL", self._keys.dead, *ids)) if ids else 0

    def forget(self) -> None:
        keys = [*self._keys.of_member, self._keys.dead, GROUPS]
        self._server.run(FORGET, keys, self._keys.group, self._keys.name)

    def _dead(self) -> list[tuple[bytes, DeadLetter]]:
        return [(row[0], _dead_letter(*row)) for row in self._server.call("XRANGE", self._keys.dead, "-", "+")]


def _dead_letter(dead_id: bytes, flat: list[bytes]) -> DeadLetter:
    fields = pairs(flat)
    reason, attempts = fields[b"reason"].decode(), int(fields[b"attempts"])
    published_at, failed_at = _utc(fields[b"published_ms"]), _utc(dead_id.split(b"-")[0])
    return DeadLetter(to_message(dead_id, flat), reason, attempts, published_at, failed_at)


def _utc(ms: bytes) -> datetime:
    return datetime.fromtimestamp(int(ms) / 1000, UTC)
