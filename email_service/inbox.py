"""The inbox: which events have arrived, and which of their emails are sent. It makes the consumer idempotent.

    claim → send → mark_sent        or, when sending fails, release

A claim is a lease: of two members that get the same event at once, one holds it and the other is turned away; when
the holder dies, the claim passes to whoever comes after `claim_seconds`. Without a claim, two members would both
look, both find nothing sent, and both send.
https://microservices.io/patterns/communication-style/idempotent-consumer.html
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, cast

from sqlalchemy import ColumnElement, CursorResult, and_, not_, or_, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from chassis.database import Database, utc_now
from email_service.errors import Claimed
from email_service.mail import Mail
from email_service.tables import InboxRow

UNSENT = InboxRow.sent_at.is_(None)


@dataclass(frozen=True)
class Claim:
    """The right to send the email of one event, for a while."""

    event_id: str
    until: datetime


@dataclass(frozen=True)
class SentEmail:
    """An email in the simulated mailbox."""

    event_id: str
    user_id: str
    to: str
    subject: str
    sent_at: datetime


class Inbox:
    """The inbox in a database. Every method is one short transaction and may be called from any thread."""

    def __init__(self, database: Database, claim_seconds: float, now: Callable[[], datetime] = utc_now) -> None:
        self._database = database
        self._claim_for = timedelta(seconds=claim_seconds)
        self._now = now

    def claim(self, event_id: str, user_id: str, mail: Mail) -> Claim | None:
        """The right to send this email; None when it is sent already; `Claimed` while somebody else has it."""
        claim = Claim(event_id, self._now() + self._claim_for)
        row = InboxRow(
            event_id=event_id, user_id=user_id, recipient=mail.to, subject=mail.subject, claimed_until=claim.until
        )
        try:
            with self._database.transaction() as session:
                session.add(row)
        except IntegrityError:  # the event has been here before
            return self._claim_again(claim)
        return claim

    def release(self, claim: Claim) -> None:
        """Let others try at once: this one has not sent it."""
        with self._database.transaction() as session:
            _update(session, claim, and_(UNSENT, InboxRow.claimed_until == claim.until), claimed_until=None)

    def mark_sent(self, claim: Claim) -> None:
        """The email is out: from now on the event is a duplicate."""
        with self._database.transaction() as session:
            _update(session, claim, UNSENT, claimed_until=None, sent_at=self._now())

    def sent(self, user_id: str | None = None, limit: int = 100) -> list[SentEmail]:
        """The emails that are sent, newest first; of one user, or of all."""
        columns = (InboxRow.event_id, InboxRow.user_id, InboxRow.recipient, InboxRow.subject, InboxRow.sent_at)
        query = select(*columns).where(not_(UNSENT)).order_by(InboxRow.sent_at.desc(), InboxRow.event_id).limit(limit)
        if user_id is not None:
            query = query.where(InboxRow.user_id == user_id)
        with self._database.reading() as session:
            return [SentEmail(*row) for row in session.execute(query)]  # type: ignore[arg-type]  # all have sent_at

    def _claim_again(self, claim: Claim) -> Claim | None:
        free = or_(InboxRow.claimed_until.is_(None), InboxRow.claimed_until <= self._now())
        with self._database.transaction() as session:
            if _update(session, claim, and_(UNSENT, free), claimed_until=claim.until):
                return claim
            if _update(session, claim, not_(UNSENT), duplicates=InboxRow.duplicates + 1):
                return None
        raise Claimed(f"another member is sending the email of event {claim.event_id}")


def _update(session: Session, claim: Claim, condition: ColumnElement[bool], **values: Any) -> bool:
    """Whether the row was in that condition: asked and changed by one statement, so that nobody comes in between."""
    query = update(InboxRow).where(InboxRow.event_id == claim.event_id, condition).values(**values)
    result = session.execute(query, execution_options={"synchronize_session": False})
    return cast("CursorResult[Any]", result).rowcount == 1
