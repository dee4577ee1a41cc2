"""What the email service counts: each delivery by what became of it, duplicates, and how long an email took."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta

import pytest
from prometheus_client import CollectorRegistry

import broker
from broker import Message
from broker.testing import eventually
from contracts.events import USER_REGISTERED, UserRegistered
from email_service.consumer import GROUP, SendWelcome
from email_service.errors import MailError
from email_service.inbox import Inbox
from email_service.mail import Mail
from email_service.metrics import Metrics


@dataclass
class Moody:
    """A mailer that refuses the first email."""

    refused: bool = False

    def send(self, mail: Mail) -> None:
        """Refuse once."""
        if not self.refused:
            self.refused = True
            raise MailError("450 try again later")


@pytest.fixture
def registry() -> CollectorRegistry:
    """An empty one."""
    return CollectorRegistry()


@pytest.fixture
def bus(inbox: Inbox, registry: CollectorRegistry, event: UserRegistered) -> Iterator[broker.Broker]:
    """A broker with one member of the email service, whose clock is 7 seconds after the event."""
    metrics = Metrics(registry, now=lambda: event.created_at + timedelta(seconds=7))
    handler = SendWelcome(inbox, Moody(), on_sent=metrics.sent, on_duplicate=metrics.suppressed)
    with broker.connect(f"memory://{uuid.uuid4()}", on_settled=metrics.settled) as bus:
        bus.subscribe(USER_REGISTERED, handler, reads=UserRegistered, group=GROUP, retry_delays=(0.01,))
        yield bus


def deliveries(registry: CollectorRegistry) -> dict[str, float | None]:
    """How many there were, by outcome."""
    outcomes = ("acked", "retried", "dead_lettered")
    return {outcome: registry.get_sample_value("emails_deliveries_total", {"outcome": outcome}) for outcome in outcomes}


def test_each_delivery_is_counted_by_its_outcome(
    bus: broker.Broker, registry: CollectorRegistry, event: UserRegistered
) -> None:
    """All outcomes are there from the start, at zero, so that a rate can be taken of the first."""
    assert deliveries(registry) == {"acked": 0, "retried": 0, "dead_lettered": 0}
    bus.publish(USER_REGISTERED, event.to_message(), Message(b"not an event"))
    expected = {"acked": 1, "retried": 1, "dead_lettered": 1}
    eventually(lambda: deliveries(registry) == expected, "all are counted")


def test_an_email_is_timed_once_and_its_duplicates_are_counted(
    bus: broker.Broker, registry: CollectorRegistry, event: UserRegistered
) -> None:
    """From the event's time to when it was sent, by the clock."""
    bus.publish(USER_REGISTERED, event.to_message())
    eventually(lambda: deliveries(registry)["acked"] == 1, "it is sent")
    bus.publish(USER_REGISTERED, event.to_message(), event.to_message())
    eventually(lambda: deliveries(registry)["acked"] == 3, "both duplicates have come")
    value = registry.get_sample_value
    assert value("emails_duplicates_suppressed_total") == 2
    assert (value("emails_commit_to_sent_seconds_count"), value("emails_commit_to_sent_seconds_sum")) == (1, 7)


def test_a_clock_that_runs_behind_makes_no_negative_time(registry: CollectorRegistry, event: UserRegistered) -> None:
    """The two services may be on two machines."""
    Metrics(registry, now=lambda: event.created_at - timedelta(seconds=1)).sent(event)
    assert registry.get_sample_value("emails_commit_to_sent_seconds_sum") == 0
