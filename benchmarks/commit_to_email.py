"""How long after a registration is committed is the email sent, when nothing else happens, and under load."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from datetime import datetime
from pathlib import Path

from benchmarks.bench import Answer, Bench, Goal, ms, quantile
from benchmarks.load import connected, load, register
from benchmarks.services import services
from broker.testing import eventually

PAUSE_SECONDS = 0.05
FOLD = 5  #: so many times the usual registrations: of 60, the 99th hundredth would be the one that waited longest
IDLE_P99 = 0.02
LATEST_SECONDS = 120


def answer(bench: Bench) -> Answer:
    """Both services in processes of their own (on memory: in one), SQLite, the email printed."""
    idle_people = FOLD * bench.effort.registrations
    how = (
        "Both services whole, on SQLite. From the moment on the outbox's row, just before its commit, to that on the"
        f" inbox's, just after the email was sent. Idle: {idle_people} people, one after the other,"
        f" with a pause. Under load: {bench.effort.clients} clients at bcrypt's cost 12, which keeps every core busy."
    )
    found = Answer("Commit to email", how)
    for broker in bench.brokers:
        idle = _delays(bench, broker, "4", lambda url: _one_by_one(url, idle_people))
        busy = _delays(bench, broker, "12", lambda url: load(url, bench.effort.clients, bench.effort.load_seconds))
        cells = {
            f"{case} {name}": ms(quantile(seconds, share))
            for case, seconds in (("idle", idle), ("load", busy))
            for name, share in (("p50", 0.5), ("p99", 0.99))
        }
        found.rows.append({"broker": broker, **cells})
        found.goals.append(
            Goal(f"{broker}, idle p99 in ms", quantile(idle, 0.99) * 1000, IDLE_P99 * 1000, at_most=True)
        )
    return found


def _delays(bench: Bench, broker: str, cost: str, registering: Callable[[str], object]) -> list[float]:
    folder = bench.folder()
    settings = {"DATA_DIR": str(folder), "BROKER": bench.address(broker), "BCRYPT_COST": cost}
    with services(settings, "email_service", "user_service", one_process=broker == "memory") as stage:
        _one_by_one(stage.url("user_service"), 3)  # opens what is opened on first use
        eventually(lambda: _sent(folder, 3), "the first emails are sent", LATEST_SECONDS)
        registering(stage.url("user_service"))
        eventually(
            lambda: _sent(folder, 4) and _sent(folder, len(_committed(folder))), "all emails are sent", LATEST_SECONDS
        )
        committed, sent = _committed(folder), _sent(folder, 0)
        return [sent[event] - moment for event, moment in list(committed.items())[3:]]


def _one_by_one(url: str, count: int) -> None:
    with closing(connected(url)) as connection:
        for _ in range(count):
            register(connection)
            time.sleep(PAUSE_SECONDS)


def _committed(folder: Path) -> dict[str, float]:
    rows = _rows(folder / "users.db", "SELECT header, created_at FROM outbox ORDER BY id")
    return {json.loads(header)["ce-id"]: _seconds(moment) for header, moment in rows}


def _sent(folder: Path, at_least: int) -> dict[str, float]:
    """When each email was sent; nothing while there are fewer."""
    rows = _rows(folder / "emails.db", "SELECT event_id, sent_at FROM inbox WHERE sent_at IS NOT NULL")
    return {event: _seconds(moment) for event, moment in rows} if len(rows) >= at_least else {}


def _rows(file: Path, query: str) -> list[tuple[str, str]]:
    with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True, timeout=30)) as database:
        return database.execute(query).fetchall()


def _seconds(moment: str) -> float:
    return datetime.fromisoformat(f"{moment}+00:00").timestamp()
