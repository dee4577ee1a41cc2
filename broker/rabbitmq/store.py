"""What is kept in quorum queues to be read more than once: dead letters, marks of last attempts, the list of groups."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from pika import BasicProperties  # type: ignore[import-untyped]  # pika has no types

from broker.errors import BrokerError
from broker.message import Message
from broker.rabbitmq import topology, wire
from broker.rabbitmq.channel import Channel, ask
from broker.rabbitmq.connection import INTERNAL_ERROR, LOCKED, code_of
from broker.rabbitmq.publisher import RabbitMQPublisher

START_SECONDS = 5.0  #: how long a new queue has to run after it was declared
PAUSE_SECONDS = 0.02  #: before what was not possible is tried again


class Store:
    """A queue that is read without being emptied: everything is taken out and put back, one reader at a time."""

    def __init__(self, publisher: RabbitMQPublisher, queue: str) -> None:
        self.queue = queue
        self._publisher = publisher
        self._connection = publisher.connection

    def put(self, properties: BasicProperties, body: bytes) -> None:
        """Add an entry at the end; the queue is made when there is none."""
        topology.declare(self._connection, self.queue)
        self._publisher.put(self.queue, properties, body)

    def read(self, remove: Callable[[wire.Parcel], bool] = lambda _: False) -> list[wire.Parcel]:
        """Return everything in it, in order; what `remove` is true for is gone afterwards."""
        deadline = time.monotonic() + START_SECONDS
        while True:
            parcels: list[wire.Parcel] = []
            try:
                if topology.look(self._connection, self.queue) is not None:
                    self._read(parcels, remove)
            except BrokerError as error:
                if code_of(error) != INTERNAL_ERROR or parcels or time.monotonic() > deadline:
                    raise
                time.sleep(PAUSE_SECONDS)  # its queue was declared just now, and does not run yet
            else:
                return parcels

    def _read(self, parcels: list[wire.Parcel], remove: Callable[[wire.Parcel], bool]) -> None:
        with self._locked() as channel:
            gone: list[int] = []
            while got := channel.get(self.queue):
                tag, parcel = got
                parcels.append(parcel)
                if remove(parcel):
                    gone.append(tag)
            for tag in gone:
                channel.do(lambda pika, tag=tag: pika.basic_ack(tag))  # type: ignore[misc]  # bound now

    @contextmanager
    def _locked(self) -> Iterator[Channel]:
        """Give a channel, while nobody else, in any process, is in here for that queue; what it has left goes back.

        A queue that is exclusive to a connection is the one lock that AMQP has: it ends with the connection.
        """
        lock = f"{self.queue}:lock"
        with self._connection.alone:
            channel = self._lock(lock)
            try:
                yield channel
            finally:
                channel.do(lambda pika: pika.basic_nack(0, multiple=True))  # 0: all that is left, in its order
                channel.close()
                with suppress(BrokerError):  # then the connection is lost, and the lock with it
                    ask(self._connection, "queue_delete", queue=lock)

    def _lock(self, lock: str) -> Channel:
        deadline = self._connection.deadline()
        while True:
            channel = Channel(self._connection)
            try:
                channel.ask("queue_declare", queue=lock, exclusive=True)
            except BrokerError as error:
                if code_of(error) != LOCKED or time.monotonic() > deadline:
                    raise
                time.sleep(PAUSE_SECONDS)
            else:
                return channel


class Registry:
    """Topic and name of each group that has ever subscribed and was not forgotten."""

    def __init__(self, publisher: RabbitMQPublisher) -> None:
        self._store = Store(publisher, topology.REGISTRY)

    def add(self, topic: str, group: str) -> None:
        """Note a group; it may be there already."""
        self._store.put(wire.publish(Message()), json.dumps([topic, group]).encode())

    def remove(self, topic: str, group: str) -> None:
        """Remove every note of the group."""
        self._store.read(lambda parcel: _entry(parcel) == (topic, group))

    def all(self) -> list[tuple[str, str]]:
        """Return each group once."""
        return list(dict.fromkeys(_entry(parcel) for parcel in self._store.read()))


def _entry(parcel: wire.Parcel) -> tuple[str, str]:
    topic, group = json.loads(parcel.message.body)
    return topic, group
