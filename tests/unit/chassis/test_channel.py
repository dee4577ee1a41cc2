"""Clients that are slow, silent or too many, and those who are answered meanwhile."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest
import requests
from flask import Flask

from broker.testing import eventually
from chassis.drain import Drain
from chassis.server import Server

HALF = b"POST / HTTP/1.1\r\nContent-Length: 100\r\n\r\nhalf"
LARGE = 1_000_000  #: bytes of an answer
BUFFERED = 16 * LARGE  #: so much of one client's answers waitress keeps; then a thread waits


class App:
    """`/slow` answers when told to, `/large` with a lot, everything else at once."""

    def __init__(self) -> None:
        self.started, self.go_on = threading.Event(), threading.Event()
        self.wsgi = Flask("app")
        self.wsgi.add_url_rule("/", view_func=lambda: "quick", endpoint="quick")
        self.wsgi.add_url_rule("/large", view_func=lambda: "x" * LARGE, endpoint="large")
        self.wsgi.add_url_rule("/slow", view_func=self.slow)

    def slow(self) -> str:
        """The view."""
        self.started.set()
        self.go_on.wait(60)
        return "slow"


@pytest.fixture
def app() -> Iterator[App]:
    """An app that is let go at the end, so that no thread stays."""
    app = App()
    yield app
    app.go_on.set()


@pytest.fixture
def server(app: App, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """It answers two at a time, takes thirty connections, and waits for nobody longer than a second or two."""
    for name, value in {"CONNECTIONS": 30, "IDLE_SECONDS": 1, "CLEANUP_SECONDS": 1}.items():
        monkeypatch.setattr(f"chassis.server.{name}", value)
    with Server(app.wsgi, "127.0.0.1", 0, threads=2, drain=Drain(5)) as server, server.taking_requests():
        yield server


@pytest.fixture
def opened() -> Iterator[ExitStack]:
    """Closes, at the end, the connections that a test has opened."""
    with ExitStack() as stack:
        yield stack


def connect(server: Server, opened: ExitStack, sent: bytes) -> socket.socket:
    """A client that has sent that much."""
    address = "127.0.0.1", int(server.url.rpartition(":")[2])
    connection = opened.enter_context(socket.create_connection(address, timeout=20))
    connection.sendall(sent)
    return connection


def is_answered(server: Server) -> bool:
    """Whether somebody who comes now is served."""
    return requests.get(server.url, timeout=20).text == "quick"


def has_ended(connection: socket.socket, drop: bytes = b"") -> bool:
    """Whether the server has hung up; if not, it gets one more drop."""
    connection.settimeout(0.05)
    try:
        connection.sendall(drop)
        return connection.recv(1) == b""
    except TimeoutError:
        return False
    except ConnectionError:
        return True


@pytest.mark.parametrize("began", [b"", b"POST / HTTP/1.1\r\nX-Slow: ", HALF], ids=["nothing", "head", "body"])
@pytest.mark.parametrize("drop", [b"x", b"\r\n"], ids=["letters", "lines"])
def test_who_sends_drop_by_drop_is_hung_up_on(server: Server, opened: ExitStack, began: bytes, drop: bytes) -> None:
    """However steadily it drips."""
    slow = connect(server, opened, began)
    eventually(lambda: has_ended(slow, drop), "the server hangs up")
    assert is_answered(server)


def test_who_does_not_read_the_answers_is_hung_up_on(server: Server, opened: ExitStack) -> None:
    """Two clients ask for more than is buffered, so that both threads wait to write; then others are answered again."""
    for _ in range(2):
        connect(server, opened, b"GET /large HTTP/1.1\r\n\r\n" * 200)
    clients = server._waitress.active_channels
    eventually(lambda: sum(c.total_outbufs_len for c in list(clients.values())) > 2 * BUFFERED, "both threads wait")
    assert is_answered(server)


def test_who_waits_for_a_slow_answer_gets_it(server: Server, opened: ExitStack, app: App) -> None:
    """A view may take longer than a client may."""
    with ThreadPoolExecutor(1) as threads:
        answer = threads.submit(requests.get, f"{server.url}/slow", timeout=60)
        assert app.started.wait(20)
        beside = connect(server, opened, HALF)
        eventually(lambda: has_ended(beside), "a second has passed")
        app.go_on.set()
        assert answer.result(timeout=60).text == "slow"


def test_however_many_connections_are_open_a_new_one_is_answered(server: Server, opened: ExitStack) -> None:
    """Those that have kept the server waiting longest make room, not those that came last."""
    server._waitress.adj.channel_timeout = 60
    connections = [connect(server, opened, HALF if n % 2 else b"") for n in range(100)]
    assert is_answered(server)
    assert has_ended(connections[0])
    assert not has_ended(connections[-1])


FEW_DESCRIPTORS = """
import logging, resource, sys
from flask import Flask
from chassis.server import Server
app = Flask("app")
app.add_url_rule("/", view_func=lambda: "quick")
logging.basicConfig()
resource.setrlimit(resource.RLIMIT_NOFILE, (40, 40))
with Server(app, "127.0.0.1", 0) as server, server.taking_requests():
    print(server.url, flush=True)
    sys.stdin.read()
"""


def test_with_few_descriptors_a_new_client_is_answered_and_the_log_says_so_once(
    tmp_path: Path, opened: ExitStack
) -> None:
    """MacOS allows 256 to a process; here there are fewer, and more connections than that."""
    with (tmp_path / "log").open("w") as log:
        command = [sys.executable, "-c", FEW_DESCRIPTORS]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True) as child:
            assert child.stdin
            assert child.stdout
            url = child.stdout.readline().strip()
            for _ in range(100):
                address = "127.0.0.1", int(url.rpartition(":")[2])
                opened.enter_context(socket.create_connection(address, timeout=20))
            assert requests.get(url, timeout=20).text == "quick"
            child.stdin.close()
    said = (tmp_path / "log").read_text()
    assert said.count("no more connections can be accepted") == 1
    assert "Traceback" not in said
