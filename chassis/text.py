"""Text that strangers have written, on a line that is ours: no control in it is obeyed, and none forges a line."""

from __future__ import annotations

import io
import re
import sys

#: What a terminal obeys, and what ends or turns round a line: C0, DEL and C1; bidirectional controls and line
#: separators (https://www.unicode.org/reports/tr9/, https://trojansource.codes); halves of characters.
CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def shown(text: str) -> str:
    r"""The text in one line, with `\x1b` and the like for its controls; letters of any script stay as they are."""
    return CONTROLS.sub(lambda control: control[0].encode("unicode_escape").decode(), text)


def print_anywhere() -> None:
    r"""Let standard output and error write `\u5b66` for a letter that the terminal's encoding lacks, and not raise."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a closed one is None
            stream.reconfigure(errors="backslashreplace")
