"""The redis broker's connections: commands in one crossing, reads that wait, every error told as a `BrokerError`."""

from __future__ import annotations

import re
import ssl
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from socket import socket
from typing import Any
from urllib.parse import unquote, urlsplit

from redis.backoff import NoBackoff
from redis.connection import Connection, ConnectionPool
from redis.exceptions import RedisError, ResponseError
from redis.retry import Retry

from broker.errors import BrokerError
from broker.options import Options

MAX_CONNECTIONS = 10_000  #: the library's own limit of 100 is one that many threads reach
CONNECT_SHARE = 0.25  #: of the publish timeout, for connecting; the rest is for the first answer
WAKES = 20  #: how often a read is woken until it ends
FOREIGN = (RedisError, OSError, UnicodeError)  # the last for a host name that is none

Command = Sequence[str | bytes | int]


class GroupGone(BrokerError):
    """The consumer group, or its whole stream, was deleted underneath us."""


class Server:
    """The connections to the server, for any thread. Errors come out as `BrokerError`, made by `to_error`."""

    def __init__(self, address: str, options: Options, to_error: Callable[[object], BrokerError]) -> None:
        self._to_error = to_error
        self.timeout_seconds = options.publish_timeout_seconds
        self.pool = _pool(address, options.tls, self.timeout_seconds)

    def call(self, *command: str | bytes | int) -> Any:
        """The answer to one command."""
        [answer] = self.pipeline([command])
        if isinstance(answer, Exception):
            raise self.error(answer) from answer
        return answer

    def run(self, script: str, keys: Sequence[str], *arguments: str | bytes | int) -> Any:
        """What a script returns. It is sent as a whole: a server that was restarted would not know its digest."""
        return self.call("EVAL", script, len(keys), *keys, *arguments)

    def pipeline(self, commands: Sequence[Command]) -> list[Any]:
        """The answer to each command, in one crossing and within the timeout; an exception where there is none."""
        deadline = time.monotonic() + self.timeout_seconds
        answers: list[Any] = []
        try:
            connection: Any = self.pool.get_connection()  # Any: the library gives its methods no types
            try:
                connection.send_packed_command(connection.pack_commands(commands))
                while len(answers) < len(commands):
                    answers.append(_answer(connection, deadline))
            finally:
                self.pool.release(connection)
        except FOREIGN as error:
            answers += [error] * (len(commands) - len(answers))
        return answers

    def error(self, error: Exception) -> BrokerError:
        """The library's error as one of ours."""
        if isinstance(error, ResponseError) and re.search("NOGROUP|UNBLOCKED", str(error)):
            return GroupGone(str(self._to_error("the group was deleted")))
        return self._to_error(error)

    def close(self) -> None:
        """Let go of every connection, also of those in use."""
        self.pool.disconnect()


class Line:
    """A connection of its own, for reads that wait; another thread can wake it."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._connection: Any = None
        self._client_id = 0
        self._reading = False
        self._over = False

    def read(self, command: Command, stream: str, after: str | bytes, seconds: float) -> Any:
        """The entries of the stream after that id, as soon as there is one; none when there was none in time."""
        wait_ms = max(1, int(seconds * 1000))  # 0 would wait for ever
        self._reading = True
        try:
            connection = self._connection or self._connect()
            if self._over:
                return []
            connection.send_command(*command, "BLOCK", wait_ms, "STREAMS", stream, after)
            answer = connection.read_response(timeout=seconds + self._server.timeout_seconds)
        except FOREIGN as error:
            self.close()
            raise self._server.error(error) from error
        finally:
            self._reading = False
        return answer[0][1] if answer else []

    def _connect(self) -> Any:
        self._connection = self._server.pool.get_connection()
        self._connection.send_command("CLIENT", "ID")
        self._client_id = self._connection.read_response()
        return self._connection

    def wake(self, *, for_good: bool = False) -> None:
        """End a read that waits, and start no other when it is `for_good`."""
        self._over = self._over or for_good
        with suppress(BrokerError):
            for _ in range(WAKES):  # the server does not know yet of a read that has only just begun
                if not self._reading or self._server.call("CLIENT", "UNBLOCK", self._client_id):
                    return

    def close(self) -> None:
        """Give the connection back."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.disconnect()
            self._server.pool.release(connection)


class TlsConnection(Connection):
    """A connection over TLS with a context of ours; the library's own takes files alone."""

    def __init__(self, *, tls: ssl.SSLContext, **options: Any) -> None:
        super().__init__(**options)  # type: ignore[no-untyped-call]  # the library's
        self._tls = tls

    def _connect(self) -> socket:
        plain: socket = super()._connect()  # type: ignore[no-untyped-call]  # the library's
        try:
            return self._tls.wrap_socket(plain, server_hostname=self.host)
        except OSError:
            plain.close()
            raise


def where(address: str) -> dict[str, Any]:
    """What a URL says, in the library's words; `ValueError` when it is none."""
    url = urlsplit(address)
    return {
        "host": url.hostname or "localhost",
        "port": url.port or 6379,
        "db": int(url.path.strip("/") or 0),
        "username": unquote(url.username or "") or None,
        "password": unquote(url.password or "") or None,
    }


def _pool(address: str, tls: ssl.SSLContext | None, timeout_seconds: float) -> ConnectionPool:
    if tls is None and address.startswith("rediss:"):
        tls = ssl.create_default_context()
    return ConnectionPool(
        **where(address),
        connection_class=partial(TlsConnection, tls=tls) if tls else Connection,
        max_connections=MAX_CONNECTIONS,
        protocol=2,  # the forms of answers that this adapter reads
        socket_connect_timeout=timeout_seconds * CONNECT_SHARE,
        socket_timeout=timeout_seconds * (1 - CONNECT_SHARE),
        socket_keepalive=True,
        retry=Retry(NoBackoff(), 0),  # whoever calls tries again, and knows when it is enough
        client_name="broker",  # one answer has to be read at first: over TLS, more than answers has come by then
        driver_info=None,
    )


def _answer(connection: Any, deadline: float) -> Any:
    """The next answer; a refusal is returned, since the answers after it are still to be read."""
    try:
        return connection.read_response(timeout=max(0.001, deadline - time.monotonic()))
    except ResponseError as error:
        return error
