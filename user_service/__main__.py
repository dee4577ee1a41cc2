r"""Runs the user service: `python -m user_service`. Settings come from the environment; see `settings.py`.

It says `listening on http://127.0.0.1:8000`; then try

    curl -d '{"name": "学院君", "email": "x@example.com", "password": "secret"}' \
         -H 'Content-Type: application/json' http://127.0.0.1:8000/users
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

import broker
from chassis.database import Database
from chassis.drain import Drain
from chassis.main import Around, as_it_is, run
from chassis.metrics import new_registry
from chassis.server import Server
from user_service.app import create_app
from user_service.metrics import Metrics, OutboxCollector
from user_service.publishing import Direct, Publishing, ThroughOutbox
from user_service.registration import Registration
from user_service.relay import Relay
from user_service.settings import Settings
from user_service.tables import SCHEMA_NAME, SCHEMA_VERSION, Base

NAME = "user-service"
EXPECTED = (broker.BrokerError,)  #: what may go wrong on the way, beside the chassis's own errors


@contextmanager
def service(settings: Settings, around: Around = as_it_is) -> Iterator[Server]:
    """The whole user service, serving; at the end it answers what runs, publishes what is due, and lets go."""
    bus = around(_broker(settings))
    database = Database(settings.database, Base.metadata, schema_name=SCHEMA_NAME, schema_version=SCHEMA_VERSION)
    drain, registry = Drain(settings.drain_seconds), new_registry()
    registry.register(OutboxCollector(database))
    metrics = Metrics(registry)
    publishing, running = _publishing(settings, database, bus, drain, metrics)
    registration = Registration(database, around(publishing), settings.bcrypt_cost)
    app = create_app(database, registration, metrics, registry)
    with (
        database,
        Server(app, settings.host, settings.port, drain=drain) as server,
        running,
        server.taking_requests(),
    ):
        yield server


def _broker(settings: Settings) -> broker.Broker:
    """Not connected yet: while it is away, registrations go on, and their events wait in the outbox."""
    return broker.new(
        settings.broker,
        data_dir=settings.data_dir,
        registry=settings.registry,
        secret=settings.broker_secret,
    )


def _publishing(
    settings: Settings, database: Database, bus: broker.Broker, drain: Drain, metrics: Metrics
) -> tuple[Publishing, AbstractContextManager[object]]:
    """What a registration calls, and what has to run meanwhile."""
    if settings.delivery == "direct":
        return Direct(bus, metrics.published), _connected(bus, drain)
    relay = Relay(
        database,
        bus,
        lease_seconds=settings.lease_seconds,
        keep_sent_seconds=settings.keep_sent_seconds,
        drain=drain,
        on_published=metrics.published,
    )
    return ThroughOutbox(relay.wake), relay


@contextmanager
def _connected(bus: broker.Broker, drain: Drain) -> Iterator[None]:
    bus.connect()
    try:
        yield
    finally:
        bus.disconnect(drain.remaining())


if __name__ == "__main__":
    sys.exit(run(NAME, Settings, service, expected=EXPECTED, arguments=sys.argv[1:]))
