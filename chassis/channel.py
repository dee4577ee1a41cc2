"""One client's connection: waitress's channel, with an end to its patience and room for one more.

waitress itself closes a connection on which nothing comes. Here these are closed, too:

- one on which no request came wholly in `IDLE_SECONDS`, however often a byte of it did ("slowloris");
- one that has taken nothing of its answer for as long: a thread may wait to write more of it;
- when there are too many, or the process may open no more files, the one that has waited longest for its client: so a
  health probe always gets in;
- one whose client has gone while its request waited for a thread: nobody would read the answer.

A request that has waited too long for a thread is answered with a 503: it has changed nothing, and may be sent again.
"""

from __future__ import annotations

import errno
import logging
import socket
import time
from contextlib import suppress
from typing import Any

from waitress import wasyncore
from waitress.channel import HTTPChannel
from waitress.task import ErrorTask, WSGITask
from waitress.utilities import Error

from chassis.dispatcher import WAIT_SECONDS
from chassis.problems import MEDIA_TYPE, SECURITY_HEADERS, document

log = logging.getLogger(__name__)

GONE_SECONDS = 1.0  #: before that, a client that sends no more may still want to read
ROOM = 10  #: connections that are kept free; at its limit, waitress would take no more
EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
PAUSE_SECONDS = 0.05  #: of all connections, when another one can neither be accepted nor be made room for
SAY_SECONDS = 60.0  #: how often the log says so


class Busy(Error):
    """There are not enough threads for all who ask."""

    code = 503
    reason = "Service Unavailable"


class Refusal(ErrorTask):
    """What waitress refuses by itself (malformed, too large, …), as a problem like any other."""

    def execute(self) -> None:
        error = self.request.error  # type: ignore[attr-defined]  # the stubs take the request for its error
        body = document(error.code, error.body)
        self.status = f"{error.code} {error.reason}"
        self.response_headers = [("Content-Type", MEDIA_TYPE), *SECURITY_HEADERS.items()]
        if isinstance(error, Busy):
            self.response_headers.append(("Retry-After", "1"))
        self.content_length = len(body)
        self.set_close_on_finish()
        self.write(body)


class Answer(WSGITask):
    """An answer of the app. While the gate is shut it is the last on its connection: the next may go elsewhere."""

    def build_response_header(self) -> bytes:
        if not self.channel.server.gate.is_open:  # type: ignore[attr-defined]  # `Server` puts it there
            self.set_close_on_finish()
        return super().build_response_header()


class Channel(HTTPChannel):
    """`service` is called by threads of the app, all else by the thread of waitress's loop."""

    task_class = Answer
    error_task_class = Refusal

    def __init__(self, server: Any, *args: Any, **options: Any) -> None:
        self.waiting_since = time.time()  #: for a whole request
        self._queued_at = time.monotonic()
        others = list(server.active_channels.values())
        super().__init__(server, *args, **options)
        if len(others) >= self.adj.connection_limit - ROOM:
            _make_room(others)

    @property
    def is_busy(self) -> bool:
        """A request is being answered, or its answer is not sent yet. One that is half received is not."""
        return bool(self.requests or self.total_outbufs_len)

    @property
    def is_slow(self) -> bool:
        """Whether its client keeps us waiting: for a whole request, or with an answer of which it takes nothing."""
        long_ago = time.time() - self.adj.channel_timeout
        if not self.is_busy:
            return self.waiting_since < long_ago
        with self.outbuf_lock:  # not between putting an answer there and sending what the network takes of it
            return bool(self.total_outbufs_len) and self.last_activity < long_ago

    @property
    def path(self) -> str:
        """Of the request that is next; none of one that waitress refuses."""
        return getattr(self.requests[0], "path", "")

    @property
    def waits_seconds(self) -> float:
        """How long a request has waited for a thread."""
        return time.monotonic() - self._queued_at

    def queued(self) -> None:
        """A request begins to wait for a thread."""
        self._queued_at = time.monotonic()

    def refuse(self) -> None:
        """Answer the request that is next with a 503."""
        self.requests[0].error = Busy("too many requests are waiting; try again")

    def service(self) -> None:
        """Answer one request, if it is not too late for that."""
        if self.waits_seconds > GONE_SECONDS and self._has_gone():
            self.connected = False  # for waitress, which passes over it then
        elif self.waits_seconds > WAIT_SECONDS:
            self.refuse()
        super().service()
        self.waiting_since = time.time()

    def _has_gone(self) -> bool:
        try:
            return self.socket is None or self.socket.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) == b""
        except BlockingIOError:  # it is waiting
            return False
        except OSError:
            return True


def hang_up_on_the_slow(server: Any, _: float) -> None:
    """Called by waitress now and then."""
    for channel in server.active_channels.values():
        if channel.is_slow:
            with suppress(OSError):  # its client was quicker
                channel.socket.shutdown(socket.SHUT_RDWR)  # to be closed by the loop, which is looking at them all


class Accept:
    """In place of waitress's own, which would try again at once, and log a traceback each time."""

    def __init__(self, server: Any) -> None:
        self._server = server
        self._say_at = 0.0

    def __call__(self) -> tuple[socket.socket, Any] | None:
        """The next connection; None when there is none after all."""
        try:
            accepted: tuple[socket.socket, Any] | None = wasyncore.dispatcher.accept(self._server)
        except OSError as error:
            if error.errno not in EXHAUSTED:
                raise
            self._wait(error)
            return None
        return accepted

    def _wait(self, error: OSError) -> None:
        if time.monotonic() >= self._say_at:
            self._say_at = time.monotonic() + SAY_SECONDS
            log.error("no more connections can be accepted for now: %s; see ulimit -n", error)
        if not _make_room(list(self._server.active_channels.values()), ROOM):  # files are wanted, too
            time.sleep(PAUSE_SECONDS)


def _make_room(channels: list[Channel], most: int = 1) -> bool:
    """Close the connections that have waited longest for their clients; whether there was one."""
    waiting = sorted((each for each in channels if not each.is_busy), key=lambda channel: channel.waiting_since)
    for channel in waiting[:most]:
        channel.handle_close()
    return bool(waiting)
