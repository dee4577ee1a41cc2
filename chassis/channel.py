"""One client's connection to a service: `broker/channel.py`, and what a request of it may expect.

Errors of waitress are problems like any other. A request whose client has gone while it waited for a thread is not
begun: nobody would read the answer. One that has waited too long is answered with a 503: it has changed nothing, and
may be sent again.
"""

from __future__ import annotations

import socket
import time

from waitress.task import ErrorTask, WSGITask
from waitress.utilities import Error

import broker.channel
from chassis.dispatcher import WAIT_SECONDS
from chassis.problems import MEDIA_TYPE, SECURITY_HEADERS, document

GONE_SECONDS = 1.0  #: before that, a client that sends no more may still want to read


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


class Channel(broker.channel.Channel):
    """`service` is called by threads of the app, all else by the thread of waitress's loop."""

    task_class = Answer
    error_task_class = Refusal
    _queued_at = 0.0  # in `time.monotonic()` seconds

    @property
    def is_busy(self) -> bool:
        """A request is being answered, or its answer is not sent yet. One that is half received is not."""
        return self.waits_since is None

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

    def _has_gone(self) -> bool:
        try:
            return self.socket is None or self.socket.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) == b""
        except BlockingIOError:  # it is waiting
            return False
        except OSError:
            return True
