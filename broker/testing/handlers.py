"""What can be a handler (promise 6)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Future
from functools import partial
from typing import Any

import pytest

from broker.base import Broker
from broker.errors import BrokerError
from broker.message import Event
from broker.testing.case import QUICK, Case, texts
from broker.testing.recorder import Recorder, eventually


async def coroutine(event: object = None) -> None:
    """Would handle it."""


async def async_generator(event: object = None) -> AsyncIterator[None]:
    """Would handle it."""
    yield


def generator(event: object = None) -> Iterator[None]:
    """Would handle it."""
    yield


class Lazy:
    """Has such methods, and is called as one."""

    async def __call__(self, event: object = None) -> None:
        """Would handle it."""

    def method(self, event: object = None) -> Iterator[None]:
        """Would handle it."""
        yield


class Promise:
    """Can be awaited, and that is all."""

    def __await__(self) -> Iterator[None]:
        yield


#: what a handler must not return
RESULTS: dict[str, Callable[[], object]] = {
    "coroutine": coroutine,
    "generator": generator,
    "async generator": async_generator,
    "awaitable": Promise,
    "future": Future,
    "map": lambda: map(print, ()),
}


def useless_handlers() -> list[tuple[Any, str]]:
    """Each with the reason why it is refused."""
    return [
        (coroutine, "coroutine function"),
        (generator, "a generator function"),
        (async_generator, "async generator function"),
        (partial(coroutine), "coroutine function"),
        (partial(partial(async_generator)), "async generator function"),
        (Lazy(), "coroutine function"),
        (partial(Lazy()), "coroutine function"),
        (Lazy().method, "a generator function"),
        (partial(partial(Lazy().method)), "a generator function"),
        (None, "must be callable"),
        ("handler", "must be callable"),
    ]


class Handlers(Case):
    """A handler has done its work when it returns."""

    @pytest.mark.promise(6)
    def test_a_handler_that_would_do_nothing_is_refused(self, b: Broker, topic: str) -> None:
        """At the call, with the reason: an `async def`, a generator, also hidden in others; what is not callable."""
        for handler, reason in useless_handlers():
            with pytest.raises(BrokerError, match=reason):
                b.subscribe(topic, handler, group="g")
            with pytest.raises(BrokerError, match=reason):
                b.subscriber(topic, group="g")(handler)
        assert topic not in [group.topic for group in b.groups()]

    @pytest.mark.promise(6, 7)
    @pytest.mark.parametrize("make", RESULTS.values(), ids=RESULTS)
    def test_a_result_that_shows_that_nothing_was_done_is_a_failure(
        self, b: Broker, topic: str, make: Callable[[], object]
    ) -> None:
        """Tried again, and in the end a dead letter with the reason; never taken for an ack."""
        seen = Recorder()

        def handle(event: Event) -> object:
            seen(event)
            return make()

        b.subscribe(topic, handle, group="g", retry_delays=QUICK, max_attempts=2)
        b.publish(topic, *texts("x"))
        [dead] = eventually(b.group(topic, "g").dead_letters, "it is a dead letter")
        assert [call.attempt for call in seen.received] == [1, 2]
        assert "has not done its work" in dead.reason
