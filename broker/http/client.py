"""The sending side's connections: one signed request to a member, over plain http, or TLS verified against one CA."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import requests
from requests.adapters import HTTPAdapter

from broker.http import wire
from broker.http.registry import Member
from broker.http.wire import Signer

log = logging.getLogger(__name__)

CONNECT_SECONDS = 2.0
CONNECTIONS = 100  #: kept open to each member, at most


class Refused(Exception):
    """A member that did not take a batch."""


class Body(io.BytesIO):
    """The body of a request, which knows whether anything of it was sent."""

    sent = False

    def read(self, size: int | None = -1, /) -> bytes:
        """As of any file; connected, and over TLS convinced of who is there, the library begins to read."""
        self.sent = True
        return super().read(size)


class Client:
    """Posts to members of one scheme alone: with a `ca`, nothing in the clear, and nothing to whom it does not know."""

    def __init__(self, signer: Signer, ca: Path | None) -> None:
        self._signer = signer
        self._scheme = "https" if ca else "http"
        self._passed_over: set[str] = set()
        self._session = requests.Session()
        self._session.trust_env = False  # no proxy between peers
        if ca:
            self._session.verify = str(ca)
        for scheme in ("http://", "https://"):
            self._session.mount(scheme, HTTPAdapter(pool_connections=32, pool_maxsize=CONNECTIONS))

    def close(self) -> None:
        """Let go of every connection that is not in use."""
        self._session.close()

    def accepts(self, member: Member) -> bool:
        """Whether it has an address that we would post to."""
        accepted = member.url.startswith(f"{self._scheme}://")
        if not accepted and member.id not in self._passed_over:
            self._passed_over.add(member.id)
            log.warning("member %s at %s is passed over: we post to %s alone", member.id, member.url, self._scheme)
        return accepted

    @contextmanager
    def post(self, member: Member, body: Body) -> Iterator[requests.Response]:
        """The member's answer, to be read line by line; `Refused` when it did not take the request."""
        headers = {"content-type": "application/json", **self._signer.sign(body.getvalue().decode())}
        timeouts = (CONNECT_SECONDS, member.lease_seconds * 1.5)
        with self._session.post(
            member.url + wire.PATH, body, headers=headers, stream=True, timeout=timeouts, allow_redirects=False
        ) as response:
            if response.status_code != requests.codes.ok:
                raise Refused(f"it answered {response.status_code}: {response.text[:200].strip()}")
            yield response


def whole_lines(response: requests.Response) -> Iterator[list[bytes]]:
    """The lines of each chunk as it arrives."""
    rest = b""
    for chunk in response.iter_content(None):
        *lines, rest = (rest + chunk).split(b"\n")
        yield lines
