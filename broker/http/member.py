"""The receiving side: a source for each subscription of this process, fed by `server.py`.

POST /deliver → verified → Inbox of the subscription → the engine → a line back on the same request
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence

from broker.engine.source import BroadcastSource, Delivery, Source
from broker.errors import BrokerError
from broker.http import wire
from broker.http.wire import LAST, OK, REJECT, RELEASE, RETRY, Answer, Parcel
from broker.options import SubscribeOptions

SEND_SECONDS = 1.0  #: how long an answer waits for the network to take it
PATIENCE = 2  #: leases that a request stays open without a line: its publisher waits for one and a half


class Exchange:
    """One accepted request: the lines still to be sent back on it. Iterating it is what the server sends."""

    def __init__(self, parcels: Sequence[Parcel], lease_seconds: float) -> None:
        self._changed = threading.Condition()
        self._patience_seconds = PATIENCE * lease_seconds
        self._lines: deque[bytes] = deque([b"\n"])  # says at once that they were taken
        self._left = {parcel.seq for parcel in parcels}
        self._ended = False
        self.broken = False

    def answer(self, *answers: Answer) -> bool:
        """Send these lines; whether they have left this process soon. Answers to what was answered are dropped."""
        with self._changed:
            fresh = [answer for answer in answers if answer.seq in self._left]
            self._left -= {answer.seq for answer in fresh if answer.result != LAST}
            if fresh:
                self._lines.append(wire.encode_answers(fresh))
            self._changed.notify_all()
            return self._changed.wait_for(lambda: not self._lines or self.broken, SEND_SECONDS)

    def still_here(self) -> None:
        """A sign of life while handlers take their time."""
        with self._changed:
            self._lines.append(b"\n")
            self._changed.notify_all()

    def give_up(self) -> None:
        """End the request without the missing lines."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def __iter__(self) -> Iterator[bytes]:
        while line := self._next():
            yield line
            with self._changed:  # the server has sent it, and asks for more
                self._lines.popleft()
                self._changed.notify_all()

    def _next(self) -> bytes | None:
        with self._changed:
            self._changed.wait_for(lambda: self._lines or self._ended or not self._left, self._patience_seconds)
            return self._lines[0] if self._lines else None

    def close(self) -> None:
        """The request is over, finished or not; called by the server."""
        with self._changed:
            self.broken = True
            self._changed.notify_all()


class Letter:
    """What a delivery carries: where to answer, and for which row."""

    __slots__ = ("exchange", "seq")

    def __init__(self, exchange: Exchange, seq: int) -> None:
        self.exchange = exchange
        self.seq = seq


