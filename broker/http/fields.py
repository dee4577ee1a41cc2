"""The fields of what a peer has sent or written: of their kind and within their limits, or a `ValueError`.

Python's own conversions take too much: `int(True)`, `float("nan")`, `str([])`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

#: what reading something of a peer may end in
NONSENSE = (ValueError, LookupError, TypeError, AttributeError, OverflowError, RecursionError)


def text(fields: Mapping[str, Any], name: str) -> str:
    """A text, which may be empty."""
    value = fields[name]
    if not isinstance(value, str):
        raise ValueError(f"{name} is {value!r:.40}, which is no text")  # noqa: TRY004  # of JSON
    return value


def whole(fields: Mapping[str, Any], name: str, least: int, most: int) -> int:
    """A whole number within these limits."""
    value = fields[name]
    if type(value) is not int or not least <= value <= most:
        raise ValueError(f"{name} is {_short(value)}, which is no whole number from {least} to {most}")
    return value


def number(fields: Mapping[str, Any], name: str, least: float, most: float) -> float:
    """A number that is not below `least`; one above `most` counts as that."""
    value = fields[name]
    if type(value) not in (int, float) or not math.isfinite(value) or value < least:
        raise ValueError(f"{name} is {_short(value)}, which is no number from {least:g} on")
    return float(min(value, most))


def printable(value: object, most: int = 200) -> str:
    """A peer's words for one line of a log: nothing that a terminal obeys, and not too many of them."""
    words = str(value)
    shown = words[:most] + ("…" if len(words) > most else "")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in shown)


def _short(value: object) -> str:
    """Not as many digits as a peer has sent: Python refuses to write them."""
    return "a very large number" if type(value) is int and abs(value) >= 10**40 else f"{value!r:.40}"
