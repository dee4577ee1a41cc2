"""The client of the NATS library, kept connected. Everything here is for the event loop alone.

A client whose connection breaks is not mended but made anew, and `generation` goes up: so nothing of what was written
into the old one is sent later, when its publisher was told long ago that it failed.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from typing import Any

from nats.aio.client import Client
from nats.errors import Error, NoServersError, SecureConnWantedError
from nats.js import JetStreamContext

from broker.address import Address
from broker.nats.confirms import Confirms

log = logging.getLogger(__name__)

PING_SECONDS = 5  #: between two looks whether the server still answers
SILENCE_SECONDS = 10  #: a connection on which it does not is given up
REDIAL_SECONDS = 0.2  #: between two attempts to connect
LET_GO_SECONDS = 0.5  #: how long the closing of a connection that has failed may take


class LivingClient:
    """A client that lives until `close`; another one takes its place whenever its connection breaks."""

    def __init__(self, address: Address, timeout_seconds: float) -> None:
        self.timeout_seconds = timeout_seconds
        self.generation = 0
        self.trouble: BaseException | None = None  #: why there is no connection
        self._arguments = {**_login(address), "tls": address.tls_context()}
        self._up = asyncio.Event()
        self._closing = False
        self._redialling: asyncio.Task[None] | None = None
        self._watching: asyncio.Task[None] | None = None
        self._confirms: Confirms

    async def connected(self, seconds: float | None = None) -> Client:
        """The client, once it is connected; an error when it is not after that many seconds."""
        return (await self.confirms(seconds)).client

    async def jetstream(self) -> JetStreamContext:
        """Its requests to JetStream."""
        return (await self.connected()).jetstream(timeout=self.timeout_seconds)

    async def confirms(self, seconds: float | None = None) -> Confirms:
        """Its way to publish with confirms."""
        if not self._up.is_set():
            async with asyncio.timeout(self.timeout_seconds if seconds is None else seconds):
                await self._up.wait()
        return self._confirms

    async def dial(self) -> None:
        """Connect once, or raise."""
        self._use(await self._dial())

    async def close(self) -> None:
        """Disconnect, and connect no more."""
        self._closing = True
        tasks = [task for task in (self._redialling, self._watching) if task]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._confirms.client.close()

    async def _dial(self) -> Confirms:
        client = CautiousClient()
        causes: list[Exception] = []

        async def note(error: Exception) -> None:
            causes.append(error)
            log.debug("nats client: %s", error)

        async def closed() -> None:
            self._broken(client, client.last_error or ConnectionError("it was closed"))

        try:
            await client.connect(
                **self._arguments,
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
            await _let_go(client)
            if isinstance(error, NoServersError) and causes:
                raise causes[-1] from error
            raise
        return confirms

    def _use(self, confirms: Confirms) -> None:
        if confirms.client.is_closed:
            raise confirms.client.last_error or ConnectionError("closed at once")
        self._confirms = confirms
        self.trouble = None
        self.generation += 1
        self._up.set()
        self._watching = asyncio.get_running_loop().create_task(self._watch(confirms.client))

    async def _watch(self, client: Client) -> None:
        """Give up a connection that has gone silent; at the client's own pings it would first write all it has."""
        try:
            while True:
                await asyncio.sleep(PING_SECONDS)
                await client.rtt(SILENCE_SECONDS)
        except (Error, OSError, EOFError, ValueError) as error:
            self._broken(client, error)
            await _let_go(client)

    def _broken(self, client: Client, why: BaseException) -> None:
        """A client has ended; unless that was intended, make another."""
        if self._closing or not self._up.is_set() or client is not self._confirms.client:
            return
        self.trouble = why
        self._up.clear()
        self._confirms.fail(ConnectionError("the connection broke before all was confirmed"))
        self._redialling = asyncio.get_running_loop().create_task(self._redial())

    async def _redial(self) -> None:
        while not self._up.is_set():
            try:
                async with asyncio.timeout(self.timeout_seconds):
                    self._use(await self._dial())
            except Exception as error:  # noqa: BLE001  # whatever it is, nobody else would try again
                self.trouble = error
                await asyncio.sleep(REDIAL_SECONDS)


class CautiousClient(Client):
    """Does not log in before the connection is as safe as was asked for.

    The library itself sends user and password in plain text when a server does not offer TLS, and has no option or
    callback at that moment; so this uses two of its private names, and the extra is bound to its present major version.
    """

    def _connect_command(self) -> bytes:
        if self.options.get("tls") and not self._server_info.get("tls_required"):
            raise SecureConnWantedError
        return super()._connect_command()


async def _let_go(client: Client) -> None:
    """Close it if that is possible soon: after a handshake that failed, the library would wait for ever."""
    with suppress(TimeoutError):
        async with asyncio.timeout(LET_GO_SECONDS):
            await client.close()


def _login(address: Address) -> dict[str, Any]:
    """Where to connect and as whom, as arguments of the client; a user without a password is a token."""
    servers = {"servers": f"nats://{address.hosts[0]}"}
    if address.user is None:
        return servers
    if address.password is None:
        return {**servers, "token": address.user}
    return {**servers, "user": address.user, "password": address.password}
