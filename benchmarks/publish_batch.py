"""How fast are messages published in batches of 100, all confirmed before the next batch."""

from __future__ import annotations

from benchmarks.bench import Answer, Bench, topic
from benchmarks.clients.client import BATCH, Client
from benchmarks.compare import Goals, compare
from benchmarks.side_by_side import messages, per_second

GOALS: Goals = {
    "redis": {"library": 0.9, "FastStream": 2.3, "Kombu": 1},
    "nats": {"library": 0.9, "FastStream": 2},
    "rabbitmq": {"library": 0.9, "FastStream": 2.8, "Kombu": 1},
    "kafka": {"library": 0.9, "FastStream": 12},
}


def answer(bench: Bench) -> Answer:
    """One thread, a hundred messages at a time, sent without waiting for each other."""

    def measure(client: Client) -> float:
        name = topic()
        client.make(name)
        client.publish_singly(name, messages(1))  # looks up where to
        feed = messages(bench.effort.prepared)
        batches = [feed[start : start + BATCH] for start in range(0, len(feed), BATCH)]
        return BATCH * per_second(lambda given: client.publish_batches(name, given), batches, bench.effort.seconds)

    how = f"One thread; {BATCH} messages are sent at once, and all confirmed before the next. The library pipelines."
    return compare(bench, Answer("Publish, in batches of 100", how), measure, GOALS)
