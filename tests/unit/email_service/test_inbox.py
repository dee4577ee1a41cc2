"""The inbox, on each database: of all who have the same event, one sends."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import select

from chassis.database import Database
from email_service.errors import Claimed
from email_service.inbox import Claim, Inbox
from email_service.mail import Mail
from email_service.tables import InboxRow
from tests.servers.mariadb import on_each_database
from tests.unit.email_service.conftest import open_database

pytestmark = on_each_database

CLAIM_SECONDS = 30
MAIL = Mail("<e1@example.com>", "学院君 🎉", "学院君@example.com", "Welcome, 学院君 🎉!", "…")


@dataclass
class Clock:
    """Time that passes when told to."""

    now: datetime = field(default_factory=lambda: datetime.now(UTC))

    def __call__(self) -> datetime:
        return self.now

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self.now += timedelta(seconds=seconds)


@pytest.fixture
def clock() -> Clock:
    """The clock of `inbox`."""
    return Clock()


@pytest.fixture
def inbox(database: Database, clock: Clock) -> Inbox:
    """An empty inbox that lives by that clock."""
    return Inbox(database, CLAIM_SECONDS, now=clock)


def claim(inbox: Inbox, event_id: str = "e1", user_id: str = "42") -> Claim:
    """A claim that must succeed."""
    claimed = inbox.claim(event_id, user_id, MAIL)
    assert claimed is not None
    return claimed


def test_of_two_members_with_one_event_one_sends(database: Database, database_url: str) -> None:
    """Two replicas, each with connections of its own, claim at the same moment, many times."""
    together = threading.Barrier(2)

    def try_to_claim(inbox: Inbox, event_id: str) -> bool:
        together.wait(60)
        try:
            return inbox.claim(event_id, "42", MAIL) is not None
        except Claimed:
            return False

    with closing(open_database(database_url)) as another, ThreadPoolExecutor(2) as pool:
        members = [Inbox(database, CLAIM_SECONDS), Inbox(another, CLAIM_SECONDS)]
        for event_id in map(str, range(50)):
            assert sum(pool.map(try_to_claim, members, [event_id] * 2)) == 1


def test_a_live_claim_turns_others_away_and_an_expired_one_is_taken_over(inbox: Inbox, clock: Clock) -> None:
    """A member that died while sending holds up its event for as long as the claim lasts, no longer."""
    claim(inbox)
    clock.advance(CLAIM_SECONDS - 1)
    with pytest.raises(Claimed, match="e1"):
        inbox.claim("e1", "42", MAIL)
    clock.advance(1)
    claim(inbox)
    with pytest.raises(Claimed):
        inbox.claim("e1", "42", MAIL)


def test_what_was_released_can_be_claimed_at_once(inbox: Inbox) -> None:
    """A send that failed does not make the next attempt wait."""
    inbox.release(claim(inbox))
    claim(inbox)


def test_a_claim_that_was_taken_over_cannot_be_released_by_its_first_holder(inbox: Inbox, clock: Clock) -> None:
    """Somebody else sends by now; a third must not come in."""
    late = claim(inbox)
    clock.advance(CLAIM_SECONDS)
    claim(inbox)
    inbox.release(late)
    with pytest.raises(Claimed):
        inbox.claim("e1", "42", MAIL)


def test_what_was_sent_is_never_claimed_again_and_duplicates_are_counted(
    inbox: Inbox, database: Database, clock: Clock
) -> None:
    """Neither a duplicate nor a late release makes it unsent."""
    first = claim(inbox)
    inbox.mark_sent(first)
    inbox.release(first)
    clock.advance(10 * CLAIM_SECONDS)
    assert [inbox.claim("e1", "42", MAIL) for _ in range(3)] == [None, None, None]
    with database.reading() as session:
        assert session.scalars(select(InboxRow.duplicates)).all() == [3]


def test_ids_that_differ_in_case_are_two(inbox: Inbox) -> None:
    """Of events and of users: nobody's email is taken for another's duplicate."""
    for event_id, user_id in [("e1", "alice"), ("E1", "Alice")]:
        inbox.mark_sent(claim(inbox, event_id, user_id))
    assert [email.event_id for email in inbox.sent("alice")] == ["e1"]
    assert [email.event_id for email in inbox.sent("Alice")] == ["E1"]


def test_the_mailbox_shows_what_is_sent_newest_first(inbox: Inbox, clock: Clock) -> None:
    """What is only claimed is not in it; it can be asked for one user and for a few."""
    for event_id, user_id in [("e1", "42"), ("e2", "43"), ("e3", "42")]:
        inbox.mark_sent(claim(inbox, event_id, user_id))
        clock.advance(1)
    claim(inbox, "e4")
    assert [email.event_id for email in inbox.sent()] == ["e3", "e2", "e1"]
    assert [email.event_id for email in inbox.sent(user_id="42")] == ["e3", "e1"]
    assert [email.event_id for email in inbox.sent(limit=1)] == ["e3"]
    newest = inbox.sent()[0]
    assert (newest.to, newest.subject, newest.user_id) == ("学院君@example.com", "Welcome, 学院君 🎉!", "42")
    assert (clock() - newest.sent_at).total_seconds() == 1
