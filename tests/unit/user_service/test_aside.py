"""What cannot leave the outbox holds up nothing behind it, is named once, and is never dropped."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

import pytest
import sqlalchemy as sa

from broker import Broker, BrokerError, Message, PublishError
from broker.memory import MemoryBroker
from broker.message import MAX_BODY_BYTES, MAX_HEADER_BYTES
from broker.testing import eventually
from chassis.database import Database
from contracts.events import USER_REGISTERED
from tests.servers.mariadb import on_each_database
from tests.unit.user_service.conftest import Mailbox, waiting
from user_service.aside import BATCH
from user_service.outbox import Outbox
from user_service.relay import Relay

POISON = b"poison"
GOOD = [str(number).encode() for number in range(BATCH + 1)]

#: what is wrong with a row → its columns, in SQL
ANYWHERE = {
    "a topic without a group": {"topic": "'nobody'"},
    "a topic without a name": {"topic": "''"},
    "a topic that no broker takes": {"topic": "'学学学学学学学学学学学学学学学学学学学学学学学学学学学学学学'"},
    "a header that is a list": {"header": "'[1]'"},
    "a header with a number": {"header": "'{\"ce-id\": 1}'"},
    "a header that is too large": {"header": f'\'{{"x": "{"x" * MAX_HEADER_BYTES}"}}\''},
    "a body that is too large": {"body": f"'{'x' * (MAX_BODY_BYTES + 1)}'"},
}
#: what only SQLite stores as it is, since it does not look
IN_SQLITE = {
    "a header that is no JSON": {"header": "'nonsense'"},
    "a header with half a character": {"header": '\'{"ce-id": "\\ud800"}\''},
    "a header without end": {"header": f"'{'[' * 10_000}'"},
    "a header that is a number": {"header": "5"},
    "a header that is no UTF-8": {"header": "CAST(x'ff' AS TEXT)"},
    "a topic that is no UTF-8": {"topic": "CAST(x'ff' AS TEXT)"},
}


def add(database: Database, *bodies: bytes, topic: str = USER_REGISTERED) -> None:
    """Messages with these bodies."""
    with database.transaction() as session:
        for body in bodies:
            Outbox(session).add(topic, Message(body), datetime.now(UTC))


def spoil(database: Database, columns: dict[str, str]) -> None:
    """As another program might have stored the only row."""
    with database.transaction() as session:
        for column, value in columns.items():
            session.connection().exec_driver_sql(f"UPDATE outbox SET {column} = {value.replace('%', '%%')}")


def said(caplog: pytest.LogCaptureFixture, *beginnings: str) -> list[str]:
    """Which rows or topics were said to be the reason, when that is how the line begins."""
    return [record.getMessage() for record in caplog.records if record.getMessage().startswith(beginnings)]


def leaves_the_rest(database: Database, bus: Broker, mailbox: Mailbox, caplog: pytest.LogCaptureFixture) -> None:
    """Whether what is behind one bad row leaves in its order, and the row stays and is named once."""
    add(database, *GOOD)
    with Relay(database, MemoryBroker(bus.address), lease_seconds=0.05):
        eventually(lambda: len(mailbox.bodies) == len(GOOD), "the others have arrived")
        add(database, b"later")
        eventually(lambda: mailbox.bodies[-1] == b"later", "and what comes later")
    assert mailbox.bodies == [*GOOD, b"later"]
    assert waiting(database) == 1
    assert len(said(caplog, "row ", "topic nobody", "topic 学", "topic  ")) == 1, caplog.text


@on_each_database
@pytest.mark.parametrize("columns", ANYWHERE.values(), ids=ANYWHERE)
def test_what_no_broker_takes_holds_up_nothing(
    database: Database, bus: Broker, mailbox: Mailbox, caplog: pytest.LogCaptureFixture, columns: dict[str, str]
) -> None:
    """It is tried again for ever, while all that is behind it leaves."""
    add(database, b"bad")
    spoil(database, columns)
    leaves_the_rest(database, bus, mailbox, caplog)


@pytest.mark.parametrize("columns", IN_SQLITE.values(), ids=IN_SQLITE)
def test_what_cannot_even_be_read_holds_up_nothing(
    database: Database, bus: Broker, mailbox: Mailbox, caplog: pytest.LogCaptureFixture, columns: dict[str, str]
) -> None:
    """The rows beside it are read all the same."""
    add(database, b"bad")
    spoil(database, columns)
    leaves_the_rest(database, bus, mailbox, caplog)


class Picky(MemoryBroker):
    """A broker that refuses what `refuses` says, in the way that `answer` says."""

    published = 0

    def __init__(self, address: str, refuses: Callable[[str, Message], bool], answer: type[Exception]) -> None:
        super().__init__(address)
        self.refuses = refuses
        self._answer = answer

    def _publish(self, topic: str, messages: tuple[Message, ...], mandatory: bool) -> None:
        self.published += 1
        refused = tuple(message for message in messages if self.refuses(topic, message))
        if refused and self._answer is not PublishError:
            raise self._answer("no")  # and takes none of them
        super()._publish(topic, tuple(message for message in messages if message not in refused), mandatory)
        if refused:
            raise PublishError("no", refused)


@on_each_database
@pytest.mark.parametrize("answer", [PublishError, BrokerError, ValueError])
@pytest.mark.parametrize("bad", [1, 3])
def test_a_message_that_the_server_refuses_holds_up_nothing_for_long(
    database: Database,
    bus: Broker,
    mailbox: Mailbox,
    caplog: pytest.LogCaptureFixture,
    answer: type[Exception],
    bad: int,
) -> None:
    """Also when all that are published with it fail; it is published by itself from then on, and leaves once it may."""
    picky = Picky(bus.address, lambda _, message: message.body.startswith(POISON), answer)
    poison = [POISON + str(number).encode() for number in range(bad)]
    add(database, *poison, *GOOD)
    with Relay(database, picky, lease_seconds=0.05):
        eventually(lambda: len(mailbox.bodies) == len(GOOD), "the others have arrived")
        eventually(lambda: len(said(caplog, "row ")) == bad, "each is named")
        assert mailbox.bodies == GOOD
        picky.refuses = lambda *_: False
        eventually(lambda: waiting(database) == 0, "they leave, too")
    eventually(lambda: len(mailbox.bodies) == bad + len(GOOD), "they have arrived, too")
    assert sorted(mailbox.bodies) == sorted([*poison, *GOOD])
    assert len(said(caplog, "row ")) == bad


def test_a_topic_that_the_server_denies_holds_up_no_other(
    database: Database, bus: Broker, mailbox: Mailbox, caplog: pytest.LogCaptureFixture
) -> None:
    """By an error that any trouble may have."""
    picky = Picky(bus.address, lambda topic, _: topic == "denied", BrokerError)
    bus.subscribe("denied", mailbox, group="mailbox")
    add(database, b"a", b"b", b"c", topic="denied")
    add(database, *GOOD)
    with Relay(database, picky):
        eventually(lambda: len(mailbox.bodies) == len(GOOD), "the others have arrived")
        picky.refuses = lambda *_: False
        eventually(lambda: waiting(database) == 0, "they leave, too")
    eventually(lambda: len(mailbox.bodies) == len(GOOD) + 3, "all have arrived")
    assert [body for body in mailbox.bodies if body.isalpha()] == [b"a", b"b", b"c"]
    assert said(caplog, "row ") == []
    assert len(said(caplog, "topic denied waits")) == 1


def test_a_broker_that_takes_nothing_for_long_is_nobodys_fault(
    database: Database, bus: Broker, mailbox: Mailbox, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No row and no topic is blamed; all leave within five seconds of its return, and nothing was lost."""
    monkeypatch.setattr("user_service.aside.LAST_BACKOFF_SECONDS", 0.05)
    picky = Picky(bus.address, lambda *_: True, BrokerError)
    add(database, *GOOD)
    with Relay(database, picky) as relay:
        eventually(lambda: relay._aside.topics.get(USER_REGISTERED, 0) > 20, "it has tried for long")
        assert waiting(database) == len(GOOD)
        picky.refuses = lambda *_: False
        eventually(lambda: len(mailbox.bodies) >= len(GOOD), "all have arrived")
    assert sorted(mailbox.bodies) == sorted(GOOD)
    assert said(caplog, "row ") == []


