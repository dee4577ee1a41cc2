"""The engine when its server fails it. What handlers see is held by the contract suite."""

from __future__ import annotations

import threading
import time
from asyncio import CancelledError
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import pytest

from broker.engine.inflight import AT_FIRST, InFlight
from broker.engine.report import Settled
from broker.engine.source import BroadcastSource, Delivery, Source
from broker.engine.subscription import Subscription
from broker.errors import BrokerError, DrainTimeout, Reject
from broker.message import Event, Message
from broker.options import SubscribeOptions
from broker.testing import Recorder, eventually
from tests.contract.in_time import in_time


@dataclass(eq=False)
class Script(Source[int]):
    """A server with so many messages, which fails when a call's name is in `failing`, and notes what was done."""

    messages: int
    attempt: int = 1
    failing: dict[str, BaseException] = field(default_factory=dict)
    done: list[str] = field(default_factory=list)
    largest: int = 0
    closed: bool = False

    def __post_init__(self) -> None:
        self._lock = threading.Lock()
        self._interrupted = threading.Event()
        self._next = 0
        self._held = 0

    def fetch(self, limit: int, timeout_seconds: float) -> Sequence[Delivery[int]]:
        self._maybe_fail("fetch")
        with self._lock:
            numbers = range(self._next, min(self._next + limit, self.messages))
            self._next = numbers.stop if numbers else self._next
            self._held += len(numbers)
            self.largest = max(self.largest, self._held)
        if not numbers:
            self._interrupted.wait(0.01)
        return [Delivery(Message(str(n).encode()), self.attempt, n) for n in numbers]

    def interrupt(self) -> None:
        self._interrupted.set()

    def close(self) -> None:
        self.closed = True

    def ack(self, deliveries: Sequence[Delivery[int]]) -> None:
        self._note("ack", *deliveries)

    def retry(self, delivery: Delivery[int], delay_seconds: float) -> None:
        self._note("retry", delivery)

    def bury(self, delivery: Delivery[int], reason: str) -> None:
        self._note("bury", delivery)

    def release(self, deliveries: Sequence[Delivery[int]]) -> None:
        self._note("release", *deliveries)

    def begin_last(self, delivery: Delivery[int]) -> None:
        self._maybe_fail("begin_last")

    def extend(self, deliveries: Sequence[Delivery[int]]) -> None:
        self._note("extend", *deliveries)

    def _note(self, verb: str, *deliveries: Delivery[int]) -> None:
        self._maybe_fail(verb)
        with self._lock:
            self._held -= len(deliveries) if verb != "extend" else 0
            self.done.extend(f"{verb} {delivery.receipt}" for delivery in deliveries)

    def _maybe_fail(self, verb: str) -> None:
        if verb in self.failing:
            raise self.failing[verb]


Start = Callable[..., Subscription]


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts a subscription, and ends it after the test."""
    started: list[Subscription] = []

    def begin(source: Source[int], handler: Callable[[Event], object], **options: object) -> Subscription:
        chosen = SubscribeOptions(**{"group": "g", **options})  # type: ignore[arg-type]  # as the test says
        started.append(Subscription("t", handler, chosen, source, drain_seconds=60))
        return started[-1]

    yield begin
    for subscription in started:
        with suppress(DrainTimeout):  # some leave a message that nobody acks
            subscription.unsubscribe(time.monotonic() + 2)


@pytest.mark.parametrize(
    "error", [BrokerError("away"), RuntimeError("a bug in an adapter"), CancelledError(), SystemExit(1)], ids=repr
)
def test_no_error_of_a_fetch_ends_the_subscription(start: Start, error: BaseException) -> None:
    """It goes on by itself once the server is back."""
    source, seen = Script(3, failing={"fetch": error}), Recorder()
    start(source, seen)
    source.failing.clear()
    seen.wait(3)


def test_no_answer_of_a_fetch_ends_the_subscription(start: Start) -> None:
    """Not even one that is none."""

    class Odd(Script):
        def fetch(self, limit: int, timeout_seconds: float) -> Sequence[Delivery[int]]:
            if self.failing.pop("odd", None):
                return [None]  # type: ignore[list-item]  # that is odd
            return super().fetch(limit, timeout_seconds)

    source, seen = Odd(3, failing={"odd": RuntimeError()}), Recorder()
    start(source, seen)
    seen.wait(3)


@pytest.mark.parametrize("missing", ["work-1", "fetch", "keep"])
def test_a_subscription_that_gets_too_few_threads_leaves_its_group(
    missing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half at work, it would keep messages from the others."""
    begin, started = threading.Thread.start, []

    def start(thread: threading.Thread) -> None:
        if thread.name == f"g-{missing}":
            raise RuntimeError("can't start new thread")
        started.append(thread)
        begin(thread)

    monkeypatch.setattr(threading.Thread, "start", start)
    source = Script(5)
    with pytest.raises(BrokerError, match="needs 4 threads: can't start"):
        Subscription("t", lambda event: None, SubscribeOptions(group="g", concurrency=2), source, drain_seconds=60)
    for thread in started:
        thread.join(60)
        assert not thread.is_alive()
    assert source.closed


