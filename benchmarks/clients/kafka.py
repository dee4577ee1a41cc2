"""Kafka by confluent-kafka, bare: an idempotent producer, `poll` until a single is delivered, `flush` for a batch."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from confluent_kafka import Consumer, Producer

from benchmarks.clients.client import BATCH, GROUP, LIBRARY, Client, Handler
from broker import Message

WAIT_SECONDS = 0.1


def settings(address: str) -> dict[str, Any]:
    """What a URL of ours says, in librdkafka's words."""
    url = urlsplit(address)
    return {"bootstrap.servers": url.netloc, "log_level": 0, **dict(parse_qsl(url.query))}


class Library(Client):
    """Confirmed by all replicas in sync, at once, as ours."""

    name = LIBRARY

    def __init__(self, address: str) -> None:
        self._settings = settings(address)
        self._producer: Any = Producer({"enable.idempotence": True, "linger.ms": 0, **_for_producer(self._settings)})
        self._delivered = 0

    def make(self, topic: str) -> None:
        self._producer.list_topics(topic)

    def publish_singly(self, topic: str, messages: Iterable[Message]) -> None:
        for message in messages:
            self._produce(topic, message)
            while not self._delivered:
                self._producer.poll(1)

    def publish_batches(self, topic: str, batches: Iterable[Sequence[Message]]) -> None:
        for batch in batches:
            for message in batch:
                self._produce(topic, message)
            self._producer.flush()

    def receive(self, topic: str, handle: Handler) -> None:
        more = {"group.id": f"{topic}.{GROUP}", "auto.offset.reset": "earliest", "enable.auto.commit": False}
        consumer: Any = Consumer({**self._settings, **more, "enable.auto.offset.store": False})
        consumer.subscribe([topic])
        enough = False
        while not enough:
            records = consumer.consume(BATCH, WAIT_SECONDS)
            for record in records:
                enough = handle(Message(record.value(), {name: value.decode() for name, value in record.headers()}))
                consumer.store_offsets(record)
            if records:
                consumer.commit(asynchronous=True)
        consumer.close()

    def close(self) -> None:
        self._producer.flush()

    def _produce(self, topic: str, message: Message) -> None:
        self._delivered = 0
        headers = [(name, value.encode()) for name, value in message.header.items()]
        key = message.header["ce-partitionkey"]
        self._producer.produce(topic, message.body, key, headers=headers, on_delivery=self._count)

    def _count(self, error: object, _: object) -> None:
        assert error is None, error
        self._delivered += 1


def _for_producer(found: dict[str, Any]) -> dict[str, Any]:
    of_consumers = ("session.timeout.ms", "fetch.wait.max.ms")
    return {name: value for name, value in found.items() if name not in of_consumers}
