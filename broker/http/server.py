"""The server of the receiving side: one a process, which sorts what is posted into the inboxes of `member.py`."""

from __future__ import annotations

import logging
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from waitress import wasyncore
from waitress.server import create_server

from broker import channel
from broker.errors import BrokerError
from broker.http import tls, wire
from broker.http.address import Address
from broker.http.member import Exchange, Inbox
from broker.http.registry import Member
from broker.http.wire import Forged, Malformed, Signer

SPARE_THREADS = 4  #: besides those that the members' requests hold
PUBLISHERS = 2  #: that may send to one member at the same time, each with all the requests it takes
SPARE_CONNECTIONS = 50  #: besides those of the members' publishers: idle ones, strangers
IDLE_SECONDS = 30  #: an idle or half-sent connection is hung up on after that
CLEANUP_SECONDS = 5  #: how often those are looked for
MAX_HEADER_BYTES = 16_384  #: and `wire.MAX_REQUEST_BYTES` of a body: so much a stranger occupies with each connection
TROUBLE_SECONDS = 0.25
JOIN_SECONDS = 10.0  #: how long the end waits for the thread of the loop

log = logging.getLogger(__name__)

StartResponse = Callable[[str, list[tuple[str, str]]], object]


class MemberServer:
    """Accepts deliveries for every subscription of this process at `url`; an `OSError` when it cannot listen there."""

    def __init__(self, address: Address, signer: Signer) -> None:
        self._signer = signer
        self._inboxes: dict[str, Inbox] = {}
        self._requests: dict[str, int] = {}
        self._sockets: dict[int, Any] = {}
        self._stopped = False
        listening, context = _listen(address)
        self.url = address.url(*listening.getsockname())
        server: Any = create_server(
            self._application,
            map=self._sockets,
            sockets=[listening],
            threads=SPARE_THREADS,
            connection_limit=SPARE_CONNECTIONS,
            channel_timeout=IDLE_SECONDS,
            cleanup_interval=CLEANUP_SECONDS,
            max_request_header_size=MAX_HEADER_BYTES,
            max_request_body_size=wire.MAX_REQUEST_BYTES,
            log_socket_errors=False,  # a publisher that is gone is no error of ours
            ident=None,
        )
        server.channel_class = partial(tls.open_channel, context) if context else channel.Channel
        channel.protect(server)
        self._server = server
        self._thread = threading.Thread(target=self._serve, name="http-member", daemon=True)
        self._thread.start()

    def open_inbox(self, member: Member) -> Inbox:
        """Accept deliveries for that member from now on."""
        inbox = self._inboxes[member.id] = Inbox(member.lease_seconds)
        self._requests[member.id] = member.requests
        self._set_threads()
        return inbox

    def close_inbox(self, member_id: str) -> None:
        """Answer 410 for that member from now on."""
        self._inboxes.pop(member_id, None)
        self._requests.pop(member_id, None)
        self._set_threads()

    def _set_threads(self) -> None:
        """Each open request holds a connection, and a thread until its last message is done."""
        requests = PUBLISHERS * sum(list(self._requests.values()))
        self._server.adj.connection_limit = SPARE_CONNECTIONS + requests
        self._server.task_dispatcher.set_thread_count(SPARE_THREADS + requests)

    def close(self, deadline: float) -> None:
        """Send the lines that are still to be sent until the deadline, then let go of every socket and thread."""
        while self._open_requests() and time.monotonic() < deadline:
            time.sleep(0.005)
        self._stopped = True
        self._server.pull_trigger()
        self._thread.join(JOIN_SECONDS)
        self._server.task_dispatcher.shutdown(timeout=1)
        wasyncore.close_all(self._sockets)

    def _open_requests(self) -> bool:
        return any(
            channel.requests or channel.total_outbufs_len for channel in list(self._server.active_channels.values())
        )

    def _serve(self) -> None:
        while not self._stopped:
            try:
                wasyncore.loop(timeout=1, use_poll=True, map=self._sockets, count=1)
            except Exception:  # whatever it is: nothing ends this loop but close()
                log.exception("the server of the members goes on")
                time.sleep(TROUBLE_SECONDS)

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


def _listen(address: Address) -> tuple[socket.socket, ssl.SSLContext | None]:
    """The listening socket, and what it serves with when that is TLS."""
    listening = socket.create_server((address.host, address.port))
    if not address.certificates:
        return listening, None
    try:
        name = address.name(listening.getsockname()[0])
        return listening, tls.member_context(address.certificates, name)
    except BrokerError:
        listening.close()
        raise


def _headers(environ: dict[str, Any]) -> dict[str, str]:
    names = {name: "HTTP_" + name.upper().replace("-", "_") for name in wire.SIGNATURE_HEADERS}
    return {name: environ[key] for name, key in names.items() if key in environ}
