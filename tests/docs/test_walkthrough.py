"""The pages of the walkthrough, done as they say. Each page is one test, since its steps build on each other."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.docs.pages import WALKTHROUGH, Page
from tests.docs.walk import walk
from tests.servers.brokers import broker_server
from tests.servers.redis import RedisServer

pytestmark = pytest.mark.timeout(900)  # a page takes half a minute, and ten times that on a machine that does much else

CHAPTERS = [Page(path) for path in sorted(WALKTHROUGH.glob("[1-7]-*.md")) if ".zh" not in path.name]

#: broker → where the last chapter says that its server is
SERVERS = {
    "nats": "nats://localhost:4222",
    "rabbitmq": "rabbitmq://localhost:5672",
    "kafka": "kafka://127.0.0.1:9092",
}


def test_the_chapter_on_swapping_is_true_of_private_servers(tmp_path: Path) -> None:
    """Redis is started by the chapter itself; the others are there, elsewhere than it says."""
    RedisServer(tmp_path)  # not started: it skips where there is none
    with ExitStack() as running:
        known = {
            address: running.enter_context(broker_server(broker, tmp_path / broker)).url
            for broker, address in SERVERS.items()
        }
        walk(Page(WALKTHROUGH / "8-swapping.md"), tmp_path, known)


@pytest.mark.parametrize("chapter", CHAPTERS, ids=str)
def test_what_the_chapter_says_is_what_happens(chapter: Page, tmp_path: Path) -> None:
    """Each command is typed in the order of the page, and prints what the page says."""
    walk(chapter, tmp_path)


@pytest.mark.parametrize("page", ["README.md", "teachers.md", "solutions/README.md"])
def test_the_other_pages_are_as_true(page: str, tmp_path: Path) -> None:
    """The teacher's script and the answers to the exercises are walks like the chapters."""
    walk(Page(WALKTHROUGH / page), tmp_path)


def test_the_chapter_in_chinese_has_the_same_commands_and_shows_the_same() -> None:
    """So it is as true as the English one; the words differ."""

    def steps(name: str) -> list[tuple[type, tuple[int, ...], str]]:
        return [(type(step), step.terminals, step.text) for step in Page(WALKTHROUGH / name).steps]

    assert steps("1-tour.zh-CN.md") == steps("1-tour.md")
