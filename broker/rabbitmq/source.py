"""The receiving side: a member of a group, and a subscription without one."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from pika import BasicProperties  # type: ignore[import-untyped]  # pika has no types

from broker.engine.source import BroadcastSource, Delivery, Source
from broker.errors import BrokerError
from broker.message import Message
from broker.options import SubscribeOptions
from broker.rabbitmq import topology, wire
from broker.rabbitmq.buffer import Buffer, Receipt
from broker.rabbitmq.channel import Channel, ask
from broker.rabbitmq.connection import RabbitMQConnection
from broker.rabbitmq.publisher import RabbitMQPublisher
from broker.rabbitmq.store import Registry, Store

MARK_KEPT_SECONDS = 7 * 24 * 3600  #: how long it is known that a last attempt has started


class RabbitMQSource(Source[Receipt]):
    """A member of a group. The server keeps the lease as long as the connection lives."""

    def __init__(
        self, connection: RabbitMQConnection, publisher: RabbitMQPublisher, topic: str, options: SubscribeOptions
    ) -> None:
        self._connection = connection
        self._publisher = publisher
        self._topic = topic
        self._group = options.group or ""
        self._names = topology.group_names(topic, self._group)
        self._options = options
        self._dead = Store(publisher, self._names.dead)
        self._last = Store(publisher, self._names.last)
        self._retries: dict[int, str] = {}  # milliseconds → queue
        self._buffer = Buffer(connection, options.prefetch, self._join)
        self._buffer.open()

    def fetch(self, limit: int, timeout_seconds: float) -> Sequence[Delivery[Receipt]]:
        receipts = self._buffer.take(limit, timeout_seconds)
        with self._or_back(receipts):
            return [self._delivery(receipt) for receipt in receipts]

    def interrupt(self) -> None:
        self._buffer.stop()

    def close(self) -> None:
        self._buffer.close()

    def ack(self, deliveries: Sequence[Delivery[Receipt]]) -> None:
        self._buffer.settle(delivery.receipt for delivery in deliveries)
        over = {_mark(delivery.receipt) for delivery in deliveries if self._is_last(delivery.attempt)}
        if over:
            with suppress(BrokerError):  # a mark expires, and no other publication has the same
                self._last.read(lambda parcel: parcel.message.body in over)

    def retry(self, delivery: Delivery[Receipt], delay_seconds: float) -> None:
        """A copy waits where all wait that long; without a delay the original goes back, and the server counts that."""
        if delivery.receipt.channel.lost:
            return  # it comes again anyway
        if delay_seconds > 0:
            with self._or_back([delivery.receipt]):
                self._put_later(delivery, _milliseconds(delay_seconds))
        self._buffer.settle([delivery.receipt], requeue=delay_seconds <= 0)

    def bury(self, delivery: Delivery[Receipt], reason: str) -> None:
        if delivery.receipt.channel.lost:
            return  # as above
        parcel = delivery.receipt.parcel
        self._dead.put(wire.dead_letter(parcel, delivery.attempt, reason), parcel.message.body)
        self.ack([delivery])

    def release(self, deliveries: Sequence[Delivery[Receipt]]) -> None:
        self._buffer.settle((delivery.receipt for delivery in deliveries), requeue=True)

    def begin_last(self, delivery: Delivery[Receipt]) -> None:
        self._last.put(wire.publish(Message(), MARK_KEPT_SECONDS), _mark(delivery.receipt))

    def _delivery(self, receipt: Receipt) -> Delivery[Receipt]:
        parcel = receipt.parcel
        attempt = parcel.attempts + parcel.returned + 1
        started = parcel.returned > 0 and self._is_last(attempt) and self._has_started(receipt)
        return Delivery(parcel.message, attempt, receipt, started)

    def _is_last(self, attempt: int) -> bool:
        return attempt >= self._options.max_attempts

    def _has_started(self, receipt: Receipt) -> bool:
        return any(parcel.message.body == _mark(receipt) for parcel in self._last.read())

    @contextmanager
    def _or_back(self, receipts: Sequence[Receipt]) -> Iterator[None]:
        """Hand them back when this fails: no lease would ever end while the connection lives."""
        try:
            yield
        except BrokerError:
            self._buffer.settle(receipts, requeue=True)
            raise

    def _put_later(self, delivery: Delivery[Receipt], milliseconds: int) -> None:
        parcel, publisher = delivery.receipt.parcel, self._publisher
        queue = self._retries.pop(milliseconds, None)  # one that does not take the message is looked for again
        queue = queue or topology.declare_retry(publisher.connection, self._names.queue, milliseconds)
        publisher.put(queue, wire.copy(parcel, delivery.attempt), parcel.message.body)
        self._retries[milliseconds] = queue

    def _join(self, channel: Channel) -> str:
        """Make the group's queue. One that exists is taken as it is: other arguments would be refused."""
        if topology.look(self._connection, self._names.queue) is None:
            Registry(self._publisher).add(self._topic, self._group)
            delays = [_milliseconds(delay) for delay in self._options.retry_delays if delay]
            topology.make_group(self._connection, self._names, delays)
        topology.bind_group(self._connection, self._topic, self._names.queue)
        self._answer_questions(channel)
        return self._names.queue

    def _answer_questions(self, channel: Channel) -> None:
        """Be counted among the members, and say when asked how much is held here; see `RabbitMQGroup.backlog`."""
        members = self._names.members
        topology.join_members(self._connection, members)
        questions = channel.ask("queue_declare", queue="", exclusive=True, auto_delete=True).method.queue
        channel.ask("queue_bind", queue=questions, exchange=members)

        def answer(pika: Any, _: Any, properties: BasicProperties, __: bytes) -> None:
            if properties.reply_to:
                pika.basic_publish("", properties.reply_to, str(self._buffer.held()).encode())

        channel.ask("basic_consume", queue=questions, on_message_callback=answer, auto_ack=True)
        channel.ask("basic_consume", queue=members, on_message_callback=lambda *_: None, auto_ack=True)


class RabbitMQBroadcast(BroadcastSource):
    """A subscription of its own: a queue that outlives a short absence of its consumer."""

    def __init__(self, connection: RabbitMQConnection, topic: str, prefetch: int) -> None:
        self._connection = connection
        self._topic = topic
        self._queue = topology.broadcast_queue(topic)
        self._buffer = Buffer(connection, prefetch, self._join)
        self._buffer.open()

    def fetch(self, limit: int, timeout_seconds: float) -> Sequence[Delivery[None]]:
        receipts = self._buffer.take(limit, timeout_seconds)
        self._buffer.settle(receipts)
        return [Delivery(receipt.parcel.message, 1, None) for receipt in receipts]

    def interrupt(self) -> None:
        self._buffer.stop()

    def close(self) -> None:
        self._buffer.close()
        ask(self._connection, "queue_delete", queue=self._queue)

    def _join(self, _: Channel) -> str:
        topology.join_broadcasts(self._connection, self._topic, self._queue)
        return self._queue


def _milliseconds(seconds: float) -> int:
    return math.ceil(seconds * 1000)


def _mark(receipt: Receipt) -> bytes:
    return receipt.parcel.publication.encode()
