"""What is on the server: names of streams, subjects and consumers, and messages with their headers.

A header's name or value that is not plain ASCII, or that would mean something to the server, is written in % signs.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache
from urllib.parse import quote, unquote

from nats.aio.msg import Msg
from nats.js.api import RawStreamMsg, StreamConfig

from broker.base import DeadLetter
from broker.engine.source import Delivery
from broker.message import ID, Message
from broker.names import LOWER, decode, encode

TOPIC, DEAD, LAST = "broker-topic-", "broker-dead", "broker-last"
DUPLICATES_SECONDS = 120.0  #: how long the server remembers a message id
REASON_LETTERS = 300  #: of a dead letter; more might not fit beside the largest body

MESSAGE_ID = "Nats-Msg-Id"
ATTEMPTS, PUBLISHED, REASON = "Nats-Broker-Attempts", "Nats-Broker-Published", "Nats-Broker-Reason"
RESERVED = "Nats-"  #: begins what is the server's or ours; no header of a message does, on the wire
NAME_SAFE, VALUE_SAFE = "!#$&'*+^`|", "!\"#$&'()*+,/:;<=>?@[\\]^`{|}"  #: and letters, digits, `_.-~`
PLAIN_NAME, PLAIN_VALUE = (re.compile(f"[A-Za-z0-9_.~{re.escape(safe)}-]*") for safe in (NAME_SAFE, VALUE_SAFE))

Encoded = tuple[bytes, dict[str, str]]  #: a message as it travels: body and headers


@lru_cache
def topic_stream(topic: str, keep_seconds: float) -> StreamConfig:
    """The stream of a topic."""
    return _stream(TOPIC + token(topic), subject("topic", topic), keep_seconds)


def topic_of(stream: str) -> str | None:
    """The topic whose stream has that name, if it is one of ours."""
    return decode(stream.removeprefix(TOPIC)) if stream.startswith(TOPIC) else None


def dead_stream() -> StreamConfig:
    """The stream of all dead letters: kept for ever."""
    return _stream(DEAD, "broker.dead.>", None)


def last_stream(keep_seconds: float | None) -> StreamConfig:
    """The stream of the marks that last attempts leave."""
    return _stream(LAST, "broker.last.>", keep_seconds)


def _stream(name: str, subjects: str, keep_seconds: float | None) -> StreamConfig:
    window = min(DUPLICATES_SECONDS, keep_seconds or DUPLICATES_SECONDS)
    return StreamConfig(
        name=name,
        subjects=[subjects],
        max_age=keep_seconds,
        duplicate_window=window,
        allow_direct=True,  # the other way to read a message lets server 2.9 crash while the stream is being made
    )


def token(name: str) -> str:
    """As a part of a subject, and as a folder of the server's, on a disk that may not keep case."""
    return encode(name, LOWER)


@lru_cache
def subject(kind: str, *names: str) -> str:
    """Where messages of a kind are published."""
    return ".".join(["broker", kind, *map(token, names)])


def key(message: Msg) -> str:
    """What tells it from all others of its topic: its place in the stream, which may be made again, and its time."""
    metadata = message.metadata
    return f"{metadata.sequence.stream}-{int(metadata.timestamp.timestamp() * 1e6)}"


def encoded(message: Message) -> Encoded:
    """As it is published: the server stores one id once, within `DUPLICATES_SECONDS`."""
    message_id = hashlib.sha256(message.id.encode()).hexdigest()
    headers = {_name(name): _value(value) for name, value in message.header.items()}
    return message.body, {MESSAGE_ID: message_id, **headers}


def received(message: Msg) -> Message:
    """The message as it was published; what another program published without an id gets one from its place."""
    return Message(message.data, {ID: f"{message.metadata.stream}/{key(message)}", **_header(message.headers)})


@lru_cache(maxsize=1024)
def _name(name: str) -> str:
    if name.startswith(RESERVED) or name in {"Status", "Description"}:
        return f"%{ord(name[0]):02X}{quote(name[1:], NAME_SAFE)}"
    return (name if PLAIN_NAME.fullmatch(name) else quote(name, NAME_SAFE)) or "%"


def _value(value: str) -> str:
    return value if PLAIN_VALUE.fullmatch(value) else quote(value, VALUE_SAFE)  # most are plain, and `quote` is slow


def _header(headers: Mapping[str, str] | None) -> dict[str, str]:
    theirs = {name: value for name, value in (headers or {}).items() if not name.startswith(RESERVED)}
    return {"" if name == "%" else unquote(_text(name)): unquote(_text(value)) for name, value in theirs.items()}


def _text(raw: str) -> str:
    """The client library keeps bytes that are no UTF-8 as half characters, which nobody could send on."""
    return raw.encode(errors="surrogateescape").decode(errors="replace")


def encoded_dead(delivery: Delivery[Msg], reason: str) -> Encoded:
    """As a dead letter; its id tells when it is stored a second time because a confirm was lost."""
    body, headers = encoded(delivery.message)
    metadata = delivery.receipt.metadata
    return body, {
        **headers,
        MESSAGE_ID: f"{metadata.stream}/{metadata.consumer}/{key(delivery.receipt)}",
        ATTEMPTS: str(delivery.attempt),
        PUBLISHED: metadata.timestamp.isoformat(),
        REASON: quote(reason[:REASON_LETTERS], VALUE_SAFE, errors="replace"),
    }


def decoded_dead(letter: RawStreamMsg) -> DeadLetter:
    """The dead letter that `encoded_dead` has made a message of."""
    headers = letter.headers or {}
    message = Message(letter.data or b"", _header(headers))
    published_at = datetime.fromisoformat(headers[PUBLISHED])
    failed_at = letter.time or datetime.now(UTC)
    return DeadLetter(message, unquote(headers[REASON]), int(headers[ATTEMPTS]), published_at, failed_at)
