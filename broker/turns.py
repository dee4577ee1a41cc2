"""A client's event loop, run by its own thread, or by the thread that asks it one thing after another.

A loop that is always on its own thread is woken by each publish, and wakes the publisher in turn: two switches of
threads, which may take as long as the server's answer. So a thread that asks again at once takes the loop over, and
runs it until it has its answer, and those of others on the way. When nobody asks for a moment, its own thread goes on.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import CancelledError
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

T = TypeVar("T")

MOMENT_SECONDS = 0.001  #: who asks within this of the last answer takes the loop over; its own thread sleeps so long


@dataclass(frozen=True)
class Loop:
    """What is asked of a client's loop. `post` is for any thread, the others for the one whose turn it is."""

    run: Callable[[], object]  #: until `stop` is called from within
    stop: Callable[[], object]  #: let `run` return soon
    post: Callable[[Callable[[], object]], object]  #: call that from within `run`, soon


class Answer(Generic[T]):
    """What the loop has for a thread that asks; the first that is set counts.

    The locks of a `Future`, and its waiters, would cost more than all of `ask`.
    """

    def __init__(self) -> None:
        self._done = False
        self._result: Any = None
        self._error: BaseException | None = None
        self._callbacks: list[Callable[[Answer[T]], object]] = []

    def done(self) -> bool:
        """Whether there is one."""
        return self._done

    def result(self) -> T:
        """What was set, or raised if it is an error; for whoever knows that it is there."""
        if self._error is not None:
            raise self._error
        return self._result  # type: ignore[no-any-return]  # a T, once it is there

    def set_result(self, result: T) -> None:
        """To be called on the loop, or under a lock of the caller's; `set_exception`, too."""
        if not self._done:
            self._result = result
            self._set()

    def set_exception(self, error: BaseException) -> None:
        """Why there will be none."""
        if not self._done:
            self._error = error
            self._set()

    def add_done_callback(self, function: Callable[[Answer[T]], object]) -> None:
        """Call `function(answer)` once it is there, or now; twice, if it comes just now."""
        self._callbacks.append(function)
        if self._done:
            function(self)

    def _set(self) -> None:
        self._done = True
        for function in self._callbacks:
            function(self)


class Turns:
    """One thread at a time runs the loop; between `start` and `end` there is always one, but for moments."""

    def __init__(self, loop: Loop, name: str) -> None:
        self._loop = loop
        self._lock = threading.Lock()
        self._taken = False  # somebody runs the loop, or is about to
        self._own = False  # the own thread does
        self._waiting: deque[threading.Event] = deque()  # set: it is your turn, or you have your answer
        self._answered_at = float("-inf")  # when somebody last had an answer, in `time.monotonic()` seconds
        self._closed = self._ended = False
        self._thread = threading.Thread(target=self._go_on, name=name, daemon=True)

    def start(self) -> None:
        """The loop runs from now on."""
        self._thread.start()

    def close(self) -> None:
        """Refuse to be asked any more; who has asked still gets an answer."""
        with self._lock:
            self._closed = True

    def end(self) -> None:
        """Return when nobody runs the loop any more, nor ever will."""
        self.close()
        self._ended = True
        self._loop.post(self._leave)
        self._thread.join()

    def ask(self, begin: Callable[[], object], answer: Answer[Any]) -> None:
        """Call `begin`, which raises nothing, on the loop; return when there is an answer.

        `CancelledError` when closed. Not to be called on the loop.
        """
        mine = self._begin(begin)
        if mine or self._await_turn(answer):
            self._run_until(answer)
        self._answered_at = time.monotonic()

    def _begin(self, begin: Callable[[], object]) -> bool:
        """Whether it is the caller's turn."""
        with self._lock:
            if self._closed:
                raise CancelledError("closed")
            mine, self._taken = not self._taken, True
            if not mine:
                self._loop.post(begin)
                if self._is_busy():
                    self._loop.post(self._leave)
        if mine:
            begin()
        return mine

    def _await_turn(self, answer: Answer[Any]) -> bool:
        """Whether it is the caller's turn by now; otherwise there is an answer."""
        called = threading.Event()
        with self._lock:
            if not self._taken:
                self._taken = True
                return True
            self._waiting.append(called)
        answer.add_done_callback(lambda _: called.set())
        called.wait()
        with self._lock:
            if called not in self._waiting:
                return True
            self._waiting.remove(called)
            return False

    def _run_until(self, answer: Answer[Any]) -> None:
        try:
            answer.add_done_callback(lambda _: self._loop.stop())
            while not answer.done():
                self._loop.run()
        finally:
            self._hand_on()

    def _hand_on(self) -> None:
        with self._lock:
            if self._waiting:
                self._waiting.popleft().set()
            else:
                self._taken = False

    def _is_busy(self) -> bool:
        return time.monotonic() - self._answered_at < MOMENT_SECONDS

    # --- the own thread ------------------------------------------------------------------------------------

    def _go_on(self) -> None:
        while True:
            if not self._may_run():
                time.sleep(MOMENT_SECONDS)  # nobody wakes it: to be woken at each answer is what this is here to avoid
            elif self._ended:
                return  # the turn stays taken
            else:
                self._own = True
                self._loop.run()
                self._own = False
                self._hand_on()

    def _may_run(self) -> bool:
        with self._lock:
            free = not (self._taken or self._is_busy())
            self._taken = self._taken or free
            return free

    def _leave(self) -> None:
        if self._own:
            self._loop.stop()
