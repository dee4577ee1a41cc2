"""How fast are messages published one at a time, each confirmed before the next."""

from __future__ import annotations

from benchmarks.bench import Answer, Bench, topic
from benchmarks.clients.client import Client
from benchmarks.compare import Goals, compare
from benchmarks.side_by_side import messages, per_second

GOALS: Goals = {
    "redis": {"library": 0.95, "FastStream": 1.25, "Kombu": 1},
    "nats": {"library": 0.95, "FastStream": 1},
    "rabbitmq": {"library": 0.95, "FastStream": 1.25, "Kombu": 1},
    "kafka": {"library": 0.95, "FastStream": 1.25},
}


def answer(bench: Bench) -> Answer:
    """One thread, one message at a time, to a topic with a durable group or stream."""

    def measure(client: Client) -> float:
        name = topic()
        client.make(name)
        client.publish_singly(name, messages(1))  # looks up where to
        feed = messages(bench.effort.prepared // 4)
        return per_second(lambda given: client.publish_singly(name, given), feed, bench.effort.seconds)

    how = "One thread; each message is confirmed by the server before the next is sent."
    return compare(bench, Answer("Publish, one at a time", how), measure, GOALS)
