"""The receiving side: one small HTTP server a process, and a source for each of its subscriptions.

POST /deliver → verified → Inbox of the subscription → the engine → a line back on the same request
"""

from __future__ import annotations

import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any
from urllib.parse import urlsplit

from waitress import wasyncore
from waitress.server import create_server

from broker.base import without_password
from broker.errors import BrokerError
from broker.http import wire
from broker.http.wire import LAST, OK, REJECT, RELEASE, RETRY, Answer, Forged, Malformed, Parcel, Signer
from broker.source import BroadcastSource, Delivery, Source

SPARE_THREADS = 4  #: besides those that the members' requests hold
PUBLISHERS = 2  #: that may send to one member at the same time, each with all the requests it takes
MAX_REQUEST_BYTES = 16_000_000
SEND_SECONDS = 1.0  #: how long an answer waits for the network to take it

StartResponse = Callable[[str, list[tuple[str, str]]], object]


class Exchange:
    """One accepted request: the lines still to be sent back on it. Iterating it is what the server sends."""

    def __init__(self, parcels: Sequence[Parcel]) -> None:
        self._changed = threading.Condition()
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
            self._changed.wait_for(lambda: self._lines or self._ended or not self._left)
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

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._arrived: deque[Delivery[Letter]] = deque()
        self._closed = False

    def put(self, parcels: Sequence[Parcel]) -> Exchange | None:
        """Take them in, to be answered on what this returns; None when the subscription has ended."""
        exchange = Exchange(parcels)
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
        copies = [delivery for delivery in self._arrived if (delivery.token.seq, delivery.message.id) in again]
        for copy in copies:
            self._arrived.remove(copy)

    def exchanges(self) -> set[Exchange]:
        """The requests of what waits to be fetched."""
        with self._changed:
            return {delivery.token.exchange for delivery in self._arrived}

    def take(self, limit: int, timeout_seconds: float) -> list[Delivery[Letter]]:
        """As `Source.fetch`; what came on a request that has since broken is skipped, it comes again."""
        with self._changed:
            self._changed.wait_for(lambda: self._arrived or self._closed, timeout_seconds)
            if self._closed:
                return []
            taken = [self._arrived.popleft() for _ in range(min(limit, len(self._arrived)))]
        return [delivery for delivery in taken if not delivery.token.exchange.broken]

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
        for exchange in {delivery.token.exchange for delivery in self._mine}:
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
        letter = delivery.token
        if not letter.exchange.answer(Answer(letter.seq, LAST)):
            raise BrokerError("its publisher does not read")

    def extend(self, deliveries: Sequence[Delivery[Letter]]) -> None:
        for exchange in {delivery.token.exchange for delivery in deliveries} | self._inbox.exchanges():
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


class MemberServer:
    """Accepts deliveries for every subscription of this process at `url`."""

    def __init__(self, address: str, signer: Signer) -> None:
        self._signer = signer
        self._inboxes: dict[str, Inbox] = {}
        self._requests: dict[str, int] = {}
        self._sockets: dict[int, Any] = {}
        self._stopped = False
        listening = _listen(address)
        host, port = listening.getsockname()
        self.url = f"http://{host}:{port}"
        self._server: Any = create_server(
            self._application,
            map=self._sockets,
            sockets=[listening],
            threads=SPARE_THREADS,
            max_request_body_size=MAX_REQUEST_BYTES,
            ident=None,
        )
        self._thread = threading.Thread(target=self._serve, name="http-member", daemon=True)
        self._thread.start()

    def open_inbox(self, member_id: str, requests: int) -> Inbox:
        """Accept deliveries for that member from now on, in so many requests of one publisher at a time."""
        self._inboxes[member_id] = Inbox()
        self._requests[member_id] = requests
        self._set_threads()
        return self._inboxes[member_id]

    def close_inbox(self, member_id: str) -> None:
        """Answer 410 for that member from now on."""
        self._inboxes.pop(member_id, None)
        self._requests.pop(member_id, None)
        self._set_threads()

    def _set_threads(self) -> None:
        """Each open request holds a thread until its last message is done."""
        threads = SPARE_THREADS + PUBLISHERS * sum(list(self._requests.values()))
        self._server.task_dispatcher.set_thread_count(threads)

    def close(self, deadline: float) -> None:
        """Send the lines that are still to be sent until the deadline, then let go of every socket and thread."""
        while self._open_requests() and time.monotonic() < deadline:
            time.sleep(0.005)
        self._stopped = True
        self._server.pull_trigger()
        self._thread.join()
        self._server.task_dispatcher.shutdown(timeout=1)
        wasyncore.close_all(self._sockets)

    def _open_requests(self) -> bool:
        return any(
            channel.requests or channel.total_outbufs_len for channel in list(self._server.active_channels.values())
        )

    def _serve(self) -> None:
        while not self._stopped:
            wasyncore.loop(timeout=1, use_poll=True, map=self._sockets, count=1)

    def _application(self, environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        status, answer = self._deliver(environ)
        kind = "application/x-ndjson" if isinstance(answer, Exchange) else "text/plain; charset=utf-8"
        start_response(status, [("content-type", kind)])
        return answer

    def _deliver(self, environ: dict[str, Any]) -> tuple[str, Iterable[bytes]]:
        if (environ["REQUEST_METHOD"], environ["PATH_INFO"]) != ("POST", wire.PATH):
            return "404 Not Found", [b"only POST /deliver\n"]
        body = environ["wsgi.input"].read()
        try:
            self._signer.verify(body, _headers(environ))
            request = wire.decode_request(body)
        except Forged as error:
            return "401 Unauthorized", [f"{error}; do all have the same BROKER_SECRET and the right time?\n".encode()]
        except Malformed as error:
            return "400 Bad Request", [f"{error}\n".encode()]
        inbox = self._inboxes.get(request.member)
        exchange = inbox.put(request.parcels) if inbox else None
        return ("200 OK", exchange) if exchange else ("410 Gone", [b"no such member\n"])


def _listen(address: str) -> socket.socket:
    where = urlsplit(address)
    try:
        return socket.create_server((where.hostname or "127.0.0.1", where.port or 0))
    except (OSError, ValueError) as error:
        raise BrokerError(f"http broker cannot listen at {without_password(address)}: {error}") from error


def _answer(deliveries: Iterable[Delivery[Letter]], result: str, delay_seconds: float = 0.0, reason: str = "") -> None:
    """One write for each request, however many of its messages are done."""
    answers: dict[Exchange, list[Answer]] = {}
    for delivery in deliveries:
        letter = delivery.token
        answers.setdefault(letter.exchange, []).append(Answer(letter.seq, result, delay_seconds, reason))
    for exchange, lines in answers.items():
        exchange.answer(*lines)


def _headers(environ: dict[str, Any]) -> dict[str, str]:
    names = {name: "HTTP_" + name.upper().replace("-", "_") for name in wire.SIGNATURE_HEADERS}
    return {name: environ[key] for name, key in names.items() if key in environ}
