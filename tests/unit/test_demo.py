"""The demo's story and what the commands share: lines that nobody forges, and an exit status that is true."""

from __future__ import annotations

import io
import json

import pytest

from demo.__main__ import Story
from demo.command import FAILED, INTERRUPTED, Screen, run


@pytest.mark.parametrize(
    "line",
    [
        "[SENDING A EMAIL TO a\x1b[2J\u202e\rb...]",
        json.dumps(
            {
                "event": "path /\n00:00:00 ledger\x1b[2J",
                "level": "info",
                "service": "x\x9b",
                "timestamp": "2026-01-01T00:00:00Z",
                "event_id": "\u202eab\ncdefgh",
            }
        ),
    ],
)
def test_a_line_of_a_service_is_one_line_of_the_story(line: str) -> None:
    """Whatever is in it, also in its event's id."""
    screen = Screen()
    screen.file = io.StringIO()
    Story(screen).line("email_service", line)
    told = screen.file.getvalue()
    assert told.endswith("\n")
    assert told[:-1].isprintable()


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (KeyError("a\x1b[2J\nb"), FAILED, "it: failed: KeyError: 'a\\x1b[2J\\nb'\n"),
        (RuntimeError("a\x1b[2J\nb"), FAILED, "it: failed: RuntimeError: a\\x1b[2J\\nb\n"),
        (BrokenPipeError(), FAILED, ""),
        (KeyboardInterrupt(), INTERRUPTED, ""),
    ],
)
def test_what_nobody_expected_is_one_line_and_never_status_1(
    error: BaseException, status: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Python's own status for it would be 1, which means something here."""

    def fail() -> int:
        raise error

    assert run("it", fail) == status
    assert capsys.readouterr() == ("", said)
