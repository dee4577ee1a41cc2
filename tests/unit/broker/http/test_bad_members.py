"""Members that do not answer, or answer nonsense: nothing is lost by them, and nothing held up."""

from __future__ import annotations

import socket
import socketserver
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

import broker
from broker.base import Broker
from broker.http.load import Load
from broker.http.registry import FileRegistry, Member
from broker.http.wire import MAX_DELAY_SECONDS, MAX_REASON
from broker.message import Message
from broker.testing import Recorder, eventually
from tests.servers.process import reserved_port


@pytest.fixture
def b(tmp_path: Path) -> Iterator[Broker]:
    """An http broker."""
    with broker.connect("http", data_dir=tmp_path) as connected:
        yield connected


def test_an_answer_of_500_is_no_delivery(b: Broker, tmp_path: Path) -> None:
    """The message stays, its attempt uncounted, and goes to a member that takes it."""
    registry = FileRegistry(tmp_path / "broker" / "registry")
    with broken_member() as (url, asked):
        registry.add_group("t", "g")
        registry.renew(Member("broken", "t", "g", url, prefetch=10, requests=4, lease_seconds=30))
        b.publish("t", Message(b"x"), mandatory=True)
        assert asked.wait(60)
        assert b.backlog("t", "g") == 1
        registry.withdraw(Member("broken", "t", "g", url, prefetch=10, requests=4, lease_seconds=30))
        seen = Recorder()
        b.subscribe("t", seen, group="g")
        [received] = seen.wait(1)
    assert (received.text, received.attempt) == ("x", 1)


@pytest.mark.parametrize("case", ["nobody listens there", "nobody answers there"])
def test_an_entry_whose_address_does_not_answer_costs_no_attempt(
    b: Broker, tmp_path: Path, case: str, caplog: pytest.LogCaptureFixture
) -> None:
    """What was meant for it goes to a member that is there."""
    registry = FileRegistry(tmp_path / "broker" / "registry")
    with socket.create_server(("127.0.0.1", 0), backlog=0) as deaf, reserved_port() as free, ExitStack() as waiting:
        port = deaf.getsockname()[1] if case == "nobody answers there" else free
        waiting.enter_context(socket.create_connection(deaf.getsockname()))  # its queue is full: it hears of no other
        registry.add_group("t", "g")
        registry.renew(Member("gone", "t", "g", f"http://127.0.0.1:{port}", 10, 4, lease_seconds=30))
        b.publish("t", *(Message(str(n).encode()) for n in range(3)), mandatory=True)
        eventually(lambda: "member gone of g" in caplog.text, "it has tried")
        seen = Recorder()
        b.subscribe("t", seen, group="g")
        received = seen.wait(3)
    assert sorted((each.text, each.attempt) for each in received) == [("0", 1), ("1", 1), ("2", 1)]


def test_a_member_that_sends_us_elsewhere_is_not_followed(b: Broker, tmp_path: Path) -> None:
    """Names and addresses go to whom the registry names, and to nobody whom that one names."""
    registry = FileRegistry(tmp_path / "broker" / "registry")
    seen = Recorder()
    with broken_member() as (elsewhere, asked), broken_member(307, location=elsewhere) as (url, redirected):
        registry.add_group("t", "g")
        registry.renew(Member("m", "t", "g", url, prefetch=10, requests=4, lease_seconds=30))
        b.publish("t", Message(b"x"), mandatory=True)
        assert redirected.wait(60)
        b.subscribe("t", seen, group="g")
        seen.wait_for("x")
        assert not asked.is_set()


@pytest.mark.parametrize(
    "answer",
    [b"", b"\n", b"garbage\n", b"[]\n", b'{"seq": 1, "result": "hooray", "delay_seconds": 0, "reason": ""}\n'],
)
def test_a_member_that_answers_nonsense_gets_less_and_less(b: Broker, tmp_path: Path, answer: bytes) -> None:
    """It counts as one that has died; another member gets what it was sent."""
    registry = FileRegistry(tmp_path / "broker" / "registry")
    strange = Member("strange", "t", "g", "", prefetch=10, requests=4, lease_seconds=30)
    with broken_member(200, answer) as (url, asked):
        registry.add_group("t", "g")
        registry.renew(replace(strange, url=url))
        b.publish("t", Message(b"x"), mandatory=True)
        assert asked.wait(60)
        seen = Recorder()
        b.subscribe("t", seen, group="g")
        seen.wait(1)
    assert seen.received[0].attempt < 8
    eventually(lambda: b.backlog("t", "g") == 0, "it is acked")


def test_an_answer_for_what_was_not_sent_settles_nothing(b: Broker, tmp_path: Path) -> None:
    """Rows of other groups are not a member's to settle."""
    b.subscribe("other", Recorder(), group="g").unsubscribe()
    b.publish("other", Message(b"mine"))
    registry = FileRegistry(tmp_path / "broker" / "registry")
    lines = b"".join(b'{"seq": %d, "result": "ok", "delay_seconds": 0, "reason": ""}\n' % seq for seq in range(9))
    with broken_member(200, lines) as (url, asked):
        registry.add_group("t", "g")
        registry.renew(Member("greedy", "t", "g", url, prefetch=10, requests=4, lease_seconds=30))
        b.publish("t", Message(b"x"), mandatory=True)
        assert asked.wait(60)
        eventually(lambda: b.backlog("t", "g") == 0, "its own is settled")
    assert b.backlog("other", "g") == 1


