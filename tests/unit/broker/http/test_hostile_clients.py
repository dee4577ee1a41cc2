"""Who has no secret, or sends halves and far too much, keeps a member from nothing."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import requests

import broker
from broker.base import Broker
from broker.http.member import Inbox
from broker.http.registry import FileRegistry, Member
from broker.http.spool import Spool
from broker.http.wire import MAX_REQUEST_BYTES, Parcel, Request, encode_request
from broker.message import MAX_BODY_BYTES, MAX_HEADER_BYTES, Message
from broker.testing import Recorder, eventually

HEAD = b"POST /deliver HTTP/1.1\r\nHost: x\r\n"
SIGNED = b"webhook-id: msg_1\r\nwebhook-timestamp: 1\r\nwebhook-signature: v1,x\r\n"


@pytest.fixture
def b(tmp_path: Path) -> Iterator[Broker]:
    """An http broker."""
    with broker.connect("http", data_dir=tmp_path) as connected:
        yield connected


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        HEAD,
        HEAD + b"Content-Length: 100\r\n\r\nhalf",
        HEAD + SIGNED + b"Content-Length: 100\r\n\r\n" + b"x" * 100,
        HEAD + b"Content-Length: 999999999999\r\n\r\n" + b"x" * 1000,
        HEAD + b"Content-Length: -1\r\n\r\n",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\nffffffffff\r\n",
        b"\x16\x03\x01\x02\x00\x01",
        b"GET /" + b"x" * 1_000_000 + b" HTTP/1.1\r\n\r\n",
    ],
    ids=["silent", "half a head", "half a body", "forged", "huge", "negative", "chunks", "TLS", "a long path"],
)
def test_deliveries_go_on_beside_who_sends_nonsense(b: Broker, sent: bytes) -> None:
    """Forty such connections stay open: more than the member has threads."""
    seen = Recorder()
    b.subscribe("t", seen, group="g")
    [member] = FileRegistry(b.options.data_dir / "broker" / "registry").members_of("t")
    where = urlsplit(member.url)
    with ExitStack() as opened:
        for _ in range(40):
            nuisance = opened.enter_context(socket.create_connection((where.hostname, where.port), timeout=20))
            try:
                nuisance.sendall(sent)
            except ConnectionError:  # it is refused before it has ended
                continue
        b.publish("t", *(Message(b"x") for _ in range(10)))
        assert len(seen.wait(10)) == 10


@pytest.fixture
def opened() -> Iterator[ExitStack]:
    """Closes, at the end, the connections that a test has opened."""
    with ExitStack() as stack:
        yield stack


def connect(member: Member, opened: ExitStack, sent: bytes) -> socket.socket:
    """A stranger who has sent that much."""
    where = urlsplit(member.url)
    connection = opened.enter_context(socket.create_connection((where.hostname, where.port), timeout=20))
    connection.sendall(sent)
    return connection


def subscribed(b: Broker) -> tuple[Recorder, Member]:
    """What a subscription receives, and where it listens."""
    seen = Recorder()
    b.subscribe("t", seen, group="g")
    [member] = FileRegistry(b.options.data_dir / "broker" / "registry").members_of("t")
    return seen, member


def has_ended(connection: socket.socket, drop: bytes = b"") -> bool:
    """Whether the member has hung up; if not, it gets one more drop."""
    connection.settimeout(0.05)
    try:
        connection.sendall(drop)
        return connection.recv(1) == b""
    except TimeoutError:
        return False
    except ConnectionError:
        return True


def test_however_many_connections_are_open_a_delivery_comes_through(b: Broker, opened: ExitStack) -> None:
    """Those that have kept the member waiting longest make room."""
    seen, member = subscribed(b)
    connections = [connect(member, opened, HEAD if n % 2 else b"") for n in range(200)]
    b.publish("t", Message(b"x"))
    seen.wait_for("x")
    assert has_ended(connections[0])
    assert not has_ended(connections[-1])


@pytest.mark.parametrize(
    "began", [b"", HEAD, HEAD + b"Content-Length: 100000\r\n\r\n"], ids=["nothing", "head", "body"]
)
def test_a_stranger_who_sends_drop_by_drop_is_hung_up_on(
    b: Broker, opened: ExitStack, began: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However steadily it drips."""
    for name in ("IDLE_SECONDS", "CLEANUP_SECONDS"):
        monkeypatch.setattr(f"broker.http.server.{name}", 1)
    seen, member = subscribed(b)
    slow = connect(member, opened, began)
    eventually(lambda: has_ended(slow, b"x"), "the member hangs up")
    b.publish("t", Message(b"x"))
    seen.wait_for("x")