def test_an_interrupt_that_fails_keeps_nothing_from_being_handed_back(start: Start) -> None:
    """The drain goes on."""

    class Stubborn(Script):
        def interrupt(self) -> None:
            super().interrupt()
            raise RuntimeError("a bug in an adapter")

    proceed = threading.Event()
    source, seen = Stubborn(3), Recorder(lambda event: proceed.wait(60))
    subscription = start(source, seen)
    eventually(lambda: source.largest == 3, "one runs and two wait")
    seen.wait(1)
    subscription.stop()
    proceed.set()
    subscription.unsubscribe()
    assert sorted(source.done) == ["ack 0", "release 1", "release 2"]


def test_an_ack_that_fails_is_sent_again(start: Start) -> None:
    """Until it is taken, once."""
    source, seen = Script(3, failing={"ack": BrokerError("away")}), Recorder()
    start(source, seen)
    seen.wait(3)
    source.failing.clear()
    eventually(lambda: sorted(source.done) == ["ack 0", "ack 1", "ack 2"], "each was acked once")


def test_a_last_attempt_waits_until_it_can_be_noted(start: Start) -> None:
    """It must not run unnoted: a crash would repeat it for ever."""
    source, seen = Script(1, attempt=8, failing={"begin_last": BrokerError("away")}), Recorder()
    subscription = start(source, seen)
    eventually(lambda: subscription._later, "it waits")
    assert seen.received == []
    source.failing.clear()
    seen.wait(1)
    eventually(lambda: source.done == ["ack 0"], "it was acked")


def test_a_dead_letter_that_cannot_be_stored_is_tried_again_and_its_lease_kept(start: Start) -> None:
    """The original is neither acked nor handed back meanwhile."""

    def reject(event: Event) -> None:
        raise Reject("no")

    source = Script(1, failing={"bury": BrokerError("full")})
    start(source, reject, lease_seconds=0.06)
    eventually(lambda: source.done.count("extend 0") >= 2, "its lease is renewed")
    assert set(source.done) == {"extend 0"}
    source.failing.clear()
    eventually(lambda: "bury 0" in source.done, "it is a dead letter in the end")


def test_a_bug_while_a_dead_letter_is_tried_again_keeps_no_lease_for_ever(start: Start) -> None:
    """The lease of that message ends, and the others go on."""

    def reject_first(event: Event) -> None:
        if event.message.body == b"0":
            raise Reject("no")

    source, seen = Script(2, failing={"bury": BrokerError("full")}), Recorder(reject_first)
    subscription = start(source, seen)
    seen.wait(2)
    eventually(lambda: subscription._later, "it is to be tried again")
    source.failing["bury"] = RuntimeError("a bug")
    eventually(lambda: not subscription._flight.held(), "its lease is not renewed any more")
    eventually(lambda: source.done == ["ack 1"], "the other one is acked")


@pytest.mark.parametrize("error", [Reject("x" * 10**7), RuntimeError("x" * 10**7)], ids=["reject", "error"])
def test_a_reason_fits_into_a_dead_letter(start: Start, error: Exception) -> None:
    """However much a handler says; it could never be stored otherwise."""

    def fail(event: Event) -> None:
        raise error

    reasons: list[str] = []

    class Reading(Script):
        def bury(self, delivery: Delivery[int], reason: str) -> None:
            reasons.append(reason)

    start(Reading(1, attempt=8), fail)
    eventually(lambda: reasons, "it is a dead letter")
    assert 2000 < len(reasons[0]) < 2100


def test_a_member_never_holds_more_than_its_prefetch(start: Start) -> None:
    """Whatever the server would give it."""
    source, seen = Script(100), Recorder()
    start(source, seen, prefetch=7, concurrency=2)
    seen.wait(100)
    eventually(lambda: len(source.done) == 100, "all are acked")
    assert source.largest <= 7


def test_a_small_prefetch_is_filled_again_before_it_is_empty() -> None:
    """However many handlers there are."""
    flight = InFlight(SubscribeOptions(group="g", prefetch=4, concurrency=4))
    flight.arrived([Delivery(Message(), 1, n) for n in range(flight.room() - 1)])
    for _ in range(2):
        delivery = flight.take()
        assert delivery
        flight.settle(delivery)
        flight.finished()
    assert flight._worth_fetching()


