"""Restarts, cuts and operators' mistakes (promises 12 and 13)."""

from __future__ import annotations

import threading

import pytest

from broker.base import Broker
from broker.testing.case import LEASE, QUICK, Case, numbered, texts
from broker.testing.harness import Harness
from broker.testing.recorder import Recorder, eventually


class Faults(Case):
    """Publishing and subscriptions go on by themselves."""

    @pytest.mark.promise(12, 13)
    def test_everything_goes_on_after_a_restart_while_idle(self, harness: Harness, topic: str) -> None:
        """What was acked before is not delivered again; groups and broadcasts receive what follows."""
        b, seen, everyone = harness.connect(), Recorder(), Recorder()
        b.subscribe(topic, seen, group="g")
        b.subscribe(topic, everyone)
        b.publish(topic, *numbered(10))
        seen.wait(10)
        everyone.wait(10)
        eventually(lambda: b.backlog(topic, "g") == 0, "the acks are flushed")
        self.restart(harness, b)
        self.publish_surely(b, topic, "after")
        seen.wait_for("after")
        everyone.wait_for("after")
        assert set(seen.texts[10:]) == {"after"} or not b.promises.survives_kill

    @pytest.mark.promise(12)
    def test_a_restart_during_a_handler_loses_nothing(self, harness: Harness, topic: str) -> None:
        """What ran is delivered again, or acked after all; what waited arrives."""
        b = harness.connect()
        proceed = threading.Event()
        seen = Recorder(lambda event: proceed.wait(60))
        b.subscribe(topic, seen, group="g", lease_seconds=LEASE, retry_delays=QUICK)
        b.publish(topic, *numbered(5))
        seen.wait(1)
        self.restart(harness, b)
        proceed.set()
        eventually(lambda: set(seen.texts) == set("01234") and b.backlog(topic, "g") == 0, "all are handled and acked")

    @pytest.mark.promise(4, 12)
    def test_what_waited_outlives_a_restart(self, harness: Harness, topic: str) -> None:
        """Confirmed messages of a group without members are there afterwards; unless declared."""
        b, seen = harness.connect(), Recorder()
        b.subscribe(topic, Recorder(), group="g").unsubscribe()
        b.publish(topic, *numbered(5))
        self.restart(harness, b)
        eventually(lambda: self.backlog_or_none(b, topic) is not None, "the broker answers again")
        assert self.backlog_or_none(b, topic) == (5 if b.promises.survives_kill or not b.promises.server else 0)
        b.subscribe(topic, seen, group="g")
        self.publish_surely(b, topic, "after")
        seen.wait_for("after")

    @pytest.mark.promise(12)
    def test_a_cut_connection_is_made_again(self, harness: Harness, topic: str) -> None:
        """Nothing is lost; what was unacked may come twice."""
        b = harness.connect()
        proceed = threading.Event()
        seen, everyone = Recorder(lambda event: proceed.wait(60)), Recorder()
        b.subscribe(topic, seen, group="g", lease_seconds=LEASE, retry_delays=QUICK)
        b.subscribe(topic, everyone)
        b.publish(topic, *numbered(5))
        seen.wait(1)
        everyone.wait(5)
        if self.can_be_cut(b):
            harness.cut()
        proceed.set()
        self.publish_surely(b, topic, "after")
        everyone.wait_for("after")
        eventually(lambda: set(seen.texts) == {*"01234", "after"} and b.backlog(topic, "g") == 0, "all are handled")

    @pytest.mark.promise(12)
    def test_a_group_deleted_underneath_is_made_again(self, harness: Harness, topic: str) -> None:
        """Its member goes on, from the oldest message that is kept."""
        b, seen = harness.connect(), Recorder()
        b.subscribe(topic, seen, group="g")
        b.publish(topic, *texts("before"))
        seen.wait(1)
        eventually(lambda: b.backlog(topic, "g") == 0, "the ack is flushed")
        harness.lose_group(topic, "g")
        eventually(lambda: self.arrives(b, topic, seen), "the group receives again")

    def restart(self, harness: Harness, b: Broker) -> None:
        """Kill the server and start it again; where there is none, only our own connection can end."""
        if b.promises.server:
            with harness.outage():
                pass

    def can_be_cut(self, b: Broker) -> bool:
        """Whether there is any connection between publisher and consumer."""
        return b.promises.server or b.promises.many_processes

    def publish_surely(self, b: Broker, topic: str, text: str) -> None:
        """Publish until it is confirmed, as a relay would."""
        [message] = texts(text)

        def confirmed() -> bool:
            try:
                b.publish(topic, message)
            except Exception:  # whatever it is: that it ends is what is tested
                return False
            return True

        eventually(confirmed, "publishing works again")

    def backlog_or_none(self, b: Broker, topic: str) -> int | None:
        """The backlog; None while the broker cannot say."""
        try:
            return b.backlog(topic, "g")
        except Exception:  # whatever it is: that it ends is what is tested
            return None

    def arrives(self, b: Broker, topic: str, seen: Recorder) -> bool:
        """Whether a message published now has arrived shortly after."""
        count = len(seen.received)
        self.publish_surely(b, topic, "after")
        try:
            seen.wait(count + 1, seconds=0.5)
        except AssertionError:
            return False
        return True
