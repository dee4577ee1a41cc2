"""Redis Streams by redis-py, bare: XADD, pipelines, XREADGROUP, one XACK for each batch."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

import redis

from benchmarks.clients.client import BATCH, GROUP, LIBRARY, Client, Handler
from broker import Message

WAIT_MS = 1000


class Library(Client):
    """Entries as ours are: the header as JSON, the body as it is."""

    name = LIBRARY

    def __init__(self, address: str) -> None:
        self._redis: Any = redis.Redis.from_url(address)

    def make(self, topic: str) -> None:
        self._redis.xgroup_create(topic, GROUP, "0", mkstream=True)

    def publish_singly(self, topic: str, messages: Iterable[Message]) -> None:
        for message in messages:
            self._redis.xadd(topic, _fields(message))

    def publish_batches(self, topic: str, batches: Iterable[Sequence[Message]]) -> None:
        for batch in batches:
            pipeline = self._redis.pipeline(transaction=False)
            for message in batch:
                pipeline.xadd(topic, _fields(message))
            pipeline.execute()

    def receive(self, topic: str, handle: Handler) -> None:
        enough = False
        while not enough:
            answer = self._redis.xreadgroup(GROUP, "member", {topic: ">"}, count=BATCH, block=WAIT_MS)
            entries = answer[0][1] if answer else []
            for _, fields in entries:
                enough = handle(Message(fields[b"body"], json.loads(fields[b"header"])))
            if entries:
                self._redis.xack(topic, GROUP, *(entry_id for entry_id, _ in entries))

    def close(self) -> None:
        self._redis.close()


def _fields(message: Message) -> dict[str, Any]:
    return {"header": json.dumps(dict(message.header)), "body": message.body}