def test_a_member_with_a_slow_handler_leaves_the_rest_to_others(start: Start) -> None:
    """Its worker never waits for a fetch, so there is no need to read further ahead."""
    waiting: list[int] = []

    def slow(event: Event) -> None:
        flight = subscription._flight
        eventually(lambda: flight.stopping.is_set() or not flight._worth_fetching(), "all worth fetching is there")
        waiting.append(len(flight._ready))

    started = threading.Event()
    source = Script(100_000)
    seen = Recorder(lambda event: slow(event) if started.wait(60) else None)
    subscription = start(source, seen)
    started.set()
    seen.wait(200)
    assert max(waiting) <= 2 * AT_FIRST


def test_a_member_with_a_quick_handler_reads_ahead_as_far_as_it_may(start: Start) -> None:
    """Its worker waits for each fetch, since the server is far away."""

    class Far(Script):
        def fetch(self, limit: int, timeout_seconds: float) -> Sequence[Delivery[int]]:
            time.sleep(0.005)
            return super().fetch(limit, timeout_seconds)

    source = Far(100_000)
    start(source, Recorder(), prefetch=100)
    eventually(lambda: source.largest > 50, "it has read far ahead")


def test_the_lease_of_a_message_that_waits_for_its_ack_is_kept(start: Start) -> None:
    """The engine ends it in time; the server does so only when this process has died."""
    source = Script(1)
    subscription = start(source, Recorder(), auto_ack=False)
    eventually(lambda: subscription._flight._unacked, "the handler has returned")
    subscription._renew()
    assert source.done == ["extend 0"]


def test_the_lease_of_a_message_that_is_never_acked_ends(start: Start) -> None:
    """When the options say; then there is another attempt."""
    source = Script(1)
    start(source, Recorder(), auto_ack=False, lease_seconds=0.1)
    eventually(lambda: "retry 0" in source.done, "its lease has ended")


def test_a_server_that_is_gone_does_not_keep_a_drain_from_ending(start: Start) -> None:
    """What cannot be handed back comes again when its lease ends."""
    proceed = threading.Event()
    source, seen = Script(5), Recorder(lambda event: proceed.wait(60))
    subscription = start(source, seen)
    seen.wait(1)
    source.failing["release"] = BrokerError("away")
    subscription.stop()
    proceed.set()
    subscription.unsubscribe()
    assert source.closed
    assert source.done == ["ack 0"]


class Slow(Script):
    """A server that takes its time, and does not heed an interrupt."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.asked, self.answers, self.left = threading.Event(), threading.Event(), threading.Event()

    def fetch(self, limit: int, timeout_seconds: float) -> Sequence[Delivery[int]]:
        self.asked.set()
        self.answers.wait(60)
        return super().fetch(limit, timeout_seconds)

    def close(self) -> None:
        self.done.append("close")
        self.left.set()


def test_what_still_arrives_during_a_drain_is_handed_back_before_the_source_is_closed(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However slow the server is: closed first, the source would count an attempt that nobody has made."""
    monkeypatch.setattr("broker.engine.subscription.FETCH_SECONDS", 0.01)
    source = Slow(2)
    subscription = start(source, Recorder())
    assert source.asked.wait(60)
    subscription.stop()
    assert not source.left.wait(0.3)
    source.answers.set()
    subscription.unsubscribe()
    assert source.done == ["release 0", "release 1", "close"]


@pytest.mark.parametrize("verb", ["interrupt", "release"])
def test_a_server_that_hangs_holds_up_no_stop(start: Start, verb: str) -> None:
    """Several subscriptions are stopped one after another, and each has its deadline."""
    hanging, answers = threading.Event(), threading.Event()

    class Hanging(Script):
        def interrupt(self) -> None:
            super().interrupt()
            self._hang("interrupt")

        def release(self, deliveries: Sequence[Delivery[int]]) -> None:
            self._hang("release")

        def _hang(self, what: str) -> None:
            if what == verb:
                hanging.set()
                answers.wait(20)

    source, seen = Hanging(3), Recorder(lambda event: answers.wait(60))
    subscription = start(source, seen)
    eventually(lambda: source.largest == 3, "one runs and two wait")
    seen.wait(1)
    with in_time(1), pytest.raises(DrainTimeout):
        subscription.unsubscribe(time.monotonic() + 0.1)
    assert hanging.wait(60)
    answers.set()


