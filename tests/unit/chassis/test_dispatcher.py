"""Those who watch never queue behind the work, and nobody waits for an answer without end."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import requests

from broker.testing import eventually
from chassis.app import new_app
from chassis.drain import Drain
from chassis.metrics import new_registry
from chassis.server import Server

ROOT = Path(__file__).parents[3]
WITHIN_SECONDS = 5  #: of a busy machine; the work below takes sixty


class Work:
    """`/work` is answered when told to; the database, too."""

    def __init__(self) -> None:
        self.running = 0
        self.go_on = threading.Event()
        contract = ROOT / "contracts" / "openapi.yaml"
        self.wsgi = new_app("work", contract=contract, is_ready=self.is_ready, registry=new_registry())
        self.wsgi.add_url_rule("/work", view_func=self.work)

    def is_ready(self) -> bool:
        """As a database whose server hangs."""
        return self.go_on.wait(60)

    def work(self) -> str:
        """The view."""
        self.running += 1
        self.go_on.wait(60)
        return "done"


@pytest.fixture
def work() -> Iterator[Work]:
    """Work that is let go at the end, so that no thread stays."""
    work = Work()
    yield work
    work.go_on.set()


@pytest.fixture
def server(work: Work) -> Iterator[Server]:
    """It has two threads."""
    with Server(work.wsgi, "127.0.0.1", 0, threads=2, drain=Drain(20)) as server, server.taking_requests():
        yield server
        work.go_on.set()


@pytest.fixture
def opened() -> Iterator[ExitStack]:
    """Closes, at the end, the connections that a test has opened."""
    with ExitStack() as stack:
        yield stack


def ask(server: Server, opened: ExitStack) -> socket.socket:
    """A client that has asked for work."""
    address = "127.0.0.1", int(server.url.rpartition(":")[2])
    connection = opened.enter_context(socket.create_connection(address, timeout=60))
    connection.sendall(b"GET /work HTTP/1.1\r\nHost: x\r\n\r\n")
    return connection


def waiting(server: Server) -> int:
    """How many requests wait for a thread."""
    return len(server._waitress.task_dispatcher.queue)


def test_probes_and_scrapes_are_answered_while_all_threads_work_and_the_database_hangs(
    server: Server, opened: ExitStack, work: Work
) -> None:
    """However many ask, and however much work waits."""
    for _ in range(40):
        ask(server, opened)
    eventually(lambda: waiting(server) == 38, "two are answered, the others wait")
    expected = {"/health/live": 200, "/metrics": 200, "/health/ready": 503}
    for _ in range(3):
        for path, status in expected.items():
            assert requests.get(server.url + path, timeout=WITHIN_SECONDS).status_code == status


def test_what_a_client_that_has_gone_had_asked_for_is_not_begun(
    server: Server, opened: ExitStack, work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client that has asked, too, and still waits is answered."""
    monkeypatch.setattr("chassis.channel.GONE_SECONDS", 0)
    for _ in range(2):
        ask(server, opened)
    eventually(lambda: work.running == 2, "both threads work")
    gone = [ask(server, opened) for _ in range(10)]
    stays = ask(server, opened)
    eventually(lambda: waiting(server) == 11, "the others wait")
    for connection in gone:
        connection.close()
    work.go_on.set()
    assert stays.recv(100).startswith(b"HTTP/1.1 200")
    assert work.running == 3


def test_more_than_can_be_answered_is_refused_at_once(
    server: Server, opened: ExitStack, work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a 503 that says when to come again; nothing was done."""
    monkeypatch.setattr("chassis.dispatcher.MAX_WAITING", 5)
    for _ in range(2):
        ask(server, opened)
    eventually(lambda: work.running == 2, "both threads work")
    for _ in range(5):
        ask(server, opened)
    eventually(lambda: waiting(server) == 5, "the queue is full")
    refused = requests.get(f"{server.url}/work", timeout=WITHIN_SECONDS)
    assert (refused.status_code, refused.headers["Retry-After"]) == (503, "1")
    assert refused.json()["detail"] == "too many requests are waiting; try again"


def test_who_has_waited_too_long_is_refused_and_so_is_who_comes_after(
    server: Server, opened: ExitStack, work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The ones that are answered already are answered."""
    for module in ("channel", "dispatcher"):
        monkeypatch.setattr(f"chassis.{module}.WAIT_SECONDS", 0.05)
    runs = [ask(server, opened) for _ in range(2)]
    eventually(lambda: work.running == 2, "both threads work")
    late, asked = ask(server, opened), time.monotonic()
    eventually(lambda: waiting(server) == 1 and time.monotonic() > asked + 0.1, "it has waited too long")
    assert requests.get(f"{server.url}/work", timeout=WITHIN_SECONDS).status_code == 503
    work.go_on.set()
    assert late.recv(100).startswith(b"HTTP/1.1 503")
    assert all(connection.recv(100).startswith(b"HTTP/1.1 200") for connection in runs)
