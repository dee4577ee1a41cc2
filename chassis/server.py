"""Serves a WSGI app over HTTP by waitress, in threads of this process, and stops without cutting anybody off.

    with Server(app, "127.0.0.1", 8000) as server:      # listens, or raises ServerError; `gate.py` lets in probes only
        with server.taking_requests():
            ...                                         # it serves meanwhile
        ...                                             # no new requests are taken, those that ran are answered
    # here: nobody listens

waitress reads a request wholly before a thread of the app sees it, so slow or half-sent ones hold up nobody; when there
are too many of them, or they take too long, `channel.py` hangs up. Probes have threads of their own: `dispatcher.py`.
It cannot stop gracefully by itself: `Server._answer_what_runs` does that with its loop.
"""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from waitress import wasyncore
from waitress.server import create_server

from broker.channel import protect
from chassis.channel import Channel
from chassis.dispatcher import Dispatcher
from chassis.drain import Drain
from chassis.errors import ServerError
from chassis.gate import Gate

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

log = logging.getLogger(__name__)

THREADS = 8  #: requests answered at a time
IDLE_SECONDS = 30  #: a connection on which no whole request comes for so long is closed
CLEANUP_SECONDS = 10  #: how often those are looked for
CONNECTIONS = 500  #: open at a time; the usual limit of open files is 1,024
LOOK_SECONDS = 0.01  #: how often a stop looks whether what runs is answered
MAX_HEADER_BYTES = 16 * 1024
MAX_BODY_BYTES = 8 * 1024 * 1024  #: more is refused unread, and the client may see only a closed connection


class Server:
    """Listens from the moment it is made; answers as a context manager. Several in one process are fine."""

    def __init__(
        self, app: WSGIApplication, host: str, port: int, *, threads: int = THREADS, drain: Drain | None = None
    ) -> None:
        self._drain = drain or Drain()
        self._socket = _listen(host, port)
        self.url = _url(self._socket)
        self._gate = Gate(app)
        self._stopping = threading.Event()
        self._sockets: dict[int, Any] = {}
        self._waitress = _waitress(self._gate, self._socket, self._sockets, threads)
        self._waitress.gate = self._gate
        self._thread = threading.Thread(target=self._run, name=f"http {self.url}")

    def __enter__(self) -> Self:
        self._thread.start()
        log.info("listening on %s", self.url)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Let nobody in any more, answer what runs, and return; when `drain` ends that is cut off."""
        self._stopping.set()
        self._waitress.pull_trigger()
        self._thread.join()

    @contextmanager
    def taking_requests(self) -> Iterator[None]:
        """Meanwhile requests are let in. At the end no more are, and those that run are answered, or `drain` ends."""
        self._gate.is_open = True
        try:
            yield
        finally:
            self._gate.is_open = False
            running = self._busy()
            while any(channel.is_busy for channel in running) and self._drain.remaining():
                threading.Event().wait(LOOK_SECONDS)

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._turn(timeout_seconds=CLEANUP_SECONDS)
        running = self._answer_what_runs()
        if running:
            log.warning("cut off %d requests that were not answered in %g s", running, self._drain.seconds)
        self._waitress.task_dispatcher.shutdown(timeout=1)
        wasyncore.close_all(self._sockets)

    def _turn(self, timeout_seconds: float) -> None:
        """One turn of waitress's loop: read and write what can be, or wait for it."""
        wasyncore.loop(timeout=timeout_seconds, use_poll=True, map=self._sockets, count=1)

    def _answer_what_runs(self) -> int:
        """Close what is idle as it becomes so; how many requests are unanswered at the deadline."""
        self._turn(timeout_seconds=0)  # what has arrived already counts as running
        wasyncore.dispatcher.close(self._waitress)  # no more connections; the trigger still wakes the loop
        while (running := self._close_idle()) and self._drain.remaining():
            self._turn(timeout_seconds=0.1)
        return running

    def _busy(self) -> list[Channel]:
        return [channel for channel in list(self._waitress.active_channels.values()) if channel.is_busy]

    def _close_idle(self) -> int:
        running = self._busy()
        for channel in set(self._waitress.active_channels.values()).difference(running):
            channel.handle_close()
        return len(running)


def _waitress(gate: Gate, listening: socket.socket, sockets: dict[int, Any], threads: int) -> Any:
    server: Any = create_server(
        gate,
        _dispatcher=Dispatcher(threads),  # what waitress's own tests use, too
        map=sockets,
        sockets=[listening],
        ident=None,
        connection_limit=CONNECTIONS,
        channel_timeout=IDLE_SECONDS,
        cleanup_interval=CLEANUP_SECONDS,
        max_request_header_size=MAX_HEADER_BYTES,
        max_request_body_size=MAX_BODY_BYTES,
        asyncore_use_poll=True,
    )
    server.channel_class = Channel
    protect(server)
    return server


def _listen(host: str, port: int) -> socket.socket:
    try:
        family, address = _address(host, port)
        listening = socket.socket(family, socket.SOCK_STREAM)
        try:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # or a restart waits for old connections
            if address[0] == "::" and socket.has_dualstack_ipv6():  # IPv4, too, whatever the system is set to
                listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            listening.bind(address)
            listening.listen()
        except OSError:
            listening.close()
            raise
    except OSError as error:
        raise ServerError(f"cannot listen on {host} port {port}: {error.strerror}; see HOST and PORT") from error
    except UnicodeError as error:  # what Python raises for a name that has an empty or a long part
        raise ServerError(f"cannot listen on {host} port {port}: this is no name of a host; see HOST") from error
    return listening


def _address(host: str, port: int) -> tuple[socket.AddressFamily, tuple[Any, ...]]:
    """Of a name that has several, IPv4: `localhost` is 127.0.0.1, as clients are told. `*` is every interface."""
    if host == "*":
        host = "::" if socket.has_dualstack_ipv6() else "0.0.0.0"  # noqa: S104  # whoever writes `*` asks for it
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    family, _, _, _, address = min(found, key=lambda each: each[0] != socket.AF_INET)
    return family, address


def _url(listening: socket.socket) -> str:
    host, port = listening.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
