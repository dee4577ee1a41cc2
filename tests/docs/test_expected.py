"""What counts as the same as the page says, and what does not."""

from __future__ import annotations

import pytest

from tests.docs.expected import Examples

EVENT = "a8e4b0a4-9bf5-4c5e-8a39-44a5b9e9c4b0"
OTHER = "51f0c7de-6a0e-4f0b-8a53-2a3f1f6a1c11"


@pytest.mark.parametrize(
    ("page", "printed"),
    [
        ("took 0.31 s", "took 12 s\n"),
        ("at 2026-01-01T02:41:15.092561Z", "at 2027-12-31T23:59:59.1Z\n"),
        ("02:40:07.311  demo", "17:01:59.000  demo\n"),
        ("a  b", "a        b   \n"),
        ("a … z", "a to z\n"),
        ("first\n…\nlast", "first\nlast\n"),
        ("first\n…\nlast", "first\nand\nso on\nlast\n"),
        ("…", ""),
        (f"{EVENT} twice: {EVENT}", f"{OTHER} twice: {OTHER}\n"),
    ],
)
def test_what_is_different_each_time_is_left_open(page: str, printed: str) -> None:
    """Moments, durations, ids, and what the page leaves out with `…`."""
    assert Examples({}).find(page, printed, is_all=True) == len(printed)


@pytest.mark.parametrize(
    ("page", "printed"),
    [
        ("LOST 0", "LOST 1\n"),
        ("a b", "ab\n"),
        ("first\nlast", "first\nand\nlast\n"),
        ("first", "before\nfirst\n"),
        ("first", "first\nand more\n"),
        ("first\n…\nlast", "first\n"),
        (f"{EVENT} twice: {EVENT}", f"{EVENT} twice: {OTHER}\n"),
        ("a.c", "abc\n"),
    ],
)
def test_everything_else_must_be_the_same(page: str, printed: str) -> None:
    """Also that there is nothing more, and nothing before."""
    assert Examples({}).find(page, printed, is_all=True) is None


def test_much_that_does_not_match_is_soon_known() -> None:
    """Every place of every gap is not tried: with ten gaps in a thousand lines that would take years."""
    assert Examples({}).find("…\na\n" * 10 + "b", "a\n" * 1000, is_all=False) is None


def test_a_program_that_runs_on_may_print_more() -> None:
    """That is for the next look."""
    assert Examples({}).find("first", "first\nsecond\n", is_all=False) == len("first\n")


def test_an_example_is_the_same_wherever_the_page_has_it() -> None:
    """Once it is known what it is this time, it is that in what is printed and in what is typed."""
    examples = Examples({})
    assert examples.find(f"event {EVENT}", f"event {OTHER}\n", is_all=True)
    assert examples.in_place(f"replay {EVENT}") == f"replay {OTHER}"
    assert examples.find(EVENT, f"{EVENT}\n", is_all=True) is None
