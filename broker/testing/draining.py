"""Stopping: unsubscribe and disconnect (promise 11)."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from broker.base import Broker
from broker.errors import DrainTimeout
from broker.message import Event
from broker.testing.case import LEASE, Case, numbered, only_this_arrives, texts
from broker.testing.harness import Harness
from broker.testing.recorder import Recorder, eventually

ROUNDS = 100


class Draining(Case):
    """What runs is finished, what waits is handed back, what is closed is closed."""

    @pytest.mark.promise(11)
    def test_a_drain_finishes_what_runs_and_hands_back_what_waits(self, harness: Harness, topic: str) -> None:
        """The running one is acked; the others come to the next member with their attempt unchanged."""
        b, consumer = harness.connect(), harness.connect()
        finish = threading.Event()
        seen, later = Recorder(lambda event: finish.wait(60)), Recorder()
        subscription = consumer.subscribe(topic, seen, group="g")
        b.publish(topic, *numbered(10))
        seen.wait(1)
        with ThreadPoolExecutor(1) as pool:
            draining = pool.submit(subscription.unsubscribe)
            assert not draining.done()
            finish.set()
            draining.result()
        assert len(seen.received) == 1
        b.subscribe(topic, later, group="g")
        calls = later.wait(9)
        assert sorted(call.text for call in calls) == [str(n) for n in range(1, 10)]
        highest = 1 if b.promises.hand_back_keeps_attempt else 2
        assert {call.attempt for call in calls} <= set(range(1, highest + 1))

    @pytest.mark.promise(11)
    def test_past_the_deadline_a_drain_raises_and_a_late_ack_is_ignored(self, harness: Harness, topic: str) -> None:
        """What ran too long is delivered again, counted."""
        b, consumer, later = harness.connect(), harness.connect(drain_seconds=0.3), Recorder()
        finish, finished = threading.Event(), threading.Event()

        def stubborn(event: Event) -> None:
            finish.wait(60)
            finished.set()

        seen = Recorder(stubborn)
        consumer.subscribe(topic, seen, group="g", lease_seconds=LEASE)
        b.publish(topic, *texts("x"))
        seen.wait(1)
        with pytest.raises(DrainTimeout):
            consumer.disconnect()
        finish.set()
        assert finished.wait(60)
        b.subscribe(topic, later, group="g", lease_seconds=LEASE)
        [again] = later.wait(1)
        assert (again.text, again.attempt) == ("x", 2)

    @pytest.mark.promise(11)
    def test_unsubscribe_stops_just_that_one(self, b: Broker, topic: str) -> None:
        """The other subscriptions of the same broker go on; nothing comes after it returned."""
        stopped, other_group, everyone = Recorder(), Recorder(), Recorder()
        subscription = b.subscribe(topic, stopped, group="g")
        b.subscribe(topic, other_group, group="h")
        b.subscribe(topic, everyone)
        listener = b.subscribe(topic, stopped)
        subscription.unsubscribe()
        listener.unsubscribe()
        subscription.unsubscribe()
        b.publish(topic, *texts("x"))
        other_group.wait(1)
        everyone.wait(1)
        assert stopped.received == []
        assert b.backlog(topic, "g") == 1

    @pytest.mark.promise(11)
    def test_a_handler_may_end_its_own_subscription(self, b: Broker, topic: str) -> None:
        """Its own message is acked, and it is the last."""
        ended: list[Event] = []

        def once(event: Event) -> None:
            subscription.unsubscribe()
            ended.append(event)

        subscription = b.subscribe(topic, once, group="g")
        b.publish(topic, *numbered(5))
        eventually(lambda: subscription.closed, "the subscription has ended")
        assert len(ended) == 1
        eventually(lambda: b.backlog(topic, "g") == 4, "the first was acked, the others were handed back")

    @pytest.mark.promise(11)
    def test_a_handler_may_disconnect_its_own_broker(self, harness: Harness, topic: str) -> None:
        """It returns at once, also while another thread disconnects; its own message is acked, and is the last."""
        b, publisher, seen = harness.connect(), harness.connect(), Recorder(lambda event: b.disconnect())
        subscription = b.subscribe(topic, seen, group="g")
        publisher.publish(topic, *numbered(5))
        seen.wait(1)
        b.disconnect()
        eventually(lambda: subscription.closed, "the subscription has ended")
        assert len(seen.received) == 1
        eventually(lambda: publisher.backlog(topic, "g") == 4, "the first was acked, the others were handed back")

    @pytest.mark.promise(11)
    def test_disconnect_is_fine_twice_and_from_two_threads(self, harness: Harness, topic: str) -> None:
        """And the broker can be connected again."""
        b, seen = harness.connect(), Recorder()
        b.subscribe(topic, Recorder(), group="g")
        with ThreadPoolExecutor(2) as pool:
            for ending in [pool.submit(b.disconnect) for _ in range(2)]:
                ending.result()
        b.disconnect()
        b.connect()
        b.subscribe(topic, seen, group="g")
        only_this_arrives(b, topic, seen, before=0)

    @pytest.mark.promise(11)
    def test_nothing_is_left_after_many_rounds(self, harness: Harness, topic: str) -> None:
        """No thread and no descriptor, whatever was used."""

        def one_round() -> None:
            b, seen = harness.new(), Recorder()
            b.connect()
            b.subscribe(topic, seen, group="g")
            b.publish(topic, *texts("x"))
            seen.wait(1)
            b.disconnect()

        one_round()
        threads, descriptors = threading.active_count(), _descriptors()
        for _ in range(10):
            one_round()
        for _ in range(ROUNDS - 10):
            b = harness.new()
            b.connect()
            b.disconnect()
        eventually(lambda: threading.active_count() <= threads, f"{threading.enumerate()} are {threads} threads")
        eventually(lambda: _descriptors() <= descriptors, "descriptors are closed")


def _descriptors() -> int:
    """How many this process has open; 0 where the system does not tell."""
    folder = next((path for path in (Path("/proc/self/fd"), Path("/dev/fd")) if path.is_dir()), None)
    return len(list(folder.iterdir())) if folder else 0
