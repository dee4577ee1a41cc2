"""Dead letters as their owner meets them: a real email service, and `python -m broker` to see and mend them.

Three kinds reach it, each told apart by its reason: a type and a version that it does not know, and an event that kills
its process every time. `DEMO_FAULTS` is what makes it deadly; without that, the cause is mended.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

import broker
from broker.cli.main import main
from broker.testing import eventually
from contracts.events import USER_REGISTERED, UserRegistered
from tests.end_to_end.processes import Program, Service
from tests.servers.nats import NatsServer
from tests.servers.redis import RedisServer

DEADLY = {"MAX_ATTEMPTS": "2", "LEASE_SECONDS": "1", "CLAIM_SECONDS": "0.01", "DEMO_FAULTS": "before-send"}


Command = Callable[..., list[str]]


@pytest.fixture(params=["http", "redis", "nats"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of a broker of this test's own."""
    if request.param == "http":
        yield "http"
        return
    folder = tmp_path / "server"
    folder.mkdir()
    with {"redis": RedisServer, "nats": NatsServer}[request.param](folder) as server:
        yield server.url


@pytest.fixture
def emails(url: str, tmp_path: Path) -> Iterator[Service]:
    """An email service on that broker, not started yet, that dies whenever it is about to send."""
    service = Service("email_service", tmp_path)
    service.set(BROKER=url, **DEADLY)
    yield service
    service.close()


@pytest.fixture
def command(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """`command("dead", "list")`: the lines that `python -m broker` prints; a failure unless it succeeds."""
    monkeypatch.setenv("BROKER", url)
    monkeypatch.setenv("DATA_DIR", str(tmp_path))

    def run(*arguments: str) -> list[str]:
        status = main(arguments)
        told = capsys.readouterr()
        assert status == 0, told.err
        return told.out.splitlines()

    return run


def publish(url: str, tmp_path: Path, **types: str) -> list[str]:
    """Somebody of each name has signed up, says an event of that type; the events' ids."""
    messages = [
        UserRegistered(name, name, f"{name}@example.com", datetime.now(UTC)).to_message().with_header(ce_type=type_)
        for name, type_ in types.items()
    ]
    with broker.connect(url, data_dir=tmp_path) as b:
        b.publish(USER_REGISTERED, *messages, mandatory=True)
    return [message.id for message in messages]


def restarted(service: Service) -> bool:
    """Start it again if it has died, as a supervisor would."""
    if service.process.poll() is not None:
        Program.start(service)  # it may die again before it is ready
    return True


def test_each_kind_of_dead_letter_says_why_and_a_mended_one_is_sent(
    url: str, emails: Service, command: Command, tmp_path: Path
) -> None:
    """Unknown type, unknown version and poison; replayed once it kills no more, the poison is an email."""
    emails.start()
    unknown_type, unknown_version = publish(url, tmp_path, typed="user.deleted.v1", versioned="user.registered.v2")
    # Dead before the poison comes: what is in hand when it kills the process has used up an attempt as well.
    eventually(lambda: len(command("dead", "list")) == 2, "two are dead")
    [poison] = publish(url, tmp_path, poison="user.registered.v1")
    eventually(lambda: restarted(emails) and len(command("dead", "list")) == 3, "three are dead", seconds=120)

    lines = {line.split("  ")[0]: line for line in command("dead", "list")}
    assert "  attempts 1  unknown type 'user.deleted.v1'; " in lines[unknown_type]
    assert "  attempts 1  unknown version 'user.registered.v2'; " in lines[unknown_version]
    assert lines[poison].endswith("  the process died in its last attempt")

    emails.stop()
    emails.set(DEMO_FAULTS="")
    emails.start()
    assert command("dead", "replay", poison) == [f"replayed 1  {USER_REGISTERED} → email-service"]
    eventually(lambda: emails.says("[SENDING A EMAIL TO poison...]"), "the email is sent")
    [record] = command("dead", "discard", unknown_type, "--reason", "nobody is deleted here")
    assert json.loads(record)["event_id"] == unknown_type
    assert command("dead", "list") == [lines[unknown_version]]
