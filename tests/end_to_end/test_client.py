"""The client as its users see it: what it says, and its exit status."""

from __future__ import annotations

import json
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tests.end_to_end.processes import Application, run

NOBODY = "http://127.0.0.1:9"  #: the discard port: nothing listens there


def test_it_tells_the_story_of_one_user(app: Application) -> None:
    """Without arguments it is 学院君, as in the tutorial."""
    app.start()
    ended = _client(app)
    registered, read_back, *_, sent = ended.stdout.splitlines()
    assert registered.startswith("registered  学院君 <user-")
    assert read_back.startswith("read back   学院君 <user-")
    assert sent.startswith("email sent  “Welcome, 学院君!” to user-")
    assert (ended.returncode, ended.stderr) == (0, "")


def test_it_registers_many_and_counts_them(app: Application) -> None:
    """With latencies at the end, and no control characters in a pipe."""
    app.start()
    ended = _client(app, "--count", "20", "--concurrency", "4")
    counts, registration, email = ended.stdout.splitlines()[-3:]
    assert counts.startswith("20 of 20 users registered, 20 emails sent in ")
    assert registration.startswith("registration: p50 ")
    assert email.startswith("registration → email: p50 ")
    assert "\x1b" not in ended.stdout
    assert (ended.returncode, ended.stderr) == (0, "")


@pytest.mark.parametrize("many", [(), ("--count", "3")])
def test_it_fails_when_no_email_was_sent_in_time(app: Application, many: tuple[str, ...]) -> None:
    """The users are registered all the same; it says what to start."""
    app.users.start()
    ended = run("client.py", "--url", app.users.url, "--emails-url", NOBODY, "--timeout", "0.5", *many)
    assert "start it with `python -m email_service`" in ended.stdout + ended.stderr
    assert ended.returncode == 1


def test_it_says_what_to_start_when_nothing_listens() -> None:
    """One line, status 2, no traceback."""
    ended = run("client.py", "--url", NOBODY)
    assert ended.stderr == f"client: no user service at {NOBODY}: start it with `python -m user_service`\n"
    assert (ended.returncode, ended.stdout) == (2, "")


def test_it_refuses_numbers_that_make_no_sense() -> None:
    """As any command does."""
    ended = run("client.py", "--count", "0")
    assert "must be above zero" in ended.stderr
    assert ended.returncode == 2


def test_it_asks_again_for_the_same_user_when_the_service_stumbles() -> None:
    """A registration that may have happened is asked for again with the same id, so that it happens once."""
    with _stumbling_service() as (url, posted):
        ended = run("client.py", "--url", url, "--emails-url", url)
    assert ended.returncode == 0, ended.stderr
    assert len(posted) == 3
    assert posted[0] == posted[1] == posted[2]


def test_it_never_prints_the_password() -> None:
    """Neither when it fails, nor when it succeeds."""
    with _stumbling_service() as (url, posted):
        failed = run("client.py", "--url", url, "--emails-url", url, "--timeout", "0.001")
        told = run("client.py", "--url", url, "--emails-url", url)
    assert (failed.returncode, told.returncode) == (1, 0)
    for password in {user["password"] for user in posted}:
        assert password not in failed.stdout + failed.stderr + told.stdout + told.stderr


def test_nobody_forges_a_line_of_its_output() -> None:
    """Whatever a service answers: no control is obeyed, none ends a line, and a `[` begins no markup."""
    name = "a\nregistered  b\x1b[2J\x9b\u202e\u2028[/x]"
    with _stumbling_service() as (url, _):
        ended = run("client.py", "--url", url, "--emails-url", url, "--name", name)
    shown = r"a\nregistered  b\x1b[2J\x9b\u202e\u2028[/x]"
    assert ended.stdout.splitlines()[0].startswith(f"registered  {shown} <")
    assert (ended.returncode, ended.stderr) == (0, "")


def _client(app: Application, *arguments: str) -> subprocess.CompletedProcess[str]:
    return run("client.py", "--url", app.users.url, "--emails-url", app.emails.url, *arguments)


@contextmanager
def _stumbling_service() -> Iterator[tuple[str, list[dict[str, str]]]]:
    """Both services in one, the first two registrations failing: by a cut connection, and with 503."""
    posted: list[dict[str, str]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            posted.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            if len(posted) == 1:
                self.close_connection = True
            elif len(posted) == 2:
                self._answer(503, {})
            else:
                self._answer(201, self._user())

        def do_GET(self) -> None:
            email = {"event_id": "1", "to": "x@example.com", "subject": "Welcome!"}
            self._answer(200, {"emails": [email]} if self.path.startswith("/emails") else self._user())

        def _user(self) -> dict[str, str]:
            user = posted[-1] if posted else {}
            return {**user, "created_at": "2026-01-01T00:00:00Z"}

        def _answer(self, status: int, body: object) -> None:
            self.send_response(status)
            self.end_headers()
            self.wfile.write(json.dumps(body).encode())

        def log_message(self, *_: object) -> None:
            """Not of interest."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,)).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", posted
        finally:
            server.shutdown()