def test_one_bad_message_does_not_make_many_publishes_of_the_others(
    database: Database, bus: Broker, mailbox: Mailbox
) -> None:
    """Neither while it is looked for, nor each time that it is tried again."""
    picky = Picky(bus.address, lambda _, message: message.body == POISON, BrokerError)
    add(database, *GOOD, POISON, *GOOD)
    with Relay(database, picky, lease_seconds=0.5) as relay:
        eventually(lambda: waiting(database) == 1, "the others have left")
        looking = picky.published
        add(database, *GOOD)
        eventually(lambda: waiting(database) == 1, "these have left")
        assert relay._failures == 0
    assert looking < 100
    assert picky.published - looking < 20


@on_each_database
def test_what_is_set_aside_counts_as_waiting(database: Database, bus: Broker, mailbox: Mailbox) -> None:
    """For the gauge and for the ledger."""
    add(database, b"1", topic="nobody")
    add(database, b"x" * (MAX_BODY_BYTES + 1))
    relay = Relay(database, MemoryBroker(bus.address))
    assert [relay.send_batch() for _ in range(2)] == [2, 0]
    with database.reading() as session:
        assert Outbox(session).waiting().count == 2
        assert session.scalar(sa.text("SELECT count(*) FROM outbox WHERE sent_at IS NULL")) == 2
    relay._broker.disconnect()


@pytest.mark.parametrize("count", [1, 3])
def test_the_last_messages_leave_when_the_broker_takes_some_again(
    database: Database, bus: Broker, mailbox: Mailbox, count: int
) -> None:
    """Each has failed by itself, and nothing comes after them that could leave."""
    picky = Picky(bus.address, lambda *_: True, BrokerError)
    add(database, *GOOD[:count])
    with Relay(database, picky):
        eventually(lambda: picky.published > count + 1, "each was tried")
        picky.refuses = lambda *_: False
        eventually(lambda: sorted(mailbox.bodies) == GOOD[:count], "they have arrived")
