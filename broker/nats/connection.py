"""The connection to a NATS server: a client on a private event loop.

A connection that breaks is not mended but made anew, and has a higher `generation`: so nothing of what was written into
the old one is sent later, when its publisher has long been told that it failed.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
import weakref
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import CancelledError, Future
from contextlib import suppress
from typing import Any, TypeVar
from urllib.parse import unquote, urlsplit

from nats.aio.client import Client
from nats.errors import Error, NoServersError, SecureConnWantedError
from nats.js import JetStreamContext
from nats.js.api import ConsumerConfig, ConsumerInfo, RawStreamMsg, StreamConfig, StreamInfo
from nats.js.errors import (
    BadRequestError,
    NoStreamResponseError,
    NotFoundError,
    ServerError,
    ServiceUnavailableError,
)

from broker.errors import BrokerError
from broker.nats.confirms import Confirms
from broker.nats.loop import LoopThread
from broker.nats.wire import Letter

log = logging.getLogger(__name__)

PING_SECONDS = 5  #: between two looks whether the server still answers
SILENCE_SECONDS = 10  #: a connection on which it does not is given up
REDIAL_SECONDS = 0.2  #: between two attempts to connect
CLOSE_SECONDS = 2.0  #: how long leaving may take when the server does not answer
PAUSES = (0.02, 0.1, 0.5, 0)  #: seconds, then no more: a stream that somebody else is making is not there at once
REMOVED_SECONDS = 1.0  #: by then the server has removed the files of a stream that was deleted
READ_SECONDS = 0.5  #: how long to wait for a message of a stream before looking whether that is there
EXISTS, OVERLAPS = 10058, 10065  #: error codes of the server: a stream of that name, or one with that subject, is there

FOREIGN = (Error, OSError, EOFError, ValueError, CancelledError)  #: what may come out of the client

Target = dict[str, str]  # where to connect and as whom, as arguments of the client
Result = TypeVar("Result")


class PatientClient(Client):
    """Does not log in before the connection is as safe as was asked for."""

    def _connect_command(self) -> bytes:
        if self.options.get("tls") and not self._server_info.get("tls_required"):
            raise SecureConnWantedError
        return super()._connect_command()

    def drop(self) -> None:
        """Let go of the socket at once, in whatever state it is."""
        writer = getattr(self._transport, "_io_writer", None)
        if writer is not None:
            writer.transport.abort()


class Connection:
    """To one server, kept up until `close`. Its plain methods are for any thread, its coroutines for `call` alone."""

    def __init__(
        self,
        target: Target,
        timeout_seconds: float,
        tls: ssl.SSLContext | None,
        error: Callable[[object], BrokerError],
    ) -> None:
        self.timeout_seconds = timeout_seconds
        self.generation = 0
        self._target = target
        self._tls = tls
        self._error = error
        self._loop = LoopThread("nats")
        self._up = asyncio.Event()
        self._closing = False
        self._trouble: object = None  # why there is no connection
        self._streams: set[str] = set()  # those that were there when we looked
        self._redialling: asyncio.Task[None] | None = None
        self._watching: asyncio.Task[None] | None = None
        self._clients: weakref.WeakSet[PatientClient] = weakref.WeakSet()  # also those that are still ending
        self._confirms: Confirms

    # --- for any thread ------------------------------------------------------------------------------------

    def open(self) -> None:
        """Connect once, or raise."""
        try:
            self.call(self._first_dial())
        except BrokerError:
            self._loop.stop()
            raise

    def close(self) -> None:
        """Let go of socket and thread."""
        self._closing = True
        with suppress(BrokerError):
            self.call(self._shut(), CLOSE_SECONDS)
        self._loop.stop()

    def run(self, coroutine: Coroutine[Any, Any, Result]) -> Result:
        """As `call`, for a thread that may ask again at once: it may run the loop itself meanwhile."""
        try:
            return self._loop.run(coroutine, self.timeout_seconds)
        except FOREIGN as error:
            raise self._error(self._cause(error)) from error

    def call(self, coroutine: Coroutine[Any, Any, Result], seconds: float | None = None) -> Result:
        """What the coroutine returns; `BrokerError` when it failed, or took longer than the publish timeout."""
        return self.result(self.submit(coroutine, seconds))

    def submit(self, coroutine: Coroutine[Any, Any, Result], seconds: float | None = None) -> Future[Result]:
        """Start it without waiting."""
        try:
            return self._loop.submit(coroutine, self.timeout_seconds if seconds is None else seconds)
        except CancelledError as error:
            raise self._error("it is disconnected") from error

    def result(self, future: Future[Result]) -> Result:
        """As `call`, for what was submitted."""
        try:
            return future.result()
        except FOREIGN as error:
            raise self._error(self._cause(error)) from error

    def _cause(self, error: BaseException) -> str:
        if isinstance(error, TimeoutError) and self._trouble is not None:
            return f"no connection: {_text(self._trouble)}"
        return _text(error)

    # --- on the loop ---------------------------------------------------------------------------------------

    async def client(self, seconds: float | None = None) -> Client:
        """The client, once it is connected; an error when it is not after that many seconds."""
        return (await self._connected(seconds)).client

    async def jetstream(self) -> JetStreamContext:
        """The same, for requests to JetStream."""
        return (await self.client()).jetstream(timeout=self.timeout_seconds)

    async def _connected(self, seconds: float | None = None) -> Confirms:
        try:
            if not self._up.is_set():
                async with asyncio.timeout(seconds):
                    await self._up.wait()
        except TimeoutError as error:
            raise ConnectionError(f"no connection: {_text(self._trouble)}") from error
        return self._confirms

    async def ensure(self, stream: StreamConfig) -> None:
        """Make the stream unless it is there."""
        jetstream = await self.jetstream()
        for pause_seconds in PAUSES:
            try:
                await jetstream.add_stream(stream)
            except BadRequestError as error:
                if error.err_code == OVERLAPS and pause_seconds:
                    await asyncio.sleep(pause_seconds)
                    continue
                if error.err_code != EXISTS:
                    raise
            break
        self._streams.add(stream.name or "")

    async def info(self, stream: StreamConfig) -> StreamInfo:
        """What the server knows of the stream; made unless it is there."""
        await self.ensure(stream)
        return await (await self.jetstream()).stream_info(stream.name or "")

    async def send(self, stream: StreamConfig, subject: str, left: dict[int, Letter]) -> None:
        """Publish, in order, and take each letter out of `left` when it is confirmed."""
        if stream.name not in self._streams:
            await self.ensure(stream)
        for pause_seconds in PAUSES:
            try:
                confirms = self._confirms if self._up.is_set() else await self._connected()
                return await confirms.publish(subject, left)
            except NoStreamResponseError:  # deleted
                if not pause_seconds:
                    raise
            await self.removed()
            await self.ensure(stream)

    async def removed(self) -> None:
        """To be awaited by whoever learns that a stream was deleted, before he makes it again.

        While a server still removes the files of the old one, it would take those of the new one along, and that could
        never be written to. It does not say when it has done so.
        """
        await asyncio.sleep(min(REMOVED_SECONDS, self.timeout_seconds / 4))

    async def consumer(self, stream: StreamConfig, config: ConsumerConfig) -> ConsumerInfo:
        """Make the consumer unless it is there, and its stream."""
        for pause_seconds in PAUSES:
            await self.ensure(stream)
            try:
                return await (await self.jetstream()).add_consumer(stream.name or "", config)
            except (NotFoundError, ServerError):  # just deleted
                if not pause_seconds:
                    raise
            await asyncio.sleep(pause_seconds)
        raise AssertionError("PAUSES end with 0")

    async def read(self, stream: StreamConfig, **which: Any) -> RawStreamMsg | None:
        """A message of a stream, as `get_msg` chooses it; None when there is none."""
        if stream.name not in self._streams:
            await self.ensure(stream)
        while True:
            jetstream = (await self.client()).jetstream(timeout=READ_SECONDS)
            try:
                return await jetstream.get_msg(stream.name or "", direct=True, **which)
            except NotFoundError:
                return None
            except TimeoutError:  # nobody answers for a stream that is not ready yet, or was deleted
                await self.ensure(stream)

    async def tell(self, replies: Sequence[str], answer: bytes) -> None:
        """Answer messages of a consumer, by their reply subjects; returns when the server has noted all of it."""
        if not replies:
            return
        client = await self.client()
        for reply in replies[:-1]:
            await client.publish(reply, answer)
        await client.request(replies[-1], answer, timeout=self.timeout_seconds)  # it takes them in order

    # --- connecting ----------------------------------------------------------------------------------------

    async def _first_dial(self) -> None:
        self._use(await self._dial())

    async def _dial(self) -> Confirms:
        client = PatientClient()
        self._clients.add(client)
        causes: list[Exception] = []

        async def note(error: Exception) -> None:
            causes.append(error)
            log.debug("nats client: %s", error)

        async def closed() -> None:
            self._broken(client, client.last_error or "it was closed")

        try:
            await client.connect(
                **self._target,  # type: ignore[arg-type]  # all of them are texts
                tls=self._tls,
                allow_reconnect=False,
                max_reconnect_attempts=1,  # it takes 0 for "for ever"
                reconnect_time_wait=0,
                connect_timeout=self.timeout_seconds / 3,  # type: ignore[arg-type]  # a float will do
                error_cb=note,
                closed_cb=closed,
            )
            await client.jetstream(timeout=self.timeout_seconds).account_info()
            confirms = Confirms(client)
            await confirms.open()
        except BaseException as error:
            await client.close()
            if isinstance(error, NoServersError) and causes:
                raise causes[-1] from error
            raise
        return confirms

    def _use(self, confirms: Confirms) -> None:
        if confirms.client.is_closed:
            raise confirms.client.last_error or ConnectionError("closed at once")
        self._confirms = confirms
        self._trouble = None
        self.generation += 1
        self._up.set()
        self._watching = asyncio.get_running_loop().create_task(self._watch(confirms.client))

    async def _watch(self, client: Client) -> None:
        """Give up a connection that has gone silent; at the client's own pings it would first write all it has."""
        try:
            while True:
                await asyncio.sleep(PING_SECONDS)
                await client.rtt(SILENCE_SECONDS)
        except FOREIGN as error:
            self._broken(client, error)
            await client.close()

    def _broken(self, client: Client, why: object) -> None:
        """A client has ended; unless that was intended, make another."""
        if self._closing or not self._up.is_set() or client is not self._confirms.client:
            return
        self._trouble = why
        self._up.clear()
        self._confirms.fail(ConnectionError("the connection broke before all was confirmed"))
        self._redialling = asyncio.get_running_loop().create_task(self._redial())

    async def _redial(self) -> None:
        while not self._up.is_set():
            try:
                async with asyncio.timeout(self.timeout_seconds):
                    self._use(await self._dial())
            except Exception as error:  # noqa: BLE001  # whatever it is, nobody else would try again
                self._trouble = error
                await asyncio.sleep(REDIAL_SECONDS)

    async def _shut(self) -> None:
        tasks = [task for task in (self._redialling, self._watching) if task]
        try:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self._confirms.client.close()
        finally:
            for client in list(self._clients):
                client.drop()


def target(address: str) -> Target:
    """The parts of an address; `ValueError` when it is none."""
    parts = urlsplit(address)
    try:
        host, port = parts.hostname, parts.port or 4222
    except ValueError:  # it might quote a password
        host, port = None, 0
    if parts.scheme != "nats" or not host or parts.path.strip("/") or parts.query or parts.fragment:
        raise ValueError("not nats://[USER:PASSWORD@]HOST[:PORT]; a special character is written as %XX")
    server = {"servers": f"nats://[{host}]:{port}" if ":" in host else f"nats://{host}:{port}"}
    if parts.username is None:
        return server
    user = unquote(parts.username)
    if parts.password is None:
        return {**server, "token": user}
    return {**server, "user": user, "password": unquote(parts.password)}


def _text(cause: object) -> str:
    """What a foreign error means to people."""
    if isinstance(cause, TimeoutError):
        return "it did not answer in time"
    if isinstance(cause, CancelledError):
        return "disconnected meanwhile"
    if isinstance(cause, ServiceUnavailableError):
        return "JetStream is not available; start the server as `nats-server -js`"
    return str(cause).removeprefix("nats: ") or type(cause).__name__
