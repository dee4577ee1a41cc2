"""The receiving side: what arrives on a consuming channel waits in an intake until the engine fetches it."""

from __future__ import annotations

import math
import threading
import uuid
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import takewhile
from typing import Any, NamedTuple

from pika import BasicProperties  # type: ignore[import-untyped]  # pika has no types

from broker.engine.source import BroadcastSource, Delivery, Source
from broker.errors import BrokerError
from broker.options import SubscribeOptions
from broker.rabbitmq import layout, wire
from broker.rabbitmq.line import Line
from broker.rabbitmq.link import Link

MAX_PREFETCH = 2**16 - 1  #: AMQP's highest
TAG = "intake"  #: names a consumer; channels do not share them


class Letter(NamedTuple):
    """What a delivery carries: a delivery tag is worth something only on the channel that it came on."""

    line: Line
    tag: int
    parcel: wire.Parcel


class Intake:
    """One consuming channel after another, and what has arrived on the present one.

    `join(line, intake)` starts consuming; it is called again when the channel was lost or its queue deleted.
    """

    def __init__(self, link: Link, join: Callable[[Line, Intake], None]) -> None:
        self._link = link
        self._join = join
        self._changed = threading.Condition()
        self._line: Line | None = None
        self._arrived: deque[Letter] = deque()
        self._held: dict[int, None] = {}  # tags in order, delivered and not settled; on the link's thread only
        self._stopped = False

    def open(self) -> None:
        """Consume; what the last channel brought and nobody fetched is dropped, it comes again."""
        line = self._link.line(self._lost)
        self._arrived.clear()
        self._held = {}
        self._line = line
        try:
            self._join(line, self)
        except BrokerError:
            self._line = None
            line.drop()
            raise
        if self._stopped:
            line.drop()

    def consume(self, line: Line, queue: str, prefetch: int) -> None:
        """Let the server deliver from that queue."""
        line.ask("basic_qos", prefetch_count=min(prefetch, MAX_PREFETCH))

        def arrive(_: Any, method: Any, properties: BasicProperties, body: bytes) -> None:
            self._arrive(Letter(line, method.delivery_tag, _parcel(properties, body, method)))

        line.ask("basic_consume", queue=queue, on_message_callback=arrive, consumer_tag=TAG)

    def take(self, limit: int, timeout_seconds: float) -> list[Letter]:
        """As `Source.fetch`."""
        if not self._stopped and (self._line is None or self._line.lost):
            self.open()
        with self._changed:
            self._changed.wait_for(lambda: self._arrived or self._idle(), timeout_seconds)
            return [self._arrived.popleft() for _ in range(min(limit, len(self._arrived)))]

    def settle(self, letters: Iterable[Letter], *, requeue: bool = False) -> None:
        """Ack them, or hand them back. What came on a channel that is lost is left to the server, which has it."""
        line = self._line
        tags = {letter.tag for letter in letters if letter.line is line}
        if tags and line:
            line.do(lambda channel: self._settle(channel, tags, requeue))

    def stop(self) -> None:
        """Let nothing more arrive, and hand back what nobody has fetched."""
        with self._changed:
            self._stopped = True
            left, self._arrived = list(self._arrived), deque()
            self._changed.notify_all()
        if self._line:
            self._line.do(_cancel)
            self.settle(left, requeue=True)

    def close(self) -> None:
        """Leave; what was not settled goes back."""
        self.stop()
        if self._line:
            self._line.close()

    def held(self) -> int:
        """How many messages are with this consumer; to be called on the link's thread."""
        return len(self._held)

    def _idle(self) -> bool:
        return self._stopped or self._line is None or self._line.lost is not None

    def _lost(self) -> None:
        with self._changed:
            self._changed.notify_all()

    def _arrive(self, letter: Letter) -> None:
        with self._changed:
            if letter.line is not self._line:
                return
            self._held[letter.tag] = None
            if not self._stopped:
                if not self._arrived:
                    self._changed.notify()
                self._arrived.append(letter)
                return
        self.settle([letter], requeue=True)

    def _settle(self, channel: Any, tags: set[int], requeue: bool) -> None:
        """What is first among the held in one command, the rest one by one."""
        tags &= self._held.keys()
        first = list(takewhile(tags.__contains__, self._held))
        commands = [(tag, False) for tag in sorted(tags.difference(first))]
        for tag, multiple in [(first[-1], True), *commands] if first else commands:
            if requeue:
                channel.basic_nack(tag, multiple)
            else:
                channel.basic_ack(tag, multiple)
        for tag in tags:
            del self._held[tag]


