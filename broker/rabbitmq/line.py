"""One AMQP channel, for threads that wait for its answers."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import partial
from itertools import takewhile
from typing import TYPE_CHECKING, Any

from pika import BasicProperties  # type: ignore[import-untyped]  # pika has no types
from pika.exceptions import ChannelWrongStateError, ConsumerCancelled  # type: ignore[import-untyped]
from pika.spec import Basic  # type: ignore[import-untyped]

from broker.errors import BrokerError
from broker.rabbitmq.connection import Batch, Connection
from broker.turns import Answer

if TYPE_CHECKING:
    from broker.rabbitmq.link import Link


class Flight:
    """A batch on its way. `unconfirmed` and `returned` are places in it; `error` says why it did not land."""

    def __init__(self, count: int) -> None:
        self.landed: Answer[None] = Answer()
        self.error: BrokerError | None = None
        self.returned: set[int] = set()
        self._left = dict.fromkeys(range(count))  # places
        self._refused: list[int] = []
        self._tags: dict[int, int] = {}  # delivery tag → place, ascending
        self._places: dict[str, int] = {}  # publication → place

    @property
    def unconfirmed(self) -> list[int]:
        """What may or may not be stored."""
        return sorted([*self._left, *self._refused])

    def add(self, tag: int, publication: str) -> None:
        """The next message of it leaves."""
        self._places[publication] = self._tags[tag] = len(self._places)

    def confirm(self, method: Any) -> None:
        """The server says that it has one or several, or that it could not take them."""
        last = method.delivery_tag
        tags = list(takewhile(lambda tag: tag <= last, self._tags)) if method.multiple else [last]
        places = [self._tags.pop(tag) for tag in tags]
        if isinstance(method, Basic.Nack):
            self._refused += places
        for place in places:
            del self._left[place]
        if not self._left:
            self.landed.set_result(None)

    def give_back(self, publication: str) -> None:
        """The server has no queue for that one."""
        self.returned.add(self._places[publication])


class Line:
    """One channel. Its methods are called from any thread; callbacks run on the link's loop."""

    def __init__(self, link: Link, on_lost: Callable[[], None] | None = None) -> None:
        self.lost: BaseException | None = None
        self._link = link
        self._on_lost = on_lost or (lambda: None)
        self._channel: Any = None
        self._waiting: set[Answer[Any]] = set()
        self._flight: Flight | None = None
        self._tag = 0

    def open(self, connection: Connection, opened: Answer[None]) -> None:
        """Called on the link's loop."""
        self._expect(opened)
        self._channel = connection.channel(on_open_callback=lambda _: self._ready(opened))
        self._channel.add_on_close_callback(lambda _, reason: self._end(reason))
        self._channel.add_on_cancel_callback(self._cancelled)
        self._channel.add_on_return_callback(self._returned)
        self._channel.add_callback(self._got_nothing, [Basic.GetEmpty], one_shot=False)

    def ask(self, method: str, **arguments: Any) -> Any:
        """The server's answer to one AMQP method; `Refused` when it closes the channel instead."""

        def send(answer: Answer[Any]) -> None:
            self._expect(answer)
            getattr(self._channel, method)(callback=answer.set_result, **arguments)

        return self._link.answer(send)

    def get(self, queue: str) -> tuple[int, BasicProperties, bytes] | None:
        """The next message of a queue, with its delivery tag; None when there is none."""

        def send(answer: Answer[Any]) -> None:
            self._expect(answer)
            self._channel.basic_get(
                queue, lambda _, method, properties, body: answer.set_result((method.delivery_tag, properties, body))
            )

        got: tuple[int, BasicProperties, bytes] | None = self._link.answer(send)
        return got

    def do(self, action: Callable[[Any], None]) -> None:
        """Call `action(channel)` soon, in the order of these calls; not when the channel is gone by then, or going."""
        self._link.post(lambda: action(self._channel) if self._channel.is_open and not self.lost else None)

    def publish(self, batch: Batch, deadline: float) -> Flight:
        """Send all of it at once, and wait until each message is confirmed, refused or returned."""
        flight = Flight(len(batch.messages))
        try:
            self._link.answer(partial(self._send, flight, batch), deadline, flight.landed)
        except BrokerError as error:
            flight.error = error
        return flight

    def close(self) -> None:
        """Leave; what was delivered here and not acked goes back to its queue."""

        def send(closed: Answer[None]) -> None:
            self._expect(closed)
            self._channel.close()

        with suppress(BrokerError):  # that it is closed is said as an error, too
            self._link.answer(send)

    def drop(self) -> None:
        """As `close`, without waiting for it."""
        self.do(lambda channel: channel.close())

    def _send(self, flight: Flight, batch: Batch, landed: Answer[None]) -> None:
        self._expect(landed)
        if not self._channel.is_open:
            raise ChannelWrongStateError("the channel is being closed")
        self._flight = flight
        if batch.first:
            batch.first(self._channel)
        for properties, _ in batch.messages:
            self._tag += 1
            flight.add(self._tag, properties.message_id)
        self._channel.connection.publish(self._channel.channel_number, batch)

    def _ready(self, opened: Answer[None]) -> None:
        self._channel.connection.hear(self._channel.channel_number, self._confirmed)
        self._channel.confirm_delivery(_leave_to_hear, callback=lambda _: opened.set_result(None))

    def _confirmed(self, method: Any) -> None:
        if self._flight:
            self._flight.confirm(method)

    def _returned(self, _channel: Any, _method: Any, properties: BasicProperties, _body: bytes) -> None:
        if self._flight:
            self._flight.give_back(properties.message_id)

    def _got_nothing(self, _frame: Any) -> None:
        for answer in list(self._waiting):  # a line is used by one thread at a time
            answer.set_result(None)

    def _cancelled(self, _frame: Any) -> None:
        self._end(ConsumerCancelled("its queue was deleted"))
        self._channel.close()

    def _expect(self, answer: Answer[Any]) -> None:
        """Let it fail when the channel ends."""
        if self.lost:
            raise self.lost
        self._waiting.add(answer)
        answer.add_done_callback(self._waiting.discard)

    def _end(self, reason: BaseException) -> None:
        if self.lost:
            return
        self.lost = reason
        for answer in list(self._waiting):
            answer.set_exception(reason)
        self._on_lost()


def _leave_to_hear(_: Any) -> None:
    """What pika is to call with each confirm; see `Connection.hear`."""
