"""A mail server for a test: it keeps what it takes, and can refuse or take its time for a while."""

from __future__ import annotations

import asyncio
import threading
from contextlib import ExitStack
from email import message_from_bytes, policy
from email.message import EmailMessage
from types import TracebackType
from typing import Self

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session

from tests.servers.process import reserved_port

READY_SECONDS = 60.0


class Mailbox:
    """As a context manager it listens, on a free port, in a thread of this process."""

    def __init__(self, *, smtputf8: bool = False) -> None:
        self.refusal = ""  #: what it answers to every recipient, such as `451 not now`; empty: it takes the email
        self.emails: list[EmailMessage] = []
        self.recipients: list[str] = []  #: as they were named, one an email
        self.asked = threading.Event()  #: somebody has named a recipient
        self.go_on = threading.Event()  #: while it is not set, nobody gets an end of the answer to that
        self.go_on.set()
        self._reservation = ExitStack()
        port = self._reservation.enter_context(reserved_port())
        self._controller = Controller(
            self, hostname="127.0.0.1", port=port, enable_SMTPUTF8=smtputf8, ready_timeout=READY_SECONDS
        )

    @property
    def url(self) -> str:
        """For MAIL_URL."""
        return f"smtp://{self._controller.hostname}:{self._controller.port}"

    @property
    def by_recipient(self) -> dict[str, list[str]]:
        """The Message-IDs of the emails to each address, in the order they came."""
        found: dict[str, list[str]] = {}
        for email in self.emails:
            found.setdefault(email["To"].addresses[0].addr_spec, []).append(email["Message-ID"])
        return found

    async def handle_RCPT(  # noqa: N802  # aiosmtpd calls it so
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        """Take the recipient, or not."""
        self.asked.set()
        while not self.go_on.is_set():
            await server.push("250-wait")  # so that no client loses its patience
            await asyncio.sleep(0.05)
        if not self.refusal:
            envelope.rcpt_tos.append(address)
        return self.refusal or "250 OK"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802  # the same
        """Keep the email."""
        assert isinstance(envelope.content, bytes)
        self.recipients += envelope.rcpt_tos
        self.emails.append(message_from_bytes(envelope.content, policy=policy.SMTP))
        return "250 accepted"

    def __enter__(self) -> Self:
        self._controller.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._controller.stop()
        self._reservation.close()
