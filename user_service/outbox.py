"""The outbox: messages stored in the transaction of what they tell about, until a relay has published them.

    add → claim → (publish) → mark_sent        or, when publishing fails, release

What cannot leave is never removed: it keeps its claim, and is due again when that ends.

A claim is a lease: when its relay dies, the rows are due again at `claimed_until`, and another relay, of this process
or of another replica, takes them. Remembering "the last id that was published" instead would lose rows: ids are given
out before the commit, so a lower one may become visible after a higher one was published.
https://microservices.io/patterns/data/transactional-outbox.html
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import takewhile

from sqlalchemy import ColumnElement, LargeBinary, cast, delete, func, insert, or_, select, update
from sqlalchemy.orm import Session

from broker import BrokerError, Message
from broker.message import ID, check, read_header
from user_service.tables import OutboxRow

UNSENT = OutboxRow.sent_at.is_(None)
#: As bytes: a driver that cannot read one value of a row would fail the whole query.
TOPIC, HEADER, BODY = (cast(column, LargeBinary) for column in (OutboxRow.topic, OutboxRow.header, OutboxRow.body))


@dataclass(frozen=True)
class Entry:
    """A message of the outbox."""

    id: int
    topic: str
    message: Message
    unfit: str = ""  #: why no broker would take it, as with a row that another program has written


@dataclass(frozen=True)
class Claim:
    """Entries of one topic that nobody else publishes until then, in the order they were added."""

    entries: Sequence[Entry]
    until: datetime
    unfit: Sequence[Entry] = ()  #: found on the way, and claimed, too


@dataclass(frozen=True)
class Waiting:
    """How many messages are not published yet, and since when the first of them waits."""

    count: int
    since: datetime | None


class Outbox:
    """The outbox, within one transaction."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def add(self, topic: str, message: Message, now: datetime) -> None:
        """Store a message; it is published if, and only if, this transaction commits."""
        row = {"topic": topic, "header": dict(message.header), "body": message.body, "created_at": now}
        self._session.execute(insert(OutboxRow), row)

    def claim(self, limit: int, now: datetime, lease_seconds: float, *conditions: ColumnElement[bool]) -> Claim:
        """The oldest messages that are due and nobody else has claimed: a run of one topic, `limit` at most."""
        free = or_(OutboxRow.claimed_until.is_(None), OutboxRow.claimed_until <= now)
        due = select(OutboxRow.id, TOPIC, HEADER, BODY).where(UNSENT, free, *conditions)
        # Another relay's claim in the making is passed over; SQLite has one writer at a time and ignores this.
        oldest = due.order_by(OutboxRow.id).limit(limit).with_for_update(skip_locked=True)
        found = [_read(*row) for row in self._session.execute(oldest)]
        fit, unfit = [row for row in found if not row.unfit], [row for row in found if row.unfit]
        run = list(takewhile(lambda entry: entry.topic == fit[0].topic, fit))
        claim = Claim(run, now + timedelta(seconds=lease_seconds), unfit)
        self._set([*run, *unfit], claimed_until=claim.until)
        return claim

    def mark_sent(self, entries: Sequence[Entry], now: datetime) -> None:
        """These are published."""
        self._set(entries, claimed_until=None, sent_at=now)

    def release(self, claim: Claim, entries: Sequence[Entry]) -> None:
        """These could not be published: let them be claimed at once, unless another relay has them by now."""
        mine = OutboxRow.claimed_until == claim.until
        self._set(entries, mine, claimed_until=None)

    def prune(self, sent_before: datetime, limit: int) -> int:
        """Forget messages that were published before then, `limit` at most; how many they were."""
        old = select(OutboxRow.id).where(OutboxRow.sent_at < sent_before).limit(limit)
        ids = self._session.scalars(old).all()
        self._session.execute(delete(OutboxRow).where(OutboxRow.id.in_(ids)))
        return len(ids)

    def waiting(self) -> Waiting:
        """What is not published yet; read from the index and one row, however much that is."""
        count = select(func.count()).where(UNSENT).scalar_subquery()
        since = select(OutboxRow.created_at).where(UNSENT).order_by(OutboxRow.id).limit(1).scalar_subquery()
        return Waiting(*self._session.execute(select(count, since)).one())

    def _set(self, entries: Sequence[Entry], *conditions: ColumnElement[bool], **values: object) -> None:
        rows = OutboxRow.id.in_([entry.id for entry in entries])
        if entries:
            self._session.execute(update(OutboxRow).where(rows, *conditions).values(values))


def _read(number: int, topic: bytes, header: bytes, body: bytes) -> Entry:
    message = Message(header={ID: "unknown"})
    try:
        message = Message(body, read_header(header.decode()))
        check(message)
        return Entry(number, topic.decode(), message)
    except (ValueError, BrokerError) as error:
        return Entry(number, topic.decode(errors="replace"), message, f"it cannot be published: {error}")
