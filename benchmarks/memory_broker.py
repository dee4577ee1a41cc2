"""How many messages a second go through a group of the memory broker."""

from __future__ import annotations

import time

import broker
from benchmarks.bench import Answer, Bench, Goal, rate
from benchmarks.clients.client import BATCH, GROUP
from benchmarks.side_by_side import Meter, messages, side_by_side

AT_LEAST = 50_000.0


def answer(bench: Bench) -> Answer:
    """One thread publishes, one handler runs."""

    def measure() -> float:
        feed = messages(bench.effort.prepared)
        meter = Meter(len(feed), float("inf"))
        with broker.connect(bench.address("memory")) as bus:
            bus.subscribe("topic", lambda event: meter(event.message), group=GROUP)
            began = time.perf_counter()
            for start in range(0, len(feed), BATCH):
                bus.publish("topic", *feed[start : start + BATCH])
            while bus.backlog("topic", GROUP):
                meter.ended.wait(0.001)
            return len(feed) / (time.perf_counter() - began)

    per_second = side_by_side(bench.effort.rounds, {"memory": measure}).typical("memory")
    how = "Published in batches of 100 by one thread and handled by another, in one process, until all are acked."
    row = {"broker": "memory", "through a group": rate(per_second)}
    return Answer("The memory broker", how, [row], [Goal("memory, messages a second", per_second, AT_LEAST)])
