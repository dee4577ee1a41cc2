"""Runs the email service: `python -m email_service`. Settings come from the environment; see `settings.py`.

It says `listening on http://127.0.0.1:8001` and `subscribed to user.registered`; then, for each user that the user
service registers, `[SENDING A EMAIL TO …...]`; and http://127.0.0.1:8001/emails shows what was sent.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import broker
from chassis.database import Database
from chassis.drain import Drain
from chassis.main import Around, as_it_is, run
from chassis.metrics import new_registry
from chassis.server import Server
from contracts.events import USER_REGISTERED, UserRegistered
from email_service.app import create_app
from email_service.consumer import GROUP, SendWelcome
from email_service.errors import EmailServiceError
from email_service.inbox import Inbox
from email_service.mailers import mailer
from email_service.metrics import Metrics
from email_service.settings import Settings
from email_service.subscriber import Subscriber
from email_service.tables import SCHEMA_NAME, SCHEMA_VERSION, Base

NAME = "email-service"
EXPECTED = (broker.BrokerError, EmailServiceError)  #: what may go wrong on the way, beside the chassis's own errors
HERE = 8  #: events that a replica holds for each email that it sends at a time; no other replica can have them


@contextmanager
def service(settings: Settings, around: Around = as_it_is) -> Iterator[Server]:
    """The whole email service, serving; at the end it answers what runs, finishes what it is sending, and lets go."""
    database = Database(settings.database, Base.metadata, schema_name=SCHEMA_NAME, schema_version=SCHEMA_VERSION)
    inbox = Inbox(database, settings.claim_seconds)
    drain, registry = Drain(settings.drain_seconds), new_registry()
    metrics = Metrics(registry)
    post = around(mailer(settings.mail_url, settings.mail_from, sys.stdout))
    bus = around(_broker(settings, metrics))
    subscribe = partial(
        bus.subscribe,
        USER_REGISTERED,
        SendWelcome(inbox, post, on_sent=metrics.sent, on_duplicate=metrics.suppressed),
        reads=UserRegistered,
        group=GROUP,
        concurrency=settings.concurrency,
        prefetch=HERE * settings.concurrency,
        retry_delays=settings.retry_delays,
        max_attempts=settings.max_attempts,
        lease_seconds=settings.lease_seconds,
    )
    subscriber = Subscriber(bus, subscribe, drain)
    app = create_app(inbox, lambda: subscriber.is_subscribed() and database.ping(), registry)
    with (
        database,
        Server(app, settings.host, settings.port, drain=drain) as server,
        subscriber,
        server.taking_requests(),
    ):
        yield server


def _broker(settings: Settings, metrics: Metrics) -> broker.Broker:
    return broker.new(
        settings.broker,
        data_dir=settings.data_dir,
        registry=settings.registry,
        secret=settings.broker_secret,
        on_settled=metrics.settled,
    )


if __name__ == "__main__":
    sys.exit(run(NAME, Settings, service, expected=EXPECTED, arguments=sys.argv[1:]))
