"""The published contract: topics, and the events on them, to and from messages.

Events are CloudEvents 1.0 in binary mode: what an event is stands in the header, the body is plain JSON.
`contracts/asyncapi.yaml` says the same for every other language; a test holds the two together.

    b.publish(USER_REGISTERED, UserRegistered("42", "学院君", "x@example.com", now).to_message())
    event = UserRegistered.from_message(message)        # or one of the errors below

EventError              anything below; what raised it is never worth another try
├── NotAnEvent          not a CloudEvents 1.0 message
├── UnknownType         an event, but none that this topic carries
├── UnknownVersion      the right event, in a version that came after this code
└── BadBody             the body is not what this type and version promise

The version is the last part of the type, `user.registered.v1`, and goes up when a reader of the old one would
break. A field more breaks nobody: readers are tolerant and pass over fields that they do not know.
"""

from __future__ import annotations

import re
import secrets
import uuid
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Annotated, ClassVar, Self

from pydantic import AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from broker import Message

USER_REGISTERED = "user.registered"  #: topic

EVENT_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")  #: safe as a key, in a Message-ID and as a file name

#: One side of an address: what RFC 5322 lets stand there without quotes, in any script (RFC 6532).
_ATOM = r"""[^@\s\x00-\x1f\x7f()<>\[\]:;,\\"]+"""
_DOMAIN = _ATOM.replace("@", "@=?")  #: so that nothing in a domain looks like an encoded word (RFC 2047)

_TYPE = re.compile(r"(?P<name>.+)\.v(?P<version>[0-9]+)", re.DOTALL)
_TRACEPARENT = re.compile(r"00-(?!0{32})(?P<trace>[0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-(?P<flags>[0-9a-f]{2})")


class EventError(Exception):
    """A message that cannot be read as an event; the text says why."""


class NotAnEvent(EventError):
    """A header that CloudEvents 1.0 demands is missing or malformed."""


class UnknownType(EventError):
    """An event of another type than the one asked for."""


class UnknownVersion(EventError):
    """The type that was asked for, in another version."""


class BadBody(EventError):
    """The body is not JSON, or lacks a field, or has one of the wrong form."""


def new_traceparent(parent: str | None = None) -> str:
    """A W3C `traceparent`: the next step of the trace of `parent`, or of a new one when that is none.

    https://www.w3.org/TR/trace-context/#traceparent-header
    """
    match = _TRACEPARENT.fullmatch(parent or "")
    trace, flags = (match["trace"], match["flags"]) if match else (secrets.token_hex(16), "01")
    return f"00-{trace}-{secrets.token_hex(8)}-{flags}"


@dataclass(frozen=True)
class UserRegistered:
    """Somebody has signed up. The password is not part of it, in any form."""

    TYPE: ClassVar[str] = "user.registered"
    VERSION: ClassVar[int] = 1
    SOURCE: ClassVar[str] = "/user-service"

    user_id: str
    name: str
    email: str
    created_at: datetime  #: with a time zone
    event_id: str = field(default_factory=lambda: str(uuid.uuid4()))  #: the same on every delivery
    traceparent: str = field(default_factory=new_traceparent)

    def to_message(self) -> Message:
        """The message that carries this event; `ValueError` when a field breaks the contract."""
        body = _Body(id=self.user_id, name=self.name, email=self.email, created_at=self.created_at)
        header = {
            "ce-id": self.event_id,
            "ce-type": f"{self.TYPE}.v{self.VERSION}",
            "ce-source": self.SOURCE,
            "ce-subject": self.user_id,
            "ce-time": self.created_at.astimezone(UTC).isoformat(),
            "ce-specversion": "1.0",
            "content-type": "application/json",
            "traceparent": self.traceparent,
        }
        return Message(body.model_dump_json().encode(), header)

    @classmethod
    def from_message(cls, message: Message) -> Self:
        """The event in a message, or an `EventError`. A trace that is missing or malformed is begun anew."""
        cls._check_header(message)
        body = cls._read_body(message.body)
        came_with = message.header.get("traceparent", "")
        trace = came_with if _TRACEPARENT.fullmatch(came_with) else new_traceparent()
        return cls(body.id, body.name, body.email, body.created_at, message.id, trace)

    @classmethod
    def _check_header(cls, message: Message) -> None:
        if (spec := message.header.get("ce-specversion")) != "1.0":
            raise NotAnEvent(f"not an event: ce-specversion is {_shown(spec)} instead of '1.0'")
        if not EVENT_ID.fullmatch(message.id):
            raise NotAnEvent(f"not an event: ce-id {_shown(message.id)} is not 1 to 128 of A-Z a-z 0-9 . _ -")
        type_ = message.header.get("ce-type", "")
        match = _TYPE.fullmatch(type_)
        if not match or match["name"] != cls.TYPE:
            raise UnknownType(f"unknown type {_shown(type_)}; this topic carries {cls.TYPE}.v{cls.VERSION}")
        if match["version"] != str(cls.VERSION):
            raise UnknownVersion(f"unknown version {_shown(type_)}; this code reads {cls.TYPE}.v{cls.VERSION}")

    @staticmethod
    def _read_body(body: bytes) -> _Body:
        try:
            return _Body.model_validate_json(body)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            where = ".".join(str(part) for part in first["loc"])
            raise BadBody(f"bad body: {where + ': ' if where else ''}{first['msg']}") from error


def _rfc_3339(value: object) -> object:
    """Refuse what else pydantic takes for a moment: seconds since 1970, also in a string."""
    if isinstance(value, datetime) or (isinstance(value, str) and "T" in value):
        return value
    raise ValueError("must be a date and time as in RFC 3339")


class _Body(BaseModel):
    """`contracts/schemas/user.registered.v1.json`, as code."""

    model_config = ConfigDict(strict=True, extra="ignore", frozen=True, hide_input_in_errors=True)

    id: str = Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")
    name: str = Field(min_length=1, max_length=200)
    email: str = Field(max_length=320, pattern=rf"^{_ATOM}@{_DOMAIN}$")
    created_at: Annotated[AwareDatetime, BeforeValidator(_rfc_3339), Field(strict=False)]


def _shown(value: str | None) -> str:
    """A header as an error may quote it: never long, never with control characters."""
    return "missing" if value is None else repr(value[:80])
