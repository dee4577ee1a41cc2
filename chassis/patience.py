"""Asking what may hang, such as a database whose server is gone, without hanging with it.

count = Patient(count_rows)
count()         # the answer, what it raised, or `NoAnswer` after a second
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Generic, TypeVar

from chassis.errors import NoAnswer

Answer = TypeVar("Answer")

PATIENCE_SECONDS = 1.0  #: as long as a probe or a scrape should take at the most


class Patient(Generic[Answer]):
    """The same question, asked from any thread.

    It runs in a thread of its own, once at a time: a thread that asks meanwhile waits for that answer, and no longer
    than the first one does. So however many probes come, no more than one hangs, and none queues behind another.
    """

    def __init__(self, ask: Callable[[], Answer], seconds: float = PATIENCE_SECONDS) -> None:
        self._ask = ask
        self._seconds = seconds
        self._lock = threading.Lock()
        self._asked: Future[Answer] | None = None
        self._deadline = 0.0

    def __call__(self) -> Answer:
        """The answer, or `NoAnswer` when the patience is used up."""
        try:
            future, deadline = self._future()
            return future.result(max(0.0, deadline - time.monotonic()))
        except TimeoutError:
            raise NoAnswer(f"no answer within {self._seconds:g} s") from None

    def _future(self) -> tuple[Future[Answer], float]:
        with self._lock:
            if self._asked is None or self._asked.done():
                self._asked, self._deadline = Future(), time.monotonic() + self._seconds
                threading.Thread(target=self._answer, args=[self._asked], name="patient", daemon=True).start()
            return self._asked, self._deadline

    def _answer(self, future: Future[Answer]) -> None:
        try:
            future.set_result(self._ask())
        except Exception as error:  # noqa: BLE001  # whoever asked gets it
            future.set_exception(error)
