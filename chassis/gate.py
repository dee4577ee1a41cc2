"""The gate in front of an app: shut until all of its service is up, and again from the moment that it stops.

While it is shut, a request is answered with a 503 that asks to try again: it has changed nothing, so a load balancer or
a client may send it to another instance. `/health/ready` is answered so, too, which is how a balancer learns to send no
more. Only those who watch the process itself get in: whether it is alive, and what it counts.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from chassis import problems

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

LIVE = "/health/live"
ALWAYS_OPEN = frozenset({LIVE, "/metrics"})
PROBES = ALWAYS_OPEN | {"/health/ready"}


class Gate:
    """A WSGI app: the one that it is made with, or a refusal."""

    def __init__(self, app: WSGIApplication) -> None:
        self._app = app
        self.is_open = False

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if self.is_open or environ["PATH_INFO"] in ALWAYS_OPEN:
            return self._app(environ, start_response)
        return problems.unavailable("the service is starting or stopping; try again")(environ, start_response)
