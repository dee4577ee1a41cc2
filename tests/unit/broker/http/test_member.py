"""What the receiving side accepts, and what it does not."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import requests
from standardwebhooks import Webhook

import broker
from broker.base import Broker
from broker.http import HttpBroker
from broker.http.member import HttpSource, Inbox
from broker.http.registry import FileRegistry
from broker.http.wire import Parcel, Request, Signer, encode_request
from broker.message import Message
from broker.testing import Recorder, eventually, surely

SECRET = "a secret for tests"


@pytest.fixture
def b(tmp_path: Path) -> Iterator[Broker]:
    """An http broker with a known secret."""
    with broker.connect("http", data_dir=tmp_path, secret=SECRET) as connected:
        yield connected


@pytest.fixture
def seen(b: Broker) -> Recorder:
    """What its one subscription receives."""
    recorder = Recorder()
    b.subscribe("t", recorder, group="g")
    return recorder


def delivery(b: Broker) -> tuple[str, str]:
    """Where its member listens, and a request that it would accept once signed."""
    assert isinstance(b, HttpBroker)
    [member] = FileRegistry(b.options.data_dir / "broker" / "registry").members_of("t")
    return f"{member.url}/deliver", encode_request(Request(member.id, "t", "g", [Parcel(1, Message(b"x"), 1, False)]))


def test_a_signed_delivery_is_answered_line_by_line(b: Broker, seen: Recorder) -> None:
    """200, a sign of life, then one JSON line for the message."""
    url, body = delivery(b)
    response = requests.post(url, body, headers=Signer(SECRET).sign(body), timeout=60)
    assert response.status_code == 200
    assert [line for line in response.text.splitlines() if line] == [
        '{"seq": 1, "result": "ok", "delay_seconds": 0.0, "reason": ""}'
    ]
    assert seen.texts == ["x"]


@pytest.mark.parametrize("case", ["unsigned", "other secret", "stale", "changed", "not a signature"])
def test_a_delivery_that_is_not_signed_by_us_is_refused(b: Broker, seen: Recorder, case: str) -> None:
    """401, and no handler sees it."""
    url, body = delivery(b)
    stale = datetime.now(UTC) - timedelta(minutes=6)
    headers = {
        "unsigned": {},
        "other secret": Signer("another").sign(body),
        "stale": {
            "webhook-id": "msg_1",
            "webhook-timestamp": str(int(stale.timestamp())),
            "webhook-signature": Webhook(SECRET.encode()).sign("msg_1", stale, body),
        },
        "changed": Signer(SECRET).sign(body + " "),
        "not a signature": {**Signer(SECRET).sign(body), "webhook-signature": "v1;é"},
    }[case]
    encoded = {name: value.encode("latin-1") for name, value in headers.items()}
    response = requests.post(url, body, headers=encoded, timeout=60)
    assert (response.status_code, seen.received) == (401, [])
    assert SECRET not in response.text


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ("{", 400),
        ("[]", 400),
        ('{"member": "m", "topic": "t", "group": "g", "messages": [{"seq": 1}]}', 400),
        ('{"member": "nobody", "topic": "t", "group": "g", "messages": []}', 410),
    ],
)
def test_a_signed_request_that_makes_no_sense_is_refused(b: Broker, seen: Recorder, body: str, status: int) -> None:
    """400 when it is no delivery, 410 when there is no such member."""
    response = requests.post(delivery(b)[0], body, headers=Signer(SECRET).sign(body), timeout=60)
    assert (response.status_code, seen.received) == (status, [])


def test_nothing_but_deliveries_is_served(b: Broker, seen: Recorder) -> None:
    """404 for any other path or method."""
    url, _ = delivery(b)
    assert requests.get(url, timeout=60).status_code == 404
    assert requests.post(f"{url}/x", timeout=60).status_code == 404


def test_a_member_with_another_secret_gets_nothing_and_loses_nothing(b: Broker, tmp_path: Path) -> None:
    """It answers 401; the message waits, uncounted, for one that has the right secret."""
    stranger, seen = Recorder(), Recorder()
    with broker.connect("http", data_dir=tmp_path, secret="wrong") as other:
        other.subscribe("t", stranger, group="g")
        b.publish("t", Message(b"x"))
        b.subscribe("t", seen, group="g")
        [received] = seen.wait(1)
    assert (received.attempt, stranger.received) == (1, [])


def test_a_busy_port_is_one_clear_error(b: Broker, seen: Recorder, tmp_path: Path) -> None:
    """Naming the address."""
    address = delivery(b)[0].removesuffix("/deliver")
    with broker.connect(address, data_dir=tmp_path) as other, pytest.raises(broker.BrokerError, match=address):
        other.subscribe("t", Recorder(), group="g")


def test_one_slow_message_of_a_batch_holds_back_no_other(b: Broker) -> None:
    """The others are answered, and further batches come, while one handler takes its time."""
    release = threading.Event()
    seen = Recorder(lambda event: release.wait(60) if event.message.body == b"slow" else None)
    b.subscribe("t", seen, group="g", concurrency=2, prefetch=10)
    b.publish("t", Message(b"slow"), *(Message(b"quick") for _ in range(40)))
    try:
        seen.wait(41)
        eventually(lambda: b.backlog("t", "g") == 1, "all but the slow one are acked")
    finally:
        release.set()


def test_a_last_attempt_that_its_publisher_has_not_heard_of_does_not_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """A crash would repeat it for ever; it starts once the publisher reads."""
    monkeypatch.setattr("broker.http.member.SEND_SECONDS", 0.01)
    inbox = Inbox()
    source = HttpSource(inbox, leave=lambda: None)
    exchange = inbox.put([Parcel(1, Message(b"x"), 8, False)])
    [delivery] = source.fetch(1, 60)
    with pytest.raises(broker.BrokerError, match="does not read"):
        source.begin_last(delivery)
    assert exchange is not None
    reading = threading.Thread(target=lambda: list(exchange))
    reading.start()
    monkeypatch.undo()
    surely(lambda: source.begin_last(delivery))
    source.ack([delivery])
    reading.join()
