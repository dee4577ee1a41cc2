"""The fair lock."""

from __future__ import annotations

import threading

from broker.testing import eventually
from chassis.fair_lock import FairLock


def test_threads_get_it_in_the_order_in_which_they_asked() -> None:
    """Eight threads queue up behind a ninth; nobody jumps in."""
    lock, order = FairLock(60), list[int]()

    def work(number: int) -> None:
        with lock:
            order.append(number)

    threads = [threading.Thread(target=work, args=[number]) for number in range(8)]
    with lock:
        for waiting, thread in enumerate(threads, 1):
            thread.start()
            eventually(lambda: len(lock._turns) == waiting, f"thread {waiting} waits")  # noqa: B023  # called at once
    for thread in threads:
        thread.join()
    assert order == list(range(8))


def test_only_one_thread_has_it() -> None:
    """Eight threads add to a number that is not safe by itself."""
    lock, total = FairLock(60), [0]

    def work() -> None:
        for _ in range(500):
            with lock:
                before = total[0]
                threading.Event().wait(0)  # let others run
                total[0] = before + 1

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert total == [4000]


def test_nobody_waits_longer_than_agreed_and_the_others_keep_their_turn() -> None:
    """The lock goes to the next who still waits, and is free at the end."""
    impatient, order = FairLock(0.05), list[str]()

    def work() -> None:
        try:
            with impatient:
                order.append("got it")
        except TimeoutError:
            order.append("gave up")

    with impatient:
        thread = threading.Thread(target=work)
        thread.start()
        thread.join(60)
        assert order == ["gave up"]
    work()
    assert order == ["gave up", "got it"]
