"""Both services as a program sees them over HTTP: register a user, read one, wait for an email.

What fails for a moment is asked again, until the patience is used up. That is safe because the caller chooses the
user's id: the same registration twice registers once.

ClientError             anything below; the text says what did not happen and why
├── NoUserService       nobody listens at that address, or somebody else does
├── NoEmailService      somebody else listens at that address
├── Refused             the user service understood, and will not
└── NotYet              no answer, a server error, or no email so far: worth another try
"""

from __future__ import annotations

import json
import secrets
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, TypeVar

import requests
from requests.adapters import HTTPAdapter
from tenacity import Retrying, retry_if_exception_type, stop_after_delay, stop_when_event_set, wait_exponential
from tenacity.nap import sleep_using_event

REQUEST_SECONDS = (3.05, 15.0)  #: to connect, to answer
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.01, 0.5
MAX_ANSWER_BYTES = 1_000_000  #: ours are a thousandth of that; a stranger's may have no end
CHUNK_BYTES = 64 * 1024
PROBLEM = "application/problem+json"  #: what each refusal of ours is (RFC 9457)

USER = ("id", "name", "email", "created_at")  #: the fields of a user, all of them text
EMAIL = ("event_id", "to", "subject")  #: those of an email that are used here

Answer = TypeVar("Answer")


class ClientError(Exception):
    """What was asked for did not happen; the text says what and why."""


class NoUserService(ClientError):
    """Nobody listens at that address, or somebody else does."""


class NoEmailService(ClientError):
    """Somebody else listens at that address."""


class Refused(ClientError):
    """The user service understood, and will not."""


class NotYet(ClientError):
    """No answer, a server error, or no email so far: worth another try."""


@dataclass(frozen=True)
class NewUser:
    """Somebody who wants to sign up. The id is chosen here, so that asking twice registers once."""

    name: str
    id: str = field(default_factory=lambda: secrets.token_hex(8))
    email: str = ""
    password: str = field(default_factory=secrets.token_urlsafe, repr=False)

    def form(self) -> dict[str, str]:
        """What is posted."""
        email = self.email or f"user-{self.id}@example.com"
        return {"id": self.id, "name": self.name, "email": email, "password": self.password}


