"""The client against servers that are not ours: one line that says so, whatever they answer."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import repeat

import pytest

import client
from demo.api_client import NewUser, NoEmailService, NoUserService, Refused, Services

JSON, HTML, PROBLEM = "application/json", "text/html", "application/problem+json"
ENDLESS = b"[" + b" " * 2_000_000

Answer = tuple[int, str, bytes]

#: None of them is what one of our services says.
FOREIGN: dict[str, Answer] = {
    "a page": (200, HTML, b"<html>Welcome to nginx!</html>"),
    "nothing": (200, JSON, b""),
    "no content": (204, JSON, b""),
    "a list": (200, JSON, b"[]"),
    "an empty object": (200, JSON, b"{}"),
    "null": (200, JSON, b"null"),
    "half of a document": (200, JSON, b'{"id": "1", "na'),
    "no UTF-8": (200, JSON, b'{"id": "\xff"}'),
    "numbers": (200, JSON, b'{"id": 1, "name": 2, "email": 3, "created_at": 4, "emails": [5]}'),
    "emails that are none": (200, JSON, b'{"emails": {"a": "b"}}'),
    "brackets in brackets": (200, JSON, b"[" * 100_000),
    "no end": (200, JSON, ENDLESS),
    "a redirect": (302, HTML, b""),
    "a missing page": (404, HTML, b"Not Found"),
    "a problem that is a list": (422, PROBLEM, b"[]"),
    "a problem without a text": (422, PROBLEM, b'{"detail": 1}'),
    "a problem with strange errors": (422, PROBLEM, b'{"detail": "no", "errors": [1]}'),
    "a problem with stranger errors": (422, PROBLEM, b'{"detail": "no", "errors": 1}'),
}
OURS: Answer = (201, JSON, b'{"id": "1", "name": "Ada", "email": "a@b", "created_at": "now"}')


@contextmanager
def stranger(users: Answer, emails: Answer = OURS) -> Iterator[str]:
    """A server that answers so; its address."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer(*(emails if self.path.startswith("/emails") else users))

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self._answer(*users)

        def _answer(self, status: int, kind: str, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Location", "/elsewhere")
            self.end_headers()
            with suppress(OSError):  # the client has seen enough
                for part in repeat(body, 100 if body is ENDLESS else 1):
                    self.wfile.write(part)

        def log_message(self, *_: object) -> None:
            """Not of interest."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,)).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()


@pytest.mark.parametrize("answer", FOREIGN.values(), ids=FOREIGN)
def test_another_server_in_the_place_of_the_user_service_is_told_apart(
    answer: Answer, capsys: pytest.CaptureFixture[str]
) -> None:
    """At once, in one line, with the status that says that there is no user service."""
    with stranger(answer) as url:
        assert client.main(["--url", url, "--emails-url", url]) == 2
        out, err = capsys.readouterr()
        assert out == ""
        assert err.startswith(f"client: what answers at {url} is no user service of ours: it answers with")
        assert err.count("\n") == 1
        with closing(Services(url, url, 5)) as services, pytest.raises(NoUserService):
            services.user("1")


@pytest.mark.parametrize("answer", [each for each in FOREIGN.values() if each[1] != PROBLEM])
def test_another_server_in_the_place_of_the_email_service_is_told_apart(answer: Answer) -> None:
    """The user is registered all the same; nobody waits for an email from there."""
    with stranger(OURS, answer) as url, closing(Services(url, url, 5)) as services:
        assert services.register(NewUser("Ada"))["name"] == "Ada"
        with pytest.raises(NoEmailService, match=f"^what answers at {url} is no email service of ours: it answers"):
            services.email("1")


def test_a_refusal_of_ours_says_each_field_and_why() -> None:
    """Or the text, where no field is named."""
    problem = b'{"detail": "the user is not valid", "errors": [{"field": "name", "message": "is missing"}]}'
    for body, says in ((problem, "422, name is missing"), (b'{"detail": "email is taken"}', "422, email is taken")):
        with stranger((422, PROBLEM, body)) as url, closing(Services(url, url, 5)) as services:
            with pytest.raises(Refused) as refused:
                services.register(NewUser(""))
            assert str(refused.value) == says


@pytest.mark.parametrize("url", ["nowhere", "http://a..b", "ftp://127.0.0.1", "http://[::1", "http://:80"])
def test_what_is_no_address_is_one_line(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    """As if nobody listened there."""
    assert client.main(["--url", url]) == 2
    assert capsys.readouterr().err == f"client: no user service at {url}: start it with `python -m user_service`\n"
