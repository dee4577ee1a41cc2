"""Numbers that somebody else has chosen: an option, an argument of a command. Checked once, before they are used."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from typing import Any

from broker.errors import BrokerError


@dataclass(frozen=True)
class Number:
    """What a number may be: from `least` to `most`, both included; with `whole`, an integer."""

    least: float
    most: float
    whole: bool = False

    def check(self, name: str, value: object) -> None:
        """Raise `BrokerError` when it is none of these; also for NaN, infinity, True and a number in quotes."""
        kind = int if self.whole else int | float
        if isinstance(value, bool) or not isinstance(value, kind) or not self.least <= value <= self.most:
            raise BrokerError(f"{name}={_shown(value)} is not possible: it must be {self}")

    def parse(self, text: str) -> Any:
        """The number in an argument of a command, as `type` of `add_argument`."""
        try:
            value = int(text) if self.whole else float(text)
            self.check("it", value)
        except (ValueError, BrokerError) as error:
            raise argparse.ArgumentTypeError(f"{text[:40]!r} is not possible: it must be {self}") from error
        return value

    def __str__(self) -> str:
        return f"{'a whole number' if self.whole else 'a number'} from {self.least:,.12g} to {self.most:,.12g}"


def _shown(value: object) -> str:
    try:
        return f"{value!r:.40}"
    except Exception:  # noqa: BLE001  # of its `__repr__`; an int of 5000 digits has none either
        return f"a {type(value).__name__}"
