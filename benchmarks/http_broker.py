"""Is the http broker faster than posting one message at a time, though it keeps each on the disk first."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import requests

import broker
from benchmarks.bench import Answer, Bench, Goal, rate
from benchmarks.clients.client import BATCH, GROUP
from benchmarks.side_by_side import Rates, messages, side_by_side
from broker import Broker, Message

TOPIC = "topic"
PUBLISHERS = 8
AT_LEAST = {"eight publishers": 2.0, "a backlog": 20.0}
LOOK_SECONDS = 0.002


def answer(bench: Bench) -> Answer:
    """All is delivered, and acked, before the clock stops."""
    how = (
        f"A member in another process, which also answers plain POSTs. {PUBLISHERS} threads publish, or post with a"
        " `requests` session each, one message at a time; the clock stops when all are acked. The backlog,"
        f" {bench.effort.backlog:,} messages, is in the spool when the member starts, and its clock runs from then on."
    )
    found = Answer("The http broker", how)
    rates = side_by_side(bench.effort.rounds, _rivals(bench))
    for case, least in AT_LEAST.items():
        ratio = rates.ratio(case, "requests")
        found.rows.append({"case": case, "ours": rate(rates.typical(case)), **_requests(rates, ratio)})
        found.goals.append(Goal(f"http, {case} ÷ requests", ratio, least))
    return found


def _requests(rates: Rates, ratio: float) -> dict[str, str]:
    return {"requests": rate(rates.typical("requests")), "÷ requests": f"{ratio:.1f}"}


def _rivals(bench: Bench) -> dict[str, Callable[[], float]]:
    some = messages(bench.effort.received)
    return {
        "requests": lambda: _posted(bench.folder(), some),
        "eight publishers": lambda: _published(bench.folder(), some),
        "a backlog": lambda: _drained(bench.folder(), messages(bench.effort.backlog)),
    }


def _posted(folder: Path, given: Sequence[Message]) -> float:
    with receiver(folder) as url:
        sessions = threading.local()

        def post(message: Message) -> None:
            if not hasattr(sessions, "own"):
                sessions.own = requests.Session()
                sessions.own.trust_env = False
            sessions.own.post(url, message.body, headers=dict(message.header)).raise_for_status()

        return _by_threads(post, given, lambda: None)


def _published(folder: Path, given: Sequence[Message]) -> float:
    with broker.connect("http", data_dir=folder) as bus, receiver(folder):
        return _by_threads(lambda message: bus.publish(TOPIC, message), given, lambda: _until_empty(bus))


def _by_threads(send: Callable[[Message], None], given: Sequence[Message], end: Callable[[], None]) -> float:
    with ThreadPoolExecutor(PUBLISHERS) as threads:
        began = time.perf_counter()
        for _ in threads.map(send, given):
            pass
        end()
        return len(given) / (time.perf_counter() - began)


def _drained(folder: Path, given: Sequence[Message]) -> float:
    with broker.connect("http", data_dir=folder) as bus:
        bus.subscribe(TOPIC, lambda _: None, group=GROUP).unsubscribe()
        for start in range(0, len(given), BATCH):
            bus.publish(TOPIC, *given[start : start + BATCH])
        with receiver(folder):
            left = bus.backlog(TOPIC, GROUP)
            began = time.perf_counter()
            _until_empty(bus)
            return left / (time.perf_counter() - began)


def _until_empty(bus: Broker) -> None:
    while bus.backlog(TOPIC, GROUP):
        time.sleep(LOOK_SECONDS)


@contextmanager
def receiver(folder: Path) -> Iterator[str]:
    """The process that takes messages, and where it answers plain POSTs."""
    command = [sys.executable, "-m", "benchmarks.receiver", str(folder), TOPIC]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        yield process.stdout.readline().strip()
        assert process.stdin
        process.stdin.close()
