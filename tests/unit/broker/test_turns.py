"""Who runs a client's event loop: its own thread, or the one that asks it one thing after another."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, ThreadPoolExecutor

import pytest

from broker.testing import eventually
from broker.turns import MOMENT_SECONDS, Answer, Loop, Turns


class Town:
    """A loop that answers after some seconds, with the name of the thread that runs it then."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.turns = Turns(Loop(self.loop.run_forever, self.loop.stop, self.loop.call_soon_threadsafe), "own")
        self.turns.start()

    def ask(self, seconds: float = 0.0) -> str:
        answer: Answer[str] = Answer()
        self.turns.ask(lambda: self.loop.call_later(seconds, self._tell, answer), answer)
        return answer.result()

    def ask_until(self, name: str) -> None:
        """At once, again and again, until that thread runs the loop."""
        assert any(self.ask() == name for _ in range(10_000))

    def _tell(self, answer: Answer[str]) -> None:
        answer.set_result(threading.current_thread().name)


@pytest.fixture
def town() -> Iterator[Town]:
    """One that runs."""
    town = Town()
    yield town
    town.turns.end()
    town.loop.close()


def start(function: Callable[[], object]) -> threading.Thread:
    """A thread that calls it."""
    thread = threading.Thread(target=function)
    thread.start()
    return thread


def test_who_asks_once_is_answered_by_the_loops_own_thread(town: Town) -> None:
    """As long as it runs; it begins to with `start`."""
    eventually(lambda: town.ask() == "own", "it runs the loop")


def test_who_asks_again_at_once_runs_the_loop(town: Town) -> None:
    """Until it stops asking."""
    me = threading.current_thread().name
    town.ask_until(me)
    pause = threading.Event()

    def asked_after_a_pause() -> str:
        pause.wait(20 * MOMENT_SECONDS)
        return town.ask()

    eventually(lambda: asked_after_a_pause() == "own", "its own thread goes on")


def test_what_is_posted_is_called_whoever_runs_it(town: Town) -> None:
    """Also while nobody asks anything."""
    for _ in range(3):
        called = threading.Event()
        town.loop.call_soon_threadsafe(called.set)
        assert called.wait(10)
        town.ask()


def test_threads_that_ask_at_a_time_all_get_their_answers(town: Town) -> None:
    """The one that runs the loop has the answers of the others, too, and hands on what it leaves."""
    with ThreadPoolExecutor(8) as pool:
        assert len(list(pool.map(lambda n: town.ask(n % 3 * 0.0005), range(2000), timeout=60))) == 2000


def test_a_late_answer_keeps_nobody_from_an_early_one(town: Town) -> None:
    """Neither while the loop's own thread runs it, nor while the one that waits does."""
    me = threading.current_thread().name
    town.ask_until(me)
    done = Answer[str]()
    waiting = start(lambda: town.turns.ask(lambda: None, done))
    for _ in range(100):
        town.ask()
    assert waiting.is_alive()
    town.loop.call_soon_threadsafe(done.set_result, "at last")
    waiting.join(10)
    assert not waiting.is_alive()


def test_who_asks_before_the_end_is_answered_and_who_asks_afterwards_refused() -> None:
    """The loop can be closed when `end` returns."""
    town = Town()
    asking = start(lambda: town.ask(0.05))
    eventually(lambda: town.turns._taken, "it runs")  # nothing else tells
    town.turns.end()
    town.loop.close()
    asking.join(10)
    assert not asking.is_alive()
    with pytest.raises(CancelledError):
        town.ask()
