"""The outbox, on each database, with a clock that is set by hand."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from broker import Message
from broker.message import MAX_BODY_BYTES
from chassis.database import Database
from tests.servers.mariadb import on_each_database, on_mariadb
from user_service.outbox import Claim, Outbox, Waiting

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)
LEASE_SECONDS = 30
LATER = NOW + timedelta(seconds=LEASE_SECONDS)  #: when a claim made now has ended


def add(database: Database, *bodies: bytes, topic: str = "t") -> None:
    """Messages with these bodies."""
    with database.transaction() as session:
        for body in bodies:
            Outbox(session).add(topic, Message(body, {"name": "学院君 🎉"}), NOW)


def claim(database: Database, limit: int = 10, now: datetime = NOW) -> Claim:
    """What a relay does first."""
    with database.transaction() as session:
        return Outbox(session).claim(limit, now, LEASE_SECONDS)


def bodies(claimed: Claim) -> list[bytes]:
    """What was claimed."""
    return [entry.message.body for entry in claimed.entries]


@on_each_database
def test_messages_are_claimed_in_the_order_they_were_added_as_they_were(database: Database) -> None:
    """Any bytes, any header, the oldest first."""
    add(database, b"\x00\xff", b"2", b"3")
    claimed = claim(database, limit=2)
    assert bodies(claimed) == [b"\x00\xff", b"2"]
    assert claimed.entries[0].message.header["name"] == "学院君 🎉"


@on_each_database
def test_the_largest_message_fits(database: Database) -> None:
    """As large as the broker takes."""
    largest = b"\xff" * MAX_BODY_BYTES
    add(database, largest)
    assert bodies(claim(database)) == [largest]


@on_each_database
def test_what_one_relay_has_claimed_no_other_gets_until_the_claim_ends(database: Database) -> None:
    """It may have died: then another one takes over."""
    add(database, b"1", b"2", b"3")
    assert bodies(claim(database, limit=2)) == [b"1", b"2"]
    assert bodies(claim(database)) == [b"3"]
    assert bodies(claim(database)) == []
    assert bodies(claim(database, now=LATER)) == [b"1", b"2", b"3"]


@on_mariadb
def test_a_claim_in_the_making_is_passed_over_and_holds_up_no_registration(
    database: Database, replicas_database: Database
) -> None:
    """Three at once, none of which waits for the others; on SQLite they take turns."""
    add(database, b"1", b"2", b"3")
    with database.transaction() as session:
        first = Outbox(session).claim(10, NOW, LEASE_SECONDS)
        add(replicas_database, b"4")
        second = claim(replicas_database)
    assert (bodies(first), bodies(second)) == ([b"1", b"2", b"3"], [b"4"])


@on_each_database
def test_a_claim_has_one_topic(database: Database) -> None:
    """So that it is one publish; the order across topics is kept."""
    add(database, b"1", b"2", topic="a")
    add(database, b"3", topic="b")
    add(database, b"4", topic="a")
    assert [bodies(claim(database)) for _ in range(4)] == [[b"1", b"2"], [b"3"], [b"4"], []]


@on_each_database
def test_sent_messages_are_not_claimed_again_and_released_ones_at_once(database: Database) -> None:
    """The two ends of a publish."""
    add(database, b"1", b"2")
    claimed = claim(database)
    first, second = claimed.entries
    with database.transaction() as session:
        Outbox(session).mark_sent([first], NOW)
        Outbox(session).release(claimed, [second])
    assert bodies(claim(database)) == [b"2"]
    assert bodies(claim(database, now=LATER)) == [b"2"]


@on_each_database
def test_a_late_release_takes_nothing_from_the_relay_that_took_over(database: Database) -> None:
    """Its claim had ended, and another one holds."""
    add(database, b"1")
    late = claim(database)
    claim(database, now=LATER)
    with database.transaction() as session:
        Outbox(session).release(late, late.entries)
    assert bodies(claim(database, now=LATER)) == []


@on_each_database
def test_only_what_was_sent_long_ago_is_pruned(database: Database) -> None:
    """And no more at a time than was asked for."""
    add(database, b"1", b"2", b"3", b"unsent")
    claimed = claim(database, limit=3)
    with database.transaction() as session:
        Outbox(session).mark_sent(claimed.entries[:2], NOW)
        Outbox(session).mark_sent(claimed.entries[2:], LATER)
    with database.transaction() as session:
        assert [Outbox(session).prune(LATER, limit=1) for _ in range(3)] == [1, 1, 0]
        assert Outbox(session).waiting() == Waiting(1, since=NOW)
