"""A thread with an event loop of its own, so that an async client can be used from synchronous code.

Cross into it once a batch, rather than once a message.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Coroutine
from concurrent.futures import CancelledError, Future
from typing import Any, TypeVar

from broker.turns import Answer, Loop, Turns

log = logging.getLogger(__name__)

Result = TypeVar("Result")


class LoopThread:
    """Runs coroutines from its making until `stop`, in the order in which they were given."""

    def __init__(self, name: str) -> None:
        self._loop = asyncio.new_event_loop()
        self._loop.set_exception_handler(_log)
        self._turns = Turns(Loop(self._loop.run_forever, self._loop.stop, self._loop.call_soon_threadsafe), name)
        self._turns.start()
        self._lock = threading.Lock()
        self._stopped = False

    def submit(self, coroutine: Coroutine[Any, Any, Result], timeout_seconds: float) -> Future[Result]:
        """Start it; `CancelledError` once stopped. What this returns can be waited for and cancelled."""
        with self._lock:
            if self._stopped:
                coroutine.close()
                raise CancelledError("the event loop has ended")
            return asyncio.run_coroutine_threadsafe(_limited(coroutine, timeout_seconds), self._loop)

    def run(self, coroutine: Coroutine[Any, Any, Result], timeout_seconds: float) -> Result:
        """What the coroutine returns. The calling thread may run the loop meanwhile, as `Turns` says."""
        answer: Answer[Result] = Answer()
        task = _answered(coroutine, timeout_seconds, answer)
        try:
            self._turns.ask(lambda: self._loop.create_task(task), answer)
        except CancelledError:
            task.close()
            coroutine.close()
            raise
        return answer.result()

    def stop(self) -> None:
        """Cancel what still runs and end the thread; twice is fine."""
        with self._lock:
            if self._stopped:
                return
            self._stopped = True
        self._turns.close()
        asyncio.run_coroutine_threadsafe(_cancel_all(), self._loop).result()
        self._turns.end()
        self._loop.close()


async def _answered(coroutine: Coroutine[Any, Any, Result], timeout_seconds: float, answer: Answer[Result]) -> None:
    try:
        async with asyncio.timeout(timeout_seconds):
            answer.set_result(await coroutine)
    except Exception as error:  # noqa: BLE001  # raised to whoever asked
        answer.set_exception(error)
    finally:
        answer.set_exception(CancelledError())  # unless there is one: it was cancelled, or interrupted


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
