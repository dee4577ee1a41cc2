"""The email that welcomes a new user, and how it looks on the wire (RFC 5322, RFC 2047)."""

from __future__ import annotations

import re
from base64 import b64encode, encodebytes
from dataclasses import dataclass
from email.utils import formatdate
from typing import TYPE_CHECKING

import idna

if TYPE_CHECKING:
    from contracts.events import UserRegistered

DOMAIN = "email-service.example.com"  #: the right half of every Message-ID
SENDER_NAME = "User registration"  #: where MAIL_FROM has none

#: What a header says without encoding: a subject; before an address, words without punctuation (RFC 5322, 3.2.3).
PLAIN_TEXT = re.compile(r"(?!.*=\?)(?=.{1,500}$)[!-~]+( [!-~]+)*")
PLAIN_NAME = re.compile(r"(?=.{1,200}$)[A-Za-z0-9'-]+( [A-Za-z0-9'-]+)*")
FOLD = "\r\n "
CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f]")

#: Characters in one encoded word: RFC 2047 wants at most 75 bytes. But between two words of a *name* some readers leave
#: a space (Python's `headerregistry`, up to 3.13 at the least), so that a name has one, as long as a line may be.
WORD, NAME_WORD = 11, 180


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
    name = CONTROLS.sub(" ", event.name)  # the user service takes none; what other publishers do is not known
    return Mail(
        message_id=f"<{event.event_id}@{DOMAIN}>",
        name=name,
        to=event.email,
        subject=f"Welcome, {name}!",
        text=f"Dear {name},\n\nyou have signed up with {event.email}. Welcome!\n",
    )


def compose(mail: Mail, sender: str) -> bytes:
    """The email as mail servers and mail readers take it; the sender is an address, or `Name <address>`.

    It is written here because Python's own composer reads what it is given: a name that *looks* like an encoded word
    would be decoded, line breaks and all, and become headers of its own.
    """
    encoding, text = "7bit", mail.text.replace("\n", "\r\n")
    if not text.isascii():
        encoding, text = "base64", encodebytes(text.encode()).decode().replace("\n", "\r\n")
    lines = [
        f"Message-ID: {mail.message_id}",
        f"Date: {formatdate(localtime=True)}",
        f"From: {_mailbox(sender.rpartition('<')[0].strip() or SENDER_NAME, address_of(sender))}",
        f"To: {_mailbox(mail.name, mail.to)}",
        f"Subject: {_encoded(mail.subject, PLAIN_TEXT, WORD)}",
        "MIME-Version: 1.0",
        "Content-Type: text/plain; charset=utf-8",
        f"Content-Transfer-Encoding: {encoding}",
        "",
        text,
    ]
    return "\r\n".join(lines).encode()


def address_of(sender: str) -> str:
    """The address alone."""
    return sender.rpartition("<")[2].rstrip(">")


def on_the_wire(address: str) -> str:
    """The address with its domain as every mail server takes it (`xn--…`), if what is before the `@` allows that.

    Another script before the `@` can only go to a server that offers SMTPUTF8 (RFC 6531), and then all may stay.
    """
    local, _, domain = address.rpartition("@")
    if local.isascii() and not domain.isascii():
        try:
            return f"{local}@{idna.encode(domain, uts46=True).decode()}"
        except idna.IDNAError:  # no domain by today's rules; the server may know better
            return address
    return address


def _mailbox(name: str, address: str) -> str:
    local, _, domain = on_the_wire(address).rpartition("@")
    if "=?" in local:  # some readers would decode it even there; quoted, it is the same address (RFC 5322, 3.2.4)
        local = '"' + local.replace("?", r"\?") + '"'
    phrase = _encoded(name, PLAIN_NAME, NAME_WORD)
    return f"{phrase}{' ' if phrase == name else FOLD}<{local}@{domain}>"


def _encoded(text: str, plain: re.Pattern[str], size: int) -> str:
    """The text as it may stand in a header; readers leave out the white space between two encoded words."""
    if plain.fullmatch(text):
        return text
    parts = [text[at : at + size] for at in range(0, len(text), size)]
    return FOLD.join(f"=?utf-8?b?{b64encode(part.encode()).decode()}?=" for part in parts)
