"""Is the outbox drained as fast when a million rows wait as when a thousand do."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from datetime import UTC, datetime
from functools import partial

import sqlalchemy as sa

import broker
from benchmarks.bench import Answer, Bench, Goal, rate
from benchmarks.services import EMAIL_GROUP
from benchmarks.side_by_side import Rates, messages, side_by_side
from chassis.database import Database
from contracts.events import USER_REGISTERED
from user_service.relay import Relay
from user_service.tables import SCHEMA_NAME, SCHEMA_VERSION, Base, OutboxRow

CHUNK = 10_000  #: rows added in one transaction
SHARE = 0.9
MARIADB_ROWS = 100_000  #: more are not measured there: making them takes longer than everything else


def answer(bench: Bench) -> Answer:
    """The relay itself, with the memory broker, so that the database is what is measured."""
    how = (
        "The relay takes, publishes and marks its batches of rows; the broker is `memory`, so that the database is what"
        " is measured. As many rows as were sent are added again before each round."
    )
    found = Answer("The outbox, as it fills", how)
    for kind in bench.databases:
        sizes = [size for size in bench.effort.waiting if kind == "SQLite" or size <= MARIADB_ROWS]
        rates = _measured(bench, kind, sizes)
        cells = {f"{size:,} rows": rate(rates.typical(str(size))) for size in sizes}
        found.rows.append({"database": kind, **cells})
        for size in sizes[1:]:
            ratio = rates.ratio(str(size), str(sizes[0]))
            found.goals.append(Goal(f"{kind}, {size:,} rows ÷ {sizes[0]:,}", ratio, SHARE))
    return found


def _measured(bench: Bench, kind: str, sizes: list[int]) -> Rates:
    with ExitStack() as running:
        rivals: dict[str, Callable[[], float]] = {}
        for size in sizes:
            database = running.enter_context(outbox(bench.database(kind), size))
            bus = running.enter_context(broker.connect(bench.address("memory")))
            bus.subscribe(USER_REGISTERED, lambda _: None, group=EMAIL_GROUP).unsubscribe()
            rivals[str(size)] = partial(_drain, database, Relay(database, bus), min(sizes))
        return side_by_side(bench.effort.rounds, rivals)


def outbox(url: str, rows: int) -> Database:
    """The user service's database, with so many messages waiting."""
    database = Database(url, Base.metadata, schema_name=SCHEMA_NAME, schema_version=SCHEMA_VERSION)
    database.open()
    add(database, rows)
    return database


def add(database: Database, rows: int, name: str = USER_REGISTERED) -> None:
    """Let so many more messages wait, all of the topic of that name."""
    now = datetime.now(UTC)
    for start in range(0, rows, CHUNK):
        given = messages(min(CHUNK, rows - start))
        values = [{"topic": name, "header": dict(m.header), "body": m.body, "created_at": now} for m in given]
        with database.transaction() as session:
            session.execute(sa.insert(OutboxRow), values)


def _drain(database: Database, relay: Relay, rows: int) -> float:
    """So many rows, or a few more: in a second, from the first claim to the last mark."""
    sent, began = 0, time.perf_counter()
    while sent < rows:
        sent += relay.send_batch()
    took = time.perf_counter() - began
    add(database, sent)
    return sent / took
