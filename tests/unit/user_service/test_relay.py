"""The relay: nothing stays in the outbox that could leave, and nothing leaves it that has not arrived."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime

import pytest
from sqlalchemy import func, select

from broker import Broker, BrokerError, Message, PublishError
from broker.memory import MemoryBroker
from broker.testing import eventually
from chassis.database import Database
from chassis.drain import Drain
from contracts.events import USER_REGISTERED
from tests.servers.mariadb import Operator, on_each_database, on_mariadb
from tests.unit.user_service.conftest import Mailbox, waiting
from user_service.aside import BATCH, LAST_BACKOFF_SECONDS, backoff_seconds
from user_service.outbox import Outbox
from user_service.relay import Relay
from user_service.tables import OutboxRow


class MoodyBroker(MemoryBroker):
    """A memory broker that can be away, or confirm everything but one body."""

    is_away = False
    refuses: bytes | None = None

    def _open(self) -> None:
        if self.is_away:
            raise BrokerError("away")
        super()._open()

    def _publish(self, topic: str, messages: tuple[Message, ...], mandatory: bool) -> None:
        if self.is_away:
            raise PublishError("away", messages)
        super()._publish(topic, tuple(message for message in messages if message.body != self.refuses), mandatory)
        if unconfirmed := tuple(message for message in messages if message.body == self.refuses):
            raise PublishError("one was not confirmed", unconfirmed)


@pytest.fixture
def moody(bus: Broker) -> Iterator[MoodyBroker]:
    """On the bus of `mailbox`; the relay connects it."""
    moody = MoodyBroker(bus.address)
    yield moody
    moody.disconnect()


def add(database: Database, *bodies: bytes) -> None:
    """Messages of new users."""
    with database.transaction() as session:
        for body in bodies:
            Outbox(session).add(USER_REGISTERED, Message(body), datetime.now(UTC))


@on_each_database
def test_what_waits_is_published_in_order_when_it_starts(database: Database, moody: Broker, mailbox: Mailbox) -> None:
    """Several batches, left by a process that died."""
    bodies = [str(number).encode() for number in range(BATCH * 2 + 1)]
    add(database, *bodies)
    with Relay(database, moody):
        eventually(lambda: len(mailbox.bodies) == len(bodies), "all have arrived")
    assert mailbox.bodies == bodies
    assert waiting(database) == 0


def test_woken_it_publishes_at_once(
    database: Database, moody: Broker, mailbox: Mailbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It does not wait for its next look, which is an hour away here."""
    monkeypatch.setattr("user_service.relay.POLL_SECONDS", 3600)
    with Relay(database, moody) as relay:
        for number in range(3):
            add(database, str(number).encode())
            relay.wake()
            eventually(lambda: len(mailbox.bodies) == number + 1, "it has arrived")  # noqa: B023  # called at once


@on_each_database
def test_what_another_replica_left_is_found_without_being_woken(
    database: Database, moody: Broker, mailbox: Mailbox
) -> None:
    """It looks by itself."""
    with Relay(database, moody):
        add(database, b"1")
        eventually(lambda: mailbox.bodies == [b"1"], "it has arrived")


def test_a_broker_that_is_away_delays_and_loses_nothing(
    database: Database, moody: MoodyBroker, mailbox: Mailbox, caplog: pytest.LogCaptureFixture
) -> None:
    """It may be away at the start or later; that is said once, and so is the end of it."""
    caplog.set_level(logging.INFO, "user_service.relay")
    moody.is_away = True
    add(database, b"1", b"2")
    relay = Relay(database, moody)
    with relay:
        eventually(lambda: relay._failures >= 3, "it has tried three times")
        moody.is_away = False
        eventually(lambda: mailbox.bodies == [b"1", b"2"], "both have arrived")
        eventually(lambda: relay._failures == 0, "it has calmed down")
    assert [record.message for record in caplog.records if record.message.startswith("the outbox")] == [
        "the outbox waits: away",
        "the outbox is published again",
    ]


