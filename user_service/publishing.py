"""How the message about a change leaves the service: two ways, so that their difference can be shown.

`ThroughOutbox` stores it in the transaction of the change: both happen, or neither. `Direct` publishes after the
commit, as tutorials do: when the process or the broker dies in between, the user is there and the event never comes.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from sqlalchemy.orm import Session

from broker import Broker, BrokerError, Message
from user_service.outbox import Outbox

log = logging.getLogger(__name__)


class Publishing(Protocol):
    """What a registration does to have its event published."""

    def in_transaction(self, session: Session, topic: str, message: Message, now: datetime) -> None:
        """Called within the transaction of the change."""

    def after_commit(self, topic: str, message: Message) -> None:
        """Called when the change is committed; never raises, since there is no way back."""


@dataclass(frozen=True)
class ThroughOutbox:
    """The transactional outbox; `wake` tells the relay that there is something to publish."""

    wake: Callable[[], None]

    def in_transaction(self, session: Session, topic: str, message: Message, now: datetime) -> None:
        Outbox(session).add(topic, message, now)

    def after_commit(self, topic: str, message: Message) -> None:  # noqa: ARG002  # the message is in the outbox
        self.wake()


@dataclass(frozen=True)
class Direct:
    """Commit, then publish: `DELIVERY=direct`. Not for production."""

    broker: Broker
    on_published: Callable[[int], object] = lambda _: None

    def in_transaction(self, session: Session, topic: str, message: Message, now: datetime) -> None:
        """Nothing: that is the mistake."""

    def after_commit(self, topic: str, message: Message) -> None:
        try:
            self.broker.publish(topic, message)
        except BrokerError as error:
            log.error("this event is lost: %s", error, extra={"event_id": message.id})
        else:
            log.info("published to %s", topic, extra={"event_id": message.id})
            self.on_published(1)
