"""Standard streams that are closed at the start."""

from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """
import sys
from chassis.streams import open_what_is_closed
open_what_is_closed()
with open("/dev/null") as opened:
    print("out")
    print("err", file=sys.stderr)
    sys.exit(100 + opened.fileno() + len(sys.stdin.read()))
"""


@pytest.mark.parametrize(
    ("closed", "out", "err"),
    [("<&-", "out", "err"), (">&-", "", "err"), ("2>&-", "out", ""), ("<&- >&- 2>&-", "", "")],
)
def test_no_file_gets_the_number_of_a_closed_stream(closed: str, out: str, err: str) -> None:
    """Input is empty then, and output goes nowhere: not into the next file, nor into another stream."""
    ended = subprocess.run(
        ["bash", "-c", f'exec "$0" -c "$1" {closed}', sys.executable, PROGRAM],
        env={"PYTHONPATH": "."},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        timeout=60,
        check=False,
    )
    assert (ended.stdout.strip(), ended.stderr.strip()) == (out, err)
    assert ended.returncode >= 103
