"""What the email service counts, as `/metrics` shows it; `docs/operations.md` explains each."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from prometheus_client import CollectorRegistry, Counter, Histogram

from broker import Outcome, Settled
from chassis.database import utc_now
from contracts.events import UserRegistered

#: from at once, over the retries (up to five minutes or so), to an outage of some hours
BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800, 7200)


class Metrics:
    """The counters; made once for a registry."""

    def __init__(self, registry: CollectorRegistry, now: Callable[[], datetime] = utc_now) -> None:
        self._now = now
        self._deliveries = Counter(
            "emails_deliveries",
            "Events as they were delivered here, by what became of it.",
            ["outcome"],
            registry=registry,
        )
        self._duplicates = Counter(
            "emails_duplicates_suppressed", "Deliveries of an event whose email was sent before.", registry=registry
        )
        self._seconds = Histogram(
            "emails_commit_to_sent_seconds",
            "From the commit of a registration to its email: from the event's ce-time until it is marked as sent.",
            buckets=BUCKETS,
            registry=registry,
        )
        for outcome in (Outcome.ACKED, Outcome.RETRIED, Outcome.DEAD):
            self._deliveries.labels(outcome)

    def settled(self, settled: Settled) -> None:
        """For the broker's `on_settled`."""
        self._deliveries.labels(settled.outcome).inc()

    def sent(self, event: UserRegistered) -> None:
        """Its email is sent, and noted as sent. Two clocks may differ; nothing takes less than no time."""
        self._seconds.observe(max(0.0, (self._now() - event.created_at).total_seconds()))

    def suppressed(self) -> None:
        """A duplicate."""
        self._duplicates.inc()
