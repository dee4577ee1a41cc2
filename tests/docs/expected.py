"""What a page says that a terminal shows, compared with what it does show.

Left open: moments, durations, ids, process ids, temporary folders, how much space is between words. An id is the
page's own example: wherever the page has the same one, the terminal must have the same one, too. In a line `…` stands
for anything; alone on a line, for any lines.
"""

from __future__ import annotations

import re

ANYTHING = "…"

#: What stays open wherever it comes.
_OPEN = {
    "moment": (r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:\.\d+)?", r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:\.\d+)?"),
    "time": (r"\d\d:\d\d:\d\d(?:\.\d+)?", r"\d\d:\d\d:\d\d(?:\.\d+)?"),
    "duration": (r"\d+(?:\.\d+)?(?= (?:ms|s)\b)", r"\d+(?:\.\d+)?"),
    "anything": (ANYTHING, r".*"),
    "space": (r" {2,}", r" +"),
}
#: What is open the first time, and the same from then on.
_BOUND = {
    "uuid": (r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b", r"[0-9a-f-]{36}"),
    "id": (r"\b[0-9a-f]{16}\b", r"[0-9a-f]{16}"),
    "short": (r"(?<=event )[0-9a-f]{8}\b", r"[0-9a-f]{8}"),
    "pid": (r"(?<=kill -9 )\d+", r"\d+"),
    "folder": (r"/tmp/demo-\w+", r"\S*/demo-\w+"),
}
_TOKEN = re.compile("|".join(f"(?P<{name}>{shape})" for name, (shape, _) in {**_BOUND, **_OPEN}.items()))


class Examples:
    """The page's examples of what is different each time, and what they are this time."""

    def __init__(self, known: dict[str, str]) -> None:
        self._actual = known

    def in_place(self, text: str) -> str:
        """The text with each example replaced by what it is this time."""
        for example, actual in self._actual.items():
            text = text.replace(example, actual)
        return text

    def find(self, expected: str, printed: str, is_all: bool) -> int | None:
        """Where in what is printed the end of the expected lines is; None when they do not begin it.

        With `is_all` there must be nothing else. Examples that are new become known.
        """
        new: dict[str, str] = {}
        *runs, last = self._runs(expected, new)
        pattern = "".join(f"(?>{run})" for run in runs) + last
        match = re.match(rf"{pattern}\s*\Z" if is_all else pattern, printed)
        if match is None:
            return None
        self._actual.update({example: match[group] for example, group in new.items()})
        return match.end()

    def _runs(self, expected: str, new: dict[str, str]) -> list[str]:
        """A pattern for each run of lines without a gap, with the gap that is before it.

        Each is found at the first place where it can be, and stays there: to try all places of all runs takes ages.
        """
        runs = [""]
        for line in expected.strip("\n").split("\n"):
            if line.strip() == ANYTHING:
                runs.append(r"(?:.*\n)*?")
            else:
                runs[-1] += self._pattern(line, new)
        return runs

    def _pattern(self, line: str, new: dict[str, str]) -> str:
        place, parts = 0, []
        for token in _TOKEN.finditer(line):
            parts += [self._literal(line[place : token.start()]), self._any(token, new)]
            place = token.end()
        return "".join([*parts, self._literal(line[place:]), r" *\n"])

    def _literal(self, text: str) -> str:
        return re.escape(self.in_place(text))

    def _any(self, token: re.Match[str], new: dict[str, str]) -> str:
        kind, example = str(token.lastgroup), token[0]
        if kind in _OPEN:
            return _OPEN[kind][1]
        if example in self._actual:
            return re.escape(self._actual[example])
        if example in new:
            return f"(?P={new[example]})"
        new[example] = f"example{len(new)}"
        return f"(?P<{new[example]}>{_BOUND[kind][1]})"
