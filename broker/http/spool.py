"""The spool: one SQLite file that holds each message for each group until a member has answered for it.

Publishers that share a data folder share the spool. Each delivers its own rows, in order, and shows that it is alive;
the rows of one that has died are adopted by whoever notices first.
"""

# ruff: noqa: S608  # every statement is put together from constants of this file; values are bound

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from broker.base import DeadLetter
from broker.errors import BrokerError
from broker.http.fields import NONSENSE, printable
from broker.http.wire import LAST, MAX_DELAY_SECONDS, MAX_NUMBER, OK, REJECT, RELEASE, RETRY, Answer, Parcel
from broker.message import GROUP, Message, read_header, write_header
from broker.private import make_database

log = logging.getLogger(__name__)

PUBLISHER_SECONDS = 6.0  #: how long a publisher is believed alive after its last beat
CLOCK_SECONDS = 300.0  #: a beat that is further ahead than this is none: a clock was set back, or somebody wrote it
BATCH_BYTES = 1_000_000  #: a claim stops adding messages here: no request is larger than `MAX_REQUEST_BYTES`
ROW_BYTES = 100  #: what a message has in a request besides header and body

TABLES = """
CREATE TABLE IF NOT EXISTS publisher (id TEXT PRIMARY KEY, alive_until REAL NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS spooled (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    publisher TEXT NOT NULL,                 -- who delivers it
    topic TEXT NOT NULL, grp TEXT NOT NULL,
    state TEXT NOT NULL,                     -- waiting, delayed (until due), flying (with a member), dead;
                                             -- unreadable: set aside, as nobody can be sent it
    id TEXT NOT NULL, header TEXT NOT NULL, body BLOB NOT NULL,
    published_at REAL NOT NULL, due REAL NOT NULL DEFAULT 0,
    attempts INTEGER NOT NULL DEFAULT 0, last_started INTEGER NOT NULL DEFAULT 0,
    reason TEXT, failed_at REAL
);
CREATE INDEX IF NOT EXISTS by_group ON spooled (topic, grp, state, publisher, seq);
CREATE INDEX IF NOT EXISTS by_due ON spooled (publisher, state, due);
"""

ALIVE = "state IN ('waiting', 'delayed', 'flying')"


@dataclass(eq=False, slots=True)
class _Ticket:
    """One caller's rows in a commit that many share."""

    rows: list[tuple[object, ...]]
    done: bool = False
    error: BrokerError | None = None