class Services:
    """Both services, from any thread. What fails for a moment is tried again until the patience is used up."""

    def __init__(self, users_url: str, emails_url: str, patience_seconds: float, connections: int = 1) -> None:
        self.users_url = users_url.rstrip("/")
        self.emails_url = emails_url.rstrip("/")
        self.patience_seconds = patience_seconds
        self._given_up = threading.Event()
        self._session = requests.Session()
        self._session.trust_env = False  # no proxy stands between us and this machine; looking for one costs a quarter
        self._session.mount("http://", HTTPAdapter(pool_maxsize=connections))

    def check(self) -> None:
        """`NoUserService` when nobody is at the user service's address."""
        try:
            live = f"{self.users_url}/health/live"
            self._session.get(live, timeout=REQUEST_SECONDS, stream=True, allow_redirects=False).close()
        except (requests.RequestException, ValueError) as error:  # a ValueError: no URL
            raise NoUserService(
                f"no user service at {self.users_url}: start it with `python -m user_service`"
            ) from error

    def register(self, user: NewUser) -> dict[str, Any]:
        """The user as stored; `Refused` with the service's reason."""
        return self._patiently(lambda: self._user("POST", "/users", user.form()))

    def user(self, user_id: str) -> dict[str, Any]:
        """The user, read back."""
        return self._patiently(lambda: self._user("GET", f"/users/{user_id}"))

    def email(
        self, user_id: str, since: float | None = None, waiting: Callable[[NotYet], None] | None = None
    ) -> dict[str, Any]:
        """The email to that user, once it is sent; `NotYet` when the patience ends before, counted from `since`.

        `waiting` is told the reason before each pause. `since` is in `time.monotonic()` seconds, now by default.
        """
        return self._patiently(lambda: self._email(user_id), since, waiting)

    def give_up(self) -> None:
        """No patience is left: whoever waits gets what there is."""
        self._given_up.set()

    def close(self) -> None:
        """Let go of the connections."""
        self._session.close()

    def _patiently(
        self,
        call: Callable[[], Answer],
        since: float | None = None,
        waiting: Callable[[NotYet], None] | None = None,
    ) -> Answer:
        left = self.patience_seconds if since is None else since + self.patience_seconds - time.monotonic()
        return Retrying(
            retry=retry_if_exception_type(NotYet),
            stop=stop_after_delay(max(left, 0)) | stop_when_event_set(self._given_up),
            wait=wait_exponential(multiplier=FIRST_PAUSE_SECONDS, max=LONGEST_PAUSE_SECONDS),
            sleep=sleep_using_event(self._given_up),
            before_sleep=lambda state: _tell(waiting, state.outcome),
            reraise=True,
        )(call)

    def _user(self, method: str, path: str, form: dict[str, str] | None = None) -> dict[str, Any]:
        try:
            return _with_fields(USER, self._call(method, f"{self.users_url}{path}", json=form))
        except _NotOurs as error:
            raise NoUserService(f"what answers at {self.users_url} is no user service of ours: {error}") from error

    def _email(self, user_id: str) -> dict[str, Any]:
        try:
            answer = self._call("GET", f"{self.emails_url}/emails", params={"user_id": user_id})
            emails = [_with_fields(EMAIL, email) for email in _emails(answer)]
        except NotYet as error:
            raise NotYet(f"no email service: start it with `python -m email_service` ({error})") from error
        except _NotOurs as error:
            raise NoEmailService(f"what answers at {self.emails_url} is no email service of ours: {error}") from error
        if not emails:
            raise NotYet("no email so far")
        return emails[0]

    def _call(self, method: str, url: str, **what: Any) -> Any:
        """The JSON of a success; a redirect is none of ours, and would take the password elsewhere."""
        try:
            with self._session.request(
                method, url, timeout=REQUEST_SECONDS, stream=True, allow_redirects=False, **what
            ) as answer:
                status, text = answer.status_code, _read(answer)
        except (requests.RequestException, UnicodeError) as error:  # the latter: a host that is no name
            raise NotYet(f"no answer from {url}") from error
        if status >= requests.codes.server_error:
            raise NotYet(f"status {status} from {url}")
        if answer.headers.get("Content-Type", "").startswith(PROBLEM):
            raise Refused(f"{status}, {_reason(_parsed(text, status))}")
        if status not in (requests.codes.ok, requests.codes.created):
            raise _NotOurs(f"it answers with status {status}")
        return _parsed(text, status)


def _tell(waiting: Callable[[NotYet], None] | None, outcome: Future[Any] | None) -> None:
    error = outcome.exception() if outcome else None
    if waiting and isinstance(error, NotYet):
        waiting(error)


class _NotOurs(Exception):
    """An answer that no service of ours gives."""


def _read(answer: requests.Response) -> bytes:
    """What it says; a stranger may go on for ever."""
    text = b""
    for chunk in answer.iter_content(CHUNK_BYTES):
        text += chunk
        if len(text) > MAX_ANSWER_BYTES:
            raise _NotOurs(f"it answers with more than {MAX_ANSWER_BYTES:,} bytes")
    return text


def _parsed(text: bytes, status: int) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:  # the latter: brackets in brackets
        raise _NotOurs(f"it answers with status {status} and no JSON") from error


def _with_fields(names: Sequence[str], answer: object) -> dict[str, Any]:
    """The object, if it has these fields and they are text."""
    if isinstance(answer, dict) and all(isinstance(answer.get(name), str) for name in names):
        return answer
    raise _NotOurs(f"it answers without {', '.join(names)}")


def _emails(answer: object) -> list[object]:
    if isinstance(answer, dict) and isinstance(answer.get("emails"), list):
        emails: list[object] = answer["emails"]
        return emails
    raise _NotOurs("it answers without emails")


def _reason(problem: object) -> str:
    """One line from a problem (RFC 9457)."""
    known = _with_fields(("detail",), problem)
    errors = known.get("errors", [])
    if not isinstance(errors, list):
        raise _NotOurs("it answers with errors that are no list")
    entries = [_with_fields(("field", "message"), entry) for entry in errors]
    return "; ".join(f"{entry['field']} {entry['message']}" for entry in entries) or str(known["detail"])
