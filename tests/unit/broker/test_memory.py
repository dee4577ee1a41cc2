"""The memory broker's own housekeeping."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import broker
from broker.memory import Bus
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
        b.subscribe("t", Recorder(), queue="g")
    with broker.connect("memory://gone") as b:
        assert b.groups() == []


def test_a_disconnect_stops_every_subscription_at_once() -> None:
    """The second starts nothing more while the first one's handler still runs."""
    proceed = threading.Event()
    slow, other = Recorder(lambda event: proceed.wait(60)), Recorder()
    with broker.connect("memory://both") as publisher:
        b = broker.connect("memory://both")
        b.subscribe("slow", slow, queue="g")
        second = b.subscribe("other", other, queue="g")
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
