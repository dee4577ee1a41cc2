"""Pages of the documentation as their tests see them: what is run where, what it should print, what is quoted.

A block of ```bash is typed into a terminal; a block of ```text is what a terminal shows then; a paragraph with
<kbd>Ctrl-C</kbd> presses it. Which terminal: for a block the one that the text right before it names last ("terminal
2", "terminals 1 and 2"), for a key the one that is named next; else the same as before. All of that is there for the
reader; nothing is hidden from him.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token

ROOT = Path(__file__).parents[2]
WALKTHROUGH = ROOT / "docs" / "walkthrough"
KINDS = frozenset({"bash", "text", "python", "mermaid"})  #: of blocks: run, compared, compared, pictures

#: what a command begins with, after the settings of its environment
_PROGRAMS = re.compile(r"(?:[A-Z_]+=\S+ )*(?:python3?|make|docker|pip|kill)(?=\s|$)")

_NUMBER = r"\d(?:(?:, | and |、| ?和 ?)\d)*"
_TERMINAL = re.compile(rf"(?:[Tt]erminals?|终端) ?({_NUMBER})")
_SENTENCE_ENDS = re.compile(r"(?<=[.:。：])\s")
_KEY = "<kbd>Ctrl-C</kbd>"


@dataclass(frozen=True)
class Step:
    """Something that the reader does or sees, in these terminals; `line` is where the page says so."""

    terminals: tuple[int, ...]
    text: str
    line: int


class Type(Step):
    """Type these lines."""


class See(Step):
    """Then this is to be seen."""


class Press(Step):
    """Press Ctrl-C."""


@dataclass(frozen=True)
class Listing:
    """Lines of a file, as the page shows them; `path` is the last file that the text before it links to."""

    text: str
    line: int
    path: Path | None


@dataclass(frozen=True)
class Link:
    """Where a link or a picture goes, as it is written."""

    target: str
    line: int


class Page:
    """One Markdown file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._tokens = MarkdownIt("commonmark").enable("table").parse(path.read_text(encoding="utf-8"))

    def __str__(self) -> str:
        return str(self.path.relative_to(ROOT) if self.path.is_relative_to(ROOT) else self.path)

    @cached_property
    def steps(self) -> list[Step]:
        """What there is to do and to see, in order."""
        steps: list[Step] = []
        current: tuple[int, ...] = (1,)
        for before, token in self._with_text_before():
            if token.type == "inline":
                steps += [Press(where, "", _line(token)) for where in _keys_pressed(token.content, current)]
            elif token.info in ("bash", "text"):
                current = _named(before) or current
                kind = Type if token.info == "bash" else See
                steps.append(kind(current, token.content, _line(token)))
        return steps

    @property
    def commands(self) -> list[str]:
        """What a page that is not walked says one can type: the lines of ```sh, and commands within its text."""
        blocks = [token.content for token in self._tokens if token.type == "fence" and token.info == "sh"]
        within = [child for token in self._tokens for child in token.children or () if child.type == "code_inline"]
        spans = [child.content for child in within if _PROGRAMS.match(child.content)]
        return [*(line for block in blocks for line in block.splitlines()), *spans]

    @property
    def listings(self) -> Iterator[Listing]:
        """The Python that it quotes."""
        quoted: Path | None = None
        for _, token in self._with_text_before():
            if token.type == "inline":
                targets = [self.resolve(link.target) for link in _links(token)]
                quoted = next((target for target in reversed(targets) if target.suffix == ".py"), quoted)
            elif token.info == "python":
                yield Listing(token.content, _line(token), quoted)

    @property
    def links(self) -> list[Link]:
        """Every link and picture."""
        return [link for token in self._tokens if token.type == "inline" for link in _links(token)]

    @property
    def headings(self) -> list[str]:
        """The text of each heading, as it is shown."""
        pairs = zip(self._tokens, self._tokens[1:], strict=False)
        return [_shown(inline) for opening, inline in pairs if opening.type == "heading_open"]

    @property
    def anchors(self) -> set[str]:
        """What a link may name after the `#`, as code hosts make it of a heading."""
        return {_anchor(heading) for heading in self.headings}

    @property
    def block_kinds(self) -> set[str]:
        """The languages of its blocks."""
        return {token.info for token in self._tokens if token.type == "fence"}

    def resolve(self, target: str) -> Path:
        """The file that a link of this page goes to."""
        return (self.path.parent / target.partition("#")[0]).resolve()

    def _with_text_before(self) -> Iterator[tuple[str, Token]]:
        before = ""
        for token in self._tokens:
            if token.type == "heading_open":
                before = ""
            elif token.type == "inline":
                yield before, token
                before = token.content
            elif token.type == "fence":
                yield before, token
                before = ""


def _line(token: Token) -> int:
    return token.map[0] + 1 if token.map else 0


def _named(text: str) -> tuple[int, ...]:
    """The terminals that a text names last."""
    mentions = _TERMINAL.findall(text)
    return tuple(int(number) for number in re.findall(r"\d", mentions[-1])) if mentions else ()


def _keys_pressed(text: str, current: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    """Where it is pressed: in the terminal that is named next in the same sentence."""
    for after in text.split(_KEY)[1:]:
        mention = _TERMINAL.search(_SENTENCE_ENDS.split(after)[0])
        yield _named(mention[0]) if mention else current


def _links(token: Token) -> list[Link]:
    children: Sequence[Token] = token.children or ()
    targets = [child.attrGet("href") or child.attrGet("src") for child in children]
    return [Link(str(target), _line(token)) for target in targets if target]


def _shown(inline: Token) -> str:
    return "".join(child.content for child in inline.children or ())


def _anchor(heading: str) -> str:
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")
