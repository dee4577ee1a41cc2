"""What a consumer has been sent and the engine has not fetched yet, and what it holds until that is settled."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable
from itertools import takewhile
from typing import Any, NamedTuple

from broker.errors import BrokerError
from broker.rabbitmq import wire
from broker.rabbitmq.channel import Channel
from broker.rabbitmq.connection import RabbitMQConnection

MAX_PREFETCH = 2**16 - 1  #: AMQP's highest
TAG = "buffer"  #: names a consumer; channels do not share them


class Receipt(NamedTuple):
    """What settles a delivery: its tag is worth something only on the channel that it came on."""

    channel: Channel
    tag: int
    parcel: wire.Parcel


class Buffer:
    """One consuming channel after another, and what has arrived on the present one.

    `join(channel)` makes the queue that is to be consumed from and returns its name; it is called again when the
    channel was lost or the queue deleted.
    """

    def __init__(self, connection: RabbitMQConnection, prefetch: int, join: Callable[[Channel], str]) -> None:
        self._connection = connection
        self._prefetch = min(prefetch, MAX_PREFETCH)
        self._join = join
        self._changed = threading.Condition()
        self._channel: Channel | None = None
        self._arrived: deque[Receipt] = deque()
        self._held: dict[int, None] = {}  # tags in order, delivered and not settled; on the session's thread only
        self._stopped = False

    def open(self) -> None:
        """Begin to consume. What the last channel brought and nobody fetched is dropped; it comes again."""
        channel = Channel(self._connection, self._lost)
        self._arrived.clear()
        self._held = {}
        self._channel = channel
        try:
            self._consume(channel, self._join(channel))
        except BrokerError:
            self._channel = None
            channel.drop()
            raise
        if self._stopped:
            channel.drop()

    def take(self, limit: int, timeout_seconds: float) -> list[Receipt]:
        """Return what has arrived, as `Source.fetch` does; a lost channel is opened again."""
        if not self._stopped and (self._channel is None or self._channel.lost):
            self.open()
        with self._changed:
            self._changed.wait_for(lambda: self._arrived or self._stopped or self._is_lost(), timeout_seconds)
            return [self._arrived.popleft() for _ in range(min(limit, len(self._arrived)))]

    def settle(self, receipts: Iterable[Receipt], *, requeue: bool = False) -> None:
        """Ack them, or hand them back. What came on a channel that is lost is left to the server, which has it."""
        channel = self._channel
        tags = {receipt.tag for receipt in receipts if receipt.channel is channel}
        if tags and channel:
            channel.do(lambda pika: self._settle(pika, tags, requeue))

    def stop(self) -> None:
        """Let nothing more arrive, and hand back what nobody has fetched; twice is fine."""
        with self._changed:
            if self._stopped:
                return
            self._stopped = True
            left, self._arrived = list(self._arrived), deque()
            self._changed.notify_all()
        if self._channel:
            self._channel.do(lambda pika: pika.basic_cancel(TAG))
            self.settle(left, requeue=True)

    def close(self) -> None:
        """Leave; what was not settled goes back."""
        self.stop()
        if self._channel:
            self._channel.close()

    def held(self) -> int:
        """Return how many messages are with this consumer; to be called on the session's thread."""
        return len(self._held)

    def _consume(self, channel: Channel, queue: str) -> None:
        def arrive(_: Any, method: Any, properties: Any, body: bytes) -> None:
            self._arrive(Receipt(channel, method.delivery_tag, wire.receive(method, properties, body)))

        channel.ask("basic_qos", prefetch_count=self._prefetch)
        channel.ask("basic_consume", queue=queue, on_message_callback=arrive, consumer_tag=TAG)

    def _is_lost(self) -> bool:
        return self._channel is None or self._channel.lost is not None

    def _lost(self) -> None:
        with self._changed:
            self._changed.notify_all()

    def _arrive(self, receipt: Receipt) -> None:
        with self._changed:
            if receipt.channel is not self._channel:
                return
            self._held[receipt.tag] = None
            if not self._stopped:
                if not self._arrived:
                    self._changed.notify()
                self._arrived.append(receipt)
                return
        self.settle([receipt], requeue=True)

    def _settle(self, pika: Any, tags: set[int], requeue: bool) -> None:
        """Settle those that are first among the held by one command, the rest one by one."""
        tags &= self._held.keys()
        first = list(takewhile(tags.__contains__, self._held))
        commands = [(tag, False) for tag in sorted(tags.difference(first))]
        for tag, multiple in [(first[-1], True), *commands] if first else commands:
            if requeue:
                pika.basic_nack(tag, multiple)
            else:
                pika.basic_ack(tag, multiple)
        for tag in tags:
            del self._held[tag]
