"""Waiting for things to happen: a handler that remembers, and a condition with a deadline."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from broker.errors import BrokerError
from broker.message import Event, Message

Value = TypeVar("Value")

PATIENCE_SECONDS = 60.0  #: how long a test waits before it fails; on a busy machine, too


def eventually(condition: Callable[[], Value], what: str, seconds: float = PATIENCE_SECONDS) -> Value:
    """The first value of `condition()` that is true; a failure that says `what` when there is none in time."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {what}; at the end: {value!r}"
        time.sleep(0.01)
    return value


def surely(action: Callable[[], Value]) -> Value:
    """What it returns, once it raises no `BrokerError`: with a short timeout, a busy machine may need several tries."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            return action()
        except BrokerError:
            if time.monotonic() > deadline:
                raise
        time.sleep(0.01)


@dataclass(frozen=True)
class Received:
    """One call of a handler."""

    message: Message
    attempt: int
    group: str | None
    at: float = field(default_factory=time.monotonic)

    @property
    def text(self) -> str:
        """The body of the small messages that tests send."""
        return self.message.body.decode()


class Recorder:
    """A handler that remembers each call and then does what it was made with."""

    def __init__(self, behave: Callable[[Event], object] = lambda event: None) -> None:
        self._behave = behave
        self._changed = threading.Condition()
        self._received: list[Received] = []

    def __call__(self, event: Event) -> None:
        self.add(Received(event.message, event.attempt, event.group))
        self._behave(event)

    def add(self, received: Received) -> None:
        """Remember one call."""
        with self._changed:
            self._received.append(received)
            self._changed.notify_all()

    @property
    def received(self) -> list[Received]:
        """All calls so far, in order."""
        with self._changed:
            return list(self._received)

    @property
    def texts(self) -> list[str]:
        """Their bodies."""
        return [received.text for received in self.received]

    def wait(self, count: int, seconds: float = PATIENCE_SECONDS) -> list[Received]:
        """All calls, once there are at least that many."""
        with self._changed:
            enough = self._changed.wait_for(lambda: len(self._received) >= count, seconds)
            assert enough, f"{len(self._received)} of {count} calls within {seconds:g} s: {self._received!r:.500}"
        return self.received

    def wait_for(self, text: str, times: int = 1) -> list[Received]:
        """All calls, once the message with that body has come that often."""
        eventually(lambda: self.texts.count(text) >= times, f"{text!r} {times} times; there was {self.texts!r:.500}")
        return self.received
