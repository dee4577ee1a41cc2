"""How long does a message take from `publish` to its handler, when a hundred come each second."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence

from benchmarks.bench import Answer, Bench, Goal, ms, quantile, topic
from benchmarks.clients import rivals
from benchmarks.clients.client import LIBRARY, Client
from benchmarks.clients.ours import OURS
from benchmarks.side_by_side import Rates, messages, side_by_side
from broker import Message

EVERY_SECONDS = 0.01
P50_BOUND, P99_BOUND = 1.15, 2.0


def answer(bench: Bench) -> Answer:
    """Publisher and member in one process, on the same clock."""
    how = (
        "From the call of `publish` to that of the handler, in one process, 100 messages a second. Each round has"
        f" {bench.effort.paced} messages; p50 and p99 are those of the rounds' median."
    )
    found = Answer("Latency, publish to handler", how)
    for broker in bench.brokers:
        with rivals(broker, bench.address(broker), bench.folder()) as clients:
            p50, p99 = _measured(bench, [client for client in clients if client.name in (OURS, LIBRARY)])
        row = {"broker": broker}
        for name in p50.of:
            row |= {f"{name} p50": ms(p50.typical(name)), f"{name} p99": ms(p99.typical(name))}
        if LIBRARY in p50.of:
            ratios = p50.ratio(OURS, LIBRARY), p99.ratio(OURS, LIBRARY)
            row |= {"p50 ÷": f"{ratios[0]:.2f}", "p99 ÷": f"{ratios[1]:.2f}"}
            found.goals.append(Goal(f"{broker} p50 ÷ library", ratios[0], P50_BOUND, at_most=True))
            found.goals.append(Goal(f"{broker} p99 ÷ library", ratios[1], P99_BOUND, at_most=True))
        found.rows.append(row)
    return found


def _measured(bench: Bench, clients: Sequence[Client]) -> tuple[Rates, Rates]:
    """p50 and p99 of each round."""
    p99: dict[str, list[float]] = {client.name: [] for client in clients}

    def measure(client: Client) -> float:
        seconds = Stopwatch().run(client, bench.effort.paced)
        p99[client.name].append(quantile(seconds, 0.99))
        return quantile(seconds, 0.5)

    p50 = side_by_side(bench.effort.rounds, {client.name: lambda client=client: measure(client) for client in clients})  # type: ignore[misc]
    return p50, Rates({name: figures[-bench.effort.rounds :] for name, figures in p99.items()})


class Stopwatch:
    """Sends at a steady pace, and notes how long each message takes."""

    def __init__(self) -> None:
        self._sent: dict[str, float] = {}
        self._took: list[float] = []
        self._first = threading.Event()

    def run(self, client: Client, count: int) -> list[float]:
        """Seconds from `publish` to the handler, of so many messages; one before them shows the member is there."""
        name = topic()
        client.make(name)
        member = threading.Thread(target=client.receive, args=(name, lambda message: self._arrived(message, count)))
        member.start()
        client.publish_singly(name, self._noted(messages(1)))
        self._first.wait()
        client.publish_singly(name, self._paced(messages(count)))
        member.join()
        return self._took[1:]

    def _arrived(self, message: Message, count: int) -> bool:
        now = time.perf_counter()
        self._took.append(now - self._sent[message.header["ce-id"]])
        self._first.set()
        return len(self._took) > count

    def _noted(self, given: Sequence[Message]) -> Iterator[Message]:
        for message in given:
            self._sent[message.id] = time.perf_counter()
            yield message

    def _paced(self, given: Sequence[Message]) -> Iterator[Message]:
        begin = time.perf_counter()
        for number, message in enumerate(self._noted(given)):
            self._wait(begin + number * EVERY_SECONDS)
            self._sent[message.id] = time.perf_counter()
            yield message

    def _wait(self, until: float) -> None:
        threading.Event().wait(max(0.0, until - time.perf_counter()))
