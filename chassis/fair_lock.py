"""A lock that threads get in the order in which they asked for it.

`threading.Lock` goes to whoever is quickest, so that under load an unlucky request waits for many turns.
"""

from __future__ import annotations

import threading
from collections import deque
from types import TracebackType


class FairLock:
    """First come, first served; `TimeoutError` after so many seconds. For a `with` statement; it is not reentrant."""

    def __init__(self, timeout_seconds: float) -> None:
        self._timeout_seconds = timeout_seconds
        self._state = threading.Lock()
        self._held = False
        self._turns: deque[threading.Lock] = deque()

    def __enter__(self) -> None:
        with self._state:
            if not self._held:
                self._held = True
                return
            turn = threading.Lock()
            turn.acquire()
            self._turns.append(turn)
        if not turn.acquire(timeout=self._timeout_seconds):  # until `__exit__` of the one before us
            self._give_up(turn)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._state:
            if self._turns:
                self._turns.popleft().release()  # handed over: never free in between, so nobody can jump in
            else:
                self._held = False

    def _give_up(self, turn: threading.Lock) -> None:
        with self._state:
            if turn in self._turns:  # or else it was handed over in this very moment
                self._turns.remove(turn)
                raise TimeoutError(f"its turn did not come in {self._timeout_seconds:g} s")
