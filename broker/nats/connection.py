"""The connection to a NATS server, for any thread: a client on the event loop of a private thread.

`client.py` keeps the client connected, `streams.py` has what is asked of JetStream; both are used on the loop alone.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from concurrent.futures import CancelledError, Future
from contextlib import suppress
from typing import Any, TypeVar

from nats.errors import Error
from nats.js.errors import ServiceUnavailableError

from broker.address import Address
from broker.engine.loop import GRACE_SECONDS, LoopThread, NotHere
from broker.errors import BrokerError
from broker.nats.client import LivingClient
from broker.nats.streams import Streams

CLOSE_SECONDS = 2.0  #: how long leaving may take when the server does not answer

FOREIGN = (Error, OSError, EOFError, ValueError, CancelledError)  #: what may come out of the client library

Result = TypeVar("Result")


class NatsConnection:
    """One connection that is kept up until `close`; `error` makes a `BrokerError` of a cause."""

    def __init__(self, address: Address, timeout_seconds: float, error: Callable[[object], BrokerError]) -> None:
        self.error = error
        self.timeout_seconds = timeout_seconds
        self.client = LivingClient(address, timeout_seconds)
        self.streams = Streams(self.client)
        self._loop = LoopThread("nats")

    def open(self) -> None:
        """Connect once, or raise."""
        try:
            self.call(self.client.dial())
        except BrokerError:
            self._loop.stop()
            raise

    def close(self) -> None:
        """Let go of socket and thread."""
        with suppress(BrokerError):
            self.call(self.client.close(), CLOSE_SECONDS)
        self._loop.stop()

    def call(self, coroutine: Coroutine[Any, Any, Result], seconds: float | None = None) -> Result:
        """What the coroutine returns; `BrokerError` when it failed, or took longer than the publish timeout."""
        return self.result(self.submit(coroutine, seconds))

    def submit(self, coroutine: Coroutine[Any, Any, Result], seconds: float | None = None) -> Future[Result]:
        """Start it without waiting for it."""
        try:
            return self._loop.submit(coroutine, self.timeout_seconds if seconds is None else seconds)
        except NotHere as error:
            raise self.error(error) from error

    def result(self, future: Future[Result], seconds: float | None = None) -> Result:
        """Wait for what was submitted, as `call` does; `seconds` are those that `submit` was given."""
        try:
            return future.result((self.timeout_seconds if seconds is None else seconds) + GRACE_SECONDS)
        except FOREIGN as error:
            raise self.error(self._cause(error)) from error

    def _cause(self, error: BaseException) -> str:
        if isinstance(error, TimeoutError) and self.client.trouble is not None:
            return f"no connection: {explain(self.client.trouble)}"
        return explain(error)


def explain(error: BaseException) -> str:
    """Say in one line what an error of the library means."""
    if isinstance(error, TimeoutError):
        return "it did not answer in time"
    if isinstance(error, CancelledError):
        return "it was disconnected meanwhile"
    if isinstance(error, ServiceUnavailableError):
        return "JetStream is not available; start the server as `nats-server -js`"
    return str(error).removeprefix("nats: ") or type(error).__name__
