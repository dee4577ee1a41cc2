"""A thread with an event loop of its own, so that a client for asyncio can be used from synchronous code.

A thread that asks waits for the answer, with a deadline. Cross into the loop once a batch rather than once a message:
each crossing wakes two threads.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import weakref
from collections.abc import Coroutine
from concurrent.futures import Future
from contextlib import suppress
from typing import Any, TypeVar

log = logging.getLogger(__name__)

Result = TypeVar("Result")

GRACE_SECONDS = 5.0  #: a coroutine that is cancelled at its deadline has so long to end


class NotHere(Exception):
    """The loop does not run in this process, or no longer; the text says which."""


class LoopThread:
    """Runs coroutines from its making until `stop`, in the order in which they were given."""

    def __init__(self, name: str) -> None:
        self._loop = _Loop()
        self._loop.set_exception_handler(_log)
        self._process = os.getpid()
        self._lock = threading.Lock()
        self._stopped = False
        self._thread = threading.Thread(target=self._loop.run_forever, name=name, daemon=True)
        self._thread.start()

    def submit(self, coroutine: Coroutine[Any, Any, Result], timeout_seconds: float) -> Future[Result]:
        """Start it without waiting; `NotHere` when nobody would run it. It ends with `TimeoutError` at the deadline."""
        if self._process != os.getpid():  # whose lock some thread of that process may hold for ever
            coroutine.close()
            raise NotHere("it was connected in another process; connect after a fork, not before it")
        with self._lock:
            if self._stopped:
                coroutine.close()
                raise NotHere("it is disconnected")
            return asyncio.run_coroutine_threadsafe(_limited(coroutine, timeout_seconds), self._loop)

    def stop(self) -> None:
        """Cancel what still runs, let go of every socket, and end the thread; twice is fine."""
        if self._process != os.getpid():
            return
        with self._lock:
            if self._stopped:
                return
            self._stopped = True
        with suppress(TimeoutError):  # of a task that does not let itself be cancelled
            asyncio.run_coroutine_threadsafe(_cancel_all(), self._loop).result(GRACE_SECONDS)
        self._loop.call_soon_threadsafe(self._loop.drop_connections)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(GRACE_SECONDS)
        self._loop.close()


class _Loop(asyncio.SelectorEventLoop):
    """Remembers its connections, to let go of those that a client has left open since their server does not answer."""

    def __init__(self) -> None:
        super().__init__()
        self._connections: weakref.WeakSet[asyncio.Transport] = weakref.WeakSet()

    async def create_connection(self, *arguments: Any, **options: Any) -> Any:
        transport, protocol = await super().create_connection(*arguments, **options)
        self._connections.add(transport)
        return transport, protocol

    def drop_connections(self) -> None:
        """Close every socket at once, in whatever state it is."""
        for transport in list(self._connections):
            transport.abort()


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