IMPOSSIBLE = [
    b'{"seq": 1, "result": "retry", "delay_seconds": %s, "reason": ""}\n' % delay
    for delay in (b"NaN", b"Infinity", b"-1", b"true", b'"1"', b"null", b"1e999", b"1" * 400)
]
HUGE = b'{"seq": 1, "result": "retry", "delay_seconds": 1e10, "reason": ""}\n'
ENDLESS = b"x" * 65_536


@pytest.mark.parametrize(
    "answer",
    [
        *IMPOSSIBLE,
        b'{"seq": true, "result": "ok", "delay_seconds": 0, "reason": ""}\n',
        b'{"seq": 1, "result": ["ok"], "delay_seconds": 0, "reason": ""}\n',
        b'{"seq": 1, "result": "reject", "delay_seconds": 0, "reason": {}}\n',
        b"[" * 60_000 + b"\n",
    ],
    ids=lambda answer: answer[:70].decode(),
)
def test_an_answer_that_is_not_possible_is_none(b: Broker, tmp_path: Path, answer: bytes) -> None:
    """Its message is tried again, and goes to a member that makes sense."""
    seen = Recorder()
    with broken_member(200, answer) as (url, asked):
        announced(tmp_path, url)
        b.publish("t", Message(b"x"), mandatory=True)
        assert asked.wait(60)
        b.subscribe("t", seen, group="g")
        seen.wait_for("x")
    eventually(lambda: b.backlog("t", "g") == 0, "it is acked")


def test_a_delay_of_centuries_ends_no_pump(b: Broker, tmp_path: Path) -> None:
    """It is taken for the longest that there is; others are delivered, also by a publisher that starts later."""
    seen = Recorder()
    with broken_member(200, HUGE) as (url, asked):
        registry = announced(tmp_path, url)
        b.publish("t", Message(b"late"), mandatory=True)
        assert asked.wait(60)
        eventually(lambda: states(tmp_path) == ["delayed"], "its answer is written down")
        registry.withdraw(member_at(url))
    b.subscribe("t", seen, group="g")
    b.publish("t", Message(b"x"))
    seen.wait_for("x")
    with closing(sqlite3.connect(tmp_path / "broker" / "spool.db")) as db:
        [(due,)] = db.execute("SELECT due FROM spooled WHERE state = 'delayed'").fetchall()
    assert due < time.time() + MAX_DELAY_SECONDS + 1


@pytest.mark.parametrize("due", ["9e9", "9e999", "'x'", "x'00'", "-9e999"])
def test_a_row_that_is_due_at_no_possible_time_is_due_now(b: Broker, tmp_path: Path, due: str) -> None:
    """As an older version has stored it."""
    seen = Recorder()
    b.subscribe("t", Recorder(), group="g").unsubscribe()
    b.publish("t", Message(b"x"))
    with closing(sqlite3.connect(tmp_path / "broker" / "spool.db", isolation_level=None)) as db:
        db.execute(f"UPDATE spooled SET state = 'delayed', due = {due}")  # the cases above
    b.subscribe("t", seen, group="g")
    b.publish("t", Message(b"y"))
    seen.wait(2)
    assert sorted(seen.texts) == ["x", "y"]


@pytest.mark.parametrize(
    "change", ["header = '{'", "header = '[]'", "header = x'ff'", "body = 'text'", "attempts = 'x'"]
)
def test_a_row_that_cannot_be_read_is_set_aside(
    b: Broker, tmp_path: Path, change: str, caplog: pytest.LogCaptureFixture
) -> None:
    """With one line in the log; those behind it are delivered."""
    seen = Recorder()
    b.subscribe("t", Recorder(), group="g").unsubscribe()
    b.publish("t", Message(b"broken"))
    with closing(sqlite3.connect(tmp_path / "broker" / "spool.db", isolation_level=None)) as db:
        db.execute(f"UPDATE spooled SET {change}")  # the cases above
    b.publish("t", Message(b"x"))
    b.subscribe("t", seen, group="g")
    seen.wait_for("x")
    eventually(lambda: states(tmp_path) == ["unreadable"], "the other is acked")
    assert (caplog.text.count("cannot be read"), b.backlog("t", "g")) == (1, 0)


def test_a_reason_is_cut(b: Broker, tmp_path: Path) -> None:
    """A member may send as much as fits into a line."""
    line = b'{"seq": 1, "result": "reject", "delay_seconds": 0, "reason": "%s"}\n' % (b"\\ud800" + b"x" * 60_000)
    with broken_member(200, line) as (url, asked):
        announced(tmp_path, url)
        b.publish("t", Message(b"x"), mandatory=True)
        assert asked.wait(60)
        [dead] = eventually(b.group("t", "g").dead_letters, "it is dead")
    assert len(dead.reason) == MAX_REASON


