"""The relay: takes messages out of the outbox and to the broker, for as long as the service runs.

    claim a batch (transaction) → publish it (no transaction) → mark it sent (transaction)

A crash before the mark publishes the batch again once the claim has ended: consumers tell a duplicate by `ce-id`.
Messages leave in the order they were added, per process; those that the broker did not confirm come later.
While the broker or the database is away, everything waits, and nothing is lost. A row or a topic that cannot leave is
set aside for a while, and the others go on: see `aside.py`.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from types import TracebackType
from typing import Self

from sqlalchemy import ColumnElement

from broker import Broker, BrokerError, PublishError
from chassis.database import Database, utc_now
from chassis.drain import Drain
from chassis.errors import DatabaseError
from user_service.aside import Aside, backoff_seconds
from user_service.outbox import Claim, Entry, Outbox
from user_service.tables import OutboxRow

log = logging.getLogger(__name__)

POLL_SECONDS = 1  #: how often to look without being woken: for what another replica left
PRUNE_SECONDS = 60  #: how often it looks for messages that were published long ago
PRUNE_ROWS = 1000  #: how many of them are removed at a time, so that nobody waits for it


class Relay:
    """One thread that publishes what is in the outbox; it connects the broker, and disconnects it at the end.

    Any number of them, in any number of processes, may work on one outbox. A lease is longer than publishing a batch
    takes; so long wait the messages of one that has died. `on_published` is called with how many messages have left.
    """

    def __init__(
        self,
        database: Database,
        broker: Broker,
        *,
        lease_seconds: float = 30,
        keep_sent_seconds: float = 24 * 3600,
        drain: Drain | None = None,
        now: Callable[[], datetime] = utc_now,
        on_published: Callable[[int], object] = lambda _: None,
    ) -> None:
        self._database = database
        self._broker = broker
        self._lease_seconds = lease_seconds
        self._keep_sent = timedelta(seconds=keep_sent_seconds)
        self._drain = drain or Drain()
        self._now = now
        self._on_published = on_published
        self._woken = threading.Event()
        self._stopping = threading.Event()
        self._deadline = float("inf")  # in `time.monotonic()` seconds
        self._failures = 0
        self._aside = Aside()
        self._trouble: type[Exception | None] = type(None)
        self._prune_at = 0.0
        self._thread = threading.Thread(target=self._run, name="relay", daemon=True)

    def wake(self) -> None:
        """There is something to publish: do not wait for the next look."""
        self._woken.set()

    def send_batch(self) -> int:
        """Publish what is due, `BATCH` at most; how many rows it has tried.

        Raises what keeps everything from leaving; what was not confirmed stays in the outbox.
        """
        self._broker.connect()
        tried = self._retry_suspect()
        claim = self._claim(self._aside.limit, self._aside.others())
        trouble, unsent = self._publish(claim.entries)
        if trouble:
            self._aside.failed(claim.entries, unsent, trouble)
        self._settle(claim, _without(claim.entries, unsent), release=unsent)
        for entry in unsent:
            log.debug("not published yet: %s", trouble, extra={"event_id": entry.message.id})
        return tried + len(claim.entries) + len(claim.unfit)

    def _retry_suspect(self) -> int:
        """Publish one suspect by itself; how many that were. One that fails keeps its claim until the lease ends."""
        if not self._aside.suspects:
            return 0
        self._aside.suspects.rotate(-1)
        claim = self._claim(1, OutboxRow.id == self._aside.suspects[-1])
        trouble, unsent = self._publish(claim.entries)
        self._aside.name(unsent, trouble)
        self._settle(claim, _without(claim.entries, unsent), release=())
        return len(claim.entries)

    def _claim(self, limit: int, condition: ColumnElement[bool]) -> Claim:
        with self._database.transaction() as session:
            claim = Outbox(session).claim(limit, self._now(), self._lease_seconds, condition)
        self._aside.name(claim.unfit, "it is unfit")
        return claim

    def _publish(self, entries: Sequence[Entry]) -> tuple[Exception | None, Sequence[Entry]]:
        """What went wrong, and the entries that are not confirmed."""
        try:
            if entries:
                self._broker.publish(entries[0].topic, *(entry.message for entry in entries), mandatory=True)
        except PublishError as error:
            ids = {message.id for message in error.unconfirmed}
            return error, [entry for entry in entries if entry.message.id in ids]
        except Exception as error:  # noqa: BLE001  # whatever one row makes a broker raise, the others go on
            return error, entries
        return None, ()

    def _settle(self, claim: Claim, sent: Sequence[Entry], release: Sequence[Entry]) -> None:
        """Mark what has left, and release what may be claimed at once."""
        if not claim.entries:
            return
        with self._database.transaction() as session:
            Outbox(session).mark_sent(sent, self._now())
            Outbox(session).release(claim, release)
        for entry in sent:
            log.info("published to %s", entry.topic, extra={"event_id": entry.message.id})
        if sent:
            self._aside.left(sent)
        self._on_published(len(sent))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Publish what is due, until `drain` ends, and stop; the rest waits for the next start."""
        self._deadline = time.monotonic() + self._drain.remaining()
        self._stopping.set()
        self._woken.set()
        self._thread.join(self._drain.remaining())
        if self._thread.is_alive():  # and has the broker
            log.warning("the relay was not done by the deadline; what it had is published again after the next start")
        else:
            self._broker.disconnect(self._drain.remaining())

    def _run(self) -> None:
        while time.monotonic() < self._deadline:
            self._woken.clear()
            stopping = self._stopping.is_set()  # before looking: what is added meanwhile deserves another look
            try:
                busy = self.send_batch() + self._prune()
            except Exception as error:  # noqa: BLE001  # whatever it is, the rows are safe, and this thread must live
                self._note(error)
                if self._stopping.wait(backoff_seconds(self._failures)):
                    return
                continue
            self._note(None)
            if not busy and stopping:
                return
            if not busy:
                self._aside.start_over()
                self._woken.wait(min(POLL_SECONDS, self._aside.seconds()))

    def _prune(self) -> int:
        """Now and then, remove what was published long ago; how many messages that were."""
        if time.monotonic() < self._prune_at:
            return 0
        with self._database.transaction() as session:
            pruned = Outbox(session).prune(self._now() - self._keep_sent, PRUNE_ROWS)
        if not pruned:
            self._prune_at = time.monotonic() + min(PRUNE_SECONDS, self._keep_sent.total_seconds())
        return pruned

    def _note(self, trouble: Exception | None) -> None:
        """Say once that a trouble has begun, and once that it is over."""
        if trouble is None and self._failures:
            log.info("the outbox is published again")
        if trouble and type(trouble) is not self._trouble:
            unexpected = not isinstance(trouble, BrokerError | DatabaseError)
            log.warning("the outbox waits: %s", trouble, exc_info=trouble if unexpected else None)
        self._trouble = type(trouble)
        self._failures = self._failures + 1 if trouble else 0


def _without(entries: Sequence[Entry], others: Sequence[Entry]) -> list[Entry]:
    ids = {entry.id for entry in others}
    return [entry for entry in entries if entry.id not in ids]
