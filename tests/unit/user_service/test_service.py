"""The whole service as `__main__.py` wires it, in this process."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Literal

import pytest
import requests

import broker
from broker import Message
from broker.testing import eventually
from chassis.server import Server
from contracts.events import USER_REGISTERED, UserRegistered
from tests.unit.user_service.conftest import Mailbox
from user_service.__main__ import service
from user_service.outbox import Entry
from user_service.relay import Relay
from user_service.settings import Settings

ALICE = {"name": "学院君", "email": "alice@example.com", "password": "geheim-geheim"}

NewSettings = Callable[..., Settings]


@pytest.fixture
def settings(bus: broker.Broker, tmp_path: Path) -> NewSettings:
    """Settings for a service on that bus, with changes."""

    def new(delivery: Literal["outbox", "direct"] = "outbox", address: str | None = None) -> Settings:
        return Settings(
            broker=address or bus.address, data_dir=tmp_path / "data", port=0, bcrypt_cost=4, delivery=delivery
        )

    return new


@pytest.mark.parametrize("delivery", ["outbox", "direct"])
def test_a_registration_over_http_becomes_an_event(settings: NewSettings, mailbox: Mailbox, delivery: str) -> None:
    """Both ways of delivering do, as long as nothing fails."""
    with service(settings(delivery)) as server:
        user = requests.post(f"{server.url}/users", json=ALICE, timeout=60).json()
        eventually(lambda: mailbox.messages, "the event has arrived")
    assert UserRegistered.from_message(mailbox.messages[0]).user_id == user["id"]


@pytest.mark.parametrize(("delivery", "arrived"), [("outbox", 1), ("direct", 0)])
def test_what_was_registered_with_nobody_listening_arrives_later_or_is_lost(
    settings: NewSettings, bus: broker.Broker, delivery: str, arrived: int
) -> None:
    """The difference that the outbox makes: the service ends, starts again, and now somebody listens."""
    with service(settings(delivery)) as server:
        assert requests.post(f"{server.url}/users", json=ALICE, timeout=60).status_code == 201
    mailbox = Mailbox()
    bus.subscribe(USER_REGISTERED, mailbox, group="late")
    with service(settings(delivery)):
        """Its stop publishes what is due."""
    bus.publish(USER_REGISTERED, Message(b"last"))
    eventually(lambda: mailbox.bodies[-1:] == [b"last"], "all that comes has arrived")
    assert len(mailbox.bodies) == arrived + 1


def test_a_stop_answers_what_runs_publishes_it_and_is_not_ready_meanwhile(
    settings: NewSettings, mailbox: Mailbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In that order: nobody's event is left for the next start, and to the end the service says that it stops."""
    hashing, hashed = threading.Event(), threading.Event()
    publishing, published = threading.Event(), threading.Event()

    def hash_slowly(password: bytes, salt: bytes) -> bytes:
        hashing.set()
        hashed.wait(60)
        return b"hash"

    def publish_slowly(self: Relay, entries: Sequence[Entry]) -> tuple[Exception | None, Sequence[Entry]]:
        publishing.set()
        published.wait(60)
        return publish(self, entries)

    publish = Relay._publish
    monkeypatch.setattr("bcrypt.hashpw", hash_slowly)
    monkeypatch.setattr(Relay, "_publish", publish_slowly)
    with ThreadPoolExecutor(2) as threads, ExitStack() as running:
        server = running.enter_context(service(settings()))
        registering = threads.submit(requests.post, f"{server.url}/users", json=ALICE, timeout=60)
        assert hashing.wait(30)
        stopping = threads.submit(running.pop_all().close)
        eventually(lambda: _says(server, "/health/ready") == 503, "it is not ready")
        assert _says(server, "/users/a-1") == 503
        assert _says(server, "/health/live") == 200
        hashed.set()
        assert registering.result(30).status_code == 201
        assert publishing.wait(30)
        assert _says(server, "/health/ready") == 503
        published.set()
        stopping.result(30)
    eventually(lambda: mailbox.messages, "the event has arrived")


def _says(server: Server, path: str) -> int:
    return requests.get(server.url + path, timeout=20).status_code


def test_two_may_run_in_one_process_and_leave_no_thread(settings: NewSettings) -> None:
    """Nothing is global."""
    before = set(threading.enumerate())
    with service(settings()) as one, service(settings()) as other:
        assert requests.post(f"{one.url}/users", json=ALICE, timeout=60).status_code == 201
        assert requests.post(f"{other.url}/users", json=ALICE, timeout=60).status_code == 409
    eventually(lambda: set(threading.enumerate()) <= before, "its threads are gone")


def test_an_unknown_broker_stops_the_start(settings: NewSettings, tmp_path: Path) -> None:
    """A misspelt setting is no reason to wait for ever; and nothing has been made yet."""
    with pytest.raises(broker.UnknownBroker, match="nosuch"), service(settings(address=f"nosuch://{uuid.uuid4()}")):
        pass
    assert not (tmp_path / "data").exists()
