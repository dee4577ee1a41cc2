"""Runs the email service: `python -m email_service`. Settings come from the environment; see `settings.py`.

It says `listening on http://127.0.0.1:8001` and `subscribed to user.registered`; then, for each user that the user
service registers, `[SENDING A EMAIL TO …...]`; and http://127.0.0.1:8001/emails shows what was sent.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import broker
from chassis.database import Database
from chassis.drain import Drain
from chassis.main import run
from chassis.server import Server
from email_service.app import create_app
from email_service.consumer import GROUP, SendWelcome
from email_service.errors import EmailServiceError
from email_service.inbox import Inbox
from email_service.mailers import mailer
from email_service.settings import Settings
from email_service.subscriber import Subscriber
from email_service.tables import SCHEMA_NAME, SCHEMA_VERSION, Base
from events import USER_REGISTERED
from faults import Faults

NAME = "email-service"


@contextmanager
def service(settings: Settings) -> Iterator[Server]:
    """The whole email service, serving; at the end it finishes what it is sending, answers what runs, and lets go."""
    database = Database(settings.database, Base.metadata, schema_name=SCHEMA_NAME, schema_version=SCHEMA_VERSION)
    inbox = Inbox(database, settings.claim_seconds)
    drain = Drain(settings.drain_seconds)
    faults = Faults(settings.demo_faults)
    subscriber = Subscriber(
        faults.broker(_broker(settings)),
        USER_REGISTERED,
        SendWelcome(inbox, faults.mailer(mailer(settings.mail_url, settings.mail_from, sys.stdout))),
        drain=drain,
        queue=GROUP,
        concurrency=settings.concurrency,
        retry_delays=settings.retry_delays,
        max_attempts=settings.max_attempts,
        lease_seconds=settings.lease_seconds,
    )
    app = create_app(inbox, is_ready=lambda: subscriber.is_subscribed() and database.ping())
    with (
        database,
        Server(app, settings.host, settings.port, drain=drain) as server,
        subscriber,
    ):
        yield server


def _broker(settings: Settings) -> broker.Broker:
    return broker.new(
        settings.broker,
        data_dir=settings.data_dir,
        registry=settings.registry,
        secret=settings.broker_secret,
    )


if __name__ == "__main__":
    sys.exit(run(NAME, Settings, service, expected=[broker.BrokerError, EmailServiceError]))
