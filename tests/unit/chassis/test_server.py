"""The HTTP server: how it stops, and what it puts up with."""

from __future__ import annotations

import errno
import json
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager

import pytest
import requests
from flask import Flask, request

from broker.testing import eventually
from chassis.drain import Drain
from chassis.errors import ServerError
from chassis.server import Server

NEVER = 3600  #: seconds; a test that waited so long would be ended as one that hangs


class SlowApp:
    """`GET /slow` answers when told to, `/metrics` unless told not to, everything else at once."""

    def __init__(self) -> None:
        self.started = threading.Event()
        self.go_on = threading.Event()
        self.scraped = threading.Event()
        self.measured = threading.Event()
        self.measured.set()
        self.wsgi = Flask("slow")
        self.wsgi.add_url_rule("/slow", view_func=self.slow)
        self.wsgi.add_url_rule("/metrics", view_func=self.metrics)
        for number, path in enumerate(("/", "/health/live", "/health/ready")):
            self.wsgi.add_url_rule(path, view_func=lambda: "quick", endpoint=f"quick-{number}")
        self.wsgi.add_url_rule("/length", view_func=lambda: str(len(request.data)), endpoint="length", methods=["POST"])

    def slow(self) -> str:
        """The view."""
        self.started.set()
        self.go_on.wait(60)
        return "slow" * 100_000

    def metrics(self) -> str:
        """Another view."""
        self.scraped.set()
        self.measured.wait(NEVER)
        return "metrics"


@pytest.fixture
def app() -> Iterator[SlowApp]:
    """An app that is let go at the end, so that no thread stays."""
    slow_app = SlowApp()
    yield slow_app
    slow_app.go_on.set()
    slow_app.measured.set()


@contextmanager
def serve(app: SlowApp, drain_seconds: float = 20) -> Iterator[Server]:
    """A server on a free port that takes requests."""
    with Server(app.wsgi, "127.0.0.1", 0, drain=Drain(drain_seconds)) as server, server.taking_requests():
        yield server


def address(server: Server) -> tuple[str, int]:
    """Where it listens."""
    return "127.0.0.1", int(server.url.rpartition(":")[2])


def refuses(server: Server) -> bool:
    """Whether it takes no connections."""
    with socket.socket() as probe:
        return probe.connect_ex(address(server)) == errno.ECONNREFUSED


def status(server: Server, path: str) -> int:
    """Of the answer to that."""
    return requests.get(server.url + path, timeout=60).status_code


def test_a_stop_answers_what_runs_and_meanwhile_takes_no_more_and_is_not_ready(app: SlowApp) -> None:
    """The answer arrives whole; who comes meanwhile may go elsewhere, and who watches the process is answered."""
    with ThreadPoolExecutor(2) as threads:
        serving = ExitStack()
        server = serving.enter_context(serve(app))
        running = threads.submit(requests.get, f"{server.url}/slow", timeout=60)
        assert app.started.wait(60)
        stopping = threads.submit(serving.close)
        eventually(lambda: status(server, "/health/ready") == 503, "it is not ready")
        refused = requests.get(server.url, timeout=60)
        assert (refused.status_code, refused.headers["Content-Type"]) == (503, "application/problem+json")
        assert (refused.headers["Retry-After"], refused.headers["Connection"]) == ("1", "close")
        assert refused.json()["detail"] == "the service is starting or stopping; try again"
        assert [status(server, path) for path in ("/health/live", "/metrics")] == [200, 200]
        assert not stopping.done()
        app.go_on.set()
        stopping.result(timeout=60)
        assert running.result(timeout=60).text == "slow" * 100_000
        assert refuses(server)


def test_what_begins_after_the_stop_is_not_waited_for(app: SlowApp) -> None:
    """Probes and scrapes without end would otherwise hold it up."""
    app.measured.clear()
    with ThreadPoolExecutor(3) as threads, Server(app.wsgi, "127.0.0.1", 0, drain=Drain(NEVER)) as server:
        taking = ExitStack()
        taking.enter_context(server.taking_requests())
        running = threads.submit(requests.get, f"{server.url}/slow", timeout=60)
        assert app.started.wait(60)
        stopping = threads.submit(taking.close)
        eventually(lambda: status(server, "/health/ready") == 503, "it is not ready")
        scraping = threads.submit(requests.get, f"{server.url}/metrics", timeout=60)
        assert app.scraped.wait(60)
        app.go_on.set()
        stopping.result(timeout=60)
        assert running.result(timeout=60).ok
        assert not scraping.done()
        app.measured.set()
        assert scraping.result(timeout=60).ok


def test_it_takes_no_requests_before_it_is_told_to(app: SlowApp) -> None:
    """The rest of its service is not up yet; it says that it lives, and that it is not ready."""
    with Server(app.wsgi, "127.0.0.1", 0) as server:
        paths = ("/health/live", "/metrics", "/health/ready", "/", "/unknown")
        assert [status(server, path) for path in paths] == [200, 200, 503, 503, 503]
        with server.taking_requests():
            assert [status(server, path) for path in paths] == [200, 200, 200, 200, 404]


