"""The engine: what happens between a broker's server and a handler, once, for every broker.

    Source.fetch → InFlight → a worker runs the handler → ack | retry later | dead letter

An adapter brings a `Source` (`source.py`). Everything that the contract says about handlers (retries, dead letters,
last attempts, leases, drains) is decided here; `inflight.py` keeps count of what is where.

Each subscription has `concurrency` worker threads, one thread that fetches ahead, and one keeper, which flushes acks,
renews leases, does what is due later, and closes the source at the end.
"""

from __future__ import annotations

import heapq
import logging
import random
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from typing import Any

from broker.engine.inflight import InFlight
from broker.engine.report import Report, Settled, about, in_words
from broker.engine.source import Delivery, Source
from broker.errors import BrokerError, DrainTimeout, Reject
from broker.handlers import check_result
from broker.message import GROUP, Event
from broker.options import SubscribeOptions

log = logging.getLogger(__name__)

Handler = Callable[[Event], object]

FETCH_SECONDS = 1.0  #: how long one fetch waits for a message
TROUBLE_SECONDS = 0.5  #: pause after the server failed us
MAX_WAITING_BROADCASTS = 1000  #: failed broadcasts kept in this process for another attempt
DIED = "the process died in its last attempt"


@dataclass(order=True)
class _Later:
    """Something to do at a time (`time.monotonic()`)."""

    due: float
    order: int
    delivery: Delivery[Any] = field(compare=False)
    action: Callable[[Delivery[Any]], None] = field(compare=False)


