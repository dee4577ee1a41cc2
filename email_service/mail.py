"""The email that welcomes a new user, and how it looks on the wire (RFC 5322)."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from email import policy
from email.headerregistry import Address
from email.message import EmailMessage
from email.utils import localtime

from contracts.events import UserRegistered

DOMAIN = "email-service.example.com"  #: the right half of every Message-ID

#: Folded only where RFC 5322 demands it: below that, Python 3.11 adds spaces to long names that it folds.
WIRE = policy.SMTP.clone(max_line_length=998)


@dataclass(frozen=True)
class Mail:
    """One email, whatever carries it. The Message-ID is the same each time that the same event is handled."""

    message_id: str  #: with its angle brackets
    name: str
    to: str
    subject: str
    text: str


def welcome(event: UserRegistered) -> Mail:
    """The email for somebody who has signed up."""
    name = one_line(event.name)
    return Mail(
        message_id=f"<{event.event_id}@{DOMAIN}>",
        name=name,
        to=event.email,
        subject=f"Welcome, {name}!",
        text=f"Dear {name},\n\nyou have signed up with {event.email}. Welcome!\n",
    )


def one_line(text: str) -> str:
    """The text without line breaks or other controls, so that nobody's name becomes a header or moves a cursor."""
    return "".join(" " if unicodedata.category(c) in ("Cc", "Zl", "Zp") else c for c in text)


def compose(mail: Mail, sender: str) -> EmailMessage:
    """The email as mail servers and mail readers take it; an address in another script needs RFC 6532 of both."""
    message = EmailMessage(policy=WIRE if mail.to.isascii() else WIRE.clone(utf8=True))
    message["Message-ID"] = mail.message_id
    message["Date"] = localtime()
    message["From"] = Address("User registration", addr_spec=sender)
    message["To"] = Address(mail.name, *mail.to.rsplit("@", 1))
    message["Subject"] = mail.subject
    message.set_content(mail.text)
    return message
