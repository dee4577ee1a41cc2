"""What the engine says of deliveries, in one place: log lines with the event's id, `on_error` and `on_settled`.

Every line about one message has the field `event_id`, a line about several `event_ids`: so one `grep` for an id finds
the whole story of an event, on every broker.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, TypeVar

from broker.engine.source import Delivery
from broker.handlers import check_result
from broker.message import Event, Message

log = logging.getLogger(__name__)

Told = TypeVar("Told")

MOST_WORDS = 2000  #: characters of an exception's text: a reason has to fit into a dead letter, beside the message


class Outcome(StrEnum):
    """What became of a delivery."""

    ACKED = "acked"
    RETRIED = "retried"  #: it comes again, after a delay
    DEAD = "dead_lettered"
    PASSED_OVER = "passed_over"  #: a broadcast that failed every time


@dataclass(frozen=True, slots=True)
class Settled:
    """What became of one delivery, as the option `on_settled` is told; `reason` is empty when it was acked."""

    topic: str
    group: str | None
    message: Message
    attempt: int
    outcome: Outcome
    reason: str = ""


class Report:
    """The voice of one subscription."""

    def __init__(
        self,
        topic: str,
        group: str | None,
        on_error: Callable[[Event], None] | None,
        on_settled: Callable[[Settled], None] | None,
    ) -> None:
        self._topic = topic
        self._group = group
        self._on_error = on_error
        self._on_settled = on_settled

    def replayed(self, delivery: Delivery[Any]) -> None:
        """It was a dead letter, and somebody has had it delivered again."""
        log.info("%s: a dead letter is replayed", self._name(delivery), extra=about(delivery))

    def failed(self, event: Event, error: BaseException) -> None:
        """Its handler has raised."""
        event.error = error
        log.debug("handler traceback", exc_info=error, extra=_fields(event.message, event.attempt))
        _tell(self._on_error, event, event.message, event.attempt)

    def acked(self, delivery: Delivery[Any]) -> None:
        """It is done with; the handler has its own words for that."""
        self._settled(delivery, Outcome.ACKED)

    def retried(self, delivery: Delivery[Any], reason: str, delay_seconds: float) -> None:
        """It comes again."""
        name = self._name(delivery)
        log.warning("%s failed, again in %.1f s: %s", name, delay_seconds, reason, extra=about(delivery))
        self._settled(delivery, Outcome.RETRIED, reason)

    def dead(self, delivery: Delivery[Any], reason: str) -> None:
        """It is with the dead letters."""
        log.error("%s is a dead letter: %s", self._name(delivery), reason, extra=about(delivery))
        self._settled(delivery, Outcome.DEAD, reason)

    def passed_over(self, delivery: Delivery[Any], reason: str) -> None:
        """Nobody gets it again."""
        log.error("%s is passed over: %s", self._name(delivery), reason, extra=about(delivery))
        self._settled(delivery, Outcome.PASSED_OVER, reason)

    def trouble(self, delivery: Delivery[Any], what: str, error: Exception) -> None:
        """The server did not do for it what it was asked."""
        log.warning("%s: %s: %s", self._name(delivery), what, error, extra=about(delivery))

    def _settled(self, delivery: Delivery[Any], outcome: Outcome, reason: str = "") -> None:
        if self._on_settled is not None:
            message, attempt = delivery.message, delivery.attempt
            settled = Settled(self._topic, self._group, message, attempt, outcome, reason)
            _tell(self._on_settled, settled, message, attempt)

    def _name(self, delivery: Delivery[Any]) -> str:
        return f"{self._topic} {delivery.message.id} for {self._group or 'everyone'}, attempt {delivery.attempt}"


def about(*deliveries: Delivery[Any]) -> dict[str, object]:
    """What a log line is about, as fields: one delivery, or several."""
    if len(deliveries) == 1:
        return _fields(deliveries[0].message, deliveries[0].attempt)
    return {"event_ids": [delivery.message.id for delivery in deliveries]}


def in_words(error: BaseException, *, bare: bool = False) -> str:
    """An exception as text of bounded length, also one that has none; with `bare`, without its type."""
    try:
        text = str(error)
    except BaseException:  # noqa: BLE001  # of its `__str__`
        return type(error).__name__
    text = text if bare else f"{type(error).__name__}: {text}"
    return text if len(text) <= MOST_WORDS else f"{text[:MOST_WORDS]}…"


def _fields(message: Message, attempt: int) -> dict[str, object]:
    return {"event_id": message.id, "attempt": attempt}


def _tell(listener: Callable[[Told], None] | None, what: Told, message: Message, attempt: int) -> None:
    if listener is not None:
        try:
            check_result(listener(what))
        except BaseException:  # as for a handler's: nothing that it raises ends a worker
            log.exception("on_error or on_settled itself failed", extra=_fields(message, attempt))
