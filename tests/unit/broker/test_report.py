"""What the engine says of deliveries: to `on_settled`, and in its log."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Iterator

import pytest

import broker
from broker import Event, Message, Outcome, Reject, Settled
from broker.testing import Recorder, eventually


@pytest.fixture
def told() -> list[Settled]:
    """What `on_settled` was told."""
    return []


@pytest.fixture
def b(told: list[Settled]) -> Iterator[broker.Broker]:
    """A broker of this test's own that tells."""
    with broker.connect(f"memory://{uuid.uuid4()}", on_settled=told.append) as connected:
        yield connected


def obey(event: Event) -> None:
    """A handler that does what the message says."""
    if event.message.body == b"fail once" and event.attempt == 1:
        raise RuntimeError("once")
    if event.message.body == b"fail":
        raise RuntimeError("always")
    if event.message.body == b"reject":
        raise Reject("no such type")


def test_a_group_tells_what_became_of_each_delivery(b: broker.Broker, told: list[Settled]) -> None:
    """Acked, to be delivered again, or a dead letter; each with its attempt and the reason."""
    b.subscribe("t", obey, group="g", retry_delays=(0.01,), max_attempts=2)
    for body in (b"good", b"fail once", b"fail", b"reject"):
        b.publish("t", Message(body))
    eventually(lambda: len(told) >= 6, "all are settled")
    assert {(settled.topic, settled.group) for settled in told} == {("t", "g")}
    assert {(s.message.body, s.attempt, s.outcome, s.reason) for s in told} == {
        (b"good", 1, Outcome.ACKED, ""),
        (b"fail once", 1, Outcome.RETRIED, "RuntimeError: once"),
        (b"fail once", 2, Outcome.ACKED, ""),
        (b"fail", 1, Outcome.RETRIED, "RuntimeError: always"),
        (b"fail", 2, Outcome.DEAD, "RuntimeError: always"),
        (b"reject", 1, Outcome.DEAD, "no such type"),
    }
    assert len(told) == 6


def test_a_broadcast_that_failed_every_time_is_passed_over(b: broker.Broker, told: list[Settled]) -> None:
    """There are no dead letters for it to go to."""
    b.subscribe("t", obey, retry_delays=(0.01,), max_attempts=2)
    b.publish("t", Message(b"fail"))
    eventually(lambda: len(told) == 2, "it is settled")
    assert [(settled.outcome, settled.attempt) for settled in told] == [(Outcome.RETRIED, 1), (Outcome.PASSED_OVER, 2)]


def test_an_ack_is_told_once_and_not_before_it_is_given(b: broker.Broker, told: list[Settled]) -> None:
    """`auto_ack=False`: from whatever thread, however often."""
    events: list[Event] = []
    seen = Recorder(events.append)
    b.subscribe("t", seen, group="g", auto_ack=False)
    b.publish("t", Message(b"good"))
    eventually(lambda: events, "it has arrived")
    assert told == []
    events[0].ack()
    events[0].ack()
    assert [settled.outcome for settled in told] == [Outcome.ACKED]


def test_a_replay_that_is_meant_for_another_group_is_not_told(b: broker.Broker, told: list[Settled]) -> None:
    """Its handler has not seen it, either."""
    b.subscribe("t", obey, group="g")
    b.publish("t", Message(b"good", {"broker-group": "h"}), Message(b"good"))
    eventually(lambda: b.backlog("t", "g") == 0, "both are done with")
    assert len(told) == 1


@pytest.mark.parametrize("group", ["g", None])
def test_each_line_about_a_message_has_its_id(
    b: broker.Broker, told: list[Settled], group: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    """One `grep` then finds them all; also the traceback."""
    caplog.set_level(logging.DEBUG, "broker")
    message = Message(b"fail")
    b.subscribe("t", obey, group=group, retry_delays=(0.01,), max_attempts=2)
    b.publish("t", message)
    eventually(lambda: len(told) == 2, "it is settled")
    assert len(caplog.records) >= 4
    for record in caplog.records:
        assert record.__dict__["event_id"] == message.id, record.getMessage()


def test_a_replay_is_in_the_story(b: broker.Broker, told: list[Settled], caplog: pytest.LogCaptureFixture) -> None:
    """Otherwise a dead letter would come to life without a word."""
    caplog.set_level(logging.INFO, "broker")
    message = Message(b"reject")
    b.subscribe("t", obey, group="g")
    b.publish("t", message)
    eventually(lambda: told, "it is a dead letter")
    caplog.clear()
    b.group("t", "g").replay(message.id)
    eventually(lambda: len(told) == 2, "it is one again")
    replayed = caplog.records[0]
    assert "a dead letter is replayed" in replayed.getMessage()
    assert replayed.__dict__["event_id"] == message.id
