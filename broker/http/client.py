"""The sending side's connections: one signed request to a member, over plain http, or TLS verified against one CA."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.cookiejar import DefaultCookiePolicy
from pathlib import Path

import requests
from urllib3.exceptions import HTTPError

from broker.http import wire
from broker.http.bounded import Adapter
from broker.http.fields import printable
from broker.http.once import Once
from broker.http.registry import Member
from broker.http.wire import Signer

log = logging.getLogger(__name__)

CONNECT_SECONDS = 2.0
CONNECTIONS = 100  #: kept open to each member, at most
REFUSAL_BYTES = 200  #: of what a member says when it refuses, for the log


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
        self._passed_over = Once(log)
        self._session = requests.Session()
        self._session.trust_env = False  # no proxy between peers
        self._session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))  # one member's would go to the others
        self._session.headers["accept-encoding"] = "identity"
        if ca:
            self._session.verify = str(ca)
        for scheme in ("http://", "https://"):
            self._session.mount(scheme, Adapter(pool_connections=32, pool_maxsize=CONNECTIONS))

    def close(self) -> None:
        """Let go of every connection that is not in use."""
        self._session.close()

    def accepts(self, member: Member) -> bool:
        """Whether it has an address that we would post to."""
        accepted = member.url.startswith(f"{self._scheme}://")
        if not accepted:
            where = f"member {member.id} at {member.url}"
            self._passed_over.warn(member.id, f"{where} is passed over: we post to {self._scheme} alone")
        return accepted

    @contextmanager
    def post(self, member: Member, body: Body) -> Iterator[requests.Response]:
        """The member's answer, for `whole_lines` to read; `Refused` when it did not take the request."""
        headers = {"content-type": "application/json", **self._signer.sign(body.getvalue().decode())}
        timeouts = (CONNECT_SECONDS, member.patience_seconds)
        with self._session.post(
            member.url + wire.PATH, body, headers=headers, stream=True, timeout=timeouts, allow_redirects=False
        ) as response:
            if response.status_code != requests.codes.ok:
                raise Refused(f"it answered {response.status_code}: {_words(response)}")
            yield response


def _words(response: requests.Response) -> str:
    """What a member says when it refuses; nothing when it does not come to the point."""
    with suppress(HTTPError):
        return printable(response.raw.read(REFUSAL_BYTES, decode_content=False).decode(errors="replace").strip())
    return ""