@on_each_database
def test_only_what_was_not_confirmed_is_published_again(
    database: Database, moody: MoodyBroker, mailbox: Mailbox
) -> None:
    """The rest is marked, and arrives once."""
    moody.refuses = b"2"
    add(database, b"1", b"2", b"3")
    relay = Relay(database, moody)
    relay.send_batch()
    assert waiting(database) == 1
    moody.refuses = None
    assert relay.send_batch() == 1
    eventually(lambda: len(mailbox.bodies) == 3, "all have arrived")
    assert mailbox.bodies == [b"1", b"3", b"2"]


def test_events_wait_for_their_first_subscriber(
    database: Database, bus: Broker, moody: Broker, caplog: pytest.LogCaptureFixture
) -> None:
    """Published mandatory: a broker that has nobody to keep them for does not get them. That is said once."""
    caplog.set_level(logging.INFO, "user_service.aside")
    add(database, b"1", b"2")
    with Relay(database, moody) as relay:
        eventually(lambda: USER_REGISTERED in relay._aside.topics, "it has tried")
        assert waiting(database) == 2
        mailbox = Mailbox()
        bus.subscribe(USER_REGISTERED, mailbox, group="late")
        eventually(lambda: mailbox.bodies == [b"1", b"2"], "both have arrived")
    assert [record.getMessage().partition(",")[0] for record in caplog.records] == [
        "topic user.registered waits",
        "topic user.registered is published again",
    ]


@on_each_database
def test_two_relays_publish_each_message_once(
    database: Database, replicas_database: Database, bus: Broker, mailbox: Mailbox, caplog: pytest.LogCaptureFixture
) -> None:
    """As two replicas do: neither waits for the other, takes what it has, or fails because of it."""
    bodies = [str(number).encode() for number in range(BATCH * 4)]
    with (
        Relay(database, MoodyBroker(bus.address)) as one,
        Relay(replicas_database, MoodyBroker(bus.address)) as other,
    ):
        for start in range(0, len(bodies), 20):
            add(database, *bodies[start : start + 20])
            one.wake()
            other.wake()
        eventually(lambda: len(mailbox.bodies) >= len(bodies), "all have arrived")
    eventually(lambda: bus.backlog(USER_REGISTERED, "mailbox") == 0, "nothing is on its way")
    assert sorted(mailbox.bodies) == sorted(bodies)
    assert "the outbox waits" not in caplog.text


@on_mariadb
def test_a_database_that_is_away_delays_and_loses_nothing(
    database: Database, moody: Broker, mailbox: Mailbox, mariadb: Operator, caplog: pytest.LogCaptureFixture
) -> None:
    """The relay tries on, and says so once."""
    add(database, b"1")
    relay = Relay(database, moody)
    with ExitStack() as stack:
        with mariadb.down():
            stack.enter_context(relay)
            eventually(lambda: relay._failures >= 3, "it has tried three times")
        eventually(lambda: mailbox.bodies == [b"1"], "it has arrived")
    assert caplog.text.count("the outbox waits: database mysql") == 1


@on_each_database
def test_no_transaction_is_open_while_it_publishes(database: Database, bus: Broker) -> None:
    """A slow broker must not keep anybody from registering."""

    class WritingBroker(MemoryBroker):
        def _publish(self, topic: str, messages: tuple[Message, ...], mandatory: bool) -> None:
            writer = threading.Thread(target=add, args=[database, b"while publishing"])
            writer.start()
            writer.join(60)
            assert not writer.is_alive()

    add(database, b"1")
    relay = Relay(database, WritingBroker(bus.address))
    assert relay.send_batch() == 1
    assert waiting(database) == 1
    relay._broker.disconnect()


def test_a_stop_publishes_what_is_due(database: Database, moody: Broker, mailbox: Mailbox) -> None:
    """What was registered in the last moment leaves before the process does."""
    with Relay(database, moody):
        add(database, *[b"x"] * (BATCH * 2))
    eventually(lambda: len(mailbox.bodies) == BATCH * 2, "all have arrived")


