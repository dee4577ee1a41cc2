"""A NATS server with JetStream for a test: a private one, or the reader's own."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from nats.aio.client import Client
from nats.js import JetStreamContext

from tests.servers.process import ServerProcess

Result = TypeVar("Result")


class Operator:
    """What an operator does to a server, whoever started it."""

    url: str

    def call(self, change: Callable[[JetStreamContext], Awaitable[Result]]) -> Result:
        """One request to JetStream."""

        async def connected() -> Result:
            client = Client()
            await client.connect(self.url)
            try:
                return await change(client.jetstream())
            finally:
                await client.close()

        return asyncio.run(connected())


class NatsServer(ServerProcess, Operator):
    """`settings` as in a file of configuration; by them, the server may also be without JetStream."""

    program = "nats-server"
    package = "nats-server"

    def __init__(self, folder: Path, settings: str | None = None) -> None:
        super().__init__(folder)
        self.url = f"nats://127.0.0.1:{self.port}"
        self.settings = f'jetstream {{ store_dir: "{folder}" }}' if settings is None else settings

    def command(self) -> list[str]:
        configuration = self.folder / "nats.conf"
        configuration.write_text(self.settings)
        return [self.program, "-a", "127.0.0.1", "-p", str(self.port), "-c", str(configuration)]

    def is_ready(self) -> bool:
        """It greets once all that it has stored is read."""
        with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1) as greeting:
            return greeting.recv(5) == b"INFO "
        return False


class ReadersNats(Operator):
    """A server that somebody else runs; it is not stopped, paused or set in another way."""

    def __init__(self, url: str) -> None:
        self.url = url
