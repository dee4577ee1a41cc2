"""FastStream: async throughout, so it publishes from its own event loop, one `await` after another.

A batch is a pipeline on Redis, and `asyncio.gather` of its publishes elsewhere: its own `publish_batch` gives all
messages of a batch one header, or is for lists alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from faststream import AckPolicy, Context

from benchmarks.clients.client import BATCH, GROUP, Client, Handler
from broker import Message

PATIENCE_SECONDS = 60.0  #: on NATS, for a confirm; its own is short for a busy machine


class FastStream(Client):
    """One of its brokers, acking after the handler."""

    name = "FastStream"

    def __init__(self, broker: str, address: str) -> None:
        self._runner = asyncio.Runner()
        self._how = BROKERS[broker](address)
        self._runner.run(self._how.broker.start())

    def make(self, topic: str) -> None:
        self._runner.run(self._how.make(topic))

    def publish_singly(self, topic: str, messages: Iterable[Message]) -> None:
        async def publish() -> None:
            for message in messages:
                await self._how.publish(topic, message)

        self._runner.run(publish())

    def publish_batches(self, topic: str, batches: Iterable[Sequence[Message]]) -> None:
        async def publish() -> None:
            for batch in batches:
                await self._how.publish_batch(topic, batch)

        self._runner.run(publish())

    def receive(self, topic: str, handle: Handler) -> None:
        self._runner.run(self._receive(topic, handle))

    async def _receive(self, topic: str, handle: Handler) -> None:
        enough = asyncio.Event()
        subscriber = self._how.subscriber(topic)

        async def handler(_: Any, message: Any = Context()) -> None:  # noqa: B008  # as its manual has it
            if handle(Message(message.body, message.headers)):
                enough.set()

        subscriber(handler)
        await subscriber.start()
        await enough.wait()
        await subscriber.stop()

    def close(self) -> None:
        self._runner.run(self._how.broker.stop())
        self._runner.close()


class Redis:
    """Streams."""

    def __init__(self, address: str) -> None:
        from faststream.redis import RedisBroker  # noqa: PLC0415

        self.broker: Any = RedisBroker(address, logger=None)

    async def make(self, topic: str) -> None:
        """The group is made with its first member."""

    async def publish(self, topic: str, message: Message) -> None:
        await self.broker.publish(message.body, stream=topic, headers=dict(message.header))

    async def publish_batch(self, topic: str, batch: Sequence[Message]) -> None:
        connection = await self.broker.connect()
        pipeline = connection.pipeline(transaction=False)
        for message in batch:
            await self.broker.publish(message.body, stream=topic, headers=dict(message.header), pipeline=pipeline)
        await pipeline.execute()

    def subscriber(self, topic: str) -> Any:
        from faststream.redis import StreamSub  # noqa: PLC0415

        stream = StreamSub(topic, group=GROUP, consumer="member", last_id="0", max_records=BATCH)
        return self.broker.subscriber(stream=stream, ack_policy=AckPolicy.ACK)


class Nats:
    """JetStream."""

    def __init__(self, address: str) -> None:
        from faststream.nats import NatsBroker  # noqa: PLC0415

        self.broker: Any = NatsBroker(address, logger=None)

    async def make(self, topic: str) -> None:
        connection = await self.broker.connect()
        await connection.jetstream().add_stream(name=topic, subjects=[topic])

    async def publish(self, topic: str, message: Message) -> None:
        headers = {"Nats-Msg-Id": message.id, **message.header}
        await self.broker.publish(message.body, topic, headers=headers, stream=topic, timeout=PATIENCE_SECONDS)

    async def publish_batch(self, topic: str, batch: Sequence[Message]) -> None:
        await asyncio.gather(*(self.publish(topic, message) for message in batch))

    def subscriber(self, topic: str) -> Any:
        from faststream.nats import PullSub  # noqa: PLC0415

        pull = PullSub(batch_size=BATCH, timeout=1.0)
        return self.broker.subscriber(topic, stream=topic, durable=GROUP, pull_sub=pull, ack_policy=AckPolicy.ACK)


class RabbitMQ:
    """Quorum queues, persistent messages, publisher confirms."""

    def __init__(self, address: str) -> None:
        from faststream.rabbit import Channel, RabbitBroker  # noqa: PLC0415

        channel = Channel(prefetch_count=BATCH)
        self.broker: Any = RabbitBroker(address.replace("rabbitmq:", "amqp:"), default_channel=channel, logger=None)

    async def make(self, topic: str) -> None:
        await self.broker.declare_queue(self._queue(topic))

    async def publish(self, topic: str, message: Message) -> None:
        await self.broker.publish(message.body, topic, headers=dict(message.header), persist=True)

    publish_batch = Nats.publish_batch

    def subscriber(self, topic: str) -> Any:
        return self.broker.subscriber(self._queue(topic), ack_policy=AckPolicy.ACK)

    def _queue(self, topic: str) -> Any:
        from faststream.rabbit import QueueType, RabbitQueue  # noqa: PLC0415

        return RabbitQueue(topic, queue_type=QueueType.QUORUM, durable=True)


class Kafka:
    """By confluent-kafka, as ours."""

    def __init__(self, address: str) -> None:
        from faststream.confluent import KafkaBroker  # noqa: PLC0415

        from benchmarks.clients.kafka import settings  # noqa: PLC0415

        found = settings(address)
        servers = found.pop("bootstrap.servers")
        self.broker: Any = KafkaBroker(servers, config=found, enable_idempotence=True, acks="all", logger=None)

    async def make(self, topic: str) -> None:
        """The mock makes it when it is published to."""

    async def publish(self, topic: str, message: Message) -> None:
        key = message.header["ce-partitionkey"].encode()
        await self.broker.publish(message.body, topic, key=key, headers=dict(message.header))

    publish_batch = Nats.publish_batch

    def subscriber(self, topic: str) -> Any:
        group = f"{topic}.{GROUP}"
        return self.broker.subscriber(
            topic, group_id=group, auto_offset_reset="earliest", max_records=BATCH, ack_policy=AckPolicy.ACK
        )


BROKERS: Mapping[str, Callable[[str], Any]] = MappingProxyType(
    {"redis": Redis, "nats": Nats, "rabbitmq": RabbitMQ, "kafka": Kafka}
)