def test_a_server_that_answers_too_late_is_left_when_the_deadline_is_over(start: Start) -> None:
    """The drain does not end well then."""
    source = Slow(1)
    subscription = start(source, Recorder())
    assert source.asked.wait(60)
    with pytest.raises(DrainTimeout):
        subscription.unsubscribe(time.monotonic())
    assert source.left.wait(60)
    source.answers.set()


def test_a_handler_that_fails_after_its_drain_was_given_up_changes_nothing(start: Start) -> None:
    """The source is closed by then, and its message has gone back to the group."""
    running, proceed, failed = threading.Event(), threading.Event(), threading.Event()

    def fail_late(event: Event) -> None:
        running.set()
        proceed.wait(60)
        failed.set()
        raise RuntimeError("too late")

    source = Script(1)
    subscription = start(source, fail_late)
    assert running.wait(60)
    with pytest.raises(DrainTimeout):
        subscription.unsubscribe(time.monotonic())
    proceed.set()
    assert failed.wait(60)
    for worker in subscription._workers:
        worker.join()
    assert source.done == []


@dataclass(eq=False)
class SlowToHandBack(Script):
    """The handler that runs is done in the middle of a hand-back."""

    finish: threading.Event = field(default_factory=threading.Event)
    shut: threading.Event = field(default_factory=threading.Event)

    def release(self, deliveries: Sequence[Delivery[int]]) -> None:
        self.finish.set()
        self.shut.wait(0.2)  # it must not be
        super().release(deliveries)

    def close(self) -> None:
        self.done.append("close")
        self.shut.set()


def test_what_waits_is_handed_back_before_the_source_is_closed(start: Start) -> None:
    """Closing would hand it back, too, but with its attempt counted."""
    source, runs = SlowToHandBack(3), threading.Event()

    def handle(_: Event) -> None:
        runs.set()
        source.finish.wait(60)

    subscription = start(source, handle)
    eventually(lambda: runs.is_set() and source.largest == 3, "one runs and two wait")
    subscription.unsubscribe()
    assert sorted(source.done[:-1]) == ["ack 0", "release 1", "release 2"]
    assert source.done[-1] == "close"


class Mute(Exception):
    """An error that cannot tell what it is."""

    def __str__(self) -> str:
        raise RuntimeError("not even this")


class MuteReject(Reject):
    """A dead letter without a reason that could be told."""

    def __str__(self) -> str:
        raise SystemExit(1)


def test_a_reject_without_words_is_a_dead_letter_all_the_same(start: Start) -> None:
    """Its reason is the name of the error."""

    def reject(event: Event) -> None:
        raise MuteReject

    source = Script(1)
    start(source, reject)
    eventually(lambda: source.done == ["bury 0"], "it is a dead letter")


@pytest.mark.parametrize("fault", ["on_error exits", "on_settled exits", "error without words"])
def test_a_worker_survives_whatever_follows_a_failure(fault: str) -> None:
    """The next message is handled."""

    def behave(event: Event) -> None:
        if event.message.body == b"0":
            raise Mute if fault == "error without words" else RuntimeError("no")

    def on_error(event: Event) -> None:
        if fault == "on_error exits":
            raise SystemExit(1)

    def on_settled(settled: Settled) -> None:
        if fault == "on_settled exits":
            raise SystemExit(1)

    source, seen = Script(2), Recorder(behave)
    subscription = Subscription("t", seen, SubscribeOptions(group="g"), source, 60, on_error, on_settled)
    seen.wait(2)
    eventually(lambda: sorted(source.done) == ["ack 1", "retry 0"], "both are settled")
    subscription.unsubscribe()


def test_a_keeper_survives_a_bug_in_an_adapter(start: Start) -> None:
    """And flushes the acks once it is gone."""
    source, seen = Script(2, failing={"ack": RuntimeError("a bug")}), Recorder()
    start(source, seen)
    seen.wait(2)
    source.failing.clear()
    eventually(lambda: len(source.done) == 2, "the acks are flushed")


class Flood(BroadcastSource):
    """Broadcasts without end."""

    def fetch(self, limit: int, timeout_seconds: float) -> Sequence[Delivery[None]]:
        return [Delivery(Message(), 1, None) for _ in range(limit)]

    def interrupt(self) -> None:
        """There is nothing to wake."""

    def close(self) -> None:
        """Nothing to leave."""


def test_broadcasts_that_fail_do_not_fill_the_memory(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """So many wait for another attempt; more are passed over at once."""
    monkeypatch.setattr("broker.engine.subscription.MAX_WAITING_BROADCASTS", 10)

    def fail(event: Event) -> None:
        raise RuntimeError("broken")

    seen = Recorder(fail)
    subscription = start(Flood(), seen, group=None, retry_delays=(60,))
    seen.wait(200)
    assert len(subscription._later) <= 10