def test_a_stop_waits_no_longer_than_its_deadline(app: SlowApp) -> None:
    """A request that never ends is cut off."""
    with ThreadPoolExecutor(1) as threads:
        with serve(app, drain_seconds=0.1) as server:
            running = threads.submit(requests.get, f"{server.url}/slow", timeout=60)
            assert app.started.wait(60)
        with pytest.raises(requests.ConnectionError):
            running.result(timeout=60)


def test_idle_and_half_sent_connections_hold_up_no_stop(app: SlowApp) -> None:
    """One that is kept alive, and one that has sent half a request: no deadline is waited for."""
    serving = ExitStack()
    server = serving.enter_context(serve(app, drain_seconds=NEVER))
    with requests.Session() as keeps_alive, socket.create_connection(address(server)) as half:
        keeps_alive.get(server.url, timeout=60)
        half.sendall(b"POST /length HTTP/1.1\r\nContent-Length: 100\r\n\r\nhalf")
        serving.close()


def test_half_sent_requests_hold_up_no_others(app: SlowApp) -> None:
    """Many more of them than there are threads."""
    with serve(app) as server:
        half_sent = [socket.create_connection(address(server)) for _ in range(40)]
        for connection in half_sent:
            connection.sendall(b"POST /length HTTP/1.1\r\nContent-Length: 100\r\n\r\nhalf")
        assert requests.get(server.url, timeout=60).text == "quick"
        for connection in half_sent:
            connection.close()


def test_one_process_may_serve_twice(app: SlowApp) -> None:
    """Each on a port of its own; one stops without the other."""
    with serve(app) as one:
        with serve(app) as other:
            assert requests.get(other.url, timeout=60).ok
        assert requests.get(one.url, timeout=60).ok


def test_a_busy_port_is_refused_in_one_line(app: SlowApp) -> None:
    """It says which, and what to change."""
    with serve(app) as server, pytest.raises(ServerError, match=r"127\.0\.0\.1 port \d+: .*in use; see HOST and PORT"):
        Server(app.wsgi, *address(server))


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"nonsense\r\n\r\n", 400),
        (b"POST /length HTTP/1.1\r\nHost: x\r\nContent-Length: 999999999\r\n\r\n", 413),
    ],
)
def test_what_no_view_sees_is_refused_as_a_problem_too(app: SlowApp, sent: bytes, status: int) -> None:
    """Clients read one shape of error, with the same headers, whoever refuses them."""
    with serve(app) as server, socket.create_connection(address(server), timeout=60) as connection:
        connection.sendall(sent)
        head, _, body = connection.makefile("rb").read().partition(b"\r\n\r\n")
    assert f" {status} ".encode() in head.splitlines()[0]
    for header in (b"Content-Type: application/problem+json", b"X-Content-Type-Options: nosniff"):
        assert header in head
    assert json.loads(body)["status"] == status


LOOPBACK = {socket.AF_INET: "127.0.0.1", socket.AF_INET6: "::1"}
V4, V6 = LOOPBACK


@pytest.mark.parametrize(
    ("host", "reached"),
    [
        ("127.0.0.1", [V4]),
        ("localhost", [V4]),  # the clients are told 127.0.0.1
        ("0.0.0.0", [V4]),
        ("::1", [V6]),
        ("::", [V4, V6]),
        ("*", [V4, V6]),
    ],
)
def test_each_host_listens_where_one_expects_it(
    host: str, reached: list[socket.AddressFamily], app: SlowApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A star is every interface, as in other servers; a name that has several addresses is its IPv4 one."""
    if host == "localhost":
        both = [(V6, socket.SOCK_STREAM, 0, "", ("::1", 0, 0, 0)), (V4, socket.SOCK_STREAM, 0, "", ("127.0.0.1", 0))]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: both)
    elif not has(LOOPBACK[reached[-1]]):
        pytest.skip("this machine has no IPv6")
    with Server(app.wsgi, host, 0) as server:
        monkeypatch.undo()
        port = int(server.url.rpartition(":")[2])
        assert [family for family, address in LOOPBACK.items() if listens(address, port)] == reached


def has(address: str) -> bool:
    """Whether this machine has it."""
    try:
        socket.create_server((address, 0), family=V6 if ":" in address else V4).close()
    except OSError:
        return False
    return True


def listens(address: str, port: int) -> bool:
    """Whether somebody does."""
    try:
        socket.create_connection((address, port), timeout=10).close()
    except OSError:
        return False
    return True


@pytest.mark.parametrize("host", ["nobody.invalid", "a..b", ".", "x" * 64, "no host"])
def test_a_host_that_is_none_is_refused(host: str, app: SlowApp) -> None:
    """With a line that names it."""
    with pytest.raises(ServerError, match=r"^cannot listen on .* port 0: .*see HOST"):
        Server(app.wsgi, host, 0)
