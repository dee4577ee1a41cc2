"""The receiving side: a member of a group, and a broadcast subscription."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime

from nats.aio.msg import Msg
from nats.errors import Error, NoRespondersError
from nats.js.api import AckPolicy, ConsumerConfig, ConsumerInfo, DeliverPolicy, StreamConfig

from broker.engine.source import BroadcastSource, Delivery, Source
from broker.errors import BrokerError
from broker.nats import wire
from broker.nats.connection import CLOSE_SECONDS, NatsConnection
from broker.nats.publisher import send
from broker.nats.pull import PullConsumer
from broker.options import SubscribeOptions

ACK, NAK, PROGRESS = b"+ACK", b"-NAK", b"+WPI"  #: what a consumer may answer to a message
LISTENER_SECONDS = 60.0  #: the server forgets a broadcast consumer that asked for nothing that long
REMEMBERED_ACKS = 10_000  #: more than the server forgets when it is killed


class NatsSource(Source[Msg]):
    """A member of a group, which is a durable consumer. What is with this member is in `_mine`, by its key."""

    def __init__(
        self, connection: NatsConnection, stream: StreamConfig, topic: str, group: str, options: SubscribeOptions
    ) -> None:
        self._connection = connection
        self._stream = stream
        self._of = topic, group
        self._max_attempts = options.max_attempts
        self._config = ConsumerConfig(
            durable_name=wire.token(group),
            deliver_policy=DeliverPolicy.ALL,
            ack_policy=AckPolicy.EXPLICIT,
            ack_wait=options.lease_seconds,
            max_deliver=-1,  # the engine decides; what the server gives up is stranded
            max_ack_pending=-1,  # what waits for its next attempt counts here, and must not hold up the others
        )
        self._mine: dict[str, Msg] = {}
        self._created: datetime | None = None  # when the stream was, if it was made again
        self._acked: dict[str, str] = {}  # the latest, in order: to which subject they were acked
        self._pull = PullConsumer(connection, self._join, options.lease_seconds)
        connection.call(self._pull.join())

    async def _join(self, deleted: bool) -> ConsumerInfo:
        if deleted:
            self._created = (await self._connection.streams.info(self._stream)).created
            self._acked.clear()  # made again, it starts at the oldest message, acked or not
        consumer = await self._connection.streams.consumer(self._stream, self._config)
        if consumer.num_ack_pending:
            await self._settle(list(self._acked.values()), ACK)  # it may have been killed, and forgotten
        return consumer

    def fetch(self, limit: int, timeout_seconds: float) -> Sequence[Delivery[Msg]]:
        arrived = {wire.key(message): message for message in self._pull.fetch(limit, timeout_seconds)}
        try:
            fresh = self._without_known(arrived)
            begun = self._begun([key for key, m in fresh.items() if m.metadata.num_delivered >= self._max_attempts])
        except BrokerError:
            self._pull.arrived.extendleft(reversed(arrived.values()))
            raise
        self._mine.update(fresh)
        return [Delivery(wire.received(m), m.metadata.num_delivered, m, key in begun) for key, m in fresh.items()]

    def interrupt(self) -> None:
        self._pull.interrupt()

    def close(self) -> None:
        self._pull.left()
        self._connection.call(self._answer(self._held(), NAK), CLOSE_SECONDS)

    def ack(self, deliveries: Sequence[Delivery[Msg]]) -> None:
        self._connection.call(self._answer([delivery.receipt for delivery in deliveries], ACK))
        for delivery in deliveries:
            key = wire.key(delivery.receipt)
            self._acked[key] = delivery.receipt.reply
            self._mine.pop(key, None)
        while len(self._acked) > REMEMBERED_ACKS:
            del self._acked[next(iter(self._acked))]

    def retry(self, delivery: Delivery[Msg], delay_seconds: float) -> None:
        delay = json.dumps({"delay": int(delay_seconds * 1e9)})
        self._give_back([delivery], f"-NAK {delay}".encode() if delay_seconds else NAK)

    def bury(self, delivery: Delivery[Msg], reason: str) -> None:
        letter = wire.encoded_dead(delivery, reason)
        self._connection.call(
            send(self._connection, wire.dead_stream(), wire.subject("dead", *self._of), {0: letter}),
        )
        self.ack([delivery])

    def release(self, deliveries: Sequence[Delivery[Msg]]) -> None:
        self._give_back(deliveries, NAK)

    def begin_last(self, delivery: Delivery[Msg]) -> None:
        mark = self._mark(wire.key(delivery.receipt))
        self._connection.call(
            send(self._connection, wire.last_stream(self._stream.max_age), mark, {0: (b"", {})}),
        )

    def extend(self, deliveries: Sequence[Delivery[Msg]]) -> None:  # noqa: ARG002  # and what was not fetched yet
        self._connection.call(self._answer(self._held(), PROGRESS))

    def _held(self) -> list[Msg]:
        return [*self._mine.values(), *self._pull.arrived]

    def _give_back(self, deliveries: Sequence[Delivery[Msg]], how: bytes) -> None:
        for delivery in deliveries:
            self._mine.pop(wire.key(delivery.receipt), None)  # first, for it may come again at once
        self._pull.left()
        self._connection.call(self._answer([delivery.receipt for delivery in deliveries], how))

    async def _answer(self, messages: Sequence[Msg], answer: bytes) -> None:
        try:
            await self._settle(self._replies(messages), answer)
        except NoRespondersError:  # somebody has deleted the group, or just now the stream
            await self._connection.streams.wait_after_deletion()
            await self._join(deleted=True)
            await self._settle(self._replies(messages), answer)

    async def _settle(self, replies: Sequence[str], answer: bytes) -> None:
        """Answer messages by their reply subjects; return when the server has noted all of it."""
        if not replies:
            return
        client = await self._connection.client.connected()
        for reply in replies[:-1]:
            await client.publish(reply, answer)
        await client.request(replies[-1], answer, timeout=self._connection.timeout_seconds)  # it takes them in order

    def _replies(self, messages: Sequence[Msg]) -> list[str]:
        """Not to those of a stream that is gone: the server knows a message by its place, where another may be now."""
        since = self._created
        return [message.reply for message in messages if not since or message.metadata.timestamp >= since]

    def _without_known(self, arrived: dict[str, Msg]) -> dict[str, Msg]:
        """A server that was killed has forgotten what this member has, and what it has just acked."""
        forgotten = [message for key, message in arrived.items() if key in self._acked]
        if forgotten:
            self._connection.call(self._answer(forgotten, ACK))
        return {key: m for key, m in arrived.items() if key not in self._acked and key not in self._mine}

    def _begun(self, keys: Sequence[str]) -> set[str]:
        """Those whose last attempt has begun before."""
        return self._connection.call(self._marked(keys)) if keys else set()

    async def _marked(self, keys: Sequence[str]) -> set[str]:
        marks = wire.last_stream(self._stream.max_age)
        return {key for key in keys if await self._connection.streams.read(marks, subject=self._mark(key))}

    def _mark(self, key: str) -> str:
        return wire.subject("last", *self._of, key)


class NatsBroadcast(BroadcastSource):
    """An ephemeral consumer; on a new connection another one, which starts after the last message seen."""

    def __init__(self, connection: NatsConnection, stream: StreamConfig) -> None:
        self._connection = connection
        self._stream = stream
        self._created: datetime | None = None  # when the stream was
        self._next = 0  # the place in it of the message to come
        self._consumer: ConsumerInfo | None = None
        self._pull = PullConsumer(connection, self._join)
        connection.call(self._pull.join())

    async def _join(self, deleted: bool) -> ConsumerInfo:  # noqa: ARG002  # it goes on where it was
        stream = await self._connection.streams.info(self._stream)
        if stream.created != self._created:  # either this begins, or the stream was made again and all in it is new
            self._next = 1 if self._created else stream.state.last_seq + 1
            self._created = stream.created
        self._pull.arrived.clear()  # it comes again
        await self._end()
        config = ConsumerConfig(
            deliver_policy=DeliverPolicy.BY_START_SEQUENCE,
            opt_start_seq=self._next,
            ack_policy=AckPolicy.NONE,
            inactive_threshold=LISTENER_SECONDS,
            mem_storage=True,
        )
        self._consumer = await self._connection.streams.consumer(self._stream, config)
        return self._consumer

    async def _end(self) -> None:
        if self._consumer:
            with suppress(Error):  # it may be gone, and the server forgets it in any case
                jetstream = await self._connection.client.jetstream()
                await jetstream.delete_consumer(self._consumer.stream_name, self._consumer.name)

    def fetch(self, limit: int, timeout_seconds: float) -> Sequence[Delivery[None]]:
        messages = self._pull.fetch(limit, timeout_seconds)
        if messages:
            self._next = messages[-1].metadata.sequence.stream + 1
        return [Delivery(wire.received(message), 1, None) for message in messages]

    def interrupt(self) -> None:
        self._pull.interrupt()

    def close(self) -> None:
        self._pull.left()
        self._connection.call(self._end(), CLOSE_SECONDS)
