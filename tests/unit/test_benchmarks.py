"""The benchmarks: each question can be answered, and figures become the ratios and goals that they should."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import report
from benchmarks.__main__ import QUESTIONS
from benchmarks.bench import TINY, Answer, Bench, Goal
from benchmarks.side_by_side import Meter, Rates, messages, side_by_side

PAGE = Path(__file__).parents[2] / "docs" / "performance.md"
WITHOUT_SERVER = {"commit_to_email": ["http"], "scale": ["http"]}  #: each broker more costs several starts


@pytest.mark.parametrize("question", QUESTIONS)
def test_each_question_is_answered_without_servers_and_peers(question: str, tmp_path: Path) -> None:
    """With counts so small that the figures mean nothing."""
    with Bench(TINY, tmp_path, WITHOUT_SERVER.get(question, ["memory", "http"]), ["SQLite"]) as bench:
        answer = report.asked(question, bench)
    assert answer.rows
    assert answer.question in report.page([answer], TINY, "chart.svg")


def test_a_ratio_is_taken_within_each_round() -> None:
    """So that a machine that was slow for one round changes nothing."""
    rates = Rates({"ours": [10, 1, 30], "theirs": [5, 0.5, 10]})
    assert rates.ratio("ours", "theirs") == 2
    assert rates.typical("ours") == 10


def test_rivals_take_turns_at_being_first_and_the_warming_up_does_not_count() -> None:
    """What comes first in a round may be better or worse off."""
    order: list[str] = []

    def measure(name: str) -> float:
        order.append(name)
        return len(order)

    rates = side_by_side(2, {"a": lambda: measure("a"), "b": lambda: measure("b")})
    assert order == ["a", "b", "b", "a", "a", "b"]
    assert rates.of == {"a": [4, 5], "b": [3, 6]}


def test_a_meter_has_enough_once_and_for_all() -> None:
    """What comes later changes no figure."""
    meter = Meter(2, 60)
    first, second, third = messages(3)
    assert [meter(first), meter(second)] == [False, True]
    rate = meter.per_second
    assert meter(third)
    assert meter.per_second == rate


def test_a_goal_that_is_not_met_is_said_to_be() -> None:
    """On the page, with what was measured."""
    answer = Answer("Question", "How.", [{"broker": "redis", "ours": "1/s"}])
    answer.goals = [Goal("speed", 0.5, 0.9), Goal("p99", 2, 3, at_most=True)]
    page = report.page([answer], TINY, "chart.svg")
    assert "1 of 2 are met" in page
    assert "| Question | speed | ≥ 0.9 | 0.50 | **not met** |" in page
    assert "| Question | p99 | ≤ 3 | 2.00 | met |" in page


def test_the_page_goes_where_a_document_has_a_place_for_it() -> None:
    """And a document without one is not overwritten."""
    assert report.with_page("a <!-- measured --> old <!-- /measured --> b", "new") == (
        "a <!-- measured -->\n\nnew\n\n<!-- /measured --> b"
    )
    with pytest.raises(ValueError, match="no place"):
        report.with_page("no marks", "new")


def test_the_document_has_a_place_and_says_what_kafka_is() -> None:
    """`make bench ARGS="--into docs/performance.md"` writes it anew."""
    document = PAGE.read_text("utf-8")
    assert report.with_page(document, "new")
    assert "mock" in document
