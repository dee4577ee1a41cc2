"""A plain TCP connection on pika's loop, as pika lets others make them (`pika.adapters.utils.nbio_interface`).

pika's own asks the loop to say when the socket takes more before it sends anything, and reads until there is nothing
left: two rounds of the loop for each message instead of one, and a second `recv`. With TLS, the stream is pika's.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

from pika.adapters.utils.nbio_interface import (  # type: ignore[import-untyped]  # pika has no types
    AbstractIOReference,
    AbstractStreamTransport,
)
from pika.adapters.utils.selector_ioloop_adapter import (  # type: ignore[import-untyped]  # the same
    SelectorIOServicesAdapter,
)

READ_BYTES = 65_536


class Streams(SelectorIOServicesAdapter):  # type: ignore[misc]  # pika has no types
    """What a connection asks of its loop, as pika has it, but for the stream."""

    def create_streaming_connection(
        self,
        protocol_factory: Any,
        sock: socket.socket,
        on_done: Any,
        ssl_context: Any = None,
        *rest: Any,
        **named: Any,
    ) -> Any:
        """Let the protocol have a stream on that socket, soon; what this returns can cancel that."""
        if ssl_context:
            return super().create_streaming_connection(protocol_factory, sock, on_done, ssl_context, *rest, **named)
        stream = Stream(sock, protocol_factory(), self)
        self.add_callback_threadsafe(partial(stream.begin, on_done))
        return stream


class Stream(AbstractStreamTransport, AbstractIOReference):  # type: ignore[misc]  # the same
    """Sends at once what the socket takes. Its methods, but for `begin`, are called by pika."""

    def __init__(self, sock: socket.socket, protocol: Any, loop: Streams) -> None:
        self._sock = sock
        self._protocol = protocol
        self._loop = loop
        self._unsent = bytearray()
        self._ended = False

    def begin(self, on_done: Callable[[Any], None]) -> None:
        """Start to read, and tell `on_done` the stream and its protocol, or the error."""
        if self._ended:
            return
        self._loop.set_reader(self._sock.fileno(), self._read)
        try:
            self._protocol.connection_made(self)
        except Exception as error:  # noqa: BLE001  # told to whoever connects
            self._end()
            on_done(error)
        else:
            on_done((self, self._protocol))

    def cancel(self) -> bool:
        """End, and tell nobody; whether it was open."""
        return self._end()

    def abort(self) -> None:
        """End; the protocol is told, soon."""
        self._lose(None)

    def get_protocol(self) -> Any:
        """Whose stream this is."""
        return self._protocol

    def get_write_buffer_size(self) -> int:
        """The number of bytes that wait."""
        return len(self._unsent)

    def write(self, data: bytes | bytearray) -> None:
        """Send it, after what waits; what has ended sends nothing."""
        if self._ended:
            return
        sent = 0 if self._unsent else self._send(data)
        if sent < len(data) and not self._ended:
            if not self._unsent:
                self._loop.set_writer(self._sock.fileno(), self._send_more)
            self._unsent += memoryview(data)[sent:]

    def _send_more(self) -> None:
        del self._unsent[: self._send(self._unsent)]
        if not self._unsent and not self._ended:
            self._loop.remove_writer(self._sock.fileno())

    def _send(self, data: bytes | bytearray) -> int:
        try:
            return self._sock.send(data)
        except BlockingIOError:
            return 0
        except OSError as error:
            self._lose(error)
            return 0

    def _read(self) -> None:
        try:
            data = self._sock.recv(READ_BYTES)
        except BlockingIOError:
            return
        except OSError as error:
            return self._lose(error)
        if data:
            self._give(data)
        elif not self._protocol.eof_received():
            self._lose(None)

    def _give(self, data: bytes) -> None:
        try:
            self._protocol.data_received(data)
        except Exception as error:
            self._lose(error)
            raise  # it is logged by whoever runs the loop

    def _lose(self, error: BaseException | None) -> None:
        if self._end():
            self._loop.add_callback_threadsafe(partial(self._protocol.connection_lost, error))

    def _end(self) -> bool:
        if self._ended:
            return False
        self._ended = True
        self._loop.remove_reader(self._sock.fileno())
        self._loop.remove_writer(self._sock.fileno())
        with suppress(OSError):  # it is lost already
            self._sock.shutdown(socket.SHUT_RDWR)  # a process that was forked off may have it open, too
        self._sock.close()
        return True
