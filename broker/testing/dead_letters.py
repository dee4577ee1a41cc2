"""Dead letters (promise 7)."""

from __future__ import annotations

import logging
import threading
import time
from datetime import UTC, datetime

import pytest

from broker.base import Broker
from broker.errors import NoSubscriber, Reject
from broker.message import GROUP, Event, Message
from broker.testing.case import LEASE, QUICK, Case, only_this_arrives, texts
from broker.testing.harness import Harness
from broker.testing.recorder import Recorder, eventually


def always_fail(event: Event) -> None:
    """What a handler does to a poisonous message."""
    raise ValueError("poison")


def reject(event: Event) -> None:
    """What a handler does to a message that no attempt will mend."""
    raise Reject("no such type")


class DeadLetters(Case):
    """What a group gave up on is kept, with the reason, until somebody decides."""

    @pytest.mark.promise(7)
    def test_a_message_is_a_dead_letter_after_exactly_its_attempts(self, b: Broker, topic: str) -> None:
        """With body, headers, reason, number of attempts and times."""
        message = Message(b"\x00body", {"traceparent": "00-4bf92f35-00f067aa-01", "名": "学院君"})
        seen = Recorder(always_fail)
        b.subscribe(topic, seen, group="g", max_attempts=3, retry_delays=QUICK)
        before = datetime.now(UTC)
        b.publish(topic, message)
        letters = b.group(topic, "g").dead_letters
        eventually(letters, "there is a dead letter")
        [letter] = letters()
        assert [call.attempt for call in seen.received] == [1, 2, 3]
        assert (letter.message.body, letter.attempts) == (message.body, 3)
        assert {name: letter.message.header[name] for name in message.header} == dict(message.header)
        assert letter.reason == "ValueError: poison"
        assert abs((letter.published_at - before).total_seconds()) < 60
        assert letter.published_at <= letter.failed_at <= datetime.now(UTC)
        eventually(lambda: b.backlog(topic, "g") == 0, "the original is acked")

    @pytest.mark.promise(7)
    def test_reject_makes_a_dead_letter_at_once(self, b: Broker, topic: str) -> None:
        """The reason is what the handler said."""
        b.subscribe(topic, Recorder(reject), group="g")
        b.publish(topic, *texts("x"))
        letters = b.group(topic, "g").dead_letters
        eventually(letters, "there is a dead letter")
        assert [(letter.reason, letter.attempts) for letter in letters()] == [("no such type", 1)]

    @pytest.mark.promise(7)
    def test_a_reason_may_be_any_text(self, b: Broker, topic: str) -> None:
        """Long, in any script, and even what is no Unicode: an exception may quote what came from outside."""

        def behave(event: Event) -> None:
            raise Reject("学院君\x1b\n" + "x" * 100_000 if event.message.body == b"long" else "half \ud800")

        b.subscribe(topic, behave, group="g", max_attempts=1)
        b.publish(topic, *texts("long", "half"))
        letters = b.group(topic, "g").dead_letters
        eventually(lambda: len(letters()) == 2, "there are two dead letters")
        reasons = {letter.message.body: letter.reason for letter in letters()}
        assert reasons[b"long"].startswith("学院君\x1b\nxxx")
        assert reasons[b"half"] == "half ?"

    @pytest.mark.promise(7)
    def test_a_replay_reaches_its_group_alone_and_keeps_the_id(
        self, b: Broker, topic: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        """From attempt 1 again; other groups and broadcasts do not see it. The log says that it is one."""
        caplog.set_level(logging.INFO, "broker")
        mended = threading.Event()

        def behave(event: Event) -> None:
            if event.message.body == b"x" and not mended.is_set():
                raise Reject("not mended")

        seen, beside, everyone = Recorder(behave), Recorder(), Recorder()
        b.subscribe(topic, seen, group="g")
        b.subscribe(topic, beside, group="h")
        b.subscribe(topic, everyone)
        [message] = texts("x")
        b.publish(topic, message)
        group = b.group(topic, "g")
        eventually(group.dead_letters, "there is a dead letter")
        mended.set()
        assert group.replay(message.id) == 1
        again = seen.wait(2)[1]
        replayed = [record for record in caplog.records if "a dead letter is replayed" in record.getMessage()]
        assert [record.__dict__["event_id"] for record in replayed] == [message.id]
        assert (again.message.id, again.message.body, again.attempt) == (message.id, b"x", 1)
        assert GROUP not in again.message.header, "a handler that forwards it would forward that too"
        eventually(lambda: b.backlog(topic, "g") == 0, "the replay is acked")
        assert group.dead_letters() == []
        for other in (beside, everyone):
            other.wait(1)
        only_this_arrives(b, topic, beside, everyone, before=1)

    @pytest.mark.promise(7)
    def test_several_are_replayed_together(self, b: Broker, topic: str) -> None:
        """Those that are named, and no other."""
        mended = threading.Event()

        def behave(event: Event) -> None:
            if not mended.is_set():
                raise Reject("not mended")

        seen = Recorder(behave)
        b.subscribe(topic, seen, group="g")
        first, second, third = texts("1", "2", "3")
        b.publish(topic, first, second, third)
        group = b.group(topic, "g")
        eventually(lambda: len(group.dead_letters()) == 3, "there are three dead letters")
        mended.set()
        assert group.replay(first.id, third.id, "nobody") == 2
        seen.wait(5)
        eventually(lambda: b.backlog(topic, "g") == 0, "the replays are acked")
        assert sorted(seen.texts[3:]) == ["1", "3"]
        assert [letter.message.id for letter in group.dead_letters()] == [second.id]

    @pytest.mark.promise(7)
    def test_a_message_for_one_group_reaches_no_other(self, b: Broker, topic: str) -> None:
        """The header `broker-group` says which; a replay may travel that way. The others ack it unseen."""
        wanted, other, everyone = Recorder(), Recorder(), Recorder()
        b.subscribe(topic, wanted, group="g")
        b.subscribe(topic, other, group="h")
        b.subscribe(topic, everyone)
        b.publish(topic, Message(b"for g", {GROUP: "g"}))
        wanted.wait_for("for g")
        only_this_arrives(b, topic, other, everyone, before=0)
        eventually(lambda: b.backlog(topic, "h") == 0, "it is acked unseen")

    @pytest.mark.promise(7)
    def test_a_discarded_dead_letter_is_gone(self, b: Broker, topic: str) -> None:
        """Just that one; an unknown id is said to be none."""
        b.subscribe(topic, Recorder(reject), group="g")
        first, second = texts("1", "2")
        b.publish(topic, first, second)
        group = b.group(topic, "g")
        eventually(lambda: len(group.dead_letters()) == 2, "there are two dead letters")
        assert group.discard(first.id) == 1
        assert group.discard(first.id) == 0
        assert group.replay("nobody") == 0
        assert [letter.message.id for letter in group.dead_letters()] == [second.id]

    @pytest.mark.promise(7)
    def test_the_original_is_kept_while_dead_letters_cannot_be_stored(self, harness: Harness, topic: str) -> None:
        """It waits, and becomes a dead letter once they can."""
        b = harness.connect()
        seen = Recorder(reject)
        b.subscribe(topic, seen, group="g")
        with harness.dead_letters_unreachable():
            b.publish(topic, *texts("x"))
            seen.wait(1)
            time.sleep(0.2)  # so that burying it has been tried and has failed
            assert b.backlog(topic, "g") == 1
        eventually(lambda: len(b.group(topic, "g").dead_letters()) == 1, "it is a dead letter in the end")
        eventually(lambda: b.backlog(topic, "g") == 0, "the original is acked")

    @pytest.mark.promise(7)
    def test_a_last_attempt_runs_with_nothing_else_running(self, b: Broker, topic: str) -> None:
        """However many handlers its member runs otherwise."""
        lock, running, crowds = threading.Lock(), set[str](), list[set[str]]()

        def behave(event: Event) -> None:
            with lock:
                running.add(event.message.id)
                if event.attempt == 2:
                    crowds.append(set(running))
            threading.Event().wait(0.02)
            with lock:
                running.discard(event.message.id)
            if event.message.body == b"bad":
                raise ValueError("bad")

        b.subscribe(topic, behave, group="g", concurrency=4, max_attempts=2, retry_delays=QUICK)
        b.publish(topic, *texts(*["bad", "good", "good", "good"] * 5))
        eventually(lambda: len(b.group(topic, "g").dead_letters()) == 5, "the bad ones are dead letters")
        assert [len(crowd) for crowd in crowds] == [1] * 5

    @pytest.mark.promise(7)
    def test_a_message_that_always_kills_its_process_is_a_dead_letter(self, harness: Harness, topic: str) -> None:
        """In the end; its neighbours are delivered, and none of them is given up for its crimes."""
        b = harness.connect()
        settings = {"max_attempts": 3, "lease_seconds": LEASE}
        member = harness.member(topic, "g", **settings)
        if not b.promises.many_processes:
            with pytest.raises(NoSubscriber):
                b.publish(topic, *texts("x"), mandatory=True)
            return
        b.publish(topic, *texts("a", "die", "b", "c"))
        handled = []
        group = b.group(topic, "g")

        def all_told() -> bool:
            nonlocal member
            if not member.alive:
                handled.extend(member.seen.texts)
                member = harness.start_member(topic, "g", **settings)
            return bool(group.dead_letters()) and b.backlog(topic, "g") == 0

        eventually(all_told, "everything is settled", seconds=180)
        eventually(lambda: set("abc") <= {*handled, *member.seen.texts}, "its neighbours were handled, and said so")
        [letter] = group.dead_letters()
        assert letter.message.body == b"die"
        assert "died" in letter.reason
        assert [*handled, *member.seen.texts].count("die") == 3
