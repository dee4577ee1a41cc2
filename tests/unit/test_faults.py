"""Faults: each at its place, the time that was asked for, and nowhere else. The crash matrix runs them for real."""

from __future__ import annotations

from typing import Any, NoReturn

import pytest

from broker import Message, PublishError
from chassis.errors import SettingsError
from demo.faults import Faults, MailRefused
from email_service.mail import Mail
from tests.end_to_end.processes import ROOT

MAIL = Mail("<id@example.com>", "学院君", "x@example.com", "Welcome", "")


class Died(Exception):
    """What a test dies of, instead of SIGKILL."""


class Log:
    """As much of a broker and of a mailer as is used; it remembers what it was asked, and may refuse at first."""

    def __init__(self, refusals: int = 0) -> None:
        self.done: list[str] = []
        self._refusals = refusals

    def publish(self, topic: str, *messages: Message, mandatory: bool) -> None:
        if self._refusals:
            self._refusals -= 1
            raise PublishError("refused", messages)
        self.done.append(b"".join(message.body for message in messages).decode())

    def send(self, mail: Mail) -> None:
        self.done.append(mail.name)


def faulty(text: str, around: Log) -> Any:
    """A broker and a mailer, both in one, with faults that a test survives."""

    def die() -> NoReturn:
        raise Died

    faults = Faults(text, die)
    bus, post = faults.broker(around), faults.mailer(around)  # type: ignore[arg-type]  # see `Log`

    class Faulty:
        publish, send = bus.publish, post.send

    return Faulty


def batch(size: int) -> list[Message]:
    """Messages `0`, `1` and so on."""
    return [Message(str(number).encode()) for number in range(size)]


@pytest.mark.parametrize(
    ("fault", "done"), [("before-publish", []), ("mid-batch", ["01"]), ("after-publish", ["01234"])]
)
def test_a_publisher_dies_with_what_came_before_done_and_nothing_after(fault: str, done: list[str]) -> None:
    """Half of a batch is out when it dies in the middle."""
    log = Log()
    with pytest.raises(Died):
        faulty(fault, log).publish("t", *batch(5), mandatory=True)
    assert log.done == done


def test_a_batch_that_is_refused_is_refused_as_a_whole() -> None:
    """Or the relay would take the half that was never tried for published."""
    log, messages = Log(refusals=2), batch(4)
    with pytest.raises(PublishError) as refusal:
        faulty("mid-batch", log).publish("t", *messages, mandatory=True)
    assert refusal.value.unconfirmed == tuple(messages)


def test_it_dies_the_time_that_was_asked_for() -> None:
    """After the third email, two others before; several faults go together."""
    log = Log()
    mailer = faulty("after-send@3, before-publish", log)
    mailer.send(MAIL)
    mailer.send(MAIL)
    with pytest.raises(Died):
        mailer.send(MAIL)
    assert log.done == [MAIL.name] * 3


@pytest.mark.parametrize(("text", "refused", "sent"), [("mail-refused@2", 2, 1), ("mail-refused", 3, 0)])
def test_emails_are_refused_so_often(text: str, refused: int, sent: int) -> None:
    """Without a number, for ever."""
    log = Log()
    mailer, refusals = faulty(text, log), 0
    for _ in range(3):
        try:
            mailer.send(MAIL)
        except MailRefused:
            refusals += 1
    assert (refusals, len(log.done)) == (refused, sent)


@pytest.mark.parametrize("text", ["after-lunch", "after-send@0", "after-send@x", "after-send mid-batch", "@3"])
def test_what_is_no_fault_is_refused_with_those_there_are(text: str) -> None:
    """The service does not start."""
    with pytest.raises(SettingsError, match=r"DEMO_FAULTS=.* is not possible: there are before-commit, .*mail-refused"):
        Faults(text)


def test_nothing_is_wrapped_without_faults() -> None:
    """Not even thinly."""
    log: Any = Log()
    faults = Faults("")
    assert (faults.broker(log), faults.mailer(log), faults.publishing(log), faults.around(log)) == (log,) * 4


def test_the_services_know_nothing_of_faults() -> None:
    """Production code has no holes left for them: the demo wraps a service from outside."""
    rooms = [ROOT / name for name in ("broker", "chassis", "user_service", "email_service")]
    text = "".join(file.read_text(encoding="utf-8") for room in rooms for file in room.rglob("*.py"))
    assert "DEMO_FAULTS" not in text
    assert "import demo" not in text
    assert "from demo" not in text
