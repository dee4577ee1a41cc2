"""Faults for demonstration: a process that dies at a named point, a mail server that refuses. Never in production.

    after-commit        the process dies the first time that it passes this point
    after-send@3        it dies the third time
    mail-refused@5      the first five emails are refused; without a number, every one

Several are separated by commas. It dies as after a `kill -9`: nothing is flushed or finished. The points:

    user service     before-commit  COMMIT  after-commit
                     before-publish  PUBLISH half of a batch  mid-batch  PUBLISH  after-publish  MARK AS SENT
    email service    after-receive  CLAIM  before-send  SEND  after-send  MARK AS SENT  before-ack  ACK

`service.py` starts a service with these. The service itself knows nothing of them, and without DEMO_FAULTS nothing is
wrapped.
"""

from __future__ import annotations

import logging
import os
import re
import signal
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from threading import Lock
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar, cast

from broker import Broker, BrokerError
from chassis.errors import SettingsError

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from broker import Event, Handler, Message
    from email_service.mail import Mail
    from email_service.mailers import Mailer
    from user_service.publishing import Publishing

log = logging.getLogger(__name__)

Part = TypeVar("Part")

MAIL_REFUSED = "mail-refused"
#: where each service can die
POINTS = MappingProxyType(
    {
        "user_service": ("before-commit", "after-commit", "before-publish", "mid-batch", "after-publish"),
        "email_service": ("after-receive", "before-send", "after-send", "before-ack"),
    }
)
NAMES = (*POINTS["user_service"], *POINTS["email_service"], MAIL_REFUSED)


class MailRefused(Exception):
    """The mail server would not take it, because DEMO_FAULTS says so."""


class Faults:
    """What DEMO_FAULTS names; `SettingsError` when that is no fault."""

    def __init__(self, text: str = "", die: Callable[[], NoReturn] | None = None) -> None:
        self._at = dict(_parse(part.strip()) for part in text.split(",") if part.strip())
        self._kill = die or _die
        self._passed: Counter[str] = Counter()
        self._lock = Lock()
        if self._at:
            log.warning("faults for demonstration: %s", text)

    def around(self, part: Part) -> Part:
        """That part of a service with its points, whichever part it is."""
        if isinstance(part, Broker):
            return cast("Part", self.broker(part))
        wrap = self.publishing if hasattr(part, "after_commit") else self.mailer
        return cast("Part", wrap(cast("Any", part)))

    def publishing(self, publishing: Publishing) -> Publishing:
        """The same, with points on both sides of the commit."""
        return _Publishing(publishing, self) if self._at else publishing

    def broker(self, broker: Broker) -> Broker:
        """The same, with points around what is published and what is handled."""
        return cast("Broker", _Broker(broker, self)) if self._at else broker

    def mailer(self, mailer: Mailer) -> Mailer:
        """The same, with points on both sides of the sending; and it may refuse."""
        return _Mailer(mailer, self) if self._at else mailer

    def at(self, point: str) -> None:
        """Die here, if it is time."""
        if self.is_time(point):
            self.die(point)

    def is_time(self, point: str) -> bool:
        """Whether to die here, this time."""
        return point in self._at and self._passes(point) >= (self._at[point] or 1)

    def die(self, point: str) -> NoReturn:
        """Die as `kill -9` would have it."""
        log.error("DEMO_FAULTS: this process dies at %s", point)
        self._kill()

    def refuse_mail(self) -> None:
        """Raise `MailRefused`, if it is the time."""
        if MAIL_REFUSED in self._at and self._passes(MAIL_REFUSED) <= (self._at[MAIL_REFUSED] or float("inf")):
            raise MailRefused("the mail server refuses (DEMO_FAULTS)")

    def _passes(self, point: str) -> int:
        """How often it was passed, with this time."""
        with self._lock:
            self._passed[point] += 1
            return self._passed[point]


def _parse(part: str) -> tuple[str, int | None]:
    found = re.fullmatch(r"(?P<name>[a-z-]+)(@(?P<number>[1-9][0-9]{0,5}))?", part)
    if not found or found["name"] not in NAMES:
        raise SettingsError(f"DEMO_FAULTS={part!r} is not possible: there are {', '.join(NAMES)}, each maybe with @N")
    return found["name"], int(found["number"]) if found["number"] else None


def _die() -> NoReturn:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("nobody survives SIGKILL")


@dataclass(frozen=True)
class _Publishing:
    publishing: Publishing
    faults: Faults

    def in_transaction(self, session: Session, topic: str, message: Message, now: datetime) -> None:
        self.publishing.in_transaction(session, topic, message, now)
        session.flush()
        self.faults.at("before-commit")

    def after_commit(self, topic: str, message: Message) -> None:
        self.faults.at("after-commit")
        self.publishing.after_commit(topic, message)


@dataclass(frozen=True)
class _Broker:
    """In everything but publishing and subscribing it is the broker itself."""

    broker: Broker
    faults: Faults

    def publish(self, topic: str, *messages: Message, mandatory: bool = False) -> None:
        self.faults.at("before-publish")
        if len(messages) > 1 and self.faults.is_time("mid-batch"):
            with suppress(BrokerError):  # then it raises again, for all of them
                self.broker.publish(topic, *messages[: len(messages) // 2], mandatory=mandatory)
                self.faults.die("mid-batch")
        self.broker.publish(topic, *messages, mandatory=mandatory)
        self.faults.at("after-publish")

    def subscribe(self, topic: str, handler: Handler, **options: Any) -> object:
        def between_points(event: Event) -> object:
            self.faults.at("after-receive")
            result = handler(event)
            self.faults.at("before-ack")
            return result

        return self.broker.subscribe(topic, between_points, **options)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.broker, name)


@dataclass(frozen=True)
class _Mailer:
    mailer: Mailer
    faults: Faults

    def send(self, mail: Mail) -> None:
        self.faults.at("before-send")
        self.faults.refuse_mail()
        self.mailer.send(mail)
        self.faults.at("after-send")
