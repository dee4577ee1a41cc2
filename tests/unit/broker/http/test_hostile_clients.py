"""Who has no secret, or sends halves and far too much, keeps a member from nothing."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit

import pytest

import broker
from broker.base import Broker
from broker.http.registry import FileRegistry
from broker.message import Message
from broker.testing import Recorder

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
