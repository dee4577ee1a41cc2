"""Acks and retries (promises 6, 8, 10, 13, 14)."""

from __future__ import annotations

import threading
from itertools import pairwise

import pytest

from broker.base import Broker
from broker.engine.report import Outcome, Settled
from broker.errors import NoSubscriber, Reject
from broker.message import Event, Message
from broker.testing.case import LEASE, QUICK, Case, numbered, only_this_arrives, texts
from broker.testing.harness import Harness
from broker.testing.recorder import Recorder, eventually


class Retries(Case):
    """A handler that returns acks; one that raises is tried again."""

    @pytest.mark.promise(6)
    def test_a_failed_message_comes_again_counted_after_growing_delays(self, b: Broker, topic: str) -> None:
        """Attempts 1, 2, 3, 4; no delay shorter than its step of the ladder."""
        ladder = (0.2, 0.4, 0.8)

        def fail_thrice(event: Event) -> None:
            if event.attempt < 4:
                raise RuntimeError("not yet")

        seen = Recorder(fail_thrice)
        b.subscribe(topic, seen, group="g", retry_delays=ladder, jitter=0.0)
        b.publish(topic, *texts("x"))
        calls = seen.wait(4)
        assert [call.attempt for call in calls] == [1, 2, 3, 4]
        for step, (before, after) in zip(ladder, pairwise(calls), strict=True):
            assert after.at - before.at >= step * 0.95
        eventually(lambda: b.backlog(topic, "g") == 0, "the fourth attempt is acked")

    @pytest.mark.promise(6, 15)
    def test_headers_survive_a_retry(self, b: Broker, topic: str) -> None:
        """`traceparent` and all others are the same on every attempt."""

        def fail_once(event: Event) -> None:
            if event.attempt == 1:
                raise RuntimeError("once")

        header = {"traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "名": "学院君"}
        seen = Recorder(fail_once)
        b.subscribe(topic, seen, group="g", retry_delays=QUICK)
        message = Message(b"x", header)
        b.publish(topic, message)
        first, second = seen.wait(2)
        assert dict(first.message.header) == dict(message.header)
        assert {name: second.message.header[name] for name in message.header} == dict(message.header)

    @pytest.mark.promise(8)
    def test_a_failing_message_holds_up_no_other(self, b: Broker, topic: str) -> None:
        """The rest is handled while it waits for its next attempt."""

        def behave(event: Event) -> None:
            if event.message.body == b"bad":
                raise RuntimeError("bad")

        seen = Recorder(behave)
        b.subscribe(topic, seen, group="g", retry_delays=(3600,))
        b.publish(topic, *texts("bad"), *numbered(20))
        seen.wait(21)
        assert seen.texts.count("bad") == 1

    @pytest.mark.promise(14)
    @pytest.mark.parametrize("error", [RuntimeError("no"), SystemExit(1)], ids=["error", "exit"])
    def test_an_exception_is_its_handler_s_own(self, harness: Harness, topic: str, error: BaseException) -> None:
        """Even SystemExit: reported to `on_error`, and the other subscriptions go on, and so does this one."""
        reported: list[Event] = []

        def behave(event: Event) -> None:
            if event.attempt == 1 and event.message.body == b"bad":
                raise error

        b = harness.connect(on_error=reported.append)
        seen, beside = Recorder(behave), Recorder()
        b.subscribe(topic, seen, group="g", retry_delays=QUICK)
        b.subscribe(topic, beside, group="h")
        b.publish(topic, *texts("bad", "good"))
        seen.wait(3)
        beside.wait(2)
        assert sorted(seen.texts) == ["bad", "bad", "good"]
        assert [(event.message.body, event.error) for event in reported] == [(b"bad", error)]

    @pytest.mark.promise(6, 7)
    def test_what_became_of_each_delivery_is_told(self, harness: Harness, topic: str) -> None:
        """To `on_settled`: that it comes again, that it is acked, that it is a dead letter."""
        told: list[Settled] = []

        def behave(event: Event) -> None:
            if event.message.body == b"reject":
                raise Reject("no such type")
            if event.attempt == 1:
                raise RuntimeError("once")

        b = harness.connect(on_settled=told.append)
        b.subscribe(topic, behave, group="g", retry_delays=QUICK)
        b.publish(topic, *texts("fail once", "reject"))
        eventually(lambda: len(told) == 3, "both are settled")
        assert {(settled.message.body, settled.attempt, settled.outcome) for settled in told} == {
            (b"fail once", 1, Outcome.RETRIED),
            (b"fail once", 2, Outcome.ACKED),
            (b"reject", 1, Outcome.DEAD),
        }

    @pytest.mark.promise(6)
    def test_a_message_acked_by_another_thread_is_done(self, b: Broker, topic: str) -> None:
        """`auto_ack=False`: the handler has returned, the ack comes later."""
        events: list[Event] = []
        seen = Recorder(events.append)
        b.subscribe(topic, seen, group="g", auto_ack=False)
        b.publish(topic, *texts("x"))
        seen.wait(1)
        assert b.backlog(topic, "g") == 1

        def ack_twice() -> None:
            for event in (*events, *events):
                event.ack()

        thread = threading.Thread(target=ack_twice)
        thread.start()
        thread.join()
        eventually(lambda: b.backlog(topic, "g") == 0, "the ack arrives")

    @pytest.mark.promise(6)
    def test_a_message_nobody_acks_comes_again_when_its_lease_ends(self, b: Broker, topic: str) -> None:
        """Counted, and a late ack of the first delivery changes nothing."""
        events: list[Event] = []
        seen = Recorder(events.append)
        b.subscribe(topic, seen, group="g", auto_ack=False, lease_seconds=LEASE)
        b.publish(topic, *texts("x"))
        calls = seen.wait(2)
        assert [call.attempt for call in calls[:2]] == [1, 2]
        events[0].ack()
        assert b.backlog(topic, "g") == 1

        def acked() -> bool:
            for event in events:
                event.ack()
            return b.backlog(topic, "g") == 0

        eventually(acked, "the ack of a current delivery counts")

    @pytest.mark.promise(10)
    def test_a_handler_longer_than_its_lease_runs_once(self, harness: Harness, topic: str) -> None:
        """Its member keeps the lease, also against another that is free."""
        b, other = harness.connect(), harness.connect()
        seen = Recorder(lambda event: threading.Event().wait(LEASE * 2 if event.message.body == b"long" else 0))
        for member in (b, other):
            member.subscribe(topic, seen, group="g", lease_seconds=LEASE)
        b.publish(topic, *texts("long"))
        seen.wait(1)
        eventually(lambda: b.backlog(topic, "g") == 0, "the long one is acked")
        only_this_arrives(b, topic, seen, before=1)

    @pytest.mark.promise(10)
    def test_what_waits_behind_others_for_longer_than_its_lease_runs_once(self, harness: Harness, topic: str) -> None:
        """Also when two publishers have sent a member more than it takes at a time."""
        b, seen = harness.connect(), Recorder(lambda event: threading.Event().wait(LEASE * 0.2))
        b.subscribe(topic, seen, group="g", lease_seconds=LEASE, prefetch=4)
        for publisher in (harness.connect(), harness.connect()):
            publisher.publish(topic, *numbered(4))
        seen.wait(8)
        eventually(lambda: b.backlog(topic, "g") == 0, "all are acked")
        assert [call.attempt for call in seen.received] == [1] * 8

    @pytest.mark.promise(3)
    def test_as_many_handlers_run_as_concurrency_says(self, b: Broker, topic: str) -> None:
        """Also for messages that were published one by one."""
        together = threading.Barrier(8, timeout=60)
        seen = Recorder(lambda event: together.wait())
        b.subscribe(topic, seen, group="g", concurrency=8)
        for message in numbered(8):
            b.publish(topic, Message(message.body, {"ce-partitionkey": message.id}))
        seen.wait(8)
        eventually(lambda: b.backlog(topic, "g") == 0, "all were there together, so none has failed")
        assert len(seen.received) == 8

    @pytest.mark.promise(13)
    def test_what_was_acked_stays_acked_after_a_clean_stop(self, harness: Harness, topic: str) -> None:
        """The acks of the last messages are flushed by the stop."""
        b, consumer, seen = harness.connect(), harness.connect(), Recorder()
        consumer.subscribe(topic, seen, group="g")
        b.publish(topic, *numbered(50))
        seen.wait(50)
        consumer.disconnect()
        harness.connect().subscribe(topic, seen, group="g")
        only_this_arrives(b, topic, seen, before=50)

    @pytest.mark.promise(13)
    def test_what_was_acked_stays_acked_after_a_kill(self, harness: Harness, topic: str) -> None:
        """An idle member has flushed its acks; SIGKILL then repeats nothing."""
        b = harness.connect()
        member = harness.member(topic, "g", lease_seconds=LEASE)
        if not b.promises.many_processes:
            with pytest.raises(NoSubscriber):
                b.publish(topic, *texts("x"), mandatory=True)
            return
        b.publish(topic, *numbered(20))
        member.seen.wait(20)
        eventually(lambda: b.backlog(topic, "g") == 0, "the acks are flushed")
        member.kill()
        heir = harness.member(topic, "g", lease_seconds=LEASE)
        only_this_arrives(b, topic, heir.seen, before=0)
