"""A lock that threads get in the order in which they asked for it.

`threading.Lock` goes to whoever is quickest, so that under load an unlucky request waits for many turns.
"""

from __future__ import annotations

import threading
from collections import deque
from types import TracebackType


class FairLock:
    """First come, first served. Use it in a `with` statement; it is not reentrant."""

    def __init__(self) -> None:
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
        turn.acquire()  # until `__exit__` of the one before us

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._state:
            if self._turns:
                self._turns.popleft().release()  # handed over: never free in between, so nobody can jump in
            else:
                self._held = False
