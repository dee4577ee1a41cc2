"""Rivals measured side by side: each in turn, round after round, in one run.

A machine that others use is never twice the same, so a figure that stands alone means nothing. Whoever slows the
machine down slows down all rivals of a round; so ratios are taken within a round, and the median of the rounds counts.
"""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Generic, TypeVar

from broker import Message

BODY = b'{"id":"0d9f4a52c1c24b0e","name":"\xe5\xad\xa6\xe9\x99\xa2\xe5\x90\x9b","email":"0d9f4a52@example.com"}'
HEADER = {
    "ce-type": "user.registered.v1",
    "ce-source": "/user-service",
    "ce-subject": "0d9f4a52c1c24b0e",
    "ce-time": "2025-01-01T00:00:00+00:00",
    "ce-specversion": "1.0",
    "content-type": "application/json",
    "traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
}

T = TypeVar("T")


@dataclass(frozen=True)
class Rates:
    """What each rival reached in each round, in the same order of rounds."""

    of: Mapping[str, Sequence[float]]

    def typical(self, name: str) -> float:
        """The median of its rounds."""
        return median(self.of[name])

    def ratio(self, name: str, other: str) -> float:
        """How many times as much as the other: the median of the ratios within each round."""
        return median(one / two for one, two in zip(self.of[name], self.of[other], strict=True))


def side_by_side(rounds: int, rivals: Mapping[str, Callable[[], float]]) -> Rates:
    """Measure each rival once a round, beginning with another one each time; one round before them warms up."""
    found: dict[str, list[float]] = {name: [] for name in rivals}
    names = list(rivals)
    for number in range(rounds if rounds == 1 else rounds + 1):  # a single one is no measurement, and shall be quick
        for name in names[number % len(names) :] + names[: number % len(names)]:
            gc.collect()
            figure = rivals[name]()
            if number or rounds == 1:
                found[name].append(figure)
    return Rates(found)


def messages(count: int) -> list[Message]:
    """Events as the user service publishes them, each with an id of its own, and keys that spread over partitions."""
    return [Message(BODY, {**HEADER, "ce-partitionkey": str(n)}) for n in range(count)]


class Feed(Generic[T]):
    """Gives what it has until the time is up, and counts."""

    def __init__(self, things: Sequence[T], seconds: float) -> None:
        self._things = things
        self._seconds = seconds
        self.count = 0

    def __iter__(self) -> Iterator[T]:
        until = time.perf_counter() + self._seconds
        for thing in self._things:
            if time.perf_counter() > until:
                return
            self.count += 1
            yield thing


def per_second(publish: Callable[[Feed[T]], None], things: Sequence[T], seconds: float) -> float:
    """How many of these are published in a second, from the first begun to the last confirmed."""
    feed = Feed(things, seconds)
    began = time.perf_counter()
    publish(feed)
    return feed.count / (time.perf_counter() - began)


class Meter:
    """Counts what a handler gets, from the first message on, until it has seen enough or the time is up."""

    def __init__(self, enough: int, seconds: float) -> None:
        self._enough = enough
        self._seconds = seconds
        self._count = 0
        self._began = 0.0
        self._ended = 0.0
        self.ended = threading.Event()

    def __call__(self, _: Message) -> bool:
        """Whether that was enough."""
        if self._ended:
            return True
        now = time.perf_counter()
        self._began = self._began or now
        self._count += 1
        if self._count >= self._enough or now - self._began > self._seconds:
            self._ended = now
            self.ended.set()
        return bool(self._ended)

    @property
    def per_second(self) -> float:
        """The rate, of what came after the first."""
        return (self._count - 1) / (self._ended - self._began)
