"""pika's connection, with shorter ways for what every message needs.

pika sends a message in three packets, and for each method that arrives it looks twice, by names, for what to call.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from pika import BasicProperties, SelectConnection  # type: ignore[import-untyped]  # pika has no types
from pika.frame import Body, Header, Method  # type: ignore[import-untyped]  # the same
from pika.spec import Basic  # type: ignore[import-untyped]  # the same

from broker.rabbitmq.stream import Streams

PIECE_BYTES = 1_000_000  #: more than this is sent in several pieces


class Batch(NamedTuple):
    """Messages to publish: to an exchange, or to the queue `key` when `exchange` is empty."""

    exchange: str
    key: str
    messages: Sequence[tuple[BasicProperties, bytes]]
    mandatory: bool  #: give back what no queue takes
    first: Callable[[Any], None] | None = None  #: asked of the channel before; refused, no message is looked at


class Connection(SelectConnection):  # type: ignore[misc]  # pika has no types
    """A connection on pika's loop; the arguments are pika's."""

    def __init__(self, *arguments: Any, custom_ioloop: Any, **options: Any) -> None:
        self._hearing: dict[int, Callable[[Any], None]] = {}
        super().__init__(*arguments, custom_ioloop=Streams(custom_ioloop), **options)

    def hear(self, channel: int, confirmed: Callable[[Any], None]) -> None:
        """Call that with each `Basic.Ack` and `Basic.Nack` of the channel, in place of pika."""
        self._hearing[channel] = confirmed

    def publish(self, channel: int, batch: Batch) -> None:
        """As `Channel.basic_publish` for each message, but together, in pieces of about `PIECE_BYTES`."""
        for piece in _together(self._frames(channel, batch)):
            self._output_marshaled_frames([piece])

    def _frames(self, channel: int, batch: Batch) -> Iterator[bytes]:
        method = Basic.Publish(exchange=batch.exchange, routing_key=batch.key, mandatory=batch.mandatory)
        begin = Method(channel, method).marshal()
        size = self._body_max_length
        for properties, body in batch.messages:
            yield begin
            yield Header(channel, len(body), properties).marshal()
            for at in range(0, len(body), size):
                yield Body(channel, body[at : at + size]).marshal()

    def _process_frame(self, frame: Any) -> None:
        method = type(getattr(frame, "method", None))
        if method is Basic.Ack or method is Basic.Nack:
            self._hearing[frame.channel_number](frame.method)
        elif method is Basic.Deliver or isinstance(frame, (Header, Body)):
            self._deliver_frame_to_channel(frame)
        else:
            super()._process_frame(frame)


def _together(frames: Iterable[bytes]) -> Iterator[bytearray]:
    piece = bytearray()
    for frame in frames:
        piece += frame
        if len(piece) > PIECE_BYTES:
            yield piece
            piece = bytearray()
    if piece:
        yield piece
