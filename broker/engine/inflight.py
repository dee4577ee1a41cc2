"""What is with one member: what waits, what runs, what is to be acked. One lock, three kinds of threads, no I/O.

    arrived → ready → take → running → ack → flushed
                      last                 (or: settled otherwise)

`subscription.py` moves deliveries through it. A delivery is *open* from its arrival until it is settled, in any way.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Sequence
from typing import Any

from broker.engine.source import Delivery
from broker.message import GROUP
from broker.options import SubscribeOptions

FLUSH_SECONDS = 0.02  #: how long an ack may wait for others to go with it
AT_FIRST = 8  #: messages for each handler that a member reads ahead, until it is seen to need more


class InFlight:
    """The deliveries of one subscription. Its threads meet only here."""

    def __init__(self, options: SubscribeOptions) -> None:
        self._options = options
        self._lock = threading.Lock()
        self._for_workers = threading.Condition(self._lock)
        self._for_fetcher = threading.Condition(self._lock)
        self._for_keeper = threading.Condition(self._lock)
        self._ready: deque[Delivery[Any]] = deque()
        self._last: deque[Delivery[Any]] = deque()  # what is on its last attempt: it runs alone
        self._open: set[Delivery[Any]] = set()
        self._unacked: set[Delivery[Any]] = set()  # auto_ack=False: the handler returned, its lease runs
        self._acks: list[Delivery[Any]] = []
        self._ahead = min(AT_FIRST * options.concurrency, options.prefetch)  # how many may be ready or running
        self._asked = 0  # how many the fetcher was told to fetch
        self._running = 0
        self._alone: Delivery[Any] | None = None  # a last attempt that is not over
        self.stopping = threading.Event()
        self._abandoned = False

    def is_last(self, delivery: Delivery[Any]) -> bool:
        """Whether it has no attempt after this one."""
        return delivery.attempt >= self._options.max_attempts

    # --- for the fetcher -----------------------------------------------------------------------------------

    def room(self) -> int:
        """How many more may be fetched, once that is worth a round trip; 0 when stopping."""
        with self._lock:
            self._for_fetcher.wait_for(lambda: self.stopping.is_set() or self._worth_fetching())
            self._asked = 0 if self.stopping.is_set() else self._free()
            return self._asked

    def arrived(self, batch: Sequence[Delivery[Any]]) -> bool:
        """Take these in; False, and none of them is taken, when stopping.

        Reads further ahead from now on when a worker had to wait, though there was more at the server. So a member with
        a slow handler holds no more than it needs, and leaves the rest to the others.
        """
        with self._lock:
            if self.stopping.is_set():
                return False
            starved = not self._ready and self._running < self._options.concurrency
            if starved and len(batch) >= self._asked:
                self._ahead = min(2 * self._ahead, self._options.prefetch)
            for delivery in batch:
                self._admit(delivery)
            self._for_workers.notify(len(batch))
        return True

    def _free(self) -> int:
        here = len(self._ready) + len(self._last) + self._running
        return min(self._ahead - here, self._options.prefetch - len(self._open) - len(self._acks))

    def _worth_fetching(self) -> bool:
        return self._free() > (self._ahead // 2 if self._ready else 0)

    def _admit(self, delivery: Delivery[Any]) -> None:
        target = delivery.message.header.get(GROUP)
        if target is not None and target != self._options.group:
            self._acks.append(delivery)  # a replay that is meant for another group
            self._for_keeper.notify()
            return
        self._open.add(delivery)
        (self._last if self.is_last(delivery) else self._ready).append(delivery)

    # --- for the workers -----------------------------------------------------------------------------------

    def take(self) -> Delivery[Any] | None:
        """The next delivery that may start, now running; None when stopping."""
        with self._lock:
            self._for_workers.wait_for(lambda: self.stopping.is_set() or self._may_start())
            if self.stopping.is_set():
                return None
            self._running += 1
            delivery = self._last.popleft() if self._last else self._ready.popleft()
            self._alone = delivery if self.is_last(delivery) else None
            if not self._ready:
                self._for_fetcher.notify()
            return delivery

    def finished(self) -> None:
        """What `take` gave is no longer running, whatever became of it."""
        with self._lock:
            self._running -= 1
            if self._last or self._alone or self.stopping.is_set():
                self._notify_all()

    def _may_start(self) -> bool:
        """Something is ready; a last attempt also waits until nothing is unsettled, and is waited for until it is."""
        if self._last:
            return not (self._running or self._acks or self._unacked)
        return bool(self._ready) and not self._is_alone()

    def _is_alone(self) -> bool:
        if self._alone is None:
            return False
        return self._running > 0 or self._alone in self._acks or self._alone in self._unacked

    # --- settling ------------------------------------------------------------------------------------------

    def ack(self, delivery: Delivery[Any]) -> bool:
        """It is done with; False, and nothing happens, when it was settled before."""
        with self._lock:
            settled = self._settle(delivery)
            if settled:
                self._acks.append(delivery)
                if self._worth_flushing() or len(self._acks) == 1:
                    self._for_keeper.notify()
            return settled

    def settle(self, delivery: Delivery[Any]) -> bool:
        """It will be settled otherwise; False when it was settled before."""
        with self._lock:
            settled = self._settle(delivery)
            self._for_fetcher.notify()
            return settled

    def is_open(self, delivery: Delivery[Any]) -> bool:
        """Whether it is not settled yet."""
        with self._lock:
            return delivery in self._open

    def await_ack(self, delivery: Delivery[Any]) -> bool:
        """Its handler has returned, and its ack is still to come; False when it has come already."""
        with self._lock:
            if delivery not in self._open:
                return False
            self._unacked.add(delivery)
            return True

    def stop_awaiting(self, delivery: Delivery[Any]) -> bool:
        """Its ack has not come in time; False when it has."""
        with self._lock:
            if delivery not in self._unacked:
                return False
            self._unacked.discard(delivery)
            self._for_workers.notify_all()
            return True

    def _settle(self, delivery: Delivery[Any]) -> bool:
        self._unacked.discard(delivery)
        if delivery not in self._open:
            return False
        self._open.remove(delivery)
        return True

    # --- for the keeper ------------------------------------------------------------------------------------

    def wait(self, until: float) -> None:
        """Until there are acks worth flushing, or that time (`time.monotonic()`), or somebody wakes the keeper."""
        with self._lock:
            if not self._acks:
                pause = FLUSH_SECONDS if self.stopping.is_set() else until - time.monotonic()
                self._for_keeper.wait(max(0.0, pause))
            if self._acks and not self._worth_flushing():
                self._for_keeper.wait(FLUSH_SECONDS)

    def wake_keeper(self) -> None:
        """Its time has become another."""
        with self._lock:
            self._for_keeper.notify()

    def acks(self) -> list[Delivery[Any]]:
        """What is to be acked at the server."""
        with self._lock:
            return self._acks[:]

    def flushed(self, count: int) -> None:
        """So many of `acks`, from the first, are acked at the server."""
        with self._lock:
            del self._acks[:count]
            self._for_fetcher.notify()
            if self._last or self._alone:
                self._for_workers.notify_all()

    def held(self) -> list[Delivery[Any]]:
        """Whose lease is to be renewed."""
        with self._lock:
            return list(self._open)  # also what waits for `event.ack()`: the engine ends that in time, not the server

    def _worth_flushing(self) -> bool:
        """Whether acks should go now, instead of waiting for more."""
        return not self._ready or bool(self._last or self._alone) or len(self._acks) >= self._options.prefetch // 4

    # --- the end -------------------------------------------------------------------------------------------

    def stop(self) -> list[Delivery[Any]] | None:
        """Let nothing start any more; what waited, no longer open. None when that was done before."""
        with self._lock:
            if self.stopping.is_set():
                return None
            self.stopping.set()
            waiting = [*self._last, *self._ready]
            self._last.clear()
            self._ready.clear()
            self._open.difference_update(waiting)
            self._notify_all()
            return waiting

    def abandon(self) -> None:
        """Ignore from now on whatever becomes of what is open."""
        with self._lock:
            self._abandoned = True
            self._open.clear()
            self._notify_all()

    def is_over(self) -> bool:
        """Stopped, with nothing left that should be waited for; or abandoned."""
        with self._lock:
            if self._abandoned:
                return True
            return self.stopping.is_set() and not (self._running or self._unacked or self._acks)

    def _notify_all(self) -> None:
        for condition in (self._for_workers, self._for_fetcher, self._for_keeper):
            condition.notify_all()
