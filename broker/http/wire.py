"""What publishers and members say to each other: `POST /deliver`, signed, answered line by line.

    request     {"member": …, "topic": …, "group": …, "messages": [{"seq", "attempt", "last_started",
                 "header", "body" (base64)}, …]}
    answer      one JSON line a message as it finishes: {"seq": 7, "result": "ok"}; an empty line means "still
                here". No line means not delivered.

Every request carries a Standard Webhooks signature (https://www.standardwebhooks.com), made from the shared secret.
"""

from __future__ import annotations

import base64
import json
import secrets
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from standardwebhooks import Webhook, WebhookVerificationError

from broker.errors import BrokerError
from broker.message import Message, as_header

PATH = "/deliver"
SIGNATURE_HEADERS = ("webhook-id", "webhook-timestamp", "webhook-signature")
BROADCAST = "\0"  #: a broadcast subscription is the only member of a group called this and its id; no name has it

OK, RETRY, REJECT, RELEASE, LAST = "ok", "retry", "reject", "release", "last"  #: results of an answer line
RESULTS = frozenset({OK, RETRY, REJECT, RELEASE, LAST})

NONSENSE = (ValueError, KeyError, TypeError, OverflowError, RecursionError)  #: what reading it may end in


class Forged(Exception):
    """A request that is not signed with our secret, or too old."""


class Malformed(Exception):
    """A signed request, or an answer, that is not what this module says."""


@dataclass(frozen=True, slots=True)
class Parcel:
    """A message on its way to a member; `seq` is its row in the spool."""

    seq: int
    message: Message
    attempt: int
    last_started: bool


@dataclass(frozen=True)
class Request:
    """The body of a `POST /deliver`."""

    member: str
    topic: str
    group: str | None
    parcels: list[Parcel]


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of one parcel; `last` alone is followed by another answer."""

    seq: int
    result: str
    delay_seconds: float = 0.0
    reason: str = ""


class Signer:
    """Signs requests and tells ours from others."""

    def __init__(self, secret: str) -> None:
        self._webhook = Webhook(secret.encode())

    def sign(self, body: str) -> dict[str, str]:
        """The three headers that go with a request."""
        message_id, now = f"msg_{uuid.uuid4().hex}", datetime.now(UTC)
        return {
            "webhook-id": message_id,
            "webhook-timestamp": str(int(now.timestamp())),
            "webhook-signature": self._webhook.sign(message_id, now, body),
        }

    def verify(self, body: bytes, headers: Mapping[str, str]) -> None:
        """Raise `Forged` unless the body was signed with our secret within the last five minutes."""
        try:
            self._webhook.verify(body, dict(headers), json_parse=False)
        except (WebhookVerificationError, ValueError) as error:  # ValueError: not even the form of a signature
            raise Forged(str(error)) from error


def encode_request(request: Request) -> str:
    """As JSON."""
    return json.dumps(
        {
            "member": request.member,
            "topic": request.topic,
            "group": request.group,
            "messages": [
                {
                    "seq": parcel.seq,
                    "attempt": parcel.attempt,
                    "last_started": parcel.last_started,
                    "header": dict(parcel.message.header),
                    "body": base64.b64encode(parcel.message.body).decode(),
                }
                for parcel in request.parcels
            ],
        }
    )


def decode_request(body: bytes) -> Request:
    """From JSON; `Malformed` when it is not a request."""
    try:
        fields = json.loads(body)
        parcels = [_parcel(message) for message in fields["messages"]]
        return Request(str(fields["member"]), str(fields["topic"]), fields["group"], parcels)
    except NONSENSE as error:
        raise Malformed(f"not a delivery: {error!r}") from error


def _parcel(fields: dict[str, Any]) -> Parcel:
    message = Message(base64.b64decode(fields["body"], validate=True), as_header(fields["header"]))
    return Parcel(int(fields["seq"]), message, int(fields["attempt"]), bool(fields["last_started"]))


def encode_answers(answers: Iterable[Answer]) -> bytes:
    """One JSON line each."""
    return b"".join(
        json.dumps({"seq": a.seq, "result": a.result, "delay_seconds": a.delay_seconds, "reason": a.reason}).encode()
        + b"\n"
        for a in answers
    )


def decode_answers(lines: Iterable[bytes]) -> list[Answer]:
    """The answers among the lines; empty lines are only a sign of life."""
    try:
        return [_answer(json.loads(line)) for line in lines if line]
    except NONSENSE as error:
        raise Malformed(f"not an answer: {error!r}") from error


def _answer(fields: dict[str, Any]) -> Answer:
    if fields["result"] not in RESULTS:
        raise ValueError(f"{fields['result']!r} is no result")
    return Answer(int(fields["seq"]), fields["result"], float(fields["delay_seconds"]), str(fields["reason"]))


def read_secret(path: Path) -> str:
    """The secret in that file, made on first use, readable by its owner alone."""
    if not path.exists():
        draft = path.with_name(f"{path.name}.{uuid.uuid4().hex}")
        draft.touch(mode=0o600, exist_ok=False)
        draft.write_text(secrets.token_urlsafe(32))
        try:
            path.hardlink_to(draft)  # of two processes that start at once, one wins and both read the same
        except FileExistsError:
            pass
        finally:
            draft.unlink()
    secret = path.read_text().strip()
    if not secret:
        raise BrokerError(f"the secret in {path} is empty; remove the file, or set BROKER_SECRET")
    return secret
