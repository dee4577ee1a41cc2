"""The NATS broker: JetStream, on a NATS server 2.9 or newer that was started with `-js`.

    nats://HOST[:PORT]                  port 4222 unless given
    nats://USER:PASSWORD@HOST[:PORT]    or TOKEN@HOST[:PORT]

A topic is a stream, a group is a durable pull consumer of it, a broadcast subscription an ephemeral one. The dead
letters of all groups are in one more stream, the marks of last attempts in another:

    stream              subjects                          kept
    broker-topic-TOPIC  broker.topic.TOPIC                for the retention
    broker-dead         broker.cli.dead.TOPIC.GROUP           until replayed or discarded
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

import asyncio
from collections.abc import Awaitable, Callable, Container
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from typing import Any, TypeVar

from nats.js.api import ConsumerInfo, RawStreamMsg, StreamConfig
from nats.js.errors import NotFoundError

from broker.base import Broker, DeadLetter, Group, Promises
from broker.engine.source import Source
from broker.errors import BrokerError, PublishError
from broker.message import GROUP, Message
from broker.names import decode
from broker.nats import wire
from broker.nats.connection import Connection, target
from broker.nats.source import NatsBroadcast, NatsSource
from broker.options import SubscribeOptions

WRITTEN_SECONDS = 0.3  #: by then the server has written an ack down, busy as it may be
PAGE = 256  #: streams or consumers in one of its answers

Item = TypeVar("Item")


class NatsBroker(Broker):
    """Publisher and consumer, on one connection."""

    name = "nats"
    default_address = "nats://localhost:4222"
    promises = Promises(needs="a NATS server ≥ 2.9 with JetStream", hand_back_keeps_attempt=False)
    _connection: Connection

    def _check(self) -> None:
        try:
            self._target = target(self.address)
        except ValueError as error:
            raise self.error(error) from error

    def _open(self) -> None:
        connection = Connection(self._target, self.options.publish_timeout_seconds, self.options.tls, self.error)
        connection.open()
        self._connection = connection

    def _close(self, deadline: float) -> None:  # noqa: ARG002  # CLOSE_SECONDS at most
        self._connection.close()

    def _publish(self, topic: str, messages: tuple[Message, ...], mandatory: bool) -> None:  # noqa: ARG002  # replays
        left = {n: wire.encoded(message) for n, message in enumerate(messages)}
        try:
            self._connection.run(self._connection.send(self._stream(topic), wire.subject("topic", topic), left))
        except BrokerError as error:
            if left:
                raise PublishError(str(error), tuple(messages[n] for n in left)) from error.__cause__

    def _source(self, topic: str, options: SubscribeOptions) -> Source[Any]:
        if options.group is None:
            return NatsBroadcast(self._connection, self._stream(topic))
        return NatsSource(self._connection, self._stream(topic), topic, options.group, options)

    def _group(self, topic: str, name: str) -> Group:
        return NatsGroup(self._connection, self._stream(topic), topic, name)

    def _groups(self) -> list[Group]:
        return [self._group(topic, name) for topic, name in self._connection.call(self._find_groups())]

    async def _find_groups(self) -> list[tuple[str, str]]:
        jetstream = await self._connection.jetstream()
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


class NatsGroup(Group):
    """A group's consumer and its dead letters, for operators."""

    def __init__(self, connection: Connection, stream: StreamConfig, topic: str, name: str) -> None:
        super().__init__(topic, name)
        self._connection = connection
        self._stream = stream
        self._dead = wire.subject("dead", topic, name)

    def backlog(self) -> int:
        return self._connection.call(self._count())

    def dead_letters(self) -> list[DeadLetter]:
        return [wire.decoded_dead(letter) for letter in self._connection.call(self._letters())]

    def replay(self, *message_ids: str) -> int:
        return self._connection.call(self._replay(message_ids))

    def discard(self, message_id: str) -> int:
        return self._connection.call(self._discard(message_id))

    def forget(self) -> None:
        self._connection.call(self._forget())

    async def _count(self) -> int:
        count, unwritten_seconds = await self._look()
        if not count and unwritten_seconds:
            await asyncio.sleep(unwritten_seconds)
            count, _ = await self._look()
        return count

    async def _look(self) -> tuple[int, float]:
        jetstream = await self._connection.jetstream()
        try:
            info = await jetstream.consumer_info(self._stream.name or "", wire.token(self.name))
        except NotFoundError:
            return 0, 0.0
        return (info.num_pending or 0) + (info.num_ack_pending or 0), _unwritten(info)

    async def _letters(self) -> list[RawStreamMsg]:
        letters: list[RawStreamMsg] = []
        after = 0
        while letter := await self._connection.read(wire.dead_stream(), seq=after + 1, subject=self._dead, next=True):
            letters.append(letter)
            after = letter.seq or 0
        return letters

    async def _of(self, message_ids: Container[str]) -> list[RawStreamMsg]:
        return [letter for letter in await self._letters() if wire.decoded_dead(letter).message.id in message_ids]

    async def _replay(self, message_ids: Container[str]) -> int:
        letters = await self._of(message_ids)
        for letter in letters:
            body, headers = wire.encoded(wire.decoded_dead(letter).message.with_header(**{GROUP: self.name}))
            headers[wire.MESSAGE_ID] = f"replay/{letter.seq}/{letter.time}"  # or it would be taken for a duplicate
            await self._connection.send(self._stream, wire.subject("topic", self.topic), {0: (body, headers)})
            await self._remove(letter)
        return len(letters)

    async def _discard(self, message_id: str) -> int:
        letters = await self._of({message_id})
        for letter in letters:
            await self._remove(letter)
        return len(letters)

    async def _remove(self, letter: RawStreamMsg) -> None:
        await (await self._connection.jetstream()).delete_msg(wire.DEAD, letter.seq or 0)

    async def _forget(self) -> None:
        jetstream = await self._connection.jetstream()
        with suppress(NotFoundError):
            await jetstream.delete_consumer(self._stream.name or "", wire.token(self.name))
        with suppress(NotFoundError):
            await jetstream.purge_stream(wire.DEAD, subject=self._dead)


def _unwritten(consumer: ConsumerInfo) -> float:
    """For how many seconds the server may still not have written down the latest ack."""
    latest = consumer.ack_floor.last_active if consumer.ack_floor else None
    if latest is None:
        return 0.0
    age_seconds = (datetime.now(UTC) - latest).total_seconds()
    return WRITTEN_SECONDS - age_seconds if 0 <= age_seconds < WRITTEN_SECONDS else 0.0


async def _all_pages(page: Callable[[int], Awaitable[list[Item]]]) -> list[Item]:
    found: list[Item] = []
    while True:
        items = await page(len(found))
        found += items
        if len(items) < PAGE:
            return found
