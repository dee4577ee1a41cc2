"""The connections to the server: many commands in one crossing, and every error as a `BrokerError`."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from typing import Any

from redis.backoff import NoBackoff
from redis.connection import Connection, ConnectionPool, SSLConnection
from redis.exceptions import RedisError, ResponseError
from redis.retry import Retry

from broker.address import Address
from broker.errors import BrokerError

MAX_CONNECTIONS = 10_000  #: the library's own limit of 100 is one that many threads reach
CONNECT_SHARE = 0.25  #: of the publish timeout, for connecting; the rest is for the first answer
FOREIGN = (RedisError, OSError, UnicodeError)  #: what comes out of the library; the last for a host name that is none

#: option of the address → the library's argument, after its `ssl_`
TLS_ARGUMENTS = (("ca", "ca_certs"), ("cert", "certfile"), ("key", "keyfile"))

Command = Sequence[str | bytes | int]


class GroupGone(BrokerError):
    """The consumer group, or its whole stream, was deleted underneath us."""


class RedisConnection:
    """A pool of connections to one server, for any thread; `error` makes a `BrokerError` of a cause.

    The pool connects when it has to, also after the server was away, and anew in a process that was forked.
    """

    def __init__(self, address: Address, timeout_seconds: float, error: Callable[[object], BrokerError]) -> None:
        self.timeout_seconds = timeout_seconds
        self.pool = _pool(address, timeout_seconds)
        self._error = error

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

    def error(self, cause: object) -> BrokerError:
        """A `BrokerError` for one of the library's errors, or for a cause in words."""
        if isinstance(cause, ResponseError) and re.search("NOGROUP|UNBLOCKED", str(cause)):
            return GroupGone(str(self._error("the group was deleted")))
        return self._error(explain(cause) if isinstance(cause, Exception) else cause)

    def close(self) -> None:
        """Let go of every connection, also of those in use."""
        self.pool.disconnect()


def explain(error: Exception) -> str:
    """Say in one line what an error of the library means."""
    return str(error) or type(error).__name__


def _pool(address: Address, timeout_seconds: float) -> ConnectionPool:
    host = address.hosts[0]
    files: Any = {f"ssl_{name}": address.options.get(option) for option, name in TLS_ARGUMENTS} if address.tls else {}
    return ConnectionPool(
        connection_class=SSLConnection if address.tls else Connection,
        host=host.name,
        port=host.port,
        db=int(address.path or 0),
        username=address.user or None,
        password=address.password,
        max_connections=MAX_CONNECTIONS,
        protocol=2,  # the forms of answers that this adapter reads
        socket_connect_timeout=timeout_seconds * CONNECT_SHARE,
        socket_timeout=timeout_seconds * (1 - CONNECT_SHARE),
        socket_keepalive=True,
        retry=Retry(NoBackoff(), 0),  # whoever calls tries again, and knows when it is enough
        client_name="broker",  # one answer has to be read at first: over TLS, more than answers has come by then
        driver_info=None,
        **files,
    )


def _answer(connection: Any, deadline: float) -> Any:
    """The next answer; a refusal is returned, since the answers after it are still to be read."""
    try:
        return connection.read_response(timeout=max(0.001, deadline - time.monotonic()))
    except ResponseError as error:
        return error
