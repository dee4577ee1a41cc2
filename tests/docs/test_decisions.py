"""Each decision has a date and a status, and the list of them names each once."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

DECISIONS = Path(__file__).parents[2] / "docs" / "adr"
PAGES = sorted(DECISIONS.glob("0*.md"))
HEAD = re.compile(
    r"# (?P<number>[0-9]{4}): .+\n\n"
    r"Date: [0-9]{4}-[0-9]{2}-[0-9]{2}  \nStatus: (accepted|superseded by (?P<by>[0-9]{4}))\n\n"
)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_decision_says_when_it_was_taken_and_whether_it_holds(page: Path) -> None:
    """One that no longer holds names the later one, which is there."""
    head = HEAD.match(page.read_text(encoding="utf-8"))
    assert head
    assert page.name.startswith(head["number"])
    assert head["by"] is None or (head["by"] > head["number"] and list(DECISIONS.glob(f"{head['by']}-*.md")))


def test_the_list_has_each_decision_once() -> None:
    """In their order."""
    listed = re.findall(
        r"^\| \[[0-9]{4}\]\((.+?)\)", (DECISIONS / "README.md").read_text(encoding="utf-8"), re.MULTILINE
    )
    assert listed == [page.name for page in PAGES]
