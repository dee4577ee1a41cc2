"""The server of each broker that has one, seen alike: what a test of the whole application does to it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tests.servers.kafka import MockKafka
from tests.servers.nats import NatsServer
from tests.servers.process import ServerProcess
from tests.servers.rabbitmq import RabbitMQServer
from tests.servers.redis import RedisServer

WITH_SERVER = ("redis", "nats", "rabbitmq", "kafka")


@dataclass(frozen=True)
class BrokerServer:
    """How to reach it, and how to take it away and bring it back. Kafka's mock is taken down instead of killed."""

    url: str
    kill: Callable[[], None]
    start: Callable[[], None]
    paused: Callable[[], AbstractContextManager[None]]


@contextmanager
def broker_server(broker: str, folder: Path) -> Iterator[BrokerServer]:
    """A private one, with its data in a new folder."""
    folder.mkdir(parents=True)
    if broker == "kafka":
        with MockKafka() as kafka:
            yield BrokerServer(kafka.url, partial(kafka.tell, "down"), partial(kafka.tell, "up"), kafka.paused)
    elif broker == "rabbitmq":
        with RabbitMQServer(folder) as rabbitmq:
            at_once = partial(ServerProcess.kill, rabbitmq)  # its queues are older than a second by then
            url = f"rabbitmq://127.0.0.1:{rabbitmq.port}"
            yield BrokerServer(url, at_once, rabbitmq.start, rabbitmq.paused)
    else:
        with {"redis": RedisServer, "nats": NatsServer}[broker](folder) as other:
            yield BrokerServer(other.url, other.kill, other.start, other.paused)
