"""Is anything lost? Counts every registered user by what came of the event.

    python ledger.py [--wait SECONDS] [--settle-seconds SECONDS]

It reads the databases of both services and the broker, never a counter in memory; it changes nothing, so it may run
while they do. Settings as theirs: BROKER, DATA_DIR; USERS_DATABASE_URL and EMAILS_DATABASE_URL where the databases
are not in DATA_DIR. It ends with

    LEDGER  users 4 · emailed 4 · on its way 0 · dead-lettered 0 · LOST 0 · duplicates suppressed 0

and exits with 0 when every user is emailed or dead-lettered, 1 when somebody is lost, 3 when that cannot be known yet.
A user is lost when nothing is on its way and nothing has changed for the settle time, which is the lease of a message
whose consumer has died; until then the line says `settling`. Exit status 2: it could not count, or not say so, whatever
the reason: status 1 is for a loss alone.
"""

from __future__ import annotations

import argparse
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import DeclarativeBase, Session

import broker
from broker.numbers import Number
from chassis.database import parse_url, shown_url, sqlite_url, usable
from chassis.errors import ChassisError
from chassis.settings import BrokerSettings, read
from chassis.text import shown
from contracts.events import USER_REGISTERED
from demo.command import FAILED, run
from email_service.consumer import GROUP
from email_service.tables import InboxRow
from user_service.tables import OutboxRow, User

BALANCED, LOST, SETTLING = 0, 1, 3  #: exit status; 2 is `FAILED`

WAIT_SECONDS = 60.0
SETTLE_SECONDS = broker.SubscribeOptions().lease_seconds
POLL_SECONDS = 0.25
WAIT = Number(0, 24 * 3600)  #: seconds
SHOWN = 20  #: lost users named, at most


class LedgerError(Exception):
    """A database that cannot be read; the text says which and why."""


@dataclass(frozen=True, kw_only=True)
class Settings(BrokerSettings):
    """Where the services keep what they know; the same variables as theirs."""

    data_dir: Path = Path("data")
    users_database_url: str = field(default="", repr=False)
    emails_database_url: str = field(default="", repr=False)


@dataclass(frozen=True)
class Count:
    """What was found in one pass."""

    users: int
    emailed: int
    dead_lettered: int
    missing: tuple[str, ...]  #: the ids of the users that are neither
    outbox: int  #: messages that the user service has not published yet
    backlog: int  #: messages that are with the broker or with a member of the email service
    duplicates: int  #: deliveries that came after the email was sent, and were suppressed


@dataclass(frozen=True)
class Balance:
    """A count, and whether it is the last word on those who are missing."""

    count: Count
    settled: bool

    @property
    def lost(self) -> tuple[str, ...]:
        """The ids of the users whose event will never come; none while that is not known."""
        return self.count.missing if self.settled else ()

    @property
    def status(self) -> int:
        """The exit status."""
        if not self.settled:
            return SETTLING
        return LOST if self.lost else BALANCED

    def __str__(self) -> str:
        """The ledger's line."""
        count = self.count
        settling = f"settling (outbox {count.outbox}, backlog {count.backlog})"
        return " · ".join(
            [
                f"LEDGER  users {count.users}",
                f"emailed {count.emailed}",
                f"on its way {0 if self.settled else len(count.missing)}",
                f"dead-lettered {count.dead_lettered}",
                f"LOST {len(self.lost)}" if self.settled else settling,
                f"duplicates suppressed {count.duplicates}",
            ]
        )


class Ledger:
    """Joins both databases and the broker by user id."""

    def __init__(self, users_url: str | sa.URL, emails_url: str | sa.URL, group: broker.Group) -> None:
        self._users = Store(users_url)
        self._emails = Store(emails_url)
        self._group = group

    def count(self) -> Count:
        """One pass, in the direction in which events travel.

        What moves on meanwhile is then found further on, and never missed in between: if the outbox and after it
        the backlog are empty, the inbox that is read last knows of every user that was read first.
        """
        users, outbox = self._read_users()
        backlog = self._group.backlog()
        dead = {letter.message.header.get("ce-subject") for letter in self._group.dead_letters()}
        emailed, duplicates = self._read_inbox()
        return Count(
            users=len(users),
            emailed=len(users & emailed),
            dead_lettered=len((users & dead) - emailed),
            missing=tuple(sorted(users - emailed - dead)),
            outbox=outbox,
            backlog=backlog,
            duplicates=duplicates,
        )

    def watch(
        self, settle_seconds: float = SETTLE_SECONDS, now: Callable[[], float] = time.monotonic
    ) -> Iterator[Balance]:
        """A balance each time that the next one is asked for, settled or not; never ends."""
        last, since = None, now()
        while True:
            began = now()
            count = self.count()
            if count != last:
                last, since = count, now()
            quiet = not count.outbox and not count.backlog and began - since >= settle_seconds
            yield Balance(count, settled=quiet or not count.missing)

    def settle(
        self, wait_seconds: float, settle_seconds: float = SETTLE_SECONDS, on_change: Callable[[Balance], None] = print
    ) -> Balance:
        """The first settled balance, or the one at the end of the wait; `on_change` sees what comes before."""
        deadline = time.monotonic() + wait_seconds
        last = None
        for balance in self.watch(settle_seconds):
            if balance.settled or time.monotonic() >= deadline:
                break
            if balance != last:
                on_change(balance)
            last = balance
            threading.Event().wait(POLL_SECONDS)
        return balance

    def _read_users(self) -> tuple[set[str], int]:
        with self._users.reading(User) as session:
            if not session:
                raise LedgerError(f"{self._users} has no users: has the user service ever run with it?")
            users = set(session.scalars(sa.select(User.id)))
            unsent = sa.select(sa.func.count()).where(OutboxRow.sent_at.is_(None))
            return users, session.scalar(unsent) or 0

    def _read_inbox(self) -> tuple[set[str], int]:
        """Nobody, as long as the email service has never run."""
        with self._emails.reading(InboxRow) as session:
            if not session:
                return set(), 0
            emailed = set(session.scalars(sa.select(InboxRow.user_id).where(InboxRow.sent_at.is_not(None))))
            return emailed, int(session.scalar(sa.select(sa.func.sum(InboxRow.duplicates))) or 0)


