"""What travels: `Message` (bytes and a header) and the `Event` that a handler receives."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from broker.errors import BrokerError, MessageTooLarge

MAX_BODY_BYTES = 1_000_000
MAX_HEADER_BYTES = 8 * 1024  #: names and values together, as UTF-8

ID = "ce-id"  #: CloudEvents 1.0, binary mode: one id an event, the same on every delivery of it
PARTITION_KEY = "ce-partitionkey"  #: messages of one publisher with one key keep their order
GROUP = "broker-group"  #: on a replayed dead letter: the one group it is meant for

_as_json = json.JSONEncoder(ensure_ascii=False).encode  # `json.dumps` would make an encoder for each message


@dataclass(frozen=True, slots=True)
class Message:
    """Any bytes, with a header of Unicode names and values; never changes once made.

    A message made without a `ce-id` gives itself one, so that consumers can tell a duplicate.
    """

    body: bytes = b""
    header: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        header = dict(self.header)
        if ID not in header:
            header[ID] = str(uuid.uuid4())
        object.__setattr__(self, "header", MappingProxyType(header))

    def __reduce__(self) -> tuple[type[Message], tuple[bytes, dict[str, str]]]:
        return Message, (self.body, dict(self.header))

    @property
    def id(self) -> str:
        """The event's id: the `ce-id` header."""
        return self.header[ID]

    def with_header(self, **changes: str) -> Message:
        """A copy with some headers set; an underscore in a name stands for a hyphen."""
        return Message(self.body, {**self.header, **{name.replace("_", "-"): v for name, v in changes.items()}})

    def without(self, name: str) -> Message:
        """The same without that header."""
        if name not in self.header:
            return self
        return Message(self.body, {other: value for other, value in self.header.items() if other != name})


@dataclass(slots=True)
class Event:
    """One delivery of a message to a handler.

    `attempt` counts from 1. `group` is the group, or None on a broadcast. `error` is what the handler
    raised; it is set before the `on_error` option is called with the event.
    """

    topic: str
    message: Message
    attempt: int
    group: str | None
    _ack: Callable[[], None]
    error: BaseException | None = None

    def ack(self) -> None:
        """Say that the message is done with. Needed only with `auto_ack=False`; from any thread; twice is fine."""
        self._ack()


def write_header(message: Message) -> str:
    """Its header as JSON."""
    return _as_json(dict(message.header))


def read_header(text: str) -> dict[str, str]:
    """The header in a JSON object; `ValueError` when it is none, as another program may have written it."""
    try:
        return as_header(json.loads(text))
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def as_header(header: Any) -> dict[str, str]:
    """The same, if it is a header; else `ValueError`."""
    if not isinstance(header, dict):
        raise ValueError("not an object")  # noqa: TRY004  # of JSON
    try:
        "".join([*header, *header.values()]).encode()  # half a character is a `UnicodeError`, and that a `ValueError`
    except TypeError as error:
        raise ValueError("not an object of texts") from error
    return header


def check(message: Message) -> None:
    """Refuse a message that some broker could not carry, before anything is sent."""
    if not isinstance(message, Message):
        raise BrokerError(f'{message!r:.80} is no message; write Message(b"…"), or use a publisher for other objects')
    if not isinstance(message.body, bytes):
        raise BrokerError(f"message {message.id} has a body of type {type(message.body).__name__}; bytes are carried")
    if len(message.body) > MAX_BODY_BYTES:
        raise MessageTooLarge(
            f"message {message.id} has a body of {len(message.body):,} bytes; at most {MAX_BODY_BYTES:,} are carried"
        )
    try:
        size = len("".join([*message.header, *message.header.values()]).encode())
    except UnicodeEncodeError as error:
        raise BrokerError(f"a header of message {message.id!r} is not valid Unicode: {error.reason}") from error
    except TypeError as error:
        wrong = {name: value for name, value in message.header.items() if {type(name), type(value)} != {str}}
        raise BrokerError(f"a header of message {message.id!r} is not text: {wrong!r:.80}") from error
    if size > MAX_HEADER_BYTES:
        raise MessageTooLarge(f"message {message.id} has {size:,} bytes of headers; at most {MAX_HEADER_BYTES:,}")
