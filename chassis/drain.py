"""How long a stop may take in all, however many parts have to stop one after another."""

from __future__ import annotations

import threading
import time

DRAIN_SECONDS = 10.0  #: unless the settings say otherwise


class Drain:
    """A stop's time, shared by everything that stops. It begins to run when the first of them asks."""

    def __init__(self, seconds: float = DRAIN_SECONDS) -> None:
        self.seconds = seconds
        self._lock = threading.Lock()
        self._deadline: float | None = None

    def remaining(self) -> float:
        """Seconds that are left; 0 when there are none."""
        with self._lock:
            if self._deadline is None:
                self._deadline = time.monotonic() + self.seconds
        return max(0.0, self._deadline - time.monotonic())