def test_a_body_that_is_too_large_is_refused_before_it_is_sent(b: Broker, opened: ExitStack) -> None:
    """By the length that its head names; and one in chunks once it is."""
    _, member = subscribed(b)
    announced = connect(member, opened, HEAD + b"Content-Length: %d\r\n\r\n" % (MAX_REQUEST_BYTES + 1))
    assert announced.recv(65_536).startswith(b"HTTP/1.1 413")
    answer = requests.post(f"{member.url}/deliver", iter([b"x" * 65_536] * 31), timeout=60)
    assert answer.status_code == 413


def test_the_largest_deliveries_are_accepted(tmp_path: Path) -> None:
    """A batch of the worst that the spool puts together is a request that a member takes."""
    spool = Spool(tmp_path / "spool.db", "me", timeout_seconds=5)
    headers = {"ce-id": "1", "x": "\x01" * (MAX_HEADER_BYTES - 7)}
    for messages in ([Message(b"x" * MAX_BODY_BYTES, headers)] * 3, [Message(b"", headers)] * 500, [Message()] * 9_000):
        spool.add("t", ["g"], messages)
        while parcels := spool.claim("t", "g", 10_000):
            body = encode_request(Request("m" * 32, "t" * 200, "g" * 200, parcels)).encode()
            assert len(body) < MAX_REQUEST_BYTES
    spool.close()


def test_a_request_to_which_nobody_answers_ends(tmp_path: Path) -> None:
    """Its publisher has gone; it would keep its thread for ever."""
    exchange = Inbox(lease_seconds=0.01).put([Parcel(1, Message(b"x"), 1, False)])
    assert exchange is not None
    assert list(exchange) == [b"\n"]


def test_a_request_whose_messages_came_again_ends() -> None:
    """Its publisher was restarted, and has sent them on another one."""
    inbox = Inbox()
    first, again = (inbox.put([Parcel(1, Message(b"x", {"ce-id": "1"}), 1, False)]) for _ in range(2))
    assert first is not None
    assert again is not None
    reading = threading.Thread(target=lambda: list(first), daemon=True)
    reading.start()
    reading.join(20)
    assert not reading.is_alive()


def test_a_member_with_few_descriptors_goes_on_and_says_so_once(tmp_path: Path, opened: ExitStack) -> None:
    """MacOS allows 256 to a process; here there are fewer, and more connections than that."""
    script = (
        "import resource, sys, logging, broker\n"
        "logging.basicConfig()\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (50, 50))\n"
        "with broker.connect('http', data_dir=__import__('pathlib').Path(sys.argv[1])) as b:\n"
        "    b.subscribe('t', lambda event: print(event.message.body, flush=True), group='g')\n"
        "    print('ready', flush=True)\n"
        "    sys.stdin.read()\n"
    )
    with (tmp_path / "log").open("w") as log:
        command = [sys.executable, "-c", script, str(tmp_path)]
        child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log)
        with child, broker.connect("http", data_dir=tmp_path) as b:
            assert child.stdin
            assert child.stdout
            assert child.stdout.readline() == b"ready\n"
            [member] = FileRegistry(tmp_path / "broker" / "registry").members_of("t")
            for _ in range(150):
                connect(member, opened, b"")
            b.publish("t", Message(b"x"))
            assert child.stdout.readline() == b"b'x'\n"
            child.stdin.close()
    said = (tmp_path / "log").read_text()
    assert said.count("no more connections can be accepted") == 1
    assert "Traceback" not in said