@pytest.mark.parametrize(
    ("head", "again"),
    [
        (b"", ENDLESS),
        (b"HTTP/1.1 200 OK\r\nx: ", ENDLESS),
        (b"HTTP/1.1 200 OK\r\n\r\n", ENDLESS),
        (b"HTTP/1.1 200 OK\r\n\r\n", b"\n" * 65_536),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 99999999999\r\n\r\n", ENDLESS),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", b"0" * 65_536),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", b"8\r\nxxxxxxxx\r\n" * 8_000),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n", b"a: b\r\n" * 10_000),
        (b"HTTP/1.1 500 No\r\n\r\n", ENDLESS),
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 3_000),
    ],
    ids=["no head", "a header", "a line", "lines", "a length", "a chunk's size", "chunks", "trailers", "500", "100s"],
)
def test_an_answer_without_end_is_ended(b: Broker, tmp_path: Path, head: bytes, again: bytes) -> None:
    """Before much of it is read, however the member goes about it."""
    with pouring_member(head, again) as (url, poured, ended):
        announced(tmp_path, url)
        b.publish("t", Message(b"x"), mandatory=True)
        assert ended.wait(60)
        assert poured[0] < 64_000_000


@pytest.mark.parametrize(
    ("head", "drop"),
    [
        (b"", b"x"),
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
        (b"HTTP/1.1 200 OK\r\n", b"x: y\r\n"),
        (b"HTTP/1.1 200 OK\r\n\r\n", b"x"),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", b"1\r\nx\r\n"),
        (b"HTTP/1.1 503 No\r\n\r\n", b"x\n"),
    ],
    ids=["no head", "100s", "headers", "a line", "chunks", "503"],
)
def test_a_member_that_answers_drop_by_drop_is_hung_up_on(b: Broker, tmp_path: Path, head: bytes, drop: bytes) -> None:
    """Within its lease; meanwhile the other members are sent what is theirs."""
    seen = Recorder()
    b.subscribe("other", seen, group="g")
    with pouring_member(head, drop, pause_seconds=0.02) as (url, _, ended):
        announced(tmp_path, url, lease_seconds=1.0)
        b.publish("t", Message(b"x"), mandatory=True)
        b.publish("other", Message(b"y"))
        seen.wait_for("y")
        assert ended.wait(60)


def test_a_member_that_fails_for_weeks_is_left_alone_as_before() -> None:
    """Two to the power of that many failures is no number."""
    load = Load(failures=100_000)
    load.fail()
    assert load.shunned
    assert load.shunned_until < time.monotonic() + 5


def test_a_thread_that_cannot_be_started_loses_nothing(
    b: Broker, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The system has too many for a moment."""
    seen, start = Recorder(), threading.Thread.start

    def refuse(thread: threading.Thread) -> None:
        if thread.name.startswith("http-post"):
            raise RuntimeError("can't start new thread")
        start(thread)

    b.subscribe("t", seen, group="g")
    with monkeypatch.context() as full:
        full.setattr(threading.Thread, "start", refuse)
        b.publish("t", Message(b"x"))
        eventually(lambda: "can't start new thread" in caplog.text, "it has tried")
    [received] = seen.wait(1)
    assert received.attempt == 1


def announced(folder: Path, url: str, lease_seconds: float = 30) -> FileRegistry:
    """The registry of that data folder, in which the member at that address is."""
    registry = FileRegistry(folder / "broker" / "registry")
    registry.add_group("t", "g")
    registry.renew(member_at(url, lease_seconds))
    return registry


def member_at(url: str, lease_seconds: float = 30) -> Member:
    """A member of group g."""
    return Member("strange", "t", "g", url, prefetch=10, requests=4, lease_seconds=lease_seconds)


def states(folder: Path) -> list[str]:
    """The state of each row of the spool."""
    with closing(sqlite3.connect(folder / "broker" / "spool.db")) as db:
        return [state for (state,) in db.execute("SELECT state FROM spooled ORDER BY seq")]


@contextmanager
def pouring_member(
    head: bytes, again: bytes, pause_seconds: float = 0
) -> Iterator[tuple[str, list[int], threading.Event]]:
    """Answers that, then the other until the publisher hangs up or the test ends; how much, and whether it hung up."""
    poured, ended, over = [0], threading.Event(), threading.Event()

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            self.request.recv(65_536)
            try:
                self.request.sendall(head)
                while not over.wait(pause_seconds):
                    self.request.sendall(again)
                    poured[0] += len(again)
            except OSError:
                ended.set()

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True

    with Server(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}", poured, ended
        finally:
            over.set()
            server.shutdown()
            thread.join()


@contextmanager
def broken_member(status: int = 500, answer: bytes = b"", location: str = "") -> Iterator[tuple[str, threading.Event]]:
    """Answers the same to everything; tells when it was asked."""
    asked = threading.Event()

    class Broken(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            self.send_response(status)
            self.send_header("content-length", str(len(answer)))
            if location:
                self.send_header("location", location)
            self.end_headers()
            self.wfile.write(answer)
            asked.set()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # its name in the standard library
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Broken) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}", asked
        server.shutdown()
        thread.join()
