"""How fast does the relay publish what waits in the outbox, beside the library alone."""

from __future__ import annotations

import time
from functools import partial

import broker
from benchmarks.bench import Answer, Bench, Goal, rate, topic
from benchmarks.clients import rivals
from benchmarks.clients.client import GROUP, LIBRARY, Client
from benchmarks.outbox import add, outbox
from benchmarks.side_by_side import Rates, messages, per_second, side_by_side
from chassis.database import Database
from user_service.relay import Relay

BATCH = 500
SHARE = 0.8


def answer(bench: Bench) -> Answer:
    """Read, publish confirmed, mark; on SQLite."""
    how = (
        "The relay as it runs in the user service: it claims a batch of rows, publishes them confirmed and marks them"
        f" sent. Beside it the library alone, which publishes batches of {BATCH} from memory."
    )
    found = Answer("The relay", how)
    for name in bench.brokers:
        rates = _measured(bench, name)
        row = {"broker": name, "ours": rate(rates.typical("ours"))}
        if LIBRARY in rates.of:
            ratio = rates.ratio("ours", LIBRARY)
            row |= {LIBRARY: rate(rates.typical(LIBRARY)), "÷ library": f"{ratio:.2f}"}
            found.goals.append(Goal(f"relay on {name} ÷ library", ratio, SHARE))
        found.rows.append(row)
    return found


def _measured(bench: Bench, name: str) -> Rates:
    address, folder = bench.address(name), bench.folder()
    with (
        rivals(name, address, folder) as clients,
        outbox(bench.database("SQLite"), 0) as database,
        broker.connect(address, data_dir=folder) as bus,
    ):
        waiting = topic()  # of its own: the email service of another question would have all of it to refuse
        bus.subscribe(waiting, lambda _: None, group=GROUP).unsubscribe()
        relayed = partial(_relayed, database, Relay(database, bus), bench.effort.received, waiting)
        libraries = {client.name: partial(_published, bench, client) for client in clients if client.name == LIBRARY}
        return side_by_side(bench.effort.rounds, {"ours": relayed, **libraries})


def _relayed(database: Database, relay: Relay, rows: int, name: str) -> float:
    add(database, rows, name)
    sent, began = 0, time.perf_counter()
    while batch := relay.send_batch():
        sent += batch
    return sent / (time.perf_counter() - began)


def _published(bench: Bench, client: Client) -> float:
    name = topic()
    client.make(name)
    client.publish_singly(name, messages(1))  # looks up where to
    feed = messages(bench.effort.prepared)
    batches = [feed[start : start + BATCH] for start in range(0, len(feed), BATCH)]
    seconds = bench.effort.seconds
    return BATCH * per_second(lambda given: client.publish_batches(name, given), batches, seconds)