class RabbitMQSource(Source[Letter]):
    """A member of a group. The server keeps the lease as long as the connection lives."""

    def __init__(
        self, link: Link, publishing: Link, topic: str, options: SubscribeOptions, register: Callable[[], None]
    ) -> None:
        self._link = link
        self._publishing = publishing
        self._topic = topic
        self._group = layout.group_queue(topic, options.group or "")
        self._options = options
        self._register = register
        self._retries: dict[int, str] = {}  # milliseconds → queue
        self._intake = Intake(link, self._join)
        self._intake.open()

    def fetch(self, limit: int, timeout_seconds: float) -> Sequence[Delivery[Letter]]:
        letters = self._intake.take(limit, timeout_seconds)
        with self._or_back(letters):
            return [self._delivery(letter) for letter in letters]

    def interrupt(self) -> None:
        self._intake.stop()

    def close(self) -> None:
        self._intake.close()

    def ack(self, deliveries: Sequence[Delivery[Letter]]) -> None:
        self._intake.settle(delivery.receipt for delivery in deliveries)
        for delivery in deliveries:
            if self._is_last(delivery.attempt):
                self._unmark(delivery)

    def retry(self, delivery: Delivery[Letter], delay_seconds: float) -> None:
        """A copy waits where all wait that long; without a delay it goes back, and the server counts that."""
        if delivery.receipt.line.lost:
            return  # it comes again anyway
        if delay_seconds > 0:
            with self._or_back([delivery.receipt]):
                self._put_later(delivery, _milliseconds(delay_seconds))
        self._intake.settle([delivery.receipt], requeue=delay_seconds <= 0)

    def bury(self, delivery: Delivery[Letter], reason: str) -> None:
        if delivery.receipt.line.lost:
            return  # as above
        parcel = delivery.receipt.parcel
        queue = layout.dead_queue(self._group)
        layout.declare(self._publishing, queue, layout.QUORUM)
        self._publishing.put(queue, wire.letter(parcel, delivery.attempt, reason), parcel.message.body)
        self.ack([delivery])

    def release(self, deliveries: Sequence[Delivery[Letter]]) -> None:
        self._intake.settle((delivery.receipt for delivery in deliveries), requeue=True)

    def begin_last(self, delivery: Delivery[Letter]) -> None:
        layout.declare_mark(self._link, delivery.receipt.parcel.publication)

    @contextmanager
    def _or_back(self, letters: Sequence[Letter]) -> Iterator[None]:
        """Hand them back when this fails: no lease would ever end while the connection lives."""
        try:
            yield
        except BrokerError:
            self._intake.settle(letters, requeue=True)
            raise

    def _put_later(self, delivery: Delivery[Letter], milliseconds: int) -> None:
        parcel = delivery.receipt.parcel
        queue = self._retries.get(milliseconds) or layout.declare_retry(self._publishing, self._group, milliseconds)
        self._retries.pop(milliseconds, None)  # unless it takes the message, it is looked for again
        self._publishing.put(queue, wire.copy(parcel, delivery.attempt), parcel.message.body)
        self._retries[milliseconds] = queue

    def _join(self, line: Line, intake: Intake) -> None:
        if layout.size(self._link, self._group) is None:
            self._register()
            layout.prepare_group(self._link, self._group, [_milliseconds(d) for d in self._options.retry_delays if d])
        layout.join_group(self._link, self._topic, self._group)
        self._listen(line)
        intake.consume(line, self._group, self._options.prefetch)

    def _listen(self, line: Line) -> None:
        """Be counted among the members, and say when asked how much is held here."""
        members = layout.members_name(self._group)
        layout.join_members(self._link, self._group)
        questions = line.ask("queue_declare", queue="", exclusive=True, auto_delete=True).method.queue
        line.ask("queue_bind", queue=questions, exchange=members)

        def answer(channel: Any, _: Any, properties: BasicProperties, __: bytes) -> None:
            if properties.reply_to:
                channel.basic_publish("", properties.reply_to, str(self._intake.held()).encode())

        line.ask("basic_consume", queue=questions, on_message_callback=answer, auto_ack=True)
        line.ask("basic_consume", queue=members, on_message_callback=lambda *_: None, auto_ack=True)

    def _delivery(self, letter: Letter) -> Delivery[Letter]:
        parcel = letter.parcel
        attempt = parcel.attempts + parcel.returned + 1
        started = parcel.returned > 0 and self._is_last(attempt) and self._is_marked(parcel)
        return Delivery(letter.parcel.message, attempt, letter, started)

    def _is_last(self, attempt: int) -> bool:
        return attempt >= self._options.max_attempts

    def _is_marked(self, parcel: wire.Parcel) -> bool:
        return layout.size(self._link, layout.mark(parcel.publication)) is not None

    def _unmark(self, delivery: Delivery[Letter]) -> None:
        with suppress(BrokerError):  # it expires, and no other publication has its name
            self._link.ask("queue_delete", queue=layout.mark(delivery.receipt.parcel.publication))


class RabbitMQBroadcast(BroadcastSource):
    """A subscription of its own: a queue that outlives a short absence of its consumer."""

    def __init__(self, link: Link, topic: str, prefetch: int) -> None:
        self._link = link
        self._topic = topic
        self._prefetch = prefetch
        self._queue = layout.broadcast_queue(topic, uuid.uuid4().hex)
        self._intake = Intake(link, self._join)
        self._intake.open()

    def fetch(self, limit: int, timeout_seconds: float) -> Sequence[Delivery[None]]:
        letters = self._intake.take(limit, timeout_seconds)
        self._intake.settle(letters)
        return [Delivery(letter.parcel.message, 1, None) for letter in letters]

    def interrupt(self) -> None:
        self._intake.stop()

    def close(self) -> None:
        self._intake.close()
        self._link.ask("queue_delete", queue=self._queue)

    def _join(self, line: Line, intake: Intake) -> None:
        layout.join_broadcasts(self._link, self._topic, self._queue)
        intake.consume(line, self._queue, self._prefetch)


def _milliseconds(seconds: float) -> int:
    return math.ceil(seconds * 1000)


def _cancel(channel: Any) -> None:
    channel.basic_cancel(TAG)


def _parcel(properties: BasicProperties, body: bytes, method: Any) -> wire.Parcel:
    return wire.receive(properties, body, redelivered=method.redelivered)
