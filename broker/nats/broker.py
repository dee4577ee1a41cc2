"""The NATS broker: JetStream, on a NATS server 2.9 or newer that was started with `-js`.

    nats://[USER:PASSWORD@]HOST[:PORT]      or TOKEN@HOST; port 4222 unless given
    tls://…?ca=FILE&cert=FILE&key=FILE      over TLS; `broker/address.py` has the rest

A topic is a stream, a group is a durable pull consumer of it, a broadcast subscription an ephemeral one. The dead
letters of all groups are in one more stream, the marks of last attempts in another:

    stream              subjects                          kept
    broker-topic-TOPIC  broker.topic.TOPIC                for the retention
    broker-dead         broker.dead.TOPIC.GROUP           until replayed or discarded
    broker-last         broker.last.TOPIC.GROUP.MESSAGE   for the retention

A stream is made when it is first needed, with the settings of whoever does. The lease is the group's, on the server:
its latest member sets it. Every message carries a `Nats-Msg-Id` made from its `ce-id`; so a message that is published
again, after a timeout say, is stored once, within two minutes.

What it does not promise: what is handed back comes again with an `attempt` one higher. A power cut may lose the last
two minutes, unless the server has `sync_interval: always` (since 2.10). Acks are written down 0.1 s late: a server that
is killed before may deliver such a message again, and one that is killed while writing may forget where a group was,
and deliver all it has kept; a member lets pass what itself has acked lately. So an empty backlog is reported a moment
later. A member that was cut off for longer than its lease may still ack what another has by then.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, TypeVar

from nats.js.api import StreamConfig

from broker.address import TLS_FILES, Address
from broker.base import Broker, Group, Promises
from broker.engine.source import Source
from broker.message import Message
from broker.names import decode
from broker.nats import wire
from broker.nats.connection import NatsConnection
from broker.nats.group import NatsGroup
from broker.nats.publisher import NatsPublisher
from broker.nats.source import NatsBroadcast, NatsSource
from broker.options import SubscribeOptions

PAGE = 256  #: streams or consumers in one answer of the server

Item = TypeVar("Item")


class NatsBroker(Broker):
    """Streams and consumers on one NATS server."""

    name = "nats"
    default_address = "nats://localhost:4222"
    promises = Promises(needs="a NATS server ≥ 2.9 with JetStream", hand_back_keeps_attempt=False)
    _connection: NatsConnection
    _publisher: NatsPublisher

    def _check(self) -> None:
        try:
            self._where = Address.parse(self.address, port=4222, options=TLS_FILES)
            self._where.tls_context()
        except ValueError as error:
            raise self.error(error) from error
        if self._where.path:
            raise self.error("a NATS address has no path")

    def _open(self) -> None:
        connection = NatsConnection(self._where, self.options.publish_timeout_seconds, self.error)
        connection.open()
        self._connection = connection
        self._publisher = NatsPublisher(connection, self.options.retention_seconds)

    def _close(self, deadline: float) -> None:  # noqa: ARG002  # CLOSE_SECONDS at most
        self._connection.close()

    def _publish(self, topic: str, messages: tuple[Message, ...], mandatory: bool) -> None:  # noqa: ARG002  # replays
        self._publisher.publish(topic, messages)

    def _source(self, topic: str, options: SubscribeOptions) -> Source[Any]:
        if options.group is None:
            return NatsBroadcast(self._connection, self._stream(topic))
        return NatsSource(self._connection, self._stream(topic), topic, options.group, options)

    def _group(self, topic: str, name: str) -> Group:
        return NatsGroup(self._connection, self._stream(topic), topic, name)

    def _groups(self) -> list[Group]:
        return [self._group(topic, name) for topic, name in self._connection.call(self._find_groups())]

    async def _find_groups(self) -> list[tuple[str, str]]:
        jetstream = await self._connection.client.jetstream()
        found = []
        for stream in await _all_pages(jetstream.streams_info):
            name = stream.config.name or ""
            topic = wire.topic_of(name)
            if topic and stream.state.consumer_count:
                consumers = await _all_pages(partial(jetstream.consumers_info, name))
                found += [(topic, decode(consumer.name)) for consumer in consumers if consumer.config.durable_name]
        return found

    def _stream(self, topic: str) -> StreamConfig:
        return wire.topic_stream(topic, self.options.retention_seconds)


async def _all_pages(page: Callable[[int], Awaitable[list[Item]]]) -> list[Item]:
    found: list[Item] = []
    while True:
        items = await page(len(found))
        found += items
        if len(items) < PAGE:
            return found