class Store:
    """The database of a service, which may not be there yet; read, and never written."""

    def __init__(self, url: str | sa.URL) -> None:
        self._url = parse_url(url)
        with usable(self._url):
            self._engine = sa.create_engine(_read_only(self._url), poolclass=sa.NullPool)

    @contextmanager
    def reading(self, table: type[DeclarativeBase]) -> Iterator[Session | None]:
        """A session; None while that table is not there."""
        if self._is_missing():
            yield None
            return
        try:
            with usable(self._url):
                self._engine.connect().close()
            with Session(self._engine) as session:
                yield session if sa.inspect(session.connection()).has_table(table.__tablename__) else None
        except DBAPIError as error:
            raise LedgerError(f"cannot read {self}: {error.orig}") from error

    def __str__(self) -> str:
        """The URL as it may be shown."""
        return shown_url(self._url)

    def _is_missing(self) -> bool:
        return self._url.get_backend_name() == "sqlite" and not Path(self._url.database or "").is_file()


def _read_only(url: sa.URL) -> sa.URL:
    """SQLite must not make the file."""
    if url.get_backend_name() == "sqlite":
        return url.set(database=Path(url.database or "").absolute().as_uri(), query={"mode": "ro", "uri": "true"})
    return url


@contextmanager
def open_ledger(settings: Settings) -> Iterator[Ledger]:
    """The ledger of the services with those settings."""
    with broker.connect(
        settings.broker,
        data_dir=settings.data_dir,
        registry=settings.registry,
        secret=settings.broker_secret,
        observer=True,
    ) as bus:
        yield Ledger(
            settings.users_database_url or sqlite_url(settings.data_dir / "users.db"),
            settings.emails_database_url or sqlite_url(settings.data_dir / "emails.db"),
            bus.group(USER_REGISTERED, GROUP),
        )


def main(arguments: Sequence[str] | None = None) -> int:
    """Count, say what was found, and give the exit status."""
    return run("ledger", lambda: _count(_parser().parse_args(arguments)))


def _count(given: argparse.Namespace) -> int:
    try:
        balance = _settle(read(Settings, os.environ), given.wait, given.settle_seconds)
    except (LedgerError, ChassisError, broker.BrokerError) as error:
        print(f"ledger: {shown(str(error))}", file=sys.stderr)
        return FAILED
    for user_id in balance.lost[:SHOWN]:
        print(f"LOST user {shown(user_id)}")
    if len(balance.lost) > SHOWN:
        print(f"LOST and {len(balance.lost) - SHOWN} more")
    print(balance)
    return balance.status


def _settle(settings: Settings, wait_seconds: float, settle_seconds: float) -> Balance:
    if not broker.new(settings.broker).promises.many_processes:
        raise LedgerError("a broker that lives in one process cannot be asked from another")
    with open_ledger(settings) as ledger:
        return ledger.settle(wait_seconds, settle_seconds, on_change=_show_progress)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="ledger.py", description="Is anything lost?")
    wait, settle = "wait at most so many seconds for what is on its way", "state a loss only after so many quiet ones"
    parser.add_argument(
        "--wait", type=WAIT.parse, default=WAIT_SECONDS, metavar="SECONDS", help=f"{wait} (%(default)g)"
    )
    parser.add_argument("--no-wait", dest="wait", action="store_const", const=0.0, help="say how it stands, at once")
    parser.add_argument(
        "--settle-seconds", type=WAIT.parse, default=SETTLE_SECONDS, metavar="SECONDS", help=f"{settle} (%(default)g)"
    )
    return parser


def _show_progress(balance: Balance) -> None:
    print(balance, file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
