"""Which thread answers which request: waitress's threads for the work, and a few of their own for those who watch.

A probe or a scrape never queues behind the work, and being alive is said by a thread that does nothing else. When more
requests wait for a thread than can be answered in sensible time, others are told at once to come back later.
"""

from __future__ import annotations

import logging
from collections import deque
from typing import Any

from waitress.task import ThreadedTaskDispatcher

from chassis.gate import LIVE, PROBES

log = logging.getLogger(__name__)

WATCHERS = 4  #: threads for readiness, metrics and refusals
MAX_WAITING = 200  #: requests that may wait for a thread
WAIT_SECONDS = 10  #: for so long; when the first of them has waited longer, no more are taken


class Dispatcher(ThreadedTaskDispatcher):
    """`threads` for the work, and the others."""

    def __init__(self, threads: int) -> None:
        super().__init__()
        self._live = ThreadedTaskDispatcher()
        self._watchers = ThreadedTaskDispatcher()
        self._is_full = False
        self._live.set_thread_count(1)
        self._watchers.set_thread_count(WATCHERS)
        self.set_thread_count(threads)

    queue: deque[Any]  # of `Channel`s; the stubs say tasks

    def add_task(self, task: Any) -> None:
        """Have the first request of that connection answered."""
        task.queued()
        if task.path == LIVE:
            self._live.add_task(task)
        elif task.path in PROBES:
            self._watchers.add_task(task)
        elif self._cannot_take_more():
            task.refuse()
            self._watchers.add_task(task)
        else:
            super().add_task(task)

    def shutdown(self, cancel_pending: bool = True, timeout: int = 5) -> bool:
        for others in (self._live, self._watchers):
            others.shutdown(cancel_pending, timeout)
        return bool(super().shutdown(cancel_pending, timeout))

    def _cannot_take_more(self) -> bool:
        with self.lock:
            is_full = len(self.queue) >= MAX_WAITING or bool(self.queue and self.queue[0].waits_seconds > WAIT_SECONDS)
        if is_full and not self._is_full:
            log.warning("too many requests wait for a thread; others are refused with 503 until fewer do")
        self._is_full = is_full
        return is_full
