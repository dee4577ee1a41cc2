"""What is asked of JetStream: streams and consumers that are there when they are needed, messages read and answered.

Everything here is for the event loop alone. A stream is made when it is first needed, and again when it was deleted.
"""

from __future__ import annotations

import asyncio
from typing import Any

from nats.js.api import ConsumerConfig, ConsumerInfo, RawStreamMsg, StreamConfig, StreamInfo
from nats.js.errors import BadRequestError, NotFoundError, ServerError

from broker.nats.client import LivingClient

PAUSES = (0.02, 0.1, 0.5, 0)  #: seconds, then no more: a stream that somebody else is making is not there at once
REMOVED_SECONDS = 1.0  #: by then the server has removed the files of a stream that was deleted
READ_SECONDS = 0.5  #: how long to wait for a message of a stream before looking whether that is there
EXISTS, OVERLAPS = 10058, 10065  #: error codes of the server: a stream of that name, or one with that subject, is there


class Streams:
    """The streams of one server."""

    def __init__(self, client: LivingClient) -> None:
        self._client = client
        self._known: set[str] = set()  # those that were there when we looked

    async def ensure(self, stream: StreamConfig, *, again: bool = True) -> None:
        """Make the stream unless it is there; without `again`, it is not looked for when it was there before."""
        if not again and stream.name in self._known:
            return
        jetstream = await self._client.jetstream()
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
        self._known.add(stream.name or "")

    async def info(self, stream: StreamConfig) -> StreamInfo:
        """What the server knows of the stream; made unless it is there."""
        await self.ensure(stream)
        return await (await self._client.jetstream()).stream_info(stream.name or "")

    async def wait_after_deletion(self) -> None:
        """Wait until a stream that was deleted can be made again.

        While a server still removes the files of the old one, it would take those of the new one along, and that could
        never be written to. It does not say when it has done so.
        """
        await asyncio.sleep(min(REMOVED_SECONDS, self._client.timeout_seconds / 4))

    async def consumer(self, stream: StreamConfig, config: ConsumerConfig) -> ConsumerInfo:
        """Make the consumer unless it is there, and its stream."""
        for pause_seconds in PAUSES:
            await self.ensure(stream)
            try:
                return await (await self._client.jetstream()).add_consumer(stream.name or "", config)
            except (NotFoundError, ServerError):  # just deleted
                if not pause_seconds:
                    raise
            await asyncio.sleep(pause_seconds)
        raise AssertionError("PAUSES end with 0")

    async def read(self, stream: StreamConfig, **which: Any) -> RawStreamMsg | None:
        """A message of a stream, as `get_msg` chooses it; None when there is none."""
        await self.ensure(stream, again=False)
        while True:
            jetstream = (await self._client.connected()).jetstream(timeout=READ_SECONDS)
            try:
                return await jetstream.get_msg(stream.name or "", direct=True, **which)
            except NotFoundError:
                return None
            except TimeoutError:  # nobody answers for a stream that is not ready yet, or was deleted
                await self.ensure(stream)
