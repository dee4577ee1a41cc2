"""The connection to the server: reached when it is first used, and reached again when it was lost.

pika is not thread-safe. So each session has one thread, which runs pika's loop and does whatever touches pika; a thread
that asks for something waits for the answer, with a deadline. Deadlines are in `time.monotonic()` seconds.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from typing import Any

from pika import ConnectionParameters, SelectConnection  # type: ignore[import-untyped]  # pika has no types
from pika.adapters.utils.connection_workflow import AMQPConnectorStackTimeout  # type: ignore[import-untyped]
from pika.exceptions import (  # type: ignore[import-untyped]  # the same
    ChannelClosed,
    ConnectionClosed,
    IncompatibleProtocolError,
    ProbableAccessDeniedError,
    ProbableAuthenticationError,
    StreamLostError,
)

from broker.errors import BrokerError

log = logging.getLogger(__name__)

NOT_FOUND, LOCKED, PRECONDITION_FAILED = 404, 405, 406  #: why a server closes a channel
INTERNAL_ERROR = 541  #: why it closes a connection; for example, a queue that was declared just now does not run yet

#: kind of error → what it means, where its own text does not say
MEANING: tuple[tuple[type[BaseException], str], ...] = (
    (ProbableAuthenticationError, "access refused; check user and password"),
    (ProbableAccessDeniedError, "access refused; check the vhost, and the user's rights to it"),
    (IncompatibleProtocolError, "what answers there does not speak AMQP 0-9-1"),
    (AMQPConnectorStackTimeout, "nothing there answered as an AMQP 0-9-1 server in time"),
    (StreamLostError, "the connection was lost"),
)

Start = Callable[[Future[Any]], None]  # asks pika for something, and lets a callback set the answer


class RabbitMQConnection:
    """A connection that is made again when it was lost; `error` makes a `BrokerError` of a cause."""

    def __init__(
        self, parameters: ConnectionParameters, timeout_seconds: float, error: Callable[[object], BrokerError]
    ) -> None:
        self.error = error
        self.alone = threading.Lock()  #: for what only one of its threads may do at a time
        self._parameters = parameters
        self._timeout_seconds = timeout_seconds
        self._opening = threading.Lock()
        self._session: Session | None = None
        self._closed = False

    def open(self, deadline: float | None = None) -> Session:
        """Return the session, made now if there is none that lives."""
        deadline = self.deadline() if deadline is None else deadline
        if not self._opening.acquire(timeout=max(0.0, deadline - time.monotonic())):
            raise self.error("it is still being connected to")
        try:
            if self._closed:
                raise self.error("it was disconnected")
            if self._session is None or self._session.lost:
                self._session = Session(self._parameters, deadline, self.error)
            return self._session
        finally:
            self._opening.release()

    def close(self, deadline: float) -> None:
        """End the session. A server that does not answer is let go of when its heartbeats are missed."""
        self._closed = True
        if self._session:
            self._session.close(deadline)

    def deadline(self) -> float:
        """Return when something that is asked now has to be answered."""
        return time.monotonic() + self._timeout_seconds


class Session:
    """One connection of pika's, and the thread that runs its loop; the thread ends when the connection does."""

    def __init__(
        self, parameters: ConnectionParameters, deadline: float, error: Callable[[object], BrokerError]
    ) -> None:
        """Return when the server has let us in, or raise."""
        self.lost: BaseException | None = None
        self._error = error
        self._process = os.getpid()
        opened: Future[Any] = Future()
        self._waiting = {opened}
        self.pika = SelectConnection(
            parameters,
            on_open_callback=opened.set_result,
            on_open_error_callback=lambda _, error: self._end(error),
            on_close_callback=lambda _, error: self._end(error),
        )
        self._thread = threading.Thread(target=self._run, name="rabbitmq", daemon=True)
        self._thread.start()
        try:
            self._wait(opened, deadline)
        except BrokerError:
            self.close(deadline)
            raise

    def post(self, action: Callable[[], None]) -> None:
        """Call it on the session's thread, soon, and in the order of these calls; never, once the session is lost."""
        self.pika.ioloop.add_callback_threadsafe(action)

    def answer(self, start: Start, deadline: float) -> Any:
        """Call `start(answer)` on the session's thread, and return what is set as the answer, or raise why not."""
        if self._is_elsewhere():
            raise self._error("it was connected in another process; connect after a fork, not before it")
        answer: Future[Any] = Future()
        self._waiting.add(answer)
        self.post(lambda: _begin(start, answer))
        return self._wait(answer, deadline)

    def close(self, deadline: float) -> None:
        """Let pika close the connection, and wait until the thread has ended."""
        if self._is_elsewhere():
            return
        self.post(lambda: None if self.pika.is_closing or self.pika.is_closed else self.pika.close())
        self._thread.join(max(0.0, deadline - time.monotonic()))

    def _is_elsewhere(self) -> bool:
        """Return whether the thread is in another process, which has forked this one."""
        return self._process != os.getpid()

    def _wait(self, answer: Future[Any], deadline: float) -> Any:
        if self.lost:  # so nobody else will
            fail(answer, self.lost)
        try:
            return answer.result(max(0.0, deadline - time.monotonic()))
        except Exception as error:  # whatever pika raises
            if isinstance(error, TimeoutError) and not answer.done():
                raise self._error("no answer in time") from error
            cause = _innermost(error)
            raise self._error(explain(cause)) from cause
        finally:
            self._waiting.discard(answer)

    def _run(self) -> None:
        while not self.lost:
            try:
                self.pika.ioloop.start()
            except Exception:
                log.exception("%s", self._error("pika failed; it goes on"))
        self.pika.ioloop.close()

    def _end(self, error: BaseException) -> None:
        self.lost = error
        for answer in list(self._waiting):
            fail(answer, error)
        self.pika.ioloop.stop()


def fail(answer: Future[Any], error: BaseException) -> None:
    """Set the error as the answer, unless there is an answer."""
    with suppress(InvalidStateError):
        answer.set_exception(error)


def explain(error: BaseException) -> str:
    """Say in words why the server, or pika, did not do what it was asked to."""
    for kind, text in MEANING:
        if isinstance(error, kind):
            return text
    if isinstance(error, ChannelClosed | ConnectionClosed):
        return f"{error.reply_code} {error.reply_text}"
    return getattr(error, "strerror", None) or str(error) or repr(error)


def code_of(error: BrokerError | None) -> int | None:
    """Return AMQP's code, if the server closed the channel or the connection instead of doing what was asked."""
    return getattr(error.__cause__, "reply_code", None) if error else None


def _innermost(error: BaseException) -> BaseException:
    """Return what pika has wrapped, several times, as the cause of a failed connect."""
    inner: object = error
    while isinstance(inner, BaseException):
        error = inner
        several = getattr(error, "exceptions", None)
        inner = several[-1] if several else getattr(error, "exception", None) or next(iter(error.args), None)
    return error


def _begin(start: Start, answer: Future[Any]) -> None:
    try:
        start(answer)
    except Exception as error:  # noqa: BLE001  # raised to whoever waits for the answer
        fail(answer, error)
