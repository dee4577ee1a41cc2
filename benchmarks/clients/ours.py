"""Our broker, whichever it is, with the options that it has by default."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from pathlib import Path

import broker
from benchmarks.clients.client import GROUP, Client, Handler
from broker import Event, Message

OURS = "ours"


class Ours(Client):
    """Sync, thread-safe, durable: what the services use."""

    name = OURS

    def __init__(self, address: str, folder: Path) -> None:
        self.broker = broker.new(address, data_dir=folder)
        self.broker.connect()

    def make(self, topic: str) -> None:
        if not self.broker.promises.replays:
            self.broker.subscribe(topic, lambda _: None, group=GROUP).unsubscribe()

    def publish_singly(self, topic: str, messages: Iterable[Message]) -> None:
        for message in messages:
            self.broker.publish(topic, message)

    def publish_batches(self, topic: str, batches: Iterable[Sequence[Message]]) -> None:
        for batch in batches:
            self.broker.publish(topic, *batch)

    def receive(self, topic: str, handle: Handler) -> None:
        enough = threading.Event()

        def handler(event: Event) -> None:
            if handle(event.message):
                enough.set()

        subscription = self.broker.subscribe(topic, handler, group=GROUP)
        enough.wait()
        subscription.unsubscribe()

    def close(self) -> None:
        self.broker.disconnect()
