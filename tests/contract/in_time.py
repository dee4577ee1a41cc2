"""What must not take longer than a timeout, on a machine that may be busy, or stand still for a while."""

from __future__ import annotations

import multiprocessing
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from broker.base import Broker
from broker.errors import BrokerError, PublishError
from broker.message import Message
from broker.testing import Recorder, eventually
from broker.testing.case import texts

SLACK_SECONDS = 2.0  #: for what is done besides waiting
TICK_SECONDS = 0.01
LONGEST_TICK_SECONDS = 0.05  #: the rest of a longer one was the machine's


@contextmanager
def in_time(seconds: float) -> Iterator[None]:
    """Fails when it takes longer, not counting while this process was kept from running."""
    clock = _FairClock()
    try:
        yield
    finally:
        granted = clock.stop()
    assert granted < seconds + SLACK_SECONDS


def raises_in_time(ask: Callable[[], object], seconds: float, cause: str) -> BrokerError:
    """It raises a `BrokerError`, each time in time, and in the end with that cause; at first it may be another."""

    def told() -> BrokerError | None:
        with in_time(seconds), pytest.raises(BrokerError) as caught:
            ask()
        return caught.value if re.search(cause, str(caught.value)) else None

    error = eventually(told, f"the cause is {cause}")
    assert error is not None
    return error


def all_raise_in_time(b: Broker, topic: str, seconds: float, cause: str) -> None:
    """Publish and subscribe, in a group and without, each raise one error that says it all."""
    cause, message = f"^{b.name} broker at .*({cause})", Message(b"x")
    error = raises_in_time(lambda: b.publish(topic, message), seconds, cause)
    assert isinstance(error, PublishError)
    assert error.unconfirmed == (message,)
    for group in (None, "g"):
        raises_in_time(lambda group=group: b.subscribe(topic, Recorder(), group=group), seconds, cause)  # type: ignore[misc]  # bound now


class _FairClock:
    """Counts seconds from now on, by short sleeps: of one that was much too long only a part."""

    def __init__(self) -> None:
        self._seconds = 0.0
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._count, daemon=True)
        self._thread.start()

    def stop(self) -> float:
        """How many they were."""
        self._stopped.set()
        self._thread.join()
        return self._seconds

    def _count(self) -> None:
        while not self._stopped.is_set():
            begun = time.monotonic()
            self._stopped.wait(TICK_SECONDS)
            self._seconds += min(time.monotonic() - begun, LONGEST_TICK_SECONDS)


def raises_in_a_fork(b: Broker, topic: str) -> None:
    """Each verb says in a forked process that the broker was connected in another one; none hangs."""
    process = multiprocessing.get_context("fork").Process(target=_ask, args=(b, topic))
    process.start()
    process.join(60)
    process.kill()
    assert process.exitcode == 0, "it hung, or raised anything else"


def _ask(b: Broker, topic: str) -> None:
    for ask in (lambda: b.publish(topic, *texts("x")), lambda: b.subscribe(topic, Recorder()), b.groups):
        with pytest.raises(BrokerError, match="connected in another process"):
            ask()
