"""Where emails go, chosen with one word: `MAIL_URL`.

    console:            a line on standard output for each email, as in the tutorial
    file:DIR            DIR/<Message-ID>.eml, which mail readers open
    smtp://HOST:PORT    a mail server, or Mailpit: see `smtp.py`

A mailer that returns has handed the email over; one that could not raises `MailError`. Nothing that fails after that is
raised: the email would be sent again.
"""

from __future__ import annotations

import logging
import re
import uuid
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TextIO

from broker.address import without_secrets
from broker.private import make_file, make_folder
from chassis.streams import print_nowhere
from chassis.text import shown
from email_service.errors import MailError, UnknownMailer
from email_service.mail import Mail, compose
from email_service.smtp import SmtpMailer

log = logging.getLogger(__name__)

SMTP_PORT = 25
MAX_PORT = 65535

FILE_URL = re.compile(r"file:(?://)?(?P<folder>.+)")
SMTP_URL = re.compile(r"smtp://(?P<host>[^:/@]+)(?::(?P<port>[0-9]{1,5}))?/?")


class Mailer(Protocol):
    """Hands emails over."""

    def send(self, mail: Mail) -> None:
        """Return once somebody else answers for the email, or raise `MailError`; from any thread."""


@dataclass(frozen=True)
class ConsoleMailer:
    """Says that it sends, and sends nothing: the mailbox is `GET /emails`. A terminal that is gone changes nothing."""

    stream: TextIO

    def send(self, mail: Mail) -> None:
        """Print the tutorial's line, whole even when several threads print."""
        try:
            self.stream.write(f"[SENDING A EMAIL TO {shown(mail.name)}...]\n")
            self.stream.flush()
        except (OSError, ValueError) as error:  # a ValueError says that the stream is closed
            log.warning(
                "cannot print (%s): from now on simulated emails are only in GET /emails",
                getattr(error, "strerror", error),
            )
            print_nowhere(self.stream)


@dataclass(frozen=True)
class FileMailer:
    """One file an email. The same email sent twice is one file, as it is one to most mail readers."""

    folder: Path
    sender: str

    def send(self, mail: Mail) -> None:
        """Write the file; it appears whole or not at all."""
        message = compose(mail, self.sender)
        try:
            make_folder(self.folder)
            _write(self.folder / f"{mail.message_id.strip('<>')}.eml", message)
        except OSError as error:
            raise MailError(f"cannot write to {self.folder}: {error}") from error


def mailer(url: str, sender: str, stdout: TextIO) -> Mailer:
    """The mailer of a `MAIL_URL`, or `UnknownMailer`."""
    if url == "console:":
        return ConsoleMailer(stdout)
    if match := FILE_URL.fullmatch(url):
        return FileMailer(Path(match["folder"]), sender)
    if (match := SMTP_URL.fullmatch(url)) and (port := int(match["port"] or SMTP_PORT)) <= MAX_PORT:
        return SmtpMailer(match["host"], port, sender)
    raise UnknownMailer(f"MAIL_URL {without_secrets(url)!r} is none of console:, file:DIR, smtp://HOST:PORT")


def _write(path: Path, content: bytes) -> None:
    draft = path.with_name(f".{path.name}.{uuid.uuid4()}")
    try:
        make_file(draft)
        draft.write_bytes(content)
        draft.replace(path)
    except OSError:
        with suppress(OSError):
            draft.unlink()
        raise
