"""Who asks what hangs is not hung up by it."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest

from broker.testing import eventually
from chassis.errors import NoAnswer
from chassis.patience import Patient


class Oracle:
    """Answers when it is let, and counts how often it was asked."""

    def __init__(self) -> None:
        self.speak = threading.Event()
        self.asked = 0

    def __call__(self) -> int:
        """The number of the question."""
        self.asked += 1
        self.speak.wait(60)
        return self.asked


def fail() -> None:
    """What a question may come to."""
    raise ZeroDivisionError("no")


def test_each_question_is_asked_anew_and_its_error_is_the_askers() -> None:
    """It is no cache."""
    oracle = Oracle()
    oracle.speak.set()
    ask = Patient(oracle)
    assert (ask(), ask()) == (1, 2)
    with pytest.raises(ZeroDivisionError):
        Patient(fail)()


def test_what_hangs_is_left_after_a_while_and_asked_once() -> None:
    """However many want to know; and it is asked again when it has come back."""
    oracle = Oracle()
    ask = Patient(oracle, seconds=0.05)
    with ThreadPoolExecutor(20) as threads:
        answers = [threads.submit(ask) for _ in range(20)]
    assert [type(answer.exception()) for answer in answers] == [NoAnswer] * 20
    assert oracle.asked == 1
    oracle.speak.set()

    def is_asked_again() -> bool:
        with suppress(NoAnswer):
            return ask() > 1
        return False

    eventually(is_asked_again, "it is asked again")
