"""Who gets what: broadcasts, groups, members (promises 2, 3, 4, 9)."""

from __future__ import annotations

import pytest

from broker.base import Broker
from broker.errors import NoSubscriber
from broker.message import Event, Message
from broker.testing.case import LEASE, QUICK, Case, numbered, texts
from broker.testing.harness import Harness
from broker.testing.recorder import Recorder, eventually


def fail(event: Event) -> None:
    """What a broken handler does."""
    raise RuntimeError("broken")


class Groups(Case):
    """Each message to every group once, and to everyone who listens."""

    @pytest.mark.promise(2)
    def test_a_broadcast_reaches_all_and_a_late_joiner_gets_only_what_follows(
        self, harness: Harness, topic: str
    ) -> None:
        """Subscriptions of one process and of another broker object alike."""
        one, other = harness.connect(), harness.connect()
        early, beside, late = Recorder(), Recorder(), Recorder()
        one.subscribe(topic, early)
        one.subscribe(topic, beside)
        other.publish(topic, *texts("first"))
        early.wait_for("first")
        beside.wait_for("first")
        other.subscribe(topic, late)
        one.publish(topic, *texts("second"))
        late.wait_for("second")
        early.wait_for("second")
        beside.wait_for("second")
        assert late.texts == ["second"]
        assert early.texts == beside.texts == ["first", "second"]

    @pytest.mark.promise(2, 14)
    def test_a_raising_broadcast_handler_harms_nobody(self, b: Broker, topic: str) -> None:
        """It is tried again in its own process, then passed over; the others notice nothing."""
        broken, well = Recorder(fail), Recorder()
        b.subscribe(topic, broken, max_attempts=3, retry_delays=QUICK)
        b.subscribe(topic, well)
        b.publish(topic, *texts("a", "b"))
        broken.wait(6)
        assert sorted((r.text, r.attempt) for r in broken.received) == [(t, n) for t in "ab" for n in (1, 2, 3)]
        assert [received.text for received in well.wait(2)] == ["a", "b"]

    @pytest.mark.promise(3)
    def test_each_group_gets_each_message_once_whatever_its_members(self, harness: Harness, topic: str) -> None:
        """Two groups of two members each, all in this process: two on one broker, two on another."""
        brokers = harness.connect(), harness.connect()
        seen = {"g": Recorder(), "h": Recorder()}
        for group, recorder in seen.items():
            for b in brokers:
                b.subscribe(topic, recorder, group=group)
        brokers[0].publish(topic, *numbered(50))
        brokers[1].publish(topic, *numbered(50, "+"))
        for recorder in seen.values():
            recorder.wait(100)
            assert sorted(recorder.texts) == sorted([str(n) for n in range(50)] + [f"+{n}" for n in range(50)])

    @pytest.mark.promise(3)
    def test_members_in_other_processes_share_the_work(self, harness: Harness, topic: str) -> None:
        """One delivery a group over two processes; or, on a broker of one process, none of theirs is ours."""
        b = harness.connect()
        members = {group: [harness.start_member(topic, group) for _ in range(2)] for group in ("g", "h")}
        assert all(member.ready.wait(60) for pair in members.values() for member in pair)
        if not b.promises.many_processes:
            with pytest.raises(NoSubscriber):
                b.publish(topic, *texts("x"), mandatory=True)
            return
        b.publish(topic, *numbered(40))
        for pair in members.values():
            eventually(lambda pair=pair: sum(len(m.seen.texts) for m in pair) >= 40, "a group has them all")  # type: ignore[misc]  # bound now
            assert sorted(t for member in pair for t in member.seen.texts) == sorted(str(n) for n in range(40))

    @pytest.mark.promise(3)
    def test_another_member_takes_over_when_one_dies(self, harness: Harness, topic: str) -> None:
        """SIGKILL in the handler: redelivered to the other member, and counted."""
        b = harness.connect()
        victim = harness.member(topic, "g", lease_seconds=LEASE)
        if not b.promises.many_processes:
            return self._nobody_there(b, topic)
        b.publish(topic, *texts("sleep:60"))
        victim.seen.wait(1)
        heir = harness.member(topic, "g", lease_seconds=LEASE)
        victim.kill()
        [again] = heir.seen.wait(1)
        assert (again.text, again.attempt) == ("sleep:60", 2)
        heir.kill()

    @pytest.mark.promise(4)
    def test_a_group_keeps_its_messages_while_no_member_lives(self, harness: Harness, topic: str) -> None:
        """What was published meanwhile is delivered when a member comes back, in order."""
        b, consumer, seen = harness.connect(), harness.connect(), Recorder()
        consumer.subscribe(topic, seen, group="g")
        b.publish(topic, *texts("before"))
        seen.wait(1)
        consumer.disconnect()
        b.publish(topic, *numbered(5), mandatory=True)
        eventually(lambda: b.backlog(topic, "g") == 5, "the ack of the first has arrived, and just the others wait")
        harness.connect().subscribe(topic, seen, group="g")
        seen.wait(6)
        assert seen.texts == ["before", "0", "1", "2", "3", "4"]

    @pytest.mark.promise(4)
    def test_a_group_outlives_every_connection(self, harness: Harness, topic: str) -> None:
        """Everybody leaves and comes back: nothing is gone; unless declared, then all of it is."""
        first, seen = harness.connect(), Recorder()
        first.subscribe(topic, Recorder(), group="g").unsubscribe()
        first.publish(topic, *texts("x"))
        first.disconnect()
        second = harness.connect()
        if not second.promises.durable:
            assert second.backlog(topic, "g") == 0
            assert second.groups() == []
            return
        second.subscribe(topic, seen, group="g")
        assert [received.text for received in seen.wait(1)] == ["x"]

    @pytest.mark.promise(2, 3)
    @pytest.mark.parametrize("group", [None, "g"])
    def test_subscribe_is_in_force_when_it_returns(self, harness: Harness, topic: str, group: str | None) -> None:
        """What is published right after is delivered, by whichever broker."""
        b, publisher = harness.connect(), harness.connect()
        for n in range(5):
            seen = Recorder()
            subscription = b.subscribe(f"{topic}.{n}", seen, group=group)
            publisher.publish(f"{topic}.{n}", *texts("x"))
            seen.wait(1)
            subscription.unsubscribe()

    @pytest.mark.promise(9)
    def test_messages_with_one_key_start_in_the_order_they_were_published(self, harness: Harness, topic: str) -> None:
        """Single publishes and batches mixed, to one member."""
        b, publisher, seen = harness.connect(), harness.connect(), Recorder()
        b.subscribe(topic, seen, group="g")
        messages = [Message(str(n).encode(), {"ce-partitionkey": "k"}) for n in range(200)]
        publisher.publish(topic, *messages[:80])
        for message in messages[80:120]:
            publisher.publish(topic, message)
        publisher.publish(topic, *messages[120:])
        seen.wait(200)
        assert seen.texts == [str(n) for n in range(200)]

    @pytest.mark.promise(3)
    def test_backlog_counts_what_waits_and_what_is_being_handled(self, b: Broker, topic: str) -> None:
        """And nothing once all is acked."""
        b.subscribe(topic, Recorder(), group="g").unsubscribe()
        b.publish(topic, *numbered(7))
        assert b.backlog(topic, "g") == 7
        assert (topic, "g") in [(group.topic, group.name) for group in b.groups()]
        b.subscribe(topic, Recorder(), group="g")
        eventually(lambda: b.backlog(topic, "g") == 0, "the backlog is empty")

    def test_a_forgotten_group_gets_nothing_any_more(self, b: Broker, topic: str) -> None:
        """`forget` ends it, with what waited for it."""
        b.subscribe(topic, Recorder(), group="g").unsubscribe()
        b.publish(topic, *numbered(3))
        b.group(topic, "g").forget()
        assert topic not in [group.topic for group in b.groups()]
        assert b.backlog(topic, "g") == 0

    def _nobody_there(self, b: Broker, topic: str) -> None:
        """What a broker of one process promises about other processes: nothing of theirs is seen."""
        with pytest.raises(NoSubscriber):
            b.publish(topic, *texts("x"), mandatory=True)