class Subscription:
    """A handler at work. `subscribe` returns it once it is in force; `unsubscribe` ends it."""

    def __init__(
        self,
        topic: str,
        handler: Handler,
        options: SubscribeOptions,
        source: Source[Any],
        drain_seconds: float,
        on_error: Callable[[Event], None] | None = None,
        on_settled: Callable[[Settled], None] | None = None,
    ) -> None:
        self.topic = topic
        self.options = options
        self._handler = handler
        self._source = source
        self._drain_seconds = drain_seconds
        self._report = Report(topic, options.group, on_error, on_settled)
        self._flight = InFlight(options)
        self._later: list[_Later] = []  # a heap
        self._later_lock = threading.Lock()
        self._order = count()
        self._fetched = threading.Event()  # the fetcher has ended, or is not waited for any more
        self._handed_back = threading.Event()  # so has, or is, whoever hands back what waited
        self._closed = threading.Event()
        self._fetcher = self._thread(self._fetch, "fetch")
        self._keeper = self._thread(self._keep, "keep")
        self._workers = [self._thread(self._work, f"work-{n}") for n in range(options.concurrency)]
        self._start()

    def _start(self) -> None:
        """Leave the group again when there are not as many threads as this needs."""
        try:
            for thread in (*self._workers, self._fetcher, self._keeper):
                thread.start()
        except RuntimeError as error:
            self._flight.stop()
            self._closed.set()
            self._source.interrupt()
            self._source.close()
            raise BrokerError(f"{self!r} needs {len(self._workers) + 2} threads: {error}") from error

    @property
    def runs_here(self) -> bool:
        """Whether the thread that asks is running its handler."""
        return threading.current_thread() in self._workers

    @property
    def closed(self) -> bool:
        """Whether it has ended."""
        return self._closed.is_set()

    def stop(self) -> None:
        """Start no other handler, and let a thread hand back what waits; returns at once, whatever the server does."""
        waiting = self._flight.stop()
        if waiting is not None:
            try:
                self._thread(partial(self._let_go, waiting), "stop").start()
            except RuntimeError:  # there can be no more threads
                self._let_go(waiting)

    def _let_go(self, waiting: Sequence[Delivery[Any]]) -> None:
        try:
            self._source.interrupt()
        except Exception as error:  # noqa: BLE001  # whatever it is, what waits is handed back
            log.warning("%r: its fetch could not be interrupted: %s", self, error)
        finally:
            self._hand_back(waiting)
            self._handed_back.set()

    def unsubscribe(self, deadline: float | None = None) -> None:
        """End this subscription as promise 11 says; `DrainTimeout` when its handlers ran past the deadline.

        `deadline` is in `time.monotonic()` seconds; without it, the broker's `drain_seconds` from now. Called
        from its own handler it returns at once, and the drain ends when the handler does.
        """
        self.stop()
        if self.runs_here:
            return
        deadline = time.monotonic() + self._drain_seconds if deadline is None else deadline
        in_time = self._closed.wait(max(0.0, deadline - time.monotonic()))
        if not in_time:
            self._flight.abandon()
            self._fetched.set()
            self._handed_back.set()
            self._closed.wait(FETCH_SECONDS)
        for thread in (self._fetcher, self._keeper, *(self._workers if in_time else ())):
            thread.join(FETCH_SECONDS)
        if not in_time:
            raise DrainTimeout(f"{self!r} was not done by its deadline; what it had will be delivered again")

    def __repr__(self) -> str:
        return f"subscription of {self.options.group or 'everyone'} to {self.topic}"

    # --- the fetcher ---------------------------------------------------------------------------------------

    def _fetch(self) -> None:
        try:
            self._fetch_until_stopped()
        finally:
            self._fetched.set()

    def _fetch_until_stopped(self) -> None:
        well = True
        while room := self._flight.room():
            try:
                batch = self._source.fetch(room, FETCH_SECONDS)
                self._arrived(batch)
            except BaseException as error:  # noqa: BLE001  # not only BrokerError: nothing ends this loop but stop()
                self._cannot_fetch(error, again=not well)
                well = False
            else:
                if batch and not well:
                    log.info("%r receives again", self)
                well = well or bool(batch)

    def _cannot_fetch(self, error: BaseException, *, again: bool) -> None:
        surprise = not isinstance(error, BrokerError)
        quiet = self._flight.stopping.is_set() or (again and not surprise)
        level = logging.DEBUG if quiet else logging.WARNING
        log.log(level, "%r cannot fetch, trying again: %s", self, error, exc_info=surprise)
        self._flight.stopping.wait(TROUBLE_SECONDS)

    def _arrived(self, batch: Sequence[Delivery[Any]]) -> None:
        if not self._flight.arrived(batch):
            self._hand_back(batch)

    def _arrives_again(self, delivery: Delivery[Any]) -> None:
        self._arrived([delivery])

    def _hand_back(self, deliveries: Sequence[Delivery[Any]]) -> None:
        if deliveries:
            try:
                self._source.release(deliveries)
            except Exception as error:  # noqa: BLE001  # whatever it is, this must not keep a stop from ending
                what = f"could not hand back {len(deliveries)} messages, their leases end"
                log.warning("%r %s: %s", self, what, error, extra=about(*deliveries))

    # --- the workers ---------------------------------------------------------------------------------------

    def _work(self) -> None:
        while delivery := self._flight.take():
            try:
                self._surely(delivery, self._run)
            finally:
                self._flight.finished()

    def _surely(self, delivery: Delivery[Any], action: Callable[[Delivery[Any]], None]) -> None:
        """Do it; after an adapter's mistake the lease of this one ends, and the others go on."""
        try:
            action(delivery)
        except BaseException:
            name = delivery.message.id
            log.exception("%r: what became of %s could not be settled", self, name, extra=about(delivery))
            self._flight.settle(delivery)

    def _run(self, delivery: Delivery[Any]) -> None:
        if self._flight.is_last(delivery) and not self._begin_last(delivery):
            return
        if GROUP in delivery.message.header:
            self._report.replayed(delivery)
        ack = partial(self._ack, delivery)
        event = Event(self.topic, delivery.message.without(GROUP), delivery.attempt, self.options.group, ack)
        try:
            check_result(self._handler(event), acked=self.options.auto_ack)
        except Reject as reject:
            self._report.failed(event, reject)
            self._bury(delivery, in_words(reject, bare=True) or "rejected")
        except BaseException as error:  # noqa: BLE001  # also SystemExit: no handler's exception ends a worker
            self._report.failed(event, error)
            self._again(delivery, in_words(error))
        else:
            ack() if self.options.auto_ack else self._await_ack(delivery)

    def _begin_last(self, delivery: Delivery[Any]) -> bool:
        """Whether the last attempt may run: not when it did before and did not live to tell."""
        if delivery.last_started:
            self._bury(delivery, DIED)
            return False
        try:
            self._source.begin_last(delivery)
        except BrokerError as error:
            self._report.trouble(delivery, "the last attempt must wait for the server", error)
            self._at(TROUBLE_SECONDS, delivery, self._arrives_again)
            return False
        return True

    # --- what becomes of it ----------------------------------------------------------------------------------

    def _ack(self, delivery: Delivery[Any]) -> None:
        if self._flight.ack(delivery):
            self._report.acked(delivery)

    def _await_ack(self, delivery: Delivery[Any]) -> None:
        if self._flight.await_ack(delivery):
            self._at(self.options.lease_seconds, delivery, self._lease_ended)

    def _lease_ended(self, delivery: Delivery[Any]) -> None:
        if self._flight.stop_awaiting(delivery):
            self._again(delivery, f"not acked within its lease of {self.options.lease_seconds:g} s", delay=0)

    def _again(self, delivery: Delivery[Any], reason: str, delay: float | None = None) -> None:
        """Another attempt after a delay, or the dead letters when it had them all."""
        if self._flight.is_last(delivery):
            return self._bury(delivery, reason)
        delay = self._delay(delivery.attempt) if delay is None else delay
        if not self._flight.settle(delivery):
            return
        if self.options.group is None:
            return self._again_here(delivery, reason, delay)
        self._report.retried(delivery, reason, delay)
        try:
            self._source.retry(delivery, delay)
        except BrokerError as error:
            self._report.trouble(delivery, "it comes again when its lease ends", error)

    def _again_here(self, delivery: Delivery[Any], reason: str, delay: float) -> None:
        """A broadcast is retried by this process; the server has forgotten it."""
        if len(self._later) >= MAX_WAITING_BROADCASTS:
            return self._pass_over(delivery, reason)
        self._report.retried(delivery, reason, delay)
        delivery.attempt += 1
        self._at(delay, delivery, self._arrives_again)

    def _bury(self, delivery: Delivery[Any], reason: str) -> None:
        if not self._flight.is_open(delivery):
            return
        if self.options.group is None:
            return self._pass_over(delivery, reason)
        reason = reason.encode(errors="replace").decode()  # an exception may quote what is no Unicode
        try:
            self._source.bury(delivery, reason)
        except BrokerError as error:
            self._report.trouble(delivery, "the dead letters cannot be reached, it stays where it is", error)
            self._at(TROUBLE_SECONDS, delivery, partial(self._bury, reason=reason))
            return
        self._report.dead(delivery, reason)
        self._flight.settle(delivery)

    def _pass_over(self, delivery: Delivery[Any], reason: str) -> None:
        self._flight.settle(delivery)
        self._report.passed_over(delivery, reason)

    def _delay(self, attempt: int) -> float:
        step = self.options.retry_delays[min(attempt, len(self.options.retry_delays)) - 1]
        return step * random.uniform(1 - self.options.jitter, 1 + self.options.jitter)  # noqa: S311  # no secret

    # --- the keeper ----------------------------------------------------------------------------------------

    def _keep(self) -> None:
        renew_seconds = self.options.lease_seconds / 3
        renew_at = time.monotonic() + renew_seconds
        while not self._flight.is_over():
            self._flight.wait(min(renew_at, self._next_due()))
            try:
                self._flush()
                self._do_what_is_due()
                if time.monotonic() >= renew_at:
                    renew_at = time.monotonic() + renew_seconds
                    self._renew()
            except BaseException:  # an adapter's mistake; nothing ends this loop but the end
                log.exception("%r goes on", self)
                self._closed.wait(TROUBLE_SECONDS)
        # Whatever is not handed back by then goes back by the closing, its attempt counted.
        self._fetched.wait()
        self._handed_back.wait()
        try:
            self._source.close()
        except Exception as error:  # noqa: BLE001  # whatever it is, this subscription has ended
            log.warning("%r did not close cleanly: %s", self, error)
        finally:
            self._closed.set()

    def _flush(self) -> None:
        if not (acks := self._flight.acks()):
            return
        try:
            self._source.ack(acks)
        except BrokerError as error:
            log.warning("%r: %d acks must wait for the server: %s", self, len(acks), error, extra=about(*acks))
            self._closed.wait(TROUBLE_SECONDS)
        else:
            self._flight.flushed(len(acks))

    def _renew(self) -> None:
        if held := self._flight.held():
            try:
                self._source.extend(held)
            except BrokerError as error:
                log.warning("%r could not renew %d leases: %s", self, len(held), error, extra=about(*held))

    def _at(self, delay_seconds: float, delivery: Delivery[Any], action: Callable[[Delivery[Any]], None]) -> None:
        with self._later_lock:
            later = _Later(time.monotonic() + delay_seconds, next(self._order), delivery, action)
            heapq.heappush(self._later, later)
        self._flight.wake_keeper()

    def _next_due(self) -> float:
        with self._later_lock:
            return self._later[0].due if self._later else float("inf")

    def _do_what_is_due(self) -> None:
        while self._next_due() <= time.monotonic():
            with self._later_lock:
                later = heapq.heappop(self._later)
            self._surely(later.delivery, later.action)

    def _thread(self, target: Callable[[], None], role: str) -> threading.Thread:
        return threading.Thread(target=target, name=f"{self.options.group or self.topic}-{role}", daemon=True)
