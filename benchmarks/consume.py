"""How fast does one member of a durable group work off what waits, each message acked after its handler."""

from __future__ import annotations

from benchmarks.bench import Answer, Bench, topic
from benchmarks.clients.client import Client
from benchmarks.compare import Goals, compare
from benchmarks.side_by_side import Meter

GOALS: Goals = {
    "redis": {"library": 0.6, "FastStream": 20, "Kombu": 2},
    "nats": {"library": 0.6, "FastStream": 2.5},
    "rabbitmq": {"library": 0.6, "FastStream": 5, "Kombu": 2},
    "kafka": {"library": 0.6, "FastStream": 40},
}


def answer(bench: Bench) -> Answer:
    """One member, one handler at a time, which does nothing."""

    def measure(client: Client) -> float:
        name = topic()
        client.make(name)
        client.fill(name, bench.effort.received)
        meter = Meter(bench.effort.received, bench.effort.seconds * 4)
        client.receive(name, meter)
        return meter.per_second

    how = (
        "The messages wait already; the clock runs from the first to the last that is handled. The library decodes the"
        " same envelope and acks in batches of 100; FastStream and Kombu ack each message, which is what they can."
    )
    return compare(bench, Answer("Consume and ack, durable group", how), measure, GOALS)
