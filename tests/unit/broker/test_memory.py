"""The memory broker's own housekeeping."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

import broker
from broker.errors import DrainTimeout
from broker.memory import Bus, MemorySource
from broker.message import Message
from broker.testing import Recorder


def test_nothing_is_kept_for_a_listener_that_has_left() -> None:
    """Its queue would grow for ever."""
    with broker.connect("memory://left") as b:
        b.subscribe("t", Recorder()).unsubscribe()
        assert Bus.named("memory://left").broadcasts_of("t") == ()


def test_a_bus_goes_with_its_last_broker() -> None:
    """The next one of that address begins with nothing."""
    with broker.connect("memory://gone") as b:
        b.subscribe("t", Recorder(), group="g")
    with broker.connect("memory://gone") as b:
        assert b.groups() == []


@pytest.mark.parametrize("late", ["ack", "retry", "release", "bury"])
def test_what_is_settled_too_late_is_not_there_twice(late: str) -> None:
    """When its member has left without it, it has gone back to the group, which may have given it to another."""
    with broker.connect(f"memory://{late}") as b:
        bus = Bus.named(f"memory://{late}")
        slow = MemorySource(bus, "t", "g")
        b.publish("t", Message(b"x"))
        [lost] = slow.fetch(1, 60)
        slow.close()
        heir = MemorySource(bus, "t", "g")
        [taken] = heir.fetch(1, 60)
        settle: dict[str, Callable[[], None]] = {
            "ack": lambda: slow.ack([lost]),
            "retry": lambda: slow.retry(lost, 0),
            "release": lambda: slow.release([lost]),
            "bury": lambda: slow.bury(lost, "too late"),
        }
        settle[late]()
        assert (taken.attempt, b.backlog("t", "g"), b.group("t", "g").dead_letters()) == (2, 1, [])
        heir.ack([taken])
        assert b.backlog("t", "g") == 0


def test_a_disconnect_stops_every_subscription_at_once() -> None:
    """The second starts nothing more while the first one's handler still runs."""
    proceed = threading.Event()
    slow, other = Recorder(lambda event: proceed.wait(60)), Recorder()
    with broker.connect("memory://both") as publisher:
        b = broker.connect("memory://both")
        b.subscribe("slow", slow, group="g")
        second = b.subscribe("other", other, group="g")
        publisher.publish("slow", Message(b"x"))
        slow.wait(1)
        with ThreadPoolExecutor(1) as pool:
            disconnecting = pool.submit(b.disconnect)
            assert second._closed.wait(60)
            publisher.publish("other", Message(b"x"))
            proceed.set()
            disconnecting.result()
        assert other.received == []
        assert publisher.backlog("other", "g") == 1


def test_a_second_disconnect_waits_no_longer_than_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    """Even when the first one hangs."""
    monkeypatch.setattr("broker.base.CLOSE_SECONDS", 0.01)
    b = broker.connect("memory://")
    closing, proceed = threading.Event(), threading.Event()

    def hang(deadline: float) -> None:
        closing.set()
        proceed.wait(60)

    monkeypatch.setattr(b, "_close", hang)
    first = threading.Thread(target=b.disconnect)
    first.start()
    assert closing.wait(60)
    with pytest.raises(DrainTimeout, match="another thread"):
        b.disconnect(0.01)
    proceed.set()
    first.join()
