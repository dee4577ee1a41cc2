"""A mail server, and what its answers mean (RFC 5321): sent, not now, or never.

2xx to the email                        sent, whatever becomes of the connection after that
5xx to the recipient or the email       `RecipientRefused`: no other attempt would help
4xx, no answer, no server               `MailError`: another attempt may
5xx to anything before                  `MailError`, and logged as an error: the server does not want *us*. Somebody
                                        has to mend that, and no recipient is to suffer for it
"""

from __future__ import annotations

import logging
import smtplib
from contextlib import suppress
from dataclasses import dataclass

from chassis.text import shown
from email_service.errors import MailError, RecipientRefused
from email_service.mail import Mail, address_of, compose, on_the_wire

log = logging.getLogger(__name__)

TIMEOUT_SECONDS = 10  #: for each step of the conversation
YES, NEVER = 2, 5  #: the first digit of an answer: RFC 5321, 4.2.1
EHLO_UNKNOWN = (500, 502)  #: the answers of a server from before 1995
LONGEST_WORDS = 300  #: characters of a server's answer that are passed on

Answer = tuple[int, bytes | str]

#: What a server that does not offer it would answer to an address in another script (RFC 6531, 3.5).
NO_SMTPUTF8: Answer = (553, "the server offers no SMTPUTF8, and the address needs it")


@dataclass(frozen=True)
class SmtpMailer:
    """A mail server, over a connection of its own for each email."""

    host: str
    port: int
    sender: str
    timeout_seconds: float = TIMEOUT_SECONDS

    def send(self, mail: Mail) -> None:
        """Return when the server has accepted the email; `RecipientRefused` when it never will."""
        message = compose(mail, self.sender)
        server = smtplib.SMTP(timeout=self.timeout_seconds)
        try:
            self._introduce_us(server)
            self._address(server, on_the_wire(address_of(self.sender)), on_the_wire(mail.to))
            self._hand_over(server, message)
        except OSError as error:  # of the network; and every SMTPException is one
            raise MailError(f"mail server {self.host}:{self.port}: {_words(str(error))}") from error
        finally:
            _hang_up(server)

    def _introduce_us(self, server: smtplib.SMTP) -> None:
        self._check_us(server.connect(self.host, self.port))
        answer = server.ehlo()
        self._check_us(server.helo() if answer[0] in EHLO_UNKNOWN else answer)

    def _address(self, server: smtplib.SMTP, sender: str, recipient: str) -> None:
        options = [] if (sender + recipient).isascii() else ["SMTPUTF8", "BODY=8BITMIME"]
        if options and not server.has_extn("smtputf8"):
            (self._check_us if recipient.isascii() else self._check_recipient)(NO_SMTPUTF8)
        self._check_us(server.mail(sender, options))
        self._check_recipient(server.docmd("rcpt", f"to:<{recipient}>"))  # `rcpt` would read and change the address

    def _hand_over(self, server: smtplib.SMTP, message: bytes) -> None:
        try:
            self._check_recipient(server.data(message))
        except smtplib.SMTPDataError as refusal:  # to begin with
            raise self._error((refusal.smtp_code, refusal.smtp_error)) from refusal

    def _check_us(self, answer: Answer) -> None:
        if answer[0] // 100 != YES:
            error = MailError(str(self._error(answer)))
            if answer[0] // 100 == NEVER:
                log.error("%s", error)
            raise error

    def _check_recipient(self, answer: Answer) -> None:
        if answer[0] // 100 != YES:
            raise self._error(answer)

    def _error(self, answer: Answer) -> MailError:
        kind = RecipientRefused if answer[0] // 100 == NEVER else MailError
        return kind(f"mail server {self.host}:{self.port}: {answer[0]} {_words(answer[1])}")


def _words(text: bytes | str) -> str:
    """In one line, whatever the server has put there."""
    text = text.decode(errors="replace") if isinstance(text, bytes) else text
    return shown(" ".join(text.split()))[:LONGEST_WORDS]


def _hang_up(server: smtplib.SMTP) -> None:
    """Say QUIT and wait for no answer, as Postfix does: the email is sent or not by then, and this changes nothing."""
    with suppress(OSError):
        server.putcmd("quit")
    with suppress(OSError):
        server.close()
