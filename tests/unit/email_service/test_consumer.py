"""The handler, behind a real broker: every event becomes one email, whatever happens on the way."""

from __future__ import annotations

import json
import logging
import threading
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

import broker
from broker import Broker, Message
from broker.testing import eventually
from chassis.errors import DatabaseError
from contracts.events import USER_REGISTERED, UserRegistered
from email_service.consumer import GROUP, SendWelcome
from email_service.errors import MailError, RecipientRefused
from email_service.inbox import Inbox
from email_service.mail import Mail
from email_service.mailers import Mailer
from tests.servers.mariadb import on_each_database


@dataclass
class Outgoing:
    """A mailer that keeps what it is given, and fails as often as it was told to."""

    failures: int = 0
    error: type[MailError] = MailError
    sent: list[Mail] = field(default_factory=list)

    def send(self, mail: Mail) -> None:
        """Fail or keep."""
        if self.failures:
            self.failures -= 1
            raise self.error("450 try again later")
        self.sent.append(mail)


@pytest.fixture
def bus() -> Iterator[Broker]:
    """A broker of this test's own."""
    with broker.connect(f"memory://{uuid.uuid4()}") as bus:
        yield bus


@pytest.fixture
def subscribe(bus: Broker, inbox: Inbox) -> Callable[[Mailer], None]:
    """Start a member of the email service that tries again soon."""

    def subscribe(mailer: Mailer) -> None:
        welcome: Any = {"group": GROUP, "retry_delays": (0.01,), "max_attempts": 3}
        bus.subscribe(USER_REGISTERED, SendWelcome(inbox, mailer), reads=UserRegistered, **welcome)

    return subscribe


def settled(bus: Broker) -> None:
    """Wait until nothing is left to deliver."""
    eventually(lambda: bus.backlog(USER_REGISTERED, GROUP) == 0, "an empty backlog")


