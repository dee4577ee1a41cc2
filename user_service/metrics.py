"""What the user service counts, as `/metrics` shows it; `docs/operations.md` explains each."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from types import MappingProxyType

from prometheus_client import CollectorRegistry, Counter
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from sqlalchemy.exc import SQLAlchemyError
from werkzeug.exceptions import HTTPException

from chassis.database import Database, utc_now
from chassis.errors import ChassisError, DatabaseError
from chassis.patience import Patient
from chassis.problems import Problem
from user_service.errors import RegistrationError
from user_service.outbox import Outbox, Waiting

log = logging.getLogger(__name__)

#: status of the answer → why a registration was refused
REASONS = MappingProxyType({400: "not_json", 415: "not_json", 413: "too_large", 422: "not_valid", 503: "unavailable"})
UNEXPECTED = "error"


class Metrics:
    """The counters; made once for a registry."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registrations = Counter(
            "users_registrations", "Registrations, and repetitions of one.", ["outcome"], registry=registry
        )
        self._refused = Counter(
            "users_registrations_refused", "Registrations that were refused, or failed.", ["reason"], registry=registry
        )
        self._published = Counter(
            "users_events_published", "Events that the broker has confirmed to this process.", registry=registry
        )
        for outcome in ("new", "repeated"):
            self._registrations.labels(outcome)
        for reason in sorted({"email_taken", "id_taken", *REASONS.values(), UNEXPECTED}):
            self._refused.labels(reason)

    @contextmanager
    def counting_refusals(self) -> Iterator[None]:
        """Whatever is raised meanwhile is a registration that was refused."""
        try:
            yield
        except Exception as refusal:
            self._refused.labels(_reason(refusal)).inc()
            raise

    def registered(self, is_new: bool) -> None:
        """Somebody is registered, by this request or by an earlier one."""
        self._registrations.labels("new" if is_new else "repeated").inc()

    def published(self, events: int) -> None:
        """So many events have left."""
        self._published.inc(events)


class OutboxCollector(Collector):
    """The outbox as it is when somebody looks; all replicas show the same one."""

    def __init__(self, database: Database, now: Callable[[], datetime] = utc_now) -> None:
        self._database = database
        self._now = now
        self._ask = Patient(self._read)

    def collect(self) -> Iterator[Metric]:
        """Three gauges; only the first when the database does not answer, since any figure would be a guess."""
        try:
            waiting = self._ask()
        except (ChassisError, SQLAlchemyError) as error:
            log.warning("the outbox cannot be measured: %s", error)
            yield _up(0)
            return
        age = (self._now() - waiting.since).total_seconds() if waiting.since else 0
        yield _up(1)
        yield GaugeMetricFamily("users_outbox_messages", "Events that are not published yet.", waiting.count)
        yield GaugeMetricFamily(
            "users_outbox_oldest_age_seconds", "How long the first of them has waited; 0 when none does.", max(0, age)
        )

    def _read(self) -> Waiting:
        with self._database.reading() as session:
            return Outbox(session).waiting()


def _up(value: int) -> Metric:
    return GaugeMetricFamily("users_database_up", "Whether the database has answered this scrape.", value)


def _reason(refusal: Exception) -> str:
    match refusal:
        case RegistrationError():
            return f"{refusal.field}_taken"
        case DatabaseError():
            return REASONS[503]
        case Problem():
            return REASONS.get(refusal.status, UNEXPECTED)
        case HTTPException():
            return REASONS.get(refusal.code or 500, UNEXPECTED)
        case _:
            return UNEXPECTED
