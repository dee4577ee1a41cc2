"""Reading what a member answers, within limits of time and of size: a member may be broken, or be somebody else.

The library has a deadline for each read from the network, so that a byte a second would keep it for ever, and reads a
line however long it is. Here, whatever of an answer it is reading:

- the head comes within the seconds that the request allows, and all of an answer that is not 200;
- a line comes within as many, and is not too long; a line is also a member's sign of life;
- an answer has an end. `MAX_ANSWER_BYTES` are two million signs of life.
"""

from __future__ import annotations

import http.client
import io
import socket
import time
from collections.abc import Iterator
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

MAX_LINE_BYTES = 65_536
MAX_ANSWER_BYTES = 16_000_000
READ_BYTES = 8_192
NEVER = float("inf")


class TooMuch(OSError):
    """An answer beyond these limits. An `OSError`, as anything that breaks a connection."""


class Reader(io.RawIOBase):
    """What comes from the network for one answer."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._file = sock.makefile("rb", buffering=0)
        self._patience = sock.gettimeout() or NEVER
        self._line_since = time.monotonic()
        self._line_bytes = 0
        self._bytes = 0
        self.deadline = self._line_since + self._patience  #: for the head; later on, only lines have one

    def readable(self) -> bool:
        """As the base class wants it."""
        return True

    def readinto(self, buffer: Any, /) -> int:
        """Read what there is, or wait for it; `TimeoutError` or `TooMuch` at a limit."""
        left = min(self.deadline, self._line_since + self._patience) - time.monotonic()
        if left <= 0:
            raise TimeoutError("it takes too long over its answer")
        self._socket.settimeout(None if left == NEVER else left)
        size = self._file.readinto(buffer) or 0
        self._count(bytes(buffer[:size]))
        return size

    def _count(self, data: bytes) -> None:
        self._bytes += len(data)
        self._line_bytes += len(data)
        if (end := data.rfind(b"\n")) >= 0:
            self._line_bytes, self._line_since = len(data) - end - 1, time.monotonic()
        if self._line_bytes > MAX_LINE_BYTES:
            raise TooMuch(f"its answer has a line of more than {MAX_LINE_BYTES:,} bytes")
        if self._bytes > MAX_ANSWER_BYTES:
            raise TooMuch(f"its answer has more than {MAX_ANSWER_BYTES:,} bytes")

    def close(self) -> None:
        """Let go of the socket, which may serve for another request."""
        self._file.close()
        super().close()


class Response(http.client.HTTPResponse):
    """Reads by `Reader` instead of the socket's own file."""

    def __init__(self, sock: socket.socket, *rest: Any, **named: Any) -> None:
        super().__init__(sock, *rest, **named)
        self.fp.close()
        self._reader = Reader(sock)
        self.fp = io.BufferedReader(self._reader, READ_BYTES)

    def begin(self) -> None:
        """Read the head."""
        super().begin()
        if self.status == http.client.OK:
            self._reader.deadline = NEVER  # handlers may take their time


class Connection(HTTPConnection):
    """A connection to a member."""

    response_class = Response


class SecureConnection(HTTPSConnection):
    """The same over TLS."""

    response_class = Response


class Pool(HTTPConnectionPool):
    """Connections that are kept open to one member."""

    ConnectionCls = Connection


class SecurePool(HTTPSConnectionPool):
    """The same over TLS."""

    ConnectionCls = SecureConnection


class Adapter(HTTPAdapter):
    """What makes a session of `requests` use all this."""

    def init_poolmanager(self, *args: Any, **named: Any) -> None:
        """As the library calls it."""
        super().init_poolmanager(*args, **named)
        self.poolmanager.pool_classes_by_scheme = {"http": Pool, "https": SecurePool}


def whole_lines(response: requests.Response, patience_seconds: float) -> Iterator[list[bytes]]:
    """The lines of each chunk as it arrives. A line may come in many chunks, which are lines to `Reader`."""
    rest, since = b"", time.monotonic()
    for chunk in response.raw.stream(READ_BYTES, decode_content=False):
        *lines, rest = (rest + chunk).split(b"\n")
        if lines:
            since = time.monotonic()
            yield lines
        elif len(rest) > MAX_LINE_BYTES or time.monotonic() - since > patience_seconds:
            raise TooMuch("it takes too long over a line of its answer")
