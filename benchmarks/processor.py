"""How much processor time does a message cost the process of the client: what a busy machine changes least."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial

from benchmarks.bench import Answer, Bench, topic
from benchmarks.clients import rivals
from benchmarks.clients.client import BATCH, Client
from benchmarks.clients.ours import OURS
from benchmarks.side_by_side import Meter, Rates, messages, side_by_side
from broker import Message

Doing = Callable[[Client, str, Sequence[Message]], object]


def _one(client: Client, name: str, given: Sequence[Message]) -> None:
    client.publish_singly(name, given)


def _batches(client: Client, name: str, given: Sequence[Message]) -> None:
    client.publish_batches(name, [given[start : start + BATCH] for start in range(0, len(given), BATCH)])


def _consume(client: Client, name: str, given: Sequence[Message]) -> None:
    client.receive(name, Meter(len(given), float("inf")))


def answer(bench: Bench) -> Answer:
    """All threads of the process together; what the server does is not in it."""
    how = (
        "Microseconds of processor time a message, of all threads of the client's process; the server's are not in it."
        " A ratio above 1 says that we cost less."
    )
    found = Answer("Processor time of a client", how)
    count = bench.effort.received
    doings: dict[str, tuple[Doing, int]] = {
        "one": (_one, count // 5),
        "batches": (_batches, count),
        "consume": (_consume, count),
    }
    for broker in bench.brokers:
        with rivals(broker, bench.address(broker), bench.folder()) as clients:
            for name, (doing, number) in doings.items():
                costs = {client.name: partial(_cost, client, doing, number) for client in clients}
                found.rows.append({"broker": f"{broker}, {name}", **_cells(side_by_side(bench.effort.rounds, costs))})
    return found


def _cost(client: Client, doing: Doing, count: int) -> float:
    """Seconds a message."""
    name = topic()
    client.make(name)
    if doing is _consume:
        client.fill(name, count)
    else:
        client.publish_singly(name, messages(1))  # looks up where to
    given = messages(count)
    began = time.process_time()
    doing(client, name, given)
    return (time.process_time() - began) / count


def _cells(costs: Rates) -> dict[str, str]:
    cells = {name: f"{costs.typical(name) * 1e6:.1f} µs" for name in costs.of}
    return cells | {f"{name} ÷ ours": f"{costs.ratio(name, OURS):.2f}" for name in costs.of if name != OURS}
