"""A connection to the server, made when it is used and again when it was lost; pika's loop is in here.

pika is not thread-safe: whatever touches it is done on the link's loop. A `Line` is one channel and ends with its
connection.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any

from pika import BasicProperties, ConnectionParameters  # type: ignore[import-untyped]
from pika.adapters.select_connection import IOLoop  # type: ignore[import-untyped]  # pika has no types
from pika.exceptions import StreamLostError  # type: ignore[import-untyped]  # the same

from broker.errors import BrokerError
from broker.rabbitmq.causes import LOCKED, Refused, translated
from broker.rabbitmq.connection import Batch, Connection
from broker.rabbitmq.line import Flight, Line
from broker.turns import Answer, Loop, Turns

log = logging.getLogger(__name__)

LOCK_SECONDS = 0.02  #: pause before a lock is tried again


class Late(Exception):
    """There was no answer in time."""


class Link:
    """One connection. `explain` makes the `BrokerError` that names broker and address."""

    def __init__(
        self, parameters: ConnectionParameters, timeout_seconds: float, explain: Callable[[object], BrokerError]
    ) -> None:
        self._parameters = parameters
        self._timeout_seconds = timeout_seconds
        self.explain = explain
        self._loop: Any = IOLoop()
        self._turns = Turns(Loop(self._run, self._stop, self._loop.add_callback_threadsafe), "rabbitmq")
        self._posted: deque[Callable[[], None]] = deque()
        self._due: dict[Answer[Any], float] = {}  # answer → deadline; on the loop only, as the next
        self._wake_at = math.inf  # when they are looked at
        self._running = False
        self._started = False
        self._opening = threading.Lock()
        self._connection: Any = None
        self._closing = threading.Event()
        self._idle: list[Line] = []  # for publishing
        self._asking = threading.Lock()
        self._desk: Line | None = None  # for `ask`
        self._alone = threading.Lock()

    def open(self, deadline: float | None = None) -> Any:
        """The connection, made if need be."""
        deadline = self._deadline() if deadline is None else deadline
        if not self._opening.acquire(timeout=max(0.0, deadline - time.monotonic())):
            raise self.explain("it is still being connected to")
        try:
            if self._closing.is_set():
                raise self.explain("it was disconnected")
            if not self._started:
                self._started = True
                self._loop.activate_poller()
                self._turns.start()
            if self._connection is None or not self._connection.is_open:
                self._connect(deadline)
            return self._connection
        finally:
            self._opening.release()

    def close(self, deadline: float) -> None:
        """End it, and its thread."""
        self._closing.set()
        if self._started:
            with suppress(BrokerError):
                self.answer(self._disconnect, deadline)
            self.answer(self._let_go)
            self._turns.end()
        self._loop.close()

    def line(self, on_lost: Callable[[], None] | None = None, deadline: float | None = None) -> Line:
        """A channel of its own, to be closed by the caller."""
        connection = self.open(deadline)
        line = Line(self, on_lost)
        self.answer(partial(line.open, connection), deadline)
        return line

    def ask(self, method: str, **arguments: Any) -> Any:
        """As `Line.ask`, on a channel that all share."""
        with self._asking:
            if self._desk is None or self._desk.lost:
                self._desk = self.line()
            try:
                return self._desk.ask(method, **arguments)
            except BrokerError:
                self._desk.drop()  # its answer may still come, and be taken for that of the next question
                self._desk = None
                raise

    def publish(self, batch: Batch) -> Flight:
        """As `Line.publish`, on a channel that nobody else publishes on meanwhile."""
        deadline = self._deadline()
        line = self._idle_line() or self.line(deadline=deadline)
        flight = line.publish(batch, deadline)
        if flight.error:
            line.drop()
        else:
            self._idle.append(line)
        return flight

    def put(self, queue: str, properties: BasicProperties, body: bytes) -> None:
        """Publish one message to a queue by its name, confirmed."""
        flight = self.publish(Batch("", queue, [(properties, body)], mandatory=True))
        if flight.error:
            raise flight.error
        if flight.returned or flight.unconfirmed:
            raise self.explain(f"{queue} did not take the message")

    @contextmanager
    def alone(self, queue: str) -> Iterator[Line]:
        """A line, while nobody else, in any process, is in here for that queue.

        A queue that is exclusive to a connection is the one lock that AMQP has: it ends with the connection.
        """
        with self._alone:
            line = self._locked(f"{queue}:lock", self._deadline())
            try:
                yield line
            finally:
                line.close()
                with suppress(BrokerError):  # then the connection is lost, and the lock with it
                    self.ask("queue_delete", queue=f"{queue}:lock")

    def _locked(self, lock: str, deadline: float) -> Line:
        while True:
            line = self.line()
            try:
                line.ask("queue_declare", queue=lock, exclusive=True)
            except Refused as error:
                if error.code != LOCKED or time.monotonic() > deadline:
                    raise
                self._closing.wait(LOCK_SECONDS)
            else:
                return line

    def answer(
        self,
        ask: Callable[[Answer[Any]], None],
        deadline: float | None = None,
        answer: Answer[Any] | None = None,
    ) -> Any:
        """Call `ask(answer)` on the link's loop; the answer, or a `BrokerError` that says why there is none."""
        answer = Answer() if answer is None else answer
        try:
            due = self._deadline() if deadline is None else deadline
            self._turns.ask(partial(self._ask, ask, answer, due), answer)
            return answer.result()
        except CancelledError as error:
            raise self.explain("it was disconnected") from error
        except Late as error:
            raise self.explain(f"no answer within {self._timeout_seconds:g} s") from error
        except Exception as error:  # whatever pika raises
            raise translated(error, self.explain) from error

    def post(self, function: Callable[[], None]) -> None:
        """Call it on the link's loop, soon, and before whatever the calling thread asks next."""
        self._posted.append(function)
        self._loop.add_callback_threadsafe(self._do_posted)

    def _deadline(self) -> float:
        return time.monotonic() + self._timeout_seconds

    def _idle_line(self) -> Line | None:
        while self._idle:
            with suppress(IndexError):  # another thread was faster
                line = self._idle.pop()
                if not line.lost:
                    return line
        return None

    # --- on the link's loop --------------------------------------------------------------------------------

    def _run(self) -> None:
        self._running = True
        while self._running:
            self._safely(self._poll)

    def _stop(self) -> None:
        self._running = False

    def _do_posted(self) -> None:
        while self._posted:
            self._safely(self._posted.popleft())

    def _poll(self) -> None:
        self._loop.poll()
        self._loop.process_timeouts()
        if self._wake_at <= time.monotonic():
            self._give_up()

    def _safely(self, function: Callable[[], None]) -> None:
        try:
            function()
        except Exception:
            log.exception("%s", self.explain("pika failed; it goes on"))

    def _ask(self, ask: Callable[[Answer[Any]], None], answer: Answer[Any], deadline: float) -> None:
        self._do_posted()
        self._due[answer] = deadline
        answer.add_done_callback(lambda answer: self._due.pop(answer, None))
        self._wake_by(deadline)
        try:
            ask(answer)
        except Exception as error:  # noqa: BLE001  # raised to whoever waits for the answer
            answer.set_exception(error)

    def _wake_by(self, deadline: float) -> None:
        """Let there be a round of the loop by then. A timer for each answer would cost more than asking."""
        if deadline < self._wake_at:
            self._wake_at = deadline
            self._loop.call_later(max(0.0, deadline - time.monotonic()), lambda: None)

    def _give_up(self) -> None:
        """What is late; the others are looked at again in time."""
        now, self._wake_at = time.monotonic(), math.inf
        for answer in [answer for answer, deadline in self._due.items() if deadline <= now]:
            answer.set_exception(Late())
        if self._due:
            self._wake_by(min(self._due.values()))

    def _connect(self, deadline: float) -> None:
        def connect(opened: Answer[Any]) -> None:
            self._connection = Connection(
                self._parameters,
                on_open_callback=opened.set_result,
                on_open_error_callback=lambda _, error: opened.set_exception(error),
                custom_ioloop=self._loop,
            )

        try:
            self.answer(connect, deadline)
        except BrokerError:
            self.post(self._abort)
            raise

    def _disconnect(self, closed: Answer[None]) -> None:
        connection = self._connection
        if connection is None or not connection.is_open:
            return closed.set_result(None)
        connection.add_on_close_callback(lambda *_: closed.set_result(None))
        connection.close()

    def _let_go(self, gone: Answer[None]) -> None:
        self._abort()
        self.post(lambda: gone.set_result(None))  # an abort takes one more round of the loop

    def _abort(self) -> None:
        """Let go of a socket at whose other end nobody answers; pika's own close waits for an answer."""
        connection, self._connection = self._connection, None
        if connection is not None and not connection.is_closed:
            if connection.is_open:
                connection._terminate_stream(StreamLostError("given up"))  # noqa: SLF001  # there is no other way
            elif connection.is_closing:
                connection._adapter_disconnect_stream()  # noqa: SLF001  # the same
            else:
                connection.close()
