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
from contextlib import suppress
from typing import Any

from broker.address import TLS_FILES, Address
from broker.base import Broker, Group, Promises
from broker.engine.source import Source
from broker.errors import BrokerError
from broker.message import Message
from broker.names import decode
from broker.options import SubscribeOptions
from broker.redis.connection import RedisConnection
from broker.redis.group import RedisGroup
from broker.redis.publisher import RedisPublisher
from broker.redis.source import RedisBroadcast, RedisSource
from broker.redis.wire import GROUPS, Keys, pairs

log = logging.getLogger(__name__)

OLDEST_SERVER = (6, 2)


class RedisBroker(Broker):
    """Streams on one Redis server."""

    name = "redis"
    default_address = "redis://localhost:6379/0"
    promises = Promises(needs="Redis 6.2 or newer, with `appendonly yes`, `appendfsync always`")
    _connection: RedisConnection
    _publisher: RedisPublisher

    def _check(self) -> None:
        try:
            self._where = Address.parse(self.address, port=6379, options=TLS_FILES)
            self._where.tls_context()
        except ValueError as error:
            raise self.error(error) from error
        if not re.fullmatch("[0-9]*", self._where.path):
            raise self.error("the path is the number of a database, such as /0")

    def _open(self) -> None:
        self._connection = RedisConnection(self._where, self.options.publish_timeout_seconds, self.error)
        self._publisher = RedisPublisher(self._connection, self.options.retention_seconds)
        try:
            self._must_suit(pairs(self._connection.call("HELLO", 2)))
        except BrokerError:
            self._connection.close()
            raise
        self._warn_of_loss()

    def _close(self, deadline: float) -> None:  # noqa: ARG002  # closing sockets takes no time
        self._connection.close()

    def _publish(self, topic: str, messages: tuple[Message, ...], mandatory: bool) -> None:  # noqa: ARG002  # it replays
        self._publisher.publish(topic, messages)

    def _source(self, topic: str, options: SubscribeOptions) -> Source[Any]:
        if options.group is None:
            return RedisBroadcast(self._connection, Keys(topic))
        return RedisSource(self._connection, Keys(topic, options.group), options.lease_seconds)

    def _group(self, topic: str, name: str) -> Group:
        return RedisGroup(self._connection, topic, name)

    def _groups(self) -> list[Group]:
        names = sorted(name.decode().split() for name in self._connection.call("SMEMBERS", GROUPS))
        return [self._group(decode(topic), decode(name)) for topic, name in names]

    def _must_suit(self, server: dict[bytes, Any]) -> None:
        version = server.get(b"version", b"0").decode()
        if tuple(map(int, re.findall(r"\d+", version)[:2])) < OLDEST_SERVER:
            raise self.error(f"it is version {version}, and 6.2 is the oldest that will do")
        if server.get(b"mode") == b"cluster":
            raise self.error("it is a Redis Cluster, where one script cannot reach all keys; use a single server")

    def _warn_of_loss(self) -> None:
        """Say so when the server is not set to keep what it confirms; one that hides its settings is believed."""
        with suppress(BrokerError):
            settings = pairs(self._connection.call("CONFIG", "GET", "append*"))
            now = [settings[name].decode() for name in (b"appendonly", b"appendfsync") if name in settings]
            if now != ["yes", "always"]:
                wanted = "appendonly yes and appendfsync always"
                log.warning("%s", self.describe(f"it may lose messages when it crashes: set {wanted}; now {now}"))
