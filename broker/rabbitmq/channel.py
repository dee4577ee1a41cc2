"""AMQP channels, for threads that wait for answers. A channel ends with its session, or when the server refuses."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from typing import Any

from pika.exceptions import ConsumerCancelled  # type: ignore[import-untyped]  # pika has no types
from pika.spec import Basic  # type: ignore[import-untyped]  # the same

from broker.errors import BrokerError
from broker.rabbitmq import wire
from broker.rabbitmq.connection import RabbitMQConnection, Start, fail


class Channel:
    """A channel that one thread at a time asks; what is passed to `do` may come from any thread."""

    def __init__(
        self, connection: RabbitMQConnection, on_lost: Callable[[], None] | None = None, deadline: float | None = None
    ) -> None:
        """Open it; `on_lost` is called, on the session's thread, when it ends."""
        self.lost: BaseException | None = None
        self._connection = connection
        self._on_lost = on_lost or (lambda: None)
        self._waiting: set[Future[Any]] = set()
        self._pika: Any = None
        self._session = connection.open(deadline)
        self.answer(self._open, deadline)

    def ask(self, method: str, **arguments: Any) -> Any:
        """Return the server's answer to one AMQP method."""
        return self.answer(lambda answer: getattr(self._pika, method)(callback=answer.set_result, **arguments))

    def get(self, queue: str) -> tuple[int, wire.Parcel] | None:
        """Return the next message of a queue, with its delivery tag; None when there is none."""

        def start(answer: Future[Any]) -> None:
            self._pika.basic_get(queue, lambda _, *got: answer.set_result((got[0].delivery_tag, wire.receive(*got))))

        got: tuple[int, wire.Parcel] | None = self.answer(start)
        return got

    def answer(self, start: Start, deadline: float | None = None) -> Any:
        """As `Session.answer`; the end of the channel is an answer, too."""

        def expect(answer: Future[Any]) -> None:
            if self.lost:
                raise self.lost
            self._waiting.add(answer)
            answer.add_done_callback(self._waiting.discard)
            start(answer)

        return self._session.answer(expect, self._connection.deadline() if deadline is None else deadline)

    def do(self, action: Callable[[Any], None]) -> None:
        """Call `action` with pika's channel, soon, and in the order of these calls; not when the channel has ended."""
        self._session.post(lambda: action(self._pika) if self._pika.is_open and not self.lost else None)

    def close(self) -> None:
        """Leave; what was delivered here and not acked goes back to its queue."""
        with suppress(BrokerError):  # that the channel has ended is said as an error, too
            self.answer(lambda _: self._pika.close())

    def drop(self) -> None:
        """As `close`, without waiting for it."""
        self.do(lambda pika: pika.close())

    def _open(self, opened: Future[Any]) -> None:
        self._pika = self._session.pika.channel(on_open_callback=opened.set_result)
        self._pika.add_on_close_callback(lambda _, reason: self._end(reason))
        self._pika.add_on_cancel_callback(self._cancelled)
        self._pika.add_callback(self._got_nothing, [Basic.GetEmpty], one_shot=False)

    def _got_nothing(self, _frame: Any) -> None:
        for answer in list(self._waiting):  # there is one: that of `get`
            answer.set_result(None)

    def _cancelled(self, _frame: Any) -> None:
        self._end(ConsumerCancelled("its queue was deleted"))
        self._pika.close()

    def _end(self, reason: BaseException) -> None:
        if not self.lost:
            self.lost = reason
            for answer in list(self._waiting):
                fail(answer, reason)
            self._on_lost()


def ask(connection: RabbitMQConnection, method: str, **arguments: Any) -> Any:
    """Ask on a channel of its own, as `Channel.ask`: the server closes the channel when it refuses."""
    channel = Channel(connection)
    try:
        return channel.ask(method, **arguments)
    finally:
        channel.drop()
