"""The idempotent consumer: event in, at most one email out.

The broker delivers at least once: the same event may come twice, to two members at once, or again after a crash.
The inbox decides who sends. One window stays open: a crash after the mail server has taken the email and before
`mark_sent` sends it again, with the same Message-ID, so that a mail reader can tell.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

import broker
from chassis.errors import DatabaseError
from contracts.events import UserRegistered
from email_service.errors import RecipientRefused
from email_service.inbox import Claim, Inbox
from email_service.mail import Mail, welcome
from email_service.mailers import Mailer

log = logging.getLogger(__name__)

GROUP = "email-service"


@dataclass(frozen=True)
class SendWelcome:
    """The handler for `user.registered`. It returns once the email is sent; what it raises the broker retries."""

    inbox: Inbox
    mailer: Mailer
    on_sent: Callable[[UserRegistered], object] = lambda _: None
    on_duplicate: Callable[[], object] = lambda: None

    def __call__(self, event: UserRegistered) -> None:
        """Send the email, unless it is sent; `Reject` when the mail server never takes one for this recipient."""
        mail = welcome(event)
        about = {"event_id": event.event_id}
        log.info("[User Registered]: %s <%s> (id %s)", mail.name, mail.to, event.user_id, extra=about)
        if self._send_once(event, mail):
            log.info("email sent to %s", mail.to, extra=about)
            self.on_sent(event)
        else:
            log.info("the email was sent before; this duplicate is suppressed", extra=about)
            self.on_duplicate()

    def _send_once(self, event: UserRegistered, mail: Mail) -> bool:
        claim = self.inbox.claim(event.event_id, event.user_id, mail)
        if claim is None:
            return False
        try:
            self.mailer.send(mail)
        except RecipientRefused as refusal:
            self._release(claim)
            raise broker.Reject(str(refusal)) from refusal
        except Exception:
            self._release(claim)
            raise
        self.inbox.mark_sent(claim)
        return True

    def _release(self, claim: Claim) -> None:
        """Whatever comes of it, the mailer's error says what became of the event; a claim ends by itself."""
        try:
            self.inbox.release(claim)
        except DatabaseError as error:
            log.warning("the claim is not released: %s", error, extra={"event_id": claim.event_id})
