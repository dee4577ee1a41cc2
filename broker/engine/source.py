"""What an adapter brings: a `Source`, six verbs on deliveries, as its server does them. The engine does the rest."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from broker.message import Message

Receipt = TypeVar("Receipt")  # what an adapter needs to settle a delivery


@dataclass(eq=False, slots=True)
class Delivery(Generic[Receipt]):
    """One message on its way to a handler; `receipt` is the adapter's own: what its server needs to settle it.

    `last_started` says that `Source.begin_last` was called on an earlier delivery of it.
    """

    message: Message
    attempt: int
    receipt: Receipt
    last_started: bool = False


class Source(ABC, Generic[Receipt]):
    """Where one subscription's deliveries come from and how they are settled. Each call may raise `BrokerError`."""

    @abstractmethod
    def fetch(self, limit: int, timeout_seconds: float) -> Sequence[Delivery[Receipt]]:
        """At least one and at most `limit` deliveries, or none when there were none in time; attempts counted.

        A reconnect, or making a deleted group again, happens in here.
        """

    @abstractmethod
    def interrupt(self) -> None:
        """Make a running `fetch` return soon; there will be no other."""

    @abstractmethod
    def close(self) -> None:
        """Leave the group. What was fetched and not settled goes back to it, its attempt counted."""

    @abstractmethod
    def ack(self, deliveries: Sequence[Delivery[Receipt]]) -> None:
        """These are done with."""

    @abstractmethod
    def retry(self, delivery: Delivery[Receipt], delay_seconds: float) -> None:
        """Deliver again after the delay, to this member or another."""

    @abstractmethod
    def bury(self, delivery: Delivery[Receipt], reason: str) -> None:
        """Store it with the group's dead letters; ack the original only once that is confirmed."""

    @abstractmethod
    def release(self, deliveries: Sequence[Delivery[Receipt]]) -> None:
        """Hand back what was not started, its attempt unchanged."""

    @abstractmethod
    def begin_last(self, delivery: Delivery[Receipt]) -> None:
        """Note, so that it outlives this process, that the last attempt of this delivery starts now.

        Attempts are counted when fetched, so that a neighbour's crash counts too; only what was noted here is
        given up for a crash.
        """

    def extend(self, deliveries: Sequence[Delivery[Receipt]]) -> None:
        """Renew the leases. Nothing to do where the server keeps a lease as long as the connection."""


class BroadcastSource(Source[None]):
    """A subscription without a group: nothing is settled, the engine retries in this process."""

    def ack(self, deliveries: Sequence[Delivery[None]]) -> None:
        """Nothing waits for it."""

    def retry(self, delivery: Delivery[None], delay_seconds: float) -> None:
        """Never called: see `Subscription._again`."""

    def bury(self, delivery: Delivery[None], reason: str) -> None:
        """There are no dead letters; the engine has logged it."""

    def release(self, deliveries: Sequence[Delivery[None]]) -> None:
        """Nobody to hand it to."""

    def begin_last(self, delivery: Delivery[None]) -> None:
        """Nobody would read it."""
