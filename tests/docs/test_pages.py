"""What the pages of the documentation say of the project is true: listings, links, and that nothing is left out."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.docs.pages import KINDS, ROOT, WALKTHROUGH, Page, Press, See, Type

CHAPTERS = [Page(path) for path in sorted(WALKTHROUGH.glob("[1-8]-*.md"))]
INDEX = Page(WALKTHROUGH / "index.md")
PAGES = [Page(path) for path in sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])]
WALK = [page for page in PAGES if page.path.is_relative_to(WALKTHROUGH)]
SHAPE = (
    ("see it", "predict", "break it", "understand", "mend it", "check", "exercise"),
    ("看一看", "猜一猜", "弄坏它", "弄明白", "修好它", "查一查", "练习"),
)


@pytest.mark.parametrize("page", WALK, ids=str)
def test_each_listing_is_in_the_file_that_it_is_said_to_be_from(page: Page) -> None:
    """Word for word."""
    for listing in page.listings:
        assert listing.path is not None, f"line {listing.line}: no file is named before this listing"
        code = listing.path.read_text(encoding="utf-8")
        assert f"\n{listing.text}" in f"\n{code}", f"line {listing.line}: this is not in {listing.path.name}"


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_each_link_leads_somewhere(page: Page) -> None:
    """To a file or a folder; and where it names a heading, to one that is there. The web is not asked."""
    for link in page.links:
        if link.target.startswith(("https://", "http://")):
            continue
        path = page.resolve(link.target) if link.target.partition("#")[0] else page.path
        assert path.exists(), f"line {link.line}: {link.target} is not there"
        if anchor := link.target.partition("#")[2]:
            assert anchor in Page(path).anchors, f"line {link.line}: {link.target} has no such heading"


@pytest.mark.parametrize("chapter", CHAPTERS, ids=str)
def test_each_chapter_has_the_same_shape(chapter: Page) -> None:
    """Some find it mended instead of mending it."""
    headings = [heading.lower().replace("find it mended", "mend it") for heading in chapter.headings]
    assert tuple(heading for heading in headings if any(heading in shape for shape in SHAPE)) in SHAPE


@pytest.mark.parametrize("chapter", CHAPTERS, ids=str)
def test_every_block_of_a_chapter_is_of_a_kind_that_is_tested(chapter: Page) -> None:
    """A block in another language would be one that nobody runs or compares."""
    assert chapter.block_kinds <= KINDS


def test_the_reader_meets_every_file_of_the_broker_and_the_services() -> None:
    """In a chapter, or in the index."""
    met = {page.resolve(link.target) for page in [*CHAPTERS, INDEX] for link in page.links}
    files = [path for folder in ("broker", "user_service", "email_service") for path in ROOT.glob(f"{folder}/**/*.py")]
    assert [str(path.relative_to(ROOT)) for path in files if path not in met] == []


TEXT = """\
In terminals 1 and 2:

```bash
cd here
```

See [one](one.py) and [two](../two.py). In terminal 2:

```bash
run
```

```text
it runs
```

Press <kbd>Ctrl-C</kbd> in terminal 1. Then look at terminal 2.
"""


def test_a_page_is_read_as_a_person_reads_it(tmp_path: Path) -> None:
    """The terminal that is named last before a block is the one; without a name, it is the same as before."""
    (tmp_path / "page.md").write_text(TEXT)
    page = Page(tmp_path / "page.md")
    steps = [(type(step), step.terminals, step.text) for step in page.steps]
    assert steps == [(Type, (1, 2), "cd here\n"), (Type, (2,), "run\n"), (See, (2,), "it runs\n"), (Press, (1,), "")]
    assert [link.target for link in page.links] == ["one.py", "../two.py"]
