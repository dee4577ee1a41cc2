"""Does a registration cost more when a million users are stored."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from contextlib import ExitStack
from datetime import UTC, datetime
from functools import partial

import sqlalchemy as sa
from pydantic import SecretStr

from benchmarks.bench import Answer, Bench, Goal, rate
from benchmarks.outbox import CHUNK, outbox
from benchmarks.side_by_side import side_by_side
from chassis.database import Database
from user_service.publishing import ThroughOutbox
from user_service.registration import Registration
from user_service.schemas import NewUser
from user_service.tables import User

LOWEST_COST = 4
SHARE = 0.9


def answer(bench: Bench) -> Answer:
    """Registrations one after the other, in this process, on SQLite."""
    sizes = bench.effort.users
    with ExitStack() as running:
        rivals: dict[str, Callable[[], float]] = {}
        for size in sizes:
            database = running.enter_context(outbox(bench.database("SQLite"), 0))
            _fill(database, size)
            registration = Registration(database, ThroughOutbox(lambda: None), LOWEST_COST)
            rivals[str(size)] = partial(_register, registration, bench.effort.registrations)
        rates = side_by_side(bench.effort.rounds, rivals)
    how = "One after the other, at bcrypt's lowest cost, in one process on SQLite: hash, user and outbox row, commit."
    row = {"database": "SQLite", **{f"{size:,} users": rate(rates.typical(str(size))) for size in sizes}}
    ratio = rates.ratio(str(sizes[-1]), str(sizes[0]))
    goal = Goal(f"registrations, {sizes[-1]:,} users ÷ {sizes[0]:,}", ratio, SHARE)
    return Answer("A registration, as users add up", how, [row], [goal])


def _fill(database: Database, count: int) -> None:
    now = datetime.now(UTC)
    for start in range(0, count, CHUNK):
        ids = [uuid.uuid4().hex for _ in range(min(CHUNK, count - start))]
        emails = [f"{user_id}@example.com" for user_id in ids]
        rows = [
            {"id": i, "name": "Ada", "email": e, "email_key": e, "password_hash": "-" * 60, "created_at": now}
            for i, e in zip(ids, emails, strict=True)
        ]
        with database.transaction() as session:
            session.execute(sa.insert(User), rows)


def _register(registration: Registration, count: int) -> float:
    people = [
        NewUser(name="Ada", email=f"{uuid.uuid4().hex}@example.com", password=SecretStr("correct horse"))
        for _ in range(count)
    ]
    began = time.perf_counter()
    for person in people:
        registration.register(person)
    return count / (time.perf_counter() - began)
