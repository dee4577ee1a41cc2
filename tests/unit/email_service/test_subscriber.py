"""Subscribed from start to stop, whatever the broker does meanwhile."""

from __future__ import annotations

import logging
import threading
import uuid
from functools import partial

import pytest

import broker
from broker import Broker, Event, Handler, Message
from broker.memory import MemoryBroker
from broker.testing import eventually
from chassis.drain import Drain
from email_service import subscriber
from email_service.subscriber import Subscriber


class LateBroker(MemoryBroker):
    """A memory broker that is down for the first two calls."""

    calls = 0

    def _open(self) -> None:
        self.calls += 1
        if self.calls <= 2:
            raise self.error("nobody listens")
        super()._open()


def subscriber_of(bus: Broker, handler: Handler, drain_seconds: float = 10) -> Subscriber:
    """A member of the group `group` of the topic `topic`."""
    return Subscriber(bus, partial(bus.subscribe, "topic", handler, group="group"), Drain(drain_seconds))


def subscribed(service: Subscriber) -> None:
    """Wait until it is."""
    eventually(service.is_subscribed, "a subscription")


def test_a_broker_that_is_down_at_the_start_is_tried_until_it_is_up(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The service starts, is not ready meanwhile, and says so in one line, not in one for each try."""
    monkeypatch.setattr(subscriber, "RETRY_SECONDS", 0.01)
    caplog.set_level(logging.INFO)
    service = subscriber_of(LateBroker(), lambda _: None)
    assert not service.is_subscribed()
    with service:
        subscribed(service)
    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert warnings == ["not subscribed yet, trying on: memory broker at memory://: nobody listens"]


def test_a_stop_ends_the_tries() -> None:
    """SIGTERM while the broker is down: no waiting for it."""
    bus = LateBroker()
    bus.calls = -(10**9)
    with subscriber_of(bus, lambda _: None):
        pass


def test_a_broker_that_does_not_answer_holds_up_no_stop(caplog: pytest.LogCaptureFixture) -> None:
    """It is left at the deadline, whatever its own patience is."""
    asked, answers = threading.Event(), threading.Event()

    class SilentBroker(MemoryBroker):
        def _open(self) -> None:
            asked.set()
            answers.wait(60)
            raise self.error("nobody listens")

    service = subscriber_of(SilentBroker(), lambda _: None, 0.05)
    with service:
        assert asked.wait(20)
    assert not answers.is_set()
    assert "had not answered by the deadline" in caplog.text
    answers.set()
    service._thread.join(20)


def test_leaving_finishes_what_runs_and_delivers_nothing_more() -> None:
    """The email under way is sent; the next one waits for the next member."""
    address = f"memory://{uuid.uuid4()}"
    started, finished = threading.Event(), []
    member = broker.new(address)

    def handler(event: Event) -> None:
        started.set()
        eventually(member._subscriptions[0]._flight.stopping.is_set, "the member leaves")
        finished.append(event.message.body)

    with broker.connect(address) as publisher:
        service = subscriber_of(member, handler, 60)
        with service:
            subscribed(service)
            publisher.publish("topic", Message(b"1"), Message(b"2"))
            assert started.wait(60)
        assert finished == [b"1"]
        assert not service.is_subscribed()
        assert publisher.backlog("topic", "group") == 1


def test_a_handler_that_outlasts_the_drain_does_not_fail_the_stop(caplog: pytest.LogCaptureFixture) -> None:
    """What it had is delivered again; the process still ends well."""
    address = f"memory://{uuid.uuid4()}"
    started, finish = threading.Event(), threading.Event()

    def handler(_: Event) -> None:
        started.set()
        finish.wait(60)

    with broker.connect(address) as publisher:
        service = subscriber_of(broker.new(address), handler, 0.05)
        with service:
            subscribed(service)
            publisher.publish("topic", Message(b"1"))
            assert started.wait(60)
        finish.set()
        assert publisher.backlog("topic", "group") == 1
    assert "will be delivered again" in caplog.text
