"""One client's connection to a server of waitress, with an end to its patience and room for one more.

waitress reads a request wholly before anybody looks at it, and at its limit accepts no connection. So a server that
`protect` was called for hangs up on these:

- one on which no request came wholly in the server's `channel_timeout`, however often a byte of it did ("slowloris");
- one that has taken nothing of its answer for as long: a thread may wait to write more of it;
- when there are too many, or the process may open no more files, the one that has waited longest for its client.

The http broker's members are served so, and by way of `chassis/channel.py` both services.
"""

from __future__ import annotations

import errno
import logging
import socket
import time
from contextlib import suppress
from functools import partial
from typing import Any

from waitress import wasyncore
from waitress.channel import HTTPChannel

log = logging.getLogger(__name__)

ROOM = 10  #: connections that are kept free; at its limit, waitress would take no more
EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
PAUSE_SECONDS = 0.05  #: of all connections, when another one can neither be accepted nor be made room for
SAY_SECONDS = 60.0  #: how often the log says so


class Channel(HTTPChannel):
    """`service` is called by threads of the server, all else by the thread of waitress's loop."""

    def __init__(self, server: Any, *rest: Any, **named: Any) -> None:
        self._waiting_since = time.time()  # for a whole request
        others = list(server.active_channels.values())
        super().__init__(server, *rest, **named)
        if len(others) >= self.adj.connection_limit - ROOM:
            _make_room(others)

    @property
    def waits_since(self) -> float | None:
        """Since when it waits for its client, also for the rest of a request, in `time.time()`; None while it works."""
        return None if self.requests or self.total_outbufs_len else self._waiting_since

    @property
    def is_slow(self) -> bool:
        """Whether its client keeps it waiting: for a whole request, or with an answer of which it takes nothing."""
        long_ago = time.time() - self.adj.channel_timeout
        if (since := self.waits_since) is not None:
            return since < long_ago
        with self.outbuf_lock:  # not between putting an answer there and sending what the network takes of it
            return bool(self.total_outbufs_len) and self.last_activity < long_ago

    def service(self) -> None:
        """Answer one request."""
        super().service()
        self._waiting_since = time.time()

    def hang_up(self) -> None:
        """End the connection, for the loop to notice."""
        with suppress(OSError):  # its client was quicker
            self.socket.shutdown(socket.SHUT_RDWR)  # type: ignore[union-attr]  # the stubs' None is before it connects


def protect(server: Any) -> None:
    """Make a server of waitress behave as above; the class of its channels is to be `Channel`, or made of it."""
    server.maintenance = partial(_hang_up_on_the_slow, server)
    server.accept = Accept(server)


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


def _hang_up_on_the_slow(server: Any, _: float) -> None:
    """Called by waitress now and then."""
    for channel in list(server.active_channels.values()):
        if channel.is_slow:
            channel.hang_up()


def _make_room(channels: list[Channel], most: int = 1) -> bool:
    """Close the connections that have waited longest for their clients; whether there was one."""
    waiting = [(since, n) for n, channel in enumerate(channels) if (since := channel.waits_since) is not None]
    for _, n in sorted(waiting)[:most]:
        channels[n].handle_close()
    return bool(waiting)
