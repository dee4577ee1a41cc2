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
from broker.http.fields import NONSENSE, number, text, whole
from broker.message import Message, as_header

PATH = "/deliver"
SIGNATURE_HEADERS = ("webhook-id", "webhook-timestamp", "webhook-signature")
BROADCAST = "\0"  #: a broadcast subscription is the only member of a group called this and its id; no name has it

OK, RETRY, REJECT, RELEASE, LAST = "ok", "retry", "reject", "release", "last"  #: results of an answer line
RESULTS = frozenset({OK, RETRY, REJECT, RELEASE, LAST})

MAX_REQUEST_BYTES = 2_000_000  #: the largest message is 1.4 MB of it: its body in base64, its header escaped
MAX_NUMBER = 2**63 - 1  #: of a row, and of an attempt; SQLite has no larger one
MAX_DELAY_SECONDS = 7 * 24 * 3600.0  #: longer ones are taken for this
MAX_REASON = 2_000  #: letters; what is longer is cut, by who sends it and by who reads it
MAX_SECRET_BYTES = 4_096


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
    """As JSON; Unicode as it is, so that a batch is about as large as it is in the spool."""
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
        },
        ensure_ascii=False,
    )


def decode_request(body: bytes) -> Request:
    """From JSON; `Malformed` when it is not a request."""
    try:
        fields = json.loads(body)
        parcels = [_parcel(message) for message in fields["messages"]]
        group = None if fields["group"] is None else text(fields, "group")
        return Request(text(fields, "member"), text(fields, "topic"), group, parcels)
    except NONSENSE as error:
        raise Malformed(f"not a delivery: {error!r:.200}") from error


def _parcel(fields: dict[str, Any]) -> Parcel:
    message = Message(base64.b64decode(text(fields, "body"), validate=True), as_header(fields["header"]))
    seq, attempt = whole(fields, "seq", 0, MAX_NUMBER), whole(fields, "attempt", 1, MAX_NUMBER)
    return Parcel(seq, message, attempt, fields["last_started"] is True)


def encode_answers(answers: Iterable[Answer]) -> bytes:
    """One JSON line each."""
    return b"".join(json.dumps(_fields(answer)).encode() + b"\n" for answer in answers)


def _fields(answer: Answer) -> dict[str, object]:
    return {
        "seq": answer.seq,
        "result": answer.result,
        "delay_seconds": min(max(0.0, answer.delay_seconds), MAX_DELAY_SECONDS),
        "reason": answer.reason[:MAX_REASON],
    }


def decode_answers(lines: Iterable[bytes]) -> tuple[list[Answer], Malformed | None]:
    """The answers among the lines, up to one that is not possible; empty lines are only a sign of life."""
    answers: list[Answer] = []
    try:
        for line in filter(None, lines):
            answers.append(_answer(json.loads(line)))  # noqa: PERF401  # those before a bad one are kept
    except NONSENSE as error:
        return answers, Malformed(f"not an answer: {error!r:.200}")
    return answers, None


def _answer(fields: dict[str, Any]) -> Answer:
    if fields["result"] not in RESULTS:
        raise ValueError(f"{fields['result']!r:.40} is no result")
    reason = text(fields, "reason")[:MAX_REASON].encode(errors="replace").decode()  # half a character is no Unicode
    delay_seconds = number(fields, "delay_seconds", 0.0, MAX_DELAY_SECONDS)
    return Answer(whole(fields, "seq", 0, MAX_NUMBER), fields["result"], delay_seconds, reason)


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
    return _secret_in(path)


def _secret_in(path: Path) -> str:
    if not path.is_file():  # to read from a pipe would wait for its writer
        raise BrokerError(f"the secret {path} is no file; remove it, or set BROKER_SECRET")
    with path.open("rb") as file:
        secret = file.read(MAX_SECRET_BYTES + 1)
    try:
        return usable_secret(secret.decode(errors="surrogateescape").strip())
    except ValueError as error:
        raise BrokerError(f"the secret in {path} {error}; remove the file, or set BROKER_SECRET") from None


def usable_secret(secret: str) -> str:
    """The secret itself; `ValueError` says why it cannot be one, without a letter of it."""
    try:
        size = len(secret.encode())
    except UnicodeEncodeError:
        raise ValueError("is not UTF-8") from None
    if not size:
        raise ValueError("is empty")
    if size > MAX_SECRET_BYTES:
        raise ValueError(f"has more than {MAX_SECRET_BYTES:,} bytes")
    return secret
