"""A user service without its server: real database, real memory broker, cheap hashes."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import closing

import pytest
from flask import Flask
from prometheus_client import CollectorRegistry

import broker
from broker import Event, Message
from chassis.database import Database
from chassis.metrics import new_registry
from contracts.events import USER_REGISTERED
from user_service.app import create_app
from user_service.metrics import Metrics, OutboxCollector
from user_service.outbox import Outbox
from user_service.publishing import ThroughOutbox
from user_service.registration import Registration
from user_service.tables import SCHEMA_NAME, SCHEMA_VERSION, Base

BCRYPT_COST = 4


def open_database(url: str) -> Database:
    """The database there, as each replica opens it."""
    database = Database(url, Base.metadata, schema_name=SCHEMA_NAME, schema_version=SCHEMA_VERSION)
    database.open()
    return database


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    """An empty one."""
    with closing(open_database(database_url)) as opened:
        yield opened


@pytest.fixture
def replicas_database(database: Database, database_url: str) -> Iterator[Database]:
    """The same, with connections of its own, as another replica has it."""
    with closing(open_database(database_url)) as opened:
        yield opened


@pytest.fixture
def registration(database: Database) -> Registration:
    """Registers into the database and its outbox; there is no relay."""
    return Registration(database, ThroughOutbox(wake=lambda: None), BCRYPT_COST)


@pytest.fixture
def registry(database: Database) -> CollectorRegistry:
    """What the service counts."""
    registry = new_registry()
    registry.register(OutboxCollector(database))
    return registry


@pytest.fixture
def app(database: Database, registration: Registration, registry: CollectorRegistry) -> Flask:
    """The app."""
    return create_app(database, registration, Metrics(registry), registry)


@pytest.fixture
def bus() -> Iterator[broker.Broker]:
    """A memory broker of its own, connected."""
    with broker.connect(f"memory://{uuid.uuid4()}") as connected:
        yield connected


class Mailbox:
    """What a subscriber has received."""

    def __init__(self) -> None:
        self.messages: list[Message] = []

    def __call__(self, event: Event) -> None:
        """The handler."""
        self.messages.append(event.message)

    @property
    def bodies(self) -> list[bytes]:
        """In the order they came."""
        return [message.body for message in self.messages]


@pytest.fixture
def mailbox(bus: broker.Broker) -> Mailbox:
    """Subscribed to `user.registered` as a group of its own."""
    box = Mailbox()
    bus.subscribe(USER_REGISTERED, box, group="mailbox")
    return box


def waiting(database: Database) -> int:
    """How many messages the outbox holds back."""
    with database.reading() as session:
        return Outbox(session).waiting().count
