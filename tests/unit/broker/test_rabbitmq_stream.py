"""The stream under pika's connection: what is written goes out in its order, and its end is told, once."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from pika.adapters.select_connection import IOLoop  # type: ignore[import-untyped]  # pika has no types

from broker.rabbitmq.stream import Stream, Streams

LONG = 3_000_000  #: bytes; more than a socket takes at once


class Protocol:
    """What pika's connection is to a stream."""

    def __init__(self) -> None:
        self.received = b""
        self.lost: list[BaseException | None] = []
        self.stream: Stream | None = None

    def connection_made(self, stream: Stream) -> None:
        self.stream = stream

    def connection_lost(self, error: BaseException | None) -> None:
        self.lost.append(error)

    def data_received(self, data: bytes) -> None:
        self.received += data
        assert data != b"bad"

    def eof_received(self) -> bool:
        return False


class Pipe:
    """A stream on one end of a pair of sockets, on a loop that the test runs."""

    def __init__(self) -> None:
        self.loop: Any = IOLoop()
        self.loop.activate_poller()
        ours, self.theirs = socket.socketpair()
        ours.setblocking(False)
        self.forked = ours.dup()  # what another process would have of it
        self.protocol = Protocol()
        self.told: list[Any] = []
        self.beginning = Streams(self.loop).create_streaming_connection(lambda: self.protocol, ours, self.told.append)

    def round(self) -> None:
        """One round of the loop, of a second at most."""
        self.loop.call_later(1, lambda: None)
        self.loop.poll()
        self.loop.process_timeouts()

    def stream(self) -> Stream:
        """Once it has begun."""
        self.round()
        assert self.told == [(self.protocol.stream, self.protocol)]
        assert self.protocol.stream
        return self.protocol.stream


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    """One that is closed afterwards."""
    pipe = Pipe()
    yield pipe
    pipe.beginning.cancel()
    pipe.theirs.close()
    pipe.forked.close()
    pipe.loop.deactivate_poller()
    pipe.loop.close()


def test_what_the_socket_does_not_take_at_once_follows_in_its_order(pipe: Pipe) -> None:
    """The second write waits behind the rest of the first, though the socket takes some again."""
    stream, texts, received = pipe.stream(), [os.urandom(LONG), os.urandom(LONG)], bytearray()

    def read() -> None:
        while len(received) < 2 * LONG:
            received.extend(pipe.theirs.recv(LONG))

    stream.write(texts[0])
    assert 0 < stream.get_write_buffer_size() < LONG
    received += pipe.theirs.recv(LONG)
    stream.write(texts[1])
    reading = threading.Thread(target=read, daemon=True)
    reading.start()
    while stream.get_write_buffer_size():
        pipe.round()
    reading.join(10)
    assert received == b"".join(texts)


def test_what_arrives_is_handed_on(pipe: Pipe) -> None:
    """Until the other end closes; that is told without an error."""
    pipe.stream()
    pipe.theirs.sendall(b"hello")
    pipe.round()
    assert pipe.protocol.received == b"hello"
    pipe.theirs.close()
    pipe.round()
    pipe.round()
    assert pipe.protocol.lost == [None]


def test_a_stream_that_breaks_is_told_of_once(pipe: Pipe) -> None:
    """And takes whatever is written afterwards, to no avail."""
    stream = pipe.stream()
    pipe.theirs.close()
    stream.write(b"x")
    stream.write(b"y")
    stream.abort()
    assert not pipe.protocol.lost  # whoever writes is not called from within
    pipe.round()
    (error,) = pipe.protocol.lost
    assert isinstance(error, OSError)
    assert not stream.cancel()


def test_one_that_is_cancelled_before_it_begins_tells_nobody(pipe: Pipe) -> None:
    """Its connection has ended, also if a process that was forked off has the socket open."""
    pipe.theirs.settimeout(10)
    assert pipe.beginning.cancel()
    pipe.round()
    assert not pipe.told
    assert not pipe.protocol.lost
    assert pipe.theirs.recv(1) == b""


def test_data_that_cannot_be_understood_end_it(pipe: Pipe) -> None:
    """With that error."""
    pipe.stream()
    pipe.theirs.sendall(b"bad")
    with pytest.raises(AssertionError):
        pipe.round()
    pipe.round()
    assert [type(error) for error in pipe.protocol.lost] == [AssertionError]
