"""Members that do not answer, or answer nonsense: nothing is lost by them, and nothing held up."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

import broker
from broker.base import Broker
from broker.http.registry import FileRegistry, Member
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
