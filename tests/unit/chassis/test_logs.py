"""Log lines, as another process reads them."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import logging
from chassis import logs

logs.configure("some-service", "INFO", {log_format!r})
log = logging.getLogger("some.module")
log.info("学院君 \\ud800", extra={{"event_id": "e1"}})
try:
    password = "-".join(["geheim"] * 3)
    raise ValueError("broken")
except ValueError:
    log.exception("failed")
print("学院君")
"""


def lines_of(log_format: str, folder: Path) -> list[str]:
    """Standard error of a program that logs, in a locale that knows no Chinese."""
    program = folder / "program.py"
    program.write_text(PROGRAM.format(log_format=log_format), encoding="utf-8")
    environ = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0", "PYTHONPATH": "."}
    finished = subprocess.run([sys.executable, program], env=environ, capture_output=True, check=True, timeout=60)
    assert finished.stdout.decode() == "学院君\n"
    return finished.stderr.decode().splitlines()


def test_a_json_line_says_service_level_logger_and_extras(tmp_path: Path) -> None:
    """What a log collector searches by; any script arrives whole, and half a character breaks nothing."""
    first, second = (json.loads(line) for line in lines_of("auto", tmp_path))
    expected = {"service": "some-service", "level": "info", "logger": "some.module", "event_id": "e1"}
    assert expected.items() <= first.items()
    assert first["event"].startswith("学院君")
    assert "ValueError: broken" in second["exception"]


def test_in_a_terminal_lines_are_for_people(tmp_path: Path) -> None:
    """Coloured, and no JSON; the extras are there all the same."""
    program = tmp_path / "program.py"
    program.write_text(PROGRAM.format(log_format="auto"), encoding="utf-8")
    ours, its = pty.openpty()
    subprocess.run([sys.executable, program], env={"PYTHONPATH": "."}, stderr=its, stdout=its, check=True, timeout=60)
    first = os.read(ours, 65536).decode().splitlines()[0]
    os.close(its)
    os.close(ours)
    assert "\x1b[" in first
    assert re.sub(r"\x1b\[[0-9;]*m", "", first).endswith("event_id=e1 service=some-service")


HOSTILE = "".join(
    map(chr, [*range(32), *range(127, 160), 0x61C, 0x200E, 0x200F, *range(0x2028, 0x202F), *range(0x2066, 0x206A)])
)
FORGED = "2026-01-01T00:00:00Z [info     ] all is well"
HOSTILE_PROGRAM = f"""
import logging
from chassis import logs

logs.configure("some-service", "INFO", {{log_format!r}})
log = logging.getLogger("some.module")
text = {f"a{HOSTILE}{chr(10)}{FORGED}"!a}
log.info("path %s", text, extra={{{{"event_id": text}}}})
try:
    raise ValueError(text)
except ValueError:
    log.exception("failed")
"""


@pytest.mark.parametrize("log_format", ["console", "json"])
def test_nobody_forges_a_line_or_moves_a_cursor(log_format: str, tmp_path: Path) -> None:
    """A path, an id, an exception with anything in it: each control is escaped, once."""
    program = tmp_path / "program.py"
    program.write_text(HOSTILE_PROGRAM.format(log_format=log_format), encoding="utf-8")
    ended = subprocess.run(
        [sys.executable, program], env={"PYTHONPATH": "."}, capture_output=True, encoding="utf-8", check=True
    )
    assert set(ended.stderr) & set(HOSTILE) == {"\n"}
    lines = ended.stderr.split("\n")
    assert not any(line.startswith(FORGED) for line in lines)
    if log_format == "json":
        first, second = (json.loads(line) for line in lines[:2])
        assert first["event_id"] in first["event"]
        assert first["event_id"] in second["exception"]
    else:
        assert lines[0].count(r"\x1b") == lines[0].count(r"\u202e") == lines[0].count(rf"\n{FORGED}") == 2
        assert r"\\" not in lines[0]


@pytest.mark.parametrize("log_format", ["console", "json"])
def test_an_encoding_that_was_asked_for_is_kept(log_format: str, tmp_path: Path) -> None:
    """What it lacks is escaped, in JSON as JSON has it."""
    program = tmp_path / "program.py"
    program.write_text(PROGRAM.format(log_format=log_format).replace("学院君 ", "学院君 🦊 "), encoding="utf-8")
    environ = {"PYTHONIOENCODING": "ascii", "PYTHONPATH": "."}
    ended = subprocess.run([sys.executable, program], env=environ, capture_output=True, encoding="ascii", check=True)
    assert ended.stdout == "\\u5b66\\u9662\\u541b\n"
    first = ended.stderr.splitlines()[0]
    assert "学院君 🦊" in (
        json.loads(first)["event"] if log_format == "json" else first.encode().decode("unicode_escape")
    )


@pytest.mark.parametrize("log_format", ["console", "json"])
def test_a_traceback_shows_no_local_variables(log_format: str, tmp_path: Path) -> None:
    """One of them may be a password."""
    text = "\n".join(lines_of(log_format, tmp_path))
    assert "ValueError: broken" in text
    assert "geheim-geheim" not in text
