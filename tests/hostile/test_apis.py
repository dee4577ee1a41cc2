"""Both services against schemathesis: what their OpenAPI documents allow, what they do not, and in what order.

schemathesis has its own process, so that its warnings and its threads are its own. By hand, more of it:

    SCHEMATHESIS_HOOKS=tests.hostile.guard schemathesis run http://127.0.0.1:8000/openapi.json --max-examples 1000
"""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.end_to_end.processes import ROOT, Application, environment

EXAMPLES = 15  #: of each operation and phase
TAKEN = 3  #: users that are registered at the least
RUN_SECONDS = 200


@pytest.fixture
def app(tmp_path: Path) -> Iterator[Application]:
    """Both services, started; gone when the test is over."""
    with closing(Application(tmp_path)) as application:
        application.start()
        yield application


def test_no_request_gets_an_answer_that_the_contract_does_not_know(app: Application, tmp_path: Path) -> None:
    """Good data is taken, bad data refused; no error is ours, none is logged, and both services stop as they should."""
    for service in (app.users, app.emails):
        fuzz(service.url, tmp_path)
    with closing(sqlite3.connect(app.data / "users.db")) as database:
        [(users,)] = database.execute("SELECT count(*) FROM users")
    assert users >= TAKEN, "little of what was meant to be good was taken"
    assert (app.users.stop(), app.emails.stop()) == (0, 0)
    for said in (app.users.output, app.emails.output):
        assert '"level": "error"' not in said
        assert "Traceback" not in said


def fuzz(url: str, folder: Path) -> None:
    """Every phase and every check of schemathesis, and ours; always the same requests."""
    command = f"run {url}/openapi.json --mode=all --checks=all --max-examples={EXAMPLES} --continue-on-failure"
    always_the_same = "--generation-deterministic --no-color"
    ended = subprocess.run(
        [sys.executable, "-m", "schemathesis.cli", *command.split(), *always_the_same.split()],
        cwd=folder,
        env=environment({"PYTHONPATH": str(ROOT), "SCHEMATHESIS_HOOKS": "tests.hostile.guard"}),
        capture_output=True,
        encoding="utf-8",
        timeout=RUN_SECONDS,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout[-5000:] + ended.stderr[-2000:]
    assert "WARNINGS" not in ended.stdout, ended.stdout[-5000:]
