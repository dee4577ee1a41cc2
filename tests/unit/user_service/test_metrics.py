"""What the user service counts: every registration once, every event once, and the outbox as it is."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from prometheus_client import CollectorRegistry

import broker
from broker import Message
from broker.testing import eventually
from chassis.database import Database
from chassis.errors import DatabaseError
from chassis.problems import Problem
from contracts.events import USER_REGISTERED
from tests.servers.mariadb import Operator, on_each_database, on_mariadb
from tests.unit.user_service.conftest import Mailbox
from user_service.app import create_app
from user_service.metrics import Metrics, OutboxCollector
from user_service.outbox import Outbox
from user_service.publishing import Direct
from user_service.registration import Registration
from user_service.relay import Relay

ALICE = {"id": "a-1", "name": "学院君", "email": "alice@example.com", "password": "geheim-geheim"}
NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)


@pytest.fixture
def registry() -> CollectorRegistry:
    """An empty one."""
    return CollectorRegistry()


@pytest.fixture
def metrics(registry: CollectorRegistry) -> Metrics:
    """The counters."""
    return Metrics(registry)


def counted(registry: CollectorRegistry, name: str, label: str) -> dict[str, float]:
    """The counter's values that are not zero, by label."""
    samples = [sample for metric in registry.collect() for sample in metric.samples if sample.name == name]
    return {sample.labels[label]: sample.value for sample in samples if sample.value}


def add(database: Database, *times: datetime) -> None:
    """A message of each of those times."""
    with database.transaction() as session:
        for time in times:
            Outbox(session).add(USER_REGISTERED, Message(b""), time)


def test_each_registration_is_counted_by_what_came_of_it(
    database: Database, registration: Registration, metrics: Metrics, registry: CollectorRegistry
) -> None:
    """New, repeated, or refused with a reason that tells whose fault it was."""
    client = create_app(database, registration, metrics, registry).test_client()
    bodies: list[object] = [
        ALICE,  # new
        ALICE,  # repeated
        {**ALICE, "name": "Bob"},  # id taken
        {**ALICE, "id": "b-1"},  # email taken
        {**ALICE, "id": ""},  # not valid
        {**ALICE, "name": "x" * 70_000},  # too large
    ]
    for body in bodies:
        client.post("/users", json=body)
    client.post("/users", data=b"{", content_type="application/json")
    client.post("/users", data=b"name=Alice")
    client.get("/users?email=nonsense")  # no registration
    assert counted(registry, "users_registrations_total", "outcome") == {"new": 1, "repeated": 1}
    assert counted(registry, "users_registrations_refused_total", "reason") == {
        "id_taken": 1,
        "email_taken": 1,
        "not_valid": 1,
        "too_large": 1,
        "not_json": 2,
    }


@pytest.mark.parametrize(
    ("error", "reason"),
    [(DatabaseError("away"), "unavailable"), (Problem(418, "teapot"), "error"), (ZeroDivisionError(), "error")],
)
def test_what_fails_on_our_side_is_counted_too(
    metrics: Metrics, registry: CollectorRegistry, error: Exception, reason: str
) -> None:
    """And is raised on."""
    with pytest.raises(type(error)), metrics.counting_refusals():
        raise error
    assert counted(registry, "users_registrations_refused_total", "reason") == {reason: 1}


@on_each_database
def test_the_outbox_is_read_when_somebody_looks(database: Database, registry: CollectorRegistry) -> None:
    """How many messages, and how long the first has waited; what has been published does not count."""
    registry.register(OutboxCollector(database, now=lambda: NOW))
    read = registry.get_sample_value
    assert (read("users_outbox_messages"), read("users_outbox_oldest_age_seconds")) == (0, 0)
    add(database, NOW - timedelta(hours=1), NOW - timedelta(seconds=90), NOW)
    with database.transaction() as session:
        outbox = Outbox(session)
        outbox.mark_sent(outbox.claim(1, NOW, 30).entries, NOW)
    assert (read("users_outbox_messages"), read("users_outbox_oldest_age_seconds")) == (2, 90)
    assert read("users_database_up") == 1


def test_a_clock_that_was_set_back_makes_no_negative_age(database: Database, registry: CollectorRegistry) -> None:
    """Nothing has waited for less than no time."""
    registry.register(OutboxCollector(database, now=lambda: NOW))
    add(database, NOW + timedelta(seconds=5))
    assert registry.get_sample_value("users_outbox_oldest_age_seconds") == 0


@on_mariadb
def test_a_database_that_is_away_or_hangs_is_said_and_hangs_no_scrape(
    database: Database,
    metrics: Metrics,
    registry: CollectorRegistry,
    mariadb: Operator,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The other metrics come, the figures that nobody knows do not."""
    registry.register(OutboxCollector(database))
    add(database, NOW)

    def says(reason: str) -> bool:
        registry.get_sample_value("users_database_up")
        return f"the outbox cannot be measured: {reason}" in caplog.text

    for trouble, reason in ((mariadb.paused(), "no answer within 1 s"), (mariadb.down(), "database mysql")):
        with trouble:
            eventually(lambda why=reason: says(why), reason)  # type: ignore[misc]  # bound now
            assert registry.get_sample_value("users_database_up") == 0
            assert registry.get_sample_value("users_outbox_messages") is None
            assert registry.get_sample_value("users_events_published_total") == 0


@on_each_database
def test_a_database_without_its_tables_fails_no_scrape(database: Database, registry: CollectorRegistry) -> None:
    """Whatever the driver calls that."""
    registry.register(OutboxCollector(database))
    with database.transaction() as session:
        session.connection().exec_driver_sql("DROP TABLE outbox")
    assert registry.get_sample_value("users_database_up") == 0


def test_the_relay_counts_what_the_broker_has_confirmed(
    database: Database, bus: broker.Broker, mailbox: Mailbox, metrics: Metrics, registry: CollectorRegistry
) -> None:
    """Once, however often it looks."""
    add(database, *[NOW] * 3)
    relay = Relay(database, bus, on_published=metrics.published)
    assert [relay.send_batch(), relay.send_batch()] == [3, 0]
    assert registry.get_sample_value("users_events_published_total") == 3


def test_what_is_published_directly_is_counted_and_what_is_lost_is_not(
    bus: broker.Broker, metrics: Metrics, registry: CollectorRegistry
) -> None:
    """`DELIVERY=direct`."""
    direct = Direct(bus, metrics.published)
    direct.after_commit(USER_REGISTERED, Message(b"1"))
    bus.disconnect()
    direct.after_commit(USER_REGISTERED, Message(b"2"))
    assert registry.get_sample_value("users_events_published_total") == 1
