"""RabbitMQ by pika, bare: a blocking connection for one at a time and for consuming, an I/O thread for batches.

Quorum queues, persistent messages and publisher confirms, as ours.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable, Sequence
from concurrent.futures import Future
from typing import Any

import pika  # type: ignore[import-untyped]  # pika has no types

from benchmarks.clients.client import BATCH, GROUP, LIBRARY, Client, Handler
from broker import Message

HEADER = "header"  #: the whole header as JSON in one AMQP header, as ours
QUIET_SECONDS = 0.01  #: then what was handled is acked without waiting for more
PERSISTENT = 2


class Library(Client):
    """A fanout exchange for each topic, one quorum queue for the group."""

    name = LIBRARY

    def __init__(self, address: str) -> None:
        self._parameters = pika.URLParameters(address.replace("rabbitmq://", "amqp://"))
        self._publishing: Any = pika.BlockingConnection(self._parameters)
        self._channel = self._publishing.channel()
        self._channel.confirm_delivery()
        self._pipeline = Pipeline(self._parameters)

    def make(self, topic: str) -> None:
        self._channel.exchange_declare(topic, "fanout", durable=True)
        self._channel.queue_declare(f"{topic}.{GROUP}", durable=True, arguments={"x-queue-type": "quorum"})
        self._channel.queue_bind(f"{topic}.{GROUP}", topic)

    def publish_singly(self, topic: str, messages: Iterable[Message]) -> None:
        for message in messages:
            self._channel.basic_publish(topic, "", message.body, _properties(message))

    def publish_batches(self, topic: str, batches: Iterable[Sequence[Message]]) -> None:
        for batch in batches:
            self._pipeline.publish(topic, batch)

    def receive(self, topic: str, handle: Handler) -> None:
        connection: Any = pika.BlockingConnection(self._parameters)
        channel = connection.channel()
        channel.basic_qos(prefetch_count=3 * BATCH)
        tag, unacked, enough = 0, 0, False
        for method, properties, body in channel.consume(f"{topic}.{GROUP}", inactivity_timeout=QUIET_SECONDS):
            if method:
                enough = handle(Message(body, json.loads(properties.headers[HEADER])))
                tag, unacked = method.delivery_tag, unacked + 1
            if unacked and (unacked == BATCH or enough or not method):
                channel.basic_ack(tag, multiple=True)
                unacked = 0
            if enough:
                break
        connection.close()

    def close(self) -> None:
        self._pipeline.close()
        self._publishing.close()


class Pipeline:
    """Many messages on their way at a time, which pika's blocking connection cannot."""

    def __init__(self, parameters: Any) -> None:
        self._ready: Future[None] = Future()
        self._landed: Future[None] = self._ready
        self._left = 0
        self._connection: Any = pika.SelectConnection(parameters, on_open_callback=self._opened)
        self._thread = threading.Thread(target=self._connection.ioloop.start, daemon=True)
        self._thread.start()
        self._ready.result()

    def publish(self, topic: str, batch: Sequence[Message]) -> None:
        """Return once the server has confirmed all of them."""
        self._landed = Future()
        self._left = len(batch)
        self._connection.ioloop.add_callback_threadsafe(lambda: self._send(topic, batch))
        self._landed.result()

    def close(self) -> None:
        """End the connection and its thread."""
        self._connection.ioloop.add_callback_threadsafe(self._connection.close)
        self._thread.join()

    def _opened(self, connection: Any) -> None:
        self._connection.add_on_close_callback(lambda *_: self._connection.ioloop.stop())
        self._channel = connection.channel(on_open_callback=self._confirming)

    def _confirming(self, channel: Any) -> None:
        self._highest = 0
        channel.confirm_delivery(self._confirmed, callback=lambda _: self._ready.set_result(None))

    def _send(self, topic: str, batch: Sequence[Message]) -> None:
        for message in batch:
            self._channel.basic_publish(topic, "", message.body, _properties(message))

    def _confirmed(self, frame: Any) -> None:
        tag = frame.method.delivery_tag
        self._left -= tag - self._highest if frame.method.multiple else 1
        self._highest = max(tag, self._highest)
        if self._left <= 0:
            self._landed.set_result(None)


def _properties(message: Message) -> Any:
    header = json.dumps(dict(message.header))
    return pika.BasicProperties(headers={HEADER: header}, message_id=message.id, delivery_mode=PERSISTENT)