class Spool:
    """The table of messages on their way, as one publisher sees it. Thread-safe; raises `BrokerError`."""

    def __init__(self, path: Path, publisher: str, timeout_seconds: float) -> None:
        self._path = path
        self._publisher = publisher
        self._timeout_seconds = timeout_seconds
        self._turn = threading.Lock()  # one writer of this process at a time, instead of many that collide
        self._queue: deque[_Ticket] = deque()
        make_database(path)
        self._durable = _connect(path, timeout_seconds, "FULL")  # confirmed means: on the disk
        self._quick = _connect(path, timeout_seconds, "NORMAL")  # lost with the power only: then it comes twice

    def close(self) -> None:
        """Let go of the file; the rows that are still this publisher's may be adopted at once."""
        try:
            with self._writing() as db:
                db.execute("DELETE FROM publisher WHERE id = ?", (self._publisher,))
        finally:
            self._quick.close()
            self._durable.close()

    # --- publishing ----------------------------------------------------------------------------------------

    def add(self, topic: str, groups: Iterable[str], messages: Sequence[Message]) -> None:
        """Store each message for each group; on the disk when this returns.

        Threads that publish at the same time share one commit: the first to get its turn writes for all.
        """
        now = time.time()
        encoded = [(m.id, write_header(m), m.body) for m in messages]
        ticket = _Ticket([(self._publisher, topic, group, "waiting", *row, now) for group in groups for row in encoded])
        self._queue.append(ticket)
        with self._my_turn():
            if not ticket.done:
                self._write_queue()
        if ticket.error:
            raise ticket.error

    def _write_queue(self) -> None:
        tickets = [self._queue.popleft() for _ in range(len(self._queue))]
        error: BrokerError | None = BrokerError("writing the spool was interrupted")
        try:
            with self._transaction(self._durable) as db:
                db.executemany(
                    "INSERT INTO spooled (publisher, topic, grp, state, id, header, body, published_at)"
                    " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                    (row for ticket in tickets for row in ticket.rows),
                )
            error = None
        except BrokerError as caught:
            error = caught
        finally:  # whatever happened to this thread, nobody else takes its silence for a confirm
            for ticket in tickets:
                ticket.done, ticket.error = True, error

    # --- delivering ----------------------------------------------------------------------------------------

    def claim(self, topic: str, group: str, limit: int) -> list[Parcel]:
        """The next waiting rows of this publisher, oldest first, now flying; their attempts counted."""
        with self._writing() as db:
            rows = db.execute(
                "SELECT seq, header, body, attempts, last_started FROM spooled"
                " WHERE topic = ? AND grp = ? AND state = 'waiting' AND publisher = ? ORDER BY seq LIMIT ?",
                (topic, group, self._publisher, limit),
            )
            parcels, unreadable = _until_full(rows)
            db.executemany("UPDATE spooled SET state = 'unreadable', reason = ? WHERE seq = ?", unreadable)
            db.executemany(
                "UPDATE spooled SET state = 'flying', attempts = attempts + 1 WHERE seq = ?",
                [(parcel.seq,) for parcel in parcels],
            )
        if unreadable:
            what = f"{len(unreadable)} messages that cannot be read are set aside, number {unreadable[0][1]} first"
            log.error("%s: %s", f"the spool {self._path}: {what}", printable(unreadable[0][0]))
        return parcels

    def settle(self, answers: Iterable[Answer]) -> None:
        """Do as the members answered, for rows that are still this publisher's."""
        now = time.time()
        with self._writing() as db:
            for answer in answers:
                change, values = _change(answer, now)
                db.execute(f"{change} WHERE seq = ? AND publisher = ?", (*values, answer.seq, self._publisher))

    def wake(self) -> tuple[list[tuple[str, str]], float]:
        """Let delayed rows wait again once they are due; whose they are, and when the next will be due.

        One that is due later than anything can be was written by an older version, or by somebody else: it is due now.
        """
        mine, now = "publisher = ? AND state = 'delayed'", time.time()
        groups: list[tuple[str, str]] = []
        if not all(due is None or _is_later(due, now) for due in self._due(mine)):
            with self._writing() as db:
                values = (self._publisher, now, now + MAX_DELAY_SECONDS)
                query = f"UPDATE spooled SET state = 'waiting' WHERE {mine} AND NOT (due > ? AND due <= ?)"
                groups = list(set(db.execute(f"{query} RETURNING topic, grp", values).fetchall()))
        earliest = self._due(mine)[0]
        return groups, float("inf") if earliest is None else float(earliest)

    def _due(self, mine: str) -> tuple[Any, Any]:
        """The earliest and the latest time at which something is due, in seconds since 1970; None for nothing."""
        earliest, latest = (f"(SELECT {which}(due) FROM spooled WHERE {mine})" for which in ("min", "max"))
        [(first, last)] = self._read(f"SELECT {earliest}, {latest}", self._publisher, self._publisher)
        return first, last

    def undelivered(self) -> list[tuple[str, str]]:
        """Topic and group of what this publisher has to deliver now, or is delivering."""
        query = "SELECT DISTINCT topic, grp FROM spooled WHERE publisher = ? AND state IN ('waiting', 'flying')"
        return self._read(query, self._publisher)

    # --- living together -----------------------------------------------------------------------------------

    def beat(self) -> None:
        """Show that this publisher is alive."""
        with self._writing() as db:
            db.execute("REPLACE INTO publisher VALUES (?, ?)", (self._publisher, time.time() + PUBLISHER_SECONDS))

    def adopt(self) -> int:
        """Take over the rows of publishers that are no longer alive; how many."""
        alive = "SELECT id FROM publisher WHERE alive_until >= ? AND alive_until <= ?"
        orphaned = f"{ALIVE} AND publisher != ? AND publisher NOT IN ({alive})"
        now = time.time()
        values = (self._publisher, now, now + PUBLISHER_SECONDS + CLOCK_SECONDS)
        if not self._read(f"SELECT 1 FROM spooled WHERE {orphaned} LIMIT 1", *values):
            return 0
        change = "UPDATE spooled SET publisher = ?, state = iif(state = 'flying', 'waiting', state)"
        with self._writing() as db:
            return db.execute(f"{change} WHERE {orphaned}", (self._publisher, *values)).rowcount

    def left(self) -> int:
        """How many rows this publisher has still to deliver."""
        query = f"SELECT count(*) FROM spooled WHERE publisher = ? AND {ALIVE}"
        return int(self._read(query, self._publisher)[0][0])

    def prune(self, keep_seconds: float) -> int:
        """Drop what nobody took within the retention; how many."""
        with self._writing() as db:
            oldest = time.time() - keep_seconds
            return db.execute("DELETE FROM spooled WHERE state = 'waiting' AND published_at < ?", (oldest,)).rowcount

    # --- operators -----------------------------------------------------------------------------------------

    def backlog(self, topic: str, group: str) -> int:
        """How many rows the group has that are not dead, of all publishers."""
        query = f"SELECT count(*) FROM spooled WHERE topic = ? AND grp = ? AND {ALIVE}"
        return int(self._read(query, topic, group)[0][0])

    def dead_letters(self, topic: str, group: str) -> list[DeadLetter]:
        """The group's dead letters, oldest first; without those that cannot be read, which the log names."""
        rows = self._read(
            "SELECT seq, header, body, reason, attempts, published_at, failed_at FROM spooled"
            " WHERE topic = ? AND grp = ? AND state = 'dead' ORDER BY failed_at, seq",
            topic,
            group,
        )
        return [letter for row in rows if (letter := self._dead_letter(*row))]

    def _dead_letter(self, seq: int, header: str, body: bytes, *rest: Any) -> DeadLetter | None:
        reason, attempts, published_at, failed_at = rest
        try:
            return DeadLetter(_message(header, body), reason, attempts, _utc(published_at), _utc(failed_at))
        except (*NONSENSE, OSError) as error:  # OSError: a time that the system does not know
            log.warning("the spool %s: dead letter number %s cannot be read: %r", self._path, seq, error)
            return None

    def replay(self, topic: str, group: str, message_id: str) -> int:
        """Dead letters of that id wait again, as this publisher's; they say that they are replayed, as everywhere."""
        return self._on_dead(
            "UPDATE spooled SET state = 'waiting', attempts = 0, last_started = 0, publisher = ?, published_at = ?,"
            " header = json_set(header, ?, grp)",
            (self._publisher, time.time(), f'$."{GROUP}"', topic, group, message_id),
        )

    def discard(self, topic: str, group: str, message_id: str) -> int:
        """Dead letters of that id are removed."""
        return self._on_dead("DELETE FROM spooled", (topic, group, message_id))

    def drop(self, topic: str, group: str) -> int:
        """Everything of a group is removed; how many rows."""
        with self._writing() as db:
            return db.execute("DELETE FROM spooled WHERE topic = ? AND grp = ?", (topic, group)).rowcount

    def _on_dead(self, change: str, values: tuple[object, ...]) -> int:
        with self._writing() as db:
            return db.execute(f"{change} WHERE topic = ? AND grp = ? AND id = ? AND state = 'dead'", values).rowcount

    # --- the file ------------------------------------------------------------------------------------------

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        with self._my_turn(), self._transaction(self._quick) as db:
            yield db

    @contextmanager
    def _my_turn(self) -> Iterator[None]:
        if not self._turn.acquire(timeout=self._timeout_seconds):
            raise BrokerError(f"the spool {self._path} was busy for {self._timeout_seconds:g} s")
        try:
            yield
        finally:
            self._turn.release()

    @contextmanager
    def _transaction(self, db: sqlite3.Connection) -> Iterator[sqlite3.Connection]:
        """One transaction; the turn is held by the caller."""
        try:
            try:
                db.execute("BEGIN IMMEDIATE")
                yield db
                db.execute("COMMIT")
            except BaseException:
                if db.in_transaction:
                    db.execute("ROLLBACK")
                raise
        except sqlite3.Error as error:
            raise BrokerError(f"the spool {self._path} cannot be written: {error}") from error

    def _read(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        try:
            with self._my_turn():
                return self._quick.execute(query, values).fetchall()
        except sqlite3.Error as error:
            raise BrokerError(f"the spool {self._path} cannot be read: {error}") from error


def _connect(path: Path, timeout_seconds: float, synchronous: str) -> sqlite3.Connection:
    db = sqlite3.connect(path, timeout=timeout_seconds, isolation_level=None, check_same_thread=False)
    try:
        db.execute("PRAGMA journal_mode=WAL")
        db.execute(f"PRAGMA synchronous={synchronous}")
        db.executescript(TABLES)
    except sqlite3.Error:
        db.close()
        raise
    return db


def _change(answer: Answer, now: float) -> tuple[str, tuple[object, ...]]:
    """The statement, without its WHERE, that does what a member answered."""
    if answer.result == OK:
        return "DELETE FROM spooled", ()
    if answer.result == RETRY:
        return "UPDATE spooled SET state = 'delayed', due = ?", (now + answer.delay_seconds,)
    if answer.result == RELEASE:
        return "UPDATE spooled SET state = 'waiting', attempts = max(attempts - 1, 0)", ()
    if answer.result == REJECT:
        return "UPDATE spooled SET state = 'dead', reason = ?, failed_at = ?", (answer.reason, now)
    if answer.result == LAST:
        return "UPDATE spooled SET last_started = 1", ()
    raise BrokerError(f"a member answered {answer.result!r}, which is no result")


def _until_full(rows: Iterable[tuple[Any, ...]]) -> tuple[list[Parcel], list[tuple[str, int]]]:
    """Messages as they fit into one request; and of rows that cannot be read why not, and their numbers."""
    parcels: list[Parcel] = []
    unreadable: list[tuple[str, int]] = []
    size = 0
    for seq, header, body, attempts, last_started in rows:
        try:
            parcel = Parcel(seq, _message(header, body), _attempts(attempts) + 1, bool(last_started))
            size += len(header.encode()) + len(body) + ROW_BYTES
        except NONSENSE as error:
            unreadable.append((repr(error), seq))
            continue
        if parcels and size > BATCH_BYTES:
            break
        parcels.append(parcel)
    return parcels, unreadable


def _message(header: str, body: bytes) -> Message:
    if not isinstance(body, bytes):
        raise ValueError(f"its body is {type(body).__name__}")  # noqa: TRY004  # of a row
    return Message(body, read_header(header))


def _attempts(attempts: int) -> int:
    if not 0 <= attempts < MAX_NUMBER:
        raise ValueError(f"{attempts} attempts")
    return int(attempts)


def _is_later(due: object, now: float) -> bool:
    """Whether it is a time, still to come, and one that a delay can end at."""
    return isinstance(due, (int, float)) and now < due <= now + MAX_DELAY_SECONDS


def _utc(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
