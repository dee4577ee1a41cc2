"""The whole service as `__main__.py` wires it, in this process."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import pytest
import requests

import broker
from broker import Message
from broker.testing import eventually
from events import USER_REGISTERED, UserRegistered
from tests.unit.user_service.conftest import Mailbox
from user_service.__main__ import service
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
    bus.subscribe(USER_REGISTERED, mailbox, queue="late")
    with service(settings(delivery)):
        """Its stop publishes what is due."""
    bus.publish(USER_REGISTERED, Message(b"last"))
    eventually(lambda: mailbox.bodies[-1:] == [b"last"], "all that comes has arrived")
    assert len(mailbox.bodies) == arrived + 1


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