@pytest.mark.parametrize("is_away", [True, False], ids=["broker away", "idle"])
def test_a_stop_with_nothing_to_do_takes_no_time(
    database: Database, moody: MoodyBroker, monkeypatch: pytest.MonkeyPatch, is_away: bool
) -> None:
    """Neither a backoff nor a poll nor the drain's end is waited for: this test would be ended as one that hangs."""
    monkeypatch.setattr("user_service.relay.POLL_SECONDS", 3600)
    for seconds in ("FIRST_BACKOFF_SECONDS", "LAST_BACKOFF_SECONDS"):
        monkeypatch.setattr(f"user_service.aside.{seconds}", 3600)
    moody.is_away = is_away
    relay = Relay(database, moody, drain=Drain(3600))
    with relay:
        eventually(lambda: relay._failures or not is_away, "it is backing off")


@pytest.mark.parametrize("verb", ["_open", "_publish"])
def test_a_broker_that_does_not_answer_holds_up_no_stop(
    database: Database, bus: Broker, verb: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is left at the deadline, whatever its own patience is; what it had is published another time."""
    asked, answers = threading.Event(), threading.Event()

    def hang(*_: object) -> None:
        asked.set()
        answers.wait(60)
        raise BrokerError("nobody listens")

    add(database, b"1")
    silent = MemoryBroker(bus.address)
    monkeypatch.setattr(silent, verb, hang)
    relay = Relay(database, silent, drain=Drain(0.05))
    with relay:
        assert asked.wait(20)
    assert not answers.is_set()
    assert "was not done by the deadline" in caplog.text
    assert waiting(database) == 1
    answers.set()
    relay._thread.join(20)
    silent.disconnect()


def test_what_was_not_published_yet_is_told_of_each_event(
    database: Database, moody: MoodyBroker, mailbox: Mailbox, caplog: pytest.LogCaptureFixture
) -> None:
    """At the level DEBUG, since it may be long; what was published is told at INFO."""
    caplog.set_level(logging.DEBUG, "user_service.relay")
    moody.refuses = b"2"
    add(database, b"1", b"2")
    Relay(database, moody).send_batch()
    eventually(lambda: mailbox.bodies == [b"1"], "what was not refused has arrived")
    (arrived,) = mailbox.messages
    told = [(record.levelname, record.getMessage(), record.__dict__["event_id"]) for record in caplog.records]
    assert told[0] == ("INFO", "published to user.registered", arrived.id)
    assert told[1][:2] == ("DEBUG", "not published yet: one was not confirmed")
    assert len({event_id for _, _, event_id in told}) == 2


def test_the_backoff_grows_to_five_seconds_and_no_further() -> None:
    """For as long as it takes."""
    delays = [backoff_seconds(failures) for failures in range(1, 2000)]
    assert delays[:3] == [0.1, 0.2, 0.4]
    assert delays[-1] == LAST_BACKOFF_SECONDS


def test_an_error_that_nobody_expected_does_not_end_it(
    database: Database, moody: Broker, mailbox: Mailbox, caplog: pytest.LogCaptureFixture
) -> None:
    """A bug is logged with its traceback; the events go on once it has passed."""
    clock = iter([ZeroDivisionError()])

    def now() -> datetime:
        for error in clock:
            raise error
        return datetime.now(UTC)

    add(database, b"1")
    with Relay(database, moody, now=now):
        eventually(lambda: mailbox.bodies == [b"1"], "it has arrived")
    assert "Traceback" in caplog.text


@on_each_database
def test_what_was_published_long_ago_is_removed(database: Database, moody: MoodyBroker, mailbox: Mailbox) -> None:
    """Or the outbox would grow for ever; what waits is not touched, however old it is."""
    moody.is_away = True
    add(database, b"1")
    with Relay(database, moody, keep_sent_seconds=0.01):
        moody.is_away = False
        eventually(lambda: rows(database) == 0, "the outbox is empty")
    assert mailbox.bodies == [b"1"]


def rows(database: Database) -> int:
    """How many messages the outbox has, published or not."""
    with database.reading() as session:
        return session.scalar(select(func.count()).select_from(OutboxRow)) or 0
