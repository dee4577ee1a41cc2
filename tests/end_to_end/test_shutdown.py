"""SIGTERM: what runs is finished, nobody is sent more meanwhile, and the exit status is 0, within the deadline."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest
import requests

from broker.testing import eventually
from tests.end_to_end.processes import STOP_SECONDS, Application
from tests.servers.mailbox import Mailbox


@pytest.fixture
def mailbox() -> Iterator[Mailbox]:
    """A mail server that takes its time, until it is told to go on."""
    with Mailbox() as mailbox:
        mailbox.go_on.clear()
        yield mailbox
        mailbox.go_on.set()


def test_the_email_under_way_is_sent_and_the_service_is_not_ready_meanwhile(app: Application, mailbox: Mailbox) -> None:
    """It says so to those who ask, until it ends; the email is sent once."""
    app.emails.set(MAIL_URL=mailbox.url)
    app.start()
    users = app.register("学院君")
    assert mailbox.asked.wait(60)
    app.emails.process.send_signal(signal.SIGTERM)
    eventually(lambda: not app.emails.is_ready(), "it is not ready")
    assert requests.get(f"{app.emails.url}/health/ready", timeout=5).status_code == 503
    assert requests.get(f"{app.emails.url}/emails", timeout=5).headers["Retry-After"] == "1"
    assert requests.get(f"{app.emails.url}/health/live", timeout=5).ok
    assert mailbox.emails == []
    mailbox.go_on.set()
    assert app.emails.process.wait(STOP_SECONDS) == 0
    app.emails.start()
    app.wait_for_emails(users)
    assert len(mailbox.emails) == 1


def test_an_email_that_never_ends_holds_up_no_stop(app: Application, mailbox: Mailbox) -> None:
    """It is cut off at the deadline, and sent after the next start."""
    app.emails.set(MAIL_URL=mailbox.url, DRAIN_SECONDS="0.5", CLAIM_SECONDS="1")
    app.start()
    users = app.register("学院君")
    assert mailbox.asked.wait(60)
    assert app.emails.stop() == 0
    mailbox.go_on.set()
    app.emails.start()
    app.wait_for_emails(users)
