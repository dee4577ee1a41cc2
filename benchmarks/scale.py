"""Do more replicas of the email service send more emails."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import broker
from benchmarks.bench import Answer, Bench, Goal, rate
from benchmarks.services import make_group, services
from benchmarks.side_by_side import side_by_side
from broker.testing import eventually
from contracts.events import USER_REGISTERED, UserRegistered

HANDLER_SECONDS = 0.02
SHARE = 0.8  #: of what as many times the replicas could do
LATEST_SECONDS = 120
BROKERS = ("http", "redis")  #: one without a server and one with; the others differ in nothing that matters here


def answer(bench: Bench) -> Answer:
    """Each replica sends one email at a time, which takes a mail server 20 ms; all share an inbox on SQLite."""
    how = (
        "Replicas of the email service, each with one email at a time, and a mail server that takes 20 ms over each."
        " All are there before the events are published, and share an inbox on SQLite; the clock runs from the first"
        " email sent to the last."
    )
    found = Answer("Replicas of the email service", how)
    for name in (name for name in BROKERS if name in bench.brokers):
        counts = bench.effort.replicas
        rivals = {str(count): partial(_measure, bench, name, count) for count in counts}
        rates = side_by_side(bench.effort.rounds, rivals)
        cells = {f"{count} replicas": rate(rates.typical(str(count))) for count in counts}
        found.rows.append({"broker": name, **cells})
        for count in counts[1:]:
            ratio = rates.ratio(str(count), str(counts[0]))
            found.goals.append(Goal(f"{name}, {count} replicas ÷ {counts[0]}", ratio, SHARE * count))
    return found


def _measure(bench: Bench, name: str, replicas: int) -> float:
    folder, address = bench.folder(), bench.address(name)
    make_group(address, folder)
    settings = {"DATA_DIR": str(folder), "BROKER": address, "CONCURRENCY": "1"}
    with slow_mail() as mail, ExitStack() as running:
        for _ in range(replicas):
            running.enter_context(services({**settings, "MAIL_URL": mail}, "email_service"))
        with broker.connect(address, data_dir=folder) as bus:
            bus.publish(USER_REGISTERED, *(_event(n) for n in range(bench.effort.registrations * replicas)))
            eventually(
                lambda: len(_sent(folder)) == bench.effort.registrations * replicas, "all are sent", LATEST_SECONDS
            )
    moments = sorted(_sent(folder))
    return (len(moments) - 1) / (moments[-1] - moments[0])


def _event(number: int) -> broker.Message:
    event = UserRegistered(str(number), "Ada", f"{number}@example.com", datetime.now(UTC))
    return event.to_message().with_header(ce_partitionkey=str(number))


def _sent(folder: Path) -> list[float]:
    with closing(sqlite3.connect(f"file:{folder / 'emails.db'}?mode=ro", uri=True, timeout=30)) as database:
        rows = database.execute("SELECT sent_at FROM inbox WHERE sent_at IS NOT NULL").fetchall()
    return [datetime.fromisoformat(f"{moment}+00:00").timestamp() for (moment,) in rows]


@contextmanager
def slow_mail() -> Iterator[str]:
    """The mail server's URL."""
    command = [sys.executable, "-m", "benchmarks.slow_mail", str(HANDLER_SECONDS)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        yield process.stdout.readline().strip()
        assert process.stdin
        process.stdin.close()
