"""Warnings about what is looked at many times a second: each is logged once."""

from __future__ import annotations

import logging

from broker.http.fields import printable

MAX_WARNINGS = 20  #: that are remembered; a stranger may cause any number of them


class Once:
    """Logs a warning the first time, again when its cause has changed, and again after it was over. Thread-safe."""

    def __init__(self, log: logging.Logger) -> None:
        self._log = log
        self._causes: dict[object, str] = {}

    def warn(self, what: object, text: str, *, exc_info: bool = False) -> None:
        """That is how it stands with `what`. Beyond `MAX_WARNINGS` of them, others are logged for debugging only."""
        if self._causes.get(what) == text:
            return
        known = what in self._causes or len(self._causes) < MAX_WARNINGS
        if known:
            self._causes[what] = text
        self._log.log(logging.WARNING if known else logging.DEBUG, "%s", printable(text, 500), exc_info=exc_info)

    def over(self, what: object) -> bool:
        """It is well again; whether there was a warning before."""
        return self._causes.pop(what, None) is not None
