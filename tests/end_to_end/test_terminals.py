"""The commands on terminals that know no Chinese, in pipes that nobody reads, and what their exit status says then."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.end_to_end.processes import NO_SETTINGS, ROOT, RUN_SECONDS, Application, environment

#: settings, and what they let a terminal show
TERMINALS = {
    "ascii": {"PYTHONIOENCODING": "ascii"},
    "latin-1": {"PYTHONIOENCODING": "latin-1"},
    "gbk": {"PYTHONIOENCODING": "gbk"},
    "C": {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
}
FOX = "\\U0001f98a"


def python(
    *arguments: str, settings: Mapping[str, str] = NO_SETTINGS, stdout: int = subprocess.PIPE
) -> subprocess.CompletedProcess[bytes]:
    """Run `python …` to its end; what it prints, as it comes."""
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env=environment(settings),
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=subprocess.PIPE,
        timeout=RUN_SECONDS,
        check=False,
    )


def nobody_reads() -> int:
    """The end of a pipe whose other end is closed, as `| head` leaves it."""
    reads, writes = os.pipe()
    os.close(reads)
    return writes


@pytest.fixture
def client(app: Application) -> list[str]:
    """The client of both services, which run."""
    app.start()
    return ["client.py", "--url", app.users.url, "--emails-url", app.emails.url]


@pytest.mark.parametrize("terminal", TERMINALS)
def test_what_a_terminal_cannot_show_is_escaped(app: Application, client: list[str], terminal: str) -> None:
    """One user and many, and the ledger's line: nothing raises, and the status is the true one."""
    settings, encoding = TERMINALS[terminal], "ascii" if terminal == "C" else terminal
    one = (
        python(*client, "--name", "Zo 🦊", settings=settings) if terminal != "C" else python(*client, settings=settings)
    )
    assert (one.returncode, one.stderr) == (0, b"")
    said = one.stdout.decode(encoding)
    assert said.startswith(f"registered  Zo {FOX} <" if terminal != "C" else "registered  \\u5b66\\u9662\\u541b <")
    many = python(*client, "--count", "5", settings=settings)
    assert (many.returncode, many.stderr) == (0, b"")
    counted = python("ledger.py", settings={"DATA_DIR": str(app.data), **settings})
    assert (counted.returncode, counted.stderr) == (0, b"")
    assert "LOST 0" in counted.stdout.decode(encoding)


def test_the_demo_tells_its_story_in_ascii(tmp_path: Path) -> None:
    """The services write what they always write; the demo escapes it, once."""
    ended = python("-m", "demo", "--free-ports", settings={"TMPDIR": str(tmp_path), **TERMINALS["C"]})
    assert (ended.returncode, ended.stderr) == (0, b"")
    assert rf"[SENDING A EMAIL TO Zo\xeb {FOX}...]" in ended.stdout.decode("ascii")


def test_a_reader_that_has_left_ends_no_command_with_1(app: Application, client: list[str]) -> None:
    """1 is for a user who is lost, or not registered. The client goes on and registers; the ledger could not say it."""
    registered = python(*client, "--count", "5", stdout=nobody_reads())
    assert (registered.returncode, registered.stderr) == (0, b"")
    counted = python("ledger.py", stdout=nobody_reads(), settings={"DATA_DIR": str(app.data)})
    assert (counted.returncode, counted.stderr) == (2, b"")


def test_a_ledger_that_fails_ends_with_2_whatever_it_was(app: Application) -> None:
    """A full disk, a file that is no database, a package that is not there."""
    app.users.start()
    with Path("/dev/full").open("wb") as full:
        ended = python("ledger.py", "--no-wait", stdout=full.fileno(), settings={"DATA_DIR": str(app.data)})
    assert ended.returncode == 2
    assert b"No space left" in ended.stderr
    (app.data / "emails.db").write_bytes(b"no database at all" * 100)
    broken = python("ledger.py", "--no-wait", settings={"DATA_DIR": str(app.data)})
    assert (broken.returncode, broken.stdout, broken.stderr.count(b"\n")) == (2, b"", 1)
    nothing = python("-S", "ledger.py")
    assert nothing.returncode == 2
    assert b"make setup" in nothing.stderr