class Inbox:
    """What has arrived for one subscription and was not fetched yet."""

    def __init__(self, lease_seconds: float = SubscribeOptions.lease_seconds) -> None:
        self._lease_seconds = lease_seconds
        self._changed = threading.Condition()
        self._arrived: deque[Delivery[Letter]] = deque()
        self._closed = False

    def put(self, parcels: Sequence[Parcel]) -> Exchange | None:
        """Take them in, to be answered on what this returns; None when the subscription has ended."""
        exchange = Exchange(parcels, self._lease_seconds)
        with self._changed:
            if self._closed:
                return None
            self._drop_copies(parcels)
            self._arrived.extend(
                Delivery(p.message, p.attempt, Letter(exchange, p.seq), p.last_started) for p in parcels
            )
            self._changed.notify()
        return exchange

    def _drop_copies(self, parcels: Sequence[Parcel]) -> None:
        """What comes again and was never fetched came on a request that its publisher has given up."""
        again = {(parcel.seq, parcel.message.id) for parcel in parcels}
        copies = [delivery for delivery in self._arrived if (delivery.receipt.seq, delivery.message.id) in again]
        for copy in copies:
            self._arrived.remove(copy)
            copy.receipt.exchange.give_up()  # else nobody would ever answer for it, and it would keep its thread

    def exchanges(self) -> set[Exchange]:
        """The requests of what waits to be fetched."""
        with self._changed:
            return {delivery.receipt.exchange for delivery in self._arrived}

    def take(self, limit: int, timeout_seconds: float) -> list[Delivery[Letter]]:
        """As `Source.fetch`; what came on a request that has since broken is skipped, it comes again."""
        with self._changed:
            self._changed.wait_for(lambda: self._arrived or self._closed, timeout_seconds)
            if self._closed:
                return []
            taken = [self._arrived.popleft() for _ in range(min(limit, len(self._arrived)))]
        return [delivery for delivery in taken if not delivery.receipt.exchange.broken]

    def close(self) -> list[Delivery[Letter]]:
        """Take in nothing more; what was never fetched."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
            left, self._arrived = list(self._arrived), deque()
        return left


class HttpSource(Source[Letter]):
    """A member of a group. Publishers hold the lease: it ends when the request breaks or goes silent."""

    def __init__(self, inbox: Inbox, leave: Callable[[], None]) -> None:
        self._inbox = inbox
        self._leave = leave
        self._mine: set[Delivery[Letter]] = set()

    def fetch(self, limit: int, timeout_seconds: float) -> Sequence[Delivery[Letter]]:
        deliveries = self._inbox.take(limit, timeout_seconds)
        self._mine.update(deliveries)
        return deliveries

    def interrupt(self) -> None:
        self._leave()
        _answer(self._inbox.close(), RELEASE)

    def close(self) -> None:
        self.interrupt()
        for exchange in {delivery.receipt.exchange for delivery in self._mine}:
            exchange.give_up()

    def ack(self, deliveries: Sequence[Delivery[Letter]]) -> None:
        self._settle(deliveries, OK)

    def retry(self, delivery: Delivery[Letter], delay_seconds: float) -> None:
        self._settle([delivery], RETRY, delay_seconds=delay_seconds)

    def bury(self, delivery: Delivery[Letter], reason: str) -> None:
        self._settle([delivery], REJECT, reason=reason)

    def release(self, deliveries: Sequence[Delivery[Letter]]) -> None:
        self._settle(deliveries, RELEASE)

    def begin_last(self, delivery: Delivery[Letter]) -> None:
        letter = delivery.receipt
        if not letter.exchange.answer(Answer(letter.seq, LAST)):
            raise BrokerError("its publisher does not read")

    def extend(self, deliveries: Sequence[Delivery[Letter]]) -> None:
        for exchange in {delivery.receipt.exchange for delivery in deliveries} | self._inbox.exchanges():
            exchange.still_here()

    def _settle(
        self, deliveries: Sequence[Delivery[Letter]], result: str, *, delay_seconds: float = 0.0, reason: str = ""
    ) -> None:
        self._mine.difference_update(deliveries)
        _answer(deliveries, result, delay_seconds, reason)


class HttpBroadcast(BroadcastSource):
    """A broadcast subscription: every message is answered as soon as it is fetched."""

    def __init__(self, inbox: Inbox, leave: Callable[[], None]) -> None:
        self._inbox = inbox
        self._leave = leave

    def fetch(self, limit: int, timeout_seconds: float) -> Sequence[Delivery[None]]:
        deliveries = self._inbox.take(limit, timeout_seconds)
        _answer(deliveries, OK)
        return [Delivery(delivery.message, 1, None) for delivery in deliveries]

    def interrupt(self) -> None:
        self._leave()
        _answer(self._inbox.close(), OK)

    def close(self) -> None:
        self.interrupt()


def _answer(deliveries: Iterable[Delivery[Letter]], result: str, delay_seconds: float = 0.0, reason: str = "") -> None:
    """One write for each request, however many of its messages are done."""
    answers: dict[Exchange, list[Answer]] = {}
    for delivery in deliveries:
        letter = delivery.receipt
        answers.setdefault(letter.exchange, []).append(Answer(letter.seq, result, delay_seconds, reason))
    for exchange, lines in answers.items():
        exchange.answer(*lines)
