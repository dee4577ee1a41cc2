"""JetStream by nats-py, bare, on an event loop in a thread of its own: it is async, and who publishes here is not.

One at a time, each message crosses into the loop and back, as in any synchronous program; a batch crosses once.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine, Iterable, Sequence
from typing import Any, TypeVar

from nats.aio.client import Client as NatsClient
from nats.errors import TimeoutError as NothingCame
from nats.js import JetStreamContext
from nats.js.api import StreamConfig

from benchmarks.clients.client import BATCH, GROUP, LIBRARY, Client, Handler
from broker import Message

WAIT_SECONDS = 1.0
PATIENCE_SECONDS = 60.0
Result = TypeVar("Result")


class Library(Client):
    """Streams on disk, as ours are."""

    name = LIBRARY

    def __init__(self, address: str) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._nats = NatsClient()
        self._call(self._nats.connect(address))
        self._jetstream: JetStreamContext = self._nats.jetstream(publish_async_max_pending=BATCH * 10)

    def make(self, topic: str) -> None:
        self._call(self._jetstream.add_stream(StreamConfig(name=topic, subjects=[topic])))

    def publish_singly(self, topic: str, messages: Iterable[Message]) -> None:
        for message in messages:
            self._call(self._jetstream.publish(topic, message.body, PATIENCE_SECONDS, headers=_headers(message)))

    def publish_batches(self, topic: str, batches: Iterable[Sequence[Message]]) -> None:
        for batch in batches:
            self._call(self._publish(topic, batch))

    async def _publish(self, topic: str, batch: Sequence[Message]) -> None:
        sent = [
            await self._jetstream.publish_async(topic, message.body, headers=_headers(message)) for message in batch
        ]
        await asyncio.gather(*sent)

    def receive(self, topic: str, handle: Handler) -> None:
        self._call(self._receive(topic, handle))

    async def _receive(self, topic: str, handle: Handler) -> None:
        subscription = await self._jetstream.pull_subscribe(topic, durable=GROUP)
        enough = False
        while not enough:
            try:
                arrived = await subscription.fetch(BATCH, timeout=WAIT_SECONDS)
            except NothingCame:
                continue
            for message in arrived:
                enough = handle(Message(message.data, message.headers or {}))
                await message.ack()
        await subscription.unsubscribe()

    def close(self) -> None:
        self._call(self._nats.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _call(self, coroutine: Coroutine[Any, Any, Result]) -> Result:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()


def _headers(message: Message) -> dict[str, str]:
    return {"Nats-Msg-Id": message.id, **message.header}
