"""A thread with an event loop of its own, so that an async client can be used from synchronous code.

Cross into it once a batch, never once a message: each crossing wakes two threads.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Coroutine
from concurrent.futures import CancelledError, Future
from typing import Any, TypeVar

log = logging.getLogger(__name__)

Result = TypeVar("Result")


class LoopThread:
    """Runs coroutines from its making until `stop`, in the order in which they were given."""

    def __init__(self, name: str) -> None:
        self._loop = asyncio.new_event_loop()
        self._loop.set_exception_handler(_log)
        self._lock = threading.Lock()
        self._stopped = False
        self._thread = threading.Thread(target=self._loop.run_forever, name=name, daemon=True)
        self._thread.start()

    def submit(self, coroutine: Coroutine[Any, Any, Result], timeout_seconds: float) -> Future[Result]:
        """Start it; `CancelledError` once stopped. What this returns can be waited for and cancelled."""
        with self._lock:
            if self._stopped:
                coroutine.close()
                raise CancelledError("the event loop has ended")
            return asyncio.run_coroutine_threadsafe(_limited(coroutine, timeout_seconds), self._loop)

    def stop(self) -> None:
        """Cancel what still runs and end the thread; twice is fine."""
        with self._lock:
            if self._stopped:
                return
            self._stopped = True
        asyncio.run_coroutine_threadsafe(_cancel_all(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


async def _limited(coroutine: Coroutine[Any, Any, Result], timeout_seconds: float) -> Result:
    async with asyncio.timeout(timeout_seconds):
        return await coroutine


async def _cancel_all() -> None:
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)


def _log(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:  # noqa: ARG001  # as asyncio wants it
    log.debug("%s", context["message"], exc_info=context.get("exception"))
