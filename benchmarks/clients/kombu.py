"""Kombu: synchronous, one message at a time; its way to send a batch is to send each."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import kombu

from benchmarks.clients.client import BATCH, GROUP, Client, Handler
from benchmarks.side_by_side import messages as given
from broker import Message

WAIT_SECONDS = 1.0
QUORUM = {"x-queue-type": "quorum"}


class Kombu(Client):
    """Durable queues and, on RabbitMQ, confirms. On Redis its queues are lists."""

    name = "Kombu"

    def __init__(self, broker: str, address: str) -> None:
        url = address.replace("rabbitmq:", "amqp:")
        self._arguments = QUORUM if broker == "rabbitmq" else None
        options = {"confirm_publish": True} if broker == "rabbitmq" else {}
        self._connection: Any = kombu.Connection(url, transport_options=options)
        self._producer: Any = kombu.Producer(self._connection.channel())
        self._unconfirmed: Any = kombu.Connection(url)

    def make(self, topic: str) -> None:
        self._queue(topic)(self._connection.default_channel).declare()

    def publish_singly(self, topic: str, messages: Iterable[Message]) -> None:
        for message in messages:
            _publish(self._producer, topic, message)

    def publish_batches(self, topic: str, batches: Iterable[Sequence[Message]]) -> None:
        for batch in batches:
            self.publish_singly(topic, batch)

    def fill(self, topic: str, count: int) -> None:
        producer = kombu.Producer(self._unconfirmed.channel())
        for message in given(count):
            _publish(producer, topic, message)

    def receive(self, topic: str, handle: Handler) -> None:
        enough = False

        def handler(message: Any) -> None:
            nonlocal enough
            enough = handle(Message(message.body, message.headers)) or enough
            message.ack()

        with self._connection.clone() as connection, connection.channel() as channel:
            consumer = kombu.Consumer(channel, [self._queue(topic)], on_message=handler, prefetch_count=BATCH)
            with consumer:
                while not enough:
                    connection.drain_events(timeout=WAIT_SECONDS)

    def close(self) -> None:
        self._connection.release()
        self._unconfirmed.release()

    def _queue(self, topic: str) -> Any:
        exchange = kombu.Exchange(topic, type="direct", durable=True)
        return kombu.Queue(f"{topic}.{GROUP}", exchange, durable=True, queue_arguments=self._arguments)


def _publish(producer: Any, topic: str, message: Message) -> None:
    kind = {"content_type": "application/data", "content_encoding": "binary"}
    producer.publish(message.body, exchange=topic, headers=dict(message.header), **kind)
