"""Both services as a program sees them over HTTP: register a user, read one, wait for an email.

What fails for a moment is asked again, until the patience is used up. That is safe because the caller chooses the
user's id: the same registration twice registers once.

ClientError             anything below; the text says what did not happen and why
├── NothingListens      there is no user service at that address
├── Refused             the user service understood, and will not
└── NotYet              no answer, a server error, or no email so far: worth another try
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, TypeVar

import requests
from requests.adapters import HTTPAdapter
from tenacity import Retrying, retry_if_exception_type, stop_after_delay, stop_when_event_set, wait_exponential
from tenacity.nap import sleep_using_event

REQUEST_SECONDS = (3.05, 15.0)  #: to connect, to answer
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.01, 0.5

Answer = TypeVar("Answer")


class ClientError(Exception):
    """What was asked for did not happen; the text says what and why."""


class NothingListens(ClientError):
    """There is no user service at that address."""


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
        """`NothingListens` when nobody is at the user service's address."""
        try:
            self._session.get(f"{self.users_url}/health/live", timeout=REQUEST_SECONDS)
        except requests.RequestException as error:
            raise NothingListens(
                f"no user service at {self.users_url}: start it with `python -m user_service`"
            ) from error

    def register(self, user: NewUser) -> dict[str, Any]:
        """The user as stored; `Refused` with the service's reason."""
        answer: dict[str, Any] = self._patiently(lambda: self._call("POST", f"{self.users_url}/users", user.form()))
        return answer

    def user(self, user_id: str) -> dict[str, Any]:
        """The user, read back."""
        answer: dict[str, Any] = self._patiently(lambda: self._call("GET", f"{self.users_url}/users/{user_id}"))
        return answer

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

    def _email(self, user_id: str) -> dict[str, Any]:
        try:
            emails = self._call("GET", f"{self.emails_url}/emails", params={"user_id": user_id})["emails"]
        except NotYet as error:
            raise NotYet(f"no email service: start it with `python -m email_service` ({error})") from error
        if not emails:
            raise NotYet("no email so far")
        email: dict[str, Any] = emails[0]
        return email

    def _call(
        self, method: str, url: str, body: dict[str, str] | None = None, params: dict[str, str] | None = None
    ) -> Any:
        try:
            answer = self._session.request(method, url, json=body, params=params, timeout=REQUEST_SECONDS)
        except requests.RequestException as error:
            raise NotYet(f"no answer from {url}") from error
        if answer.status_code >= requests.codes.server_error:
            raise NotYet(f"status {answer.status_code} from {url}")
        if answer.status_code >= requests.codes.bad_request:
            raise Refused(_reason(answer))
        return answer.json()


def _tell(waiting: Callable[[NotYet], None] | None, outcome: Future[Any] | None) -> None:
    error = outcome.exception() if outcome else None
    if waiting and isinstance(error, NotYet):
        waiting(error)


def _reason(answer: requests.Response) -> str:
    """One line from a problem (RFC 9457)."""
    try:
        problem = answer.json()
        reasons = [f"{entry['field']} {entry['message']}" for entry in problem.get("errors", [])]
        return f"{answer.status_code}, {'; '.join(reasons) or problem['detail']}"
    except (ValueError, KeyError, TypeError):  # somebody else's server
        return f"{answer.status_code}, {answer.reason}"