@on_each_database
def test_an_event_becomes_an_email(
    bus: Broker,
    inbox: Inbox,
    subscribe: Callable[[Mailer], None],
    event: UserRegistered,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It is sent, it is in the mailbox, and the log tells the tutorial's story with the event's id."""
    caplog.set_level(logging.INFO)
    outgoing = Outgoing()
    subscribe(outgoing)
    bus.publisher(USER_REGISTERED).publish(event)
    settled(bus)
    assert [mail.to for mail in outgoing.sent] == ["x@example.com"]
    assert [email.event_id for email in inbox.sent(user_id="42")] == [event.event_id]
    told = next(record for record in caplog.records if record.msg.startswith("[User Registered]"))
    assert told.getMessage() == "[User Registered]: 学院君 <x@example.com> (id 42)"
    assert told.__dict__["event_id"] == event.event_id


@on_each_database
def test_a_mailer_that_fails_is_tried_again_at_once(
    bus: Broker, inbox: Inbox, subscribe: Callable[[Mailer], None], event: UserRegistered
) -> None:
    """Its own claim does not stand in the way of the next attempt."""
    outgoing = Outgoing(failures=2)
    subscribe(outgoing)
    bus.publisher(USER_REGISTERED).publish(event)
    settled(bus)
    assert len(outgoing.sent) == len(inbox.sent()) == 1


def test_an_email_that_cannot_be_sent_is_a_dead_letter_with_the_reason(
    bus: Broker, inbox: Inbox, subscribe: Callable[[Mailer], None], event: UserRegistered
) -> None:
    """It is not in the mailbox, and a replay sends it once the mail server is mended."""
    outgoing = Outgoing(failures=3)
    subscribe(outgoing)
    bus.publisher(USER_REGISTERED).publish(event)
    settled(bus)
    group = bus.group(USER_REGISTERED, GROUP)
    (letter,) = group.dead_letters()
    assert "450 try again later" in letter.reason
    assert inbox.sent() == []
    group.replay(event.event_id)
    settled(bus)
    assert len(outgoing.sent) == len(inbox.sent()) == 1


@pytest.mark.parametrize("release_fails", [False, True])
def test_a_recipient_who_is_refused_is_a_dead_letter_at_once(
    bus: Broker,
    inbox: Inbox,
    subscribe: Callable[[Mailer], None],
    event: UserRegistered,
    release_fails: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With the mail server's words, also when the claim cannot be released: what is final stays final."""
    if release_fails:

        def fail(_: object, __: object) -> None:
            raise DatabaseError("the database is gone")

        monkeypatch.setattr(Inbox, "release", fail)
    subscribe(Outgoing(failures=1, error=RecipientRefused))
    bus.publisher(USER_REGISTERED).publish(event)
    settled(bus)
    (letter,) = bus.group(USER_REGISTERED, GROUP).dead_letters()
    assert (letter.attempts, letter.reason) == (1, "450 try again later")
    assert inbox.sent() == []


@on_each_database
def test_what_no_column_takes_is_refused_before_the_database_is_asked(
    bus: Broker, inbox: Inbox, subscribe: Callable[[Mailer], None], event: UserRegistered
) -> None:
    """A name of 64 KB is a dead letter at once, and its reason quotes neither it nor SQL."""
    body = json.dumps({**json.loads(event.to_message().body), "name": "x" * 65536}).encode()
    subscribe(Outgoing())
    bus.publish(USER_REGISTERED, Message(body, event.to_message().header))
    settled(bus)
    (letter,) = bus.group(USER_REGISTERED, GROUP).dead_letters()
    assert (letter.attempts, letter.reason) == (1, "bad body: name: String should have at most 200 characters")


@on_each_database
def test_duplicates_are_suppressed_also_by_another_member(
    bus: Broker, inbox: Inbox, subscribe: Callable[[Mailer], None], event: UserRegistered
) -> None:
    """A publisher that was not sure publishes twice; two members get one each."""
    outgoing = Outgoing()
    subscribe(outgoing)
    subscribe(outgoing)
    bus.publisher(USER_REGISTERED).publish(*[event] * 20)
    settled(bus)
    assert len(outgoing.sent) == len(inbox.sent()) == 1


@on_each_database
def test_an_event_that_somebody_else_is_sending_waits_for_it(bus: Broker, inbox: Inbox, event: UserRegistered) -> None:
    """The delivery is not acked before the email is sent: were the other to die, this one would send."""
    finish, turned_away = threading.Event(), threading.Event()
    outgoing = Outgoing()

    class Slow:
        """Sends when told to."""

        def send(self, mail: Mail) -> None:
            """Wait, then send."""
            finish.wait(60)
            outgoing.send(mail)

    with broker.connect(bus.address, on_error=lambda _: turned_away.set()) as members:
        handler = SendWelcome(inbox, Slow())
        again: Any = {"concurrency": 2, "retry_delays": (0.01,), "max_attempts": 1000}
        members.subscribe(USER_REGISTERED, handler, reads=UserRegistered, group=GROUP, **again)
        bus.publisher(USER_REGISTERED).publish(event, event)
        assert turned_away.wait(60)
        assert bus.backlog(USER_REGISTERED, GROUP) == 2
        finish.set()
        settled(bus)
    assert len(outgoing.sent) == 1


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (Message(b"no header"), "not an event"),
        (Message(b"{}", {"ce-specversion": "1.0", "ce-type": "user.deleted.v1"}), "unknown type"),
        (Message(b"{}", {"ce-specversion": "1.0", "ce-type": "user.registered.v2"}), "unknown version"),
        (Message(b"{}", {"ce-specversion": "1.0", "ce-type": "user.registered.v1"}), "bad body"),
    ],
)
def test_what_is_not_our_event_is_a_dead_letter_and_the_next_event_is_processed(
    bus: Broker, subscribe: Callable[[Mailer], None], event: UserRegistered, message: Message, reason: str
) -> None:
    """At the first attempt, and each kind has its own reason."""
    outgoing = Outgoing()
    subscribe(outgoing)
    bus.publish(USER_REGISTERED, message, event.to_message())
    settled(bus)
    (letter,) = bus.group(USER_REGISTERED, GROUP).dead_letters()
    assert letter.reason.startswith(reason)
    assert (letter.attempts, letter.message.id) == (1, message.id)
    assert len(outgoing.sent) == 1
