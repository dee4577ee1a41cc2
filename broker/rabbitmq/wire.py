"""A message as AMQP carries it: the body as it is, the header as JSON in one AMQP header, and what we note ourselves.

One header, because AMQP limits names to 255 bytes, and because RabbitMQ acts on some (`CC`, `x-death`).
"""

from __future__ import annotations

import hashlib
import random
import time
from typing import Any, NamedTuple

from pika import BasicProperties  # type: ignore[import-untyped]  # pika has no types

from broker.message import ID, Message, read_header, write_header

HEADER = "broker-header"
ATTEMPTS = "broker-attempts"  #: how many attempts there were on earlier copies
PUBLISHED_AT = "broker-published-at"  #: seconds since 1970, as text: AMQP's own timestamp has no fractions
REASON = "broker-reason"
FAILED_AT = "broker-failed-at"
RETURNED = "x-delivery-count"  #: set by the server: how often it was delivered before, from this queue

MAX_NUMBER = 2**33  #: more is no number of ours: neither of attempts nor of seconds since 1970
MAX_EXPIRATION = 2**32 - 1  #: milliseconds, RabbitMQ's highest
PERSISTENT = 2


class Parcel(NamedTuple):
    """A message and what is noted on it."""

    message: Message
    publication: str  #: new for every copy
    published_at: float
    attempts: int  #: of earlier copies
    returned: int  #: how often this one went back to its queue
    reason: str
    failed_at: float


def publish(message: Message, keep_seconds: float | None = None) -> BasicProperties:
    """The properties of a new publication of that message."""
    return BasicProperties(
        headers={HEADER: write_header(message), PUBLISHED_AT: repr(time.time())},
        message_id=f"{random.getrandbits(128):032x}",  # no secret
        delivery_mode=PERSISTENT,
        expiration=None if keep_seconds is None else str(min(int(keep_seconds * 1000), MAX_EXPIRATION)),
    )


def copy(parcel: Parcel, attempts: int) -> BasicProperties:
    """The properties of a copy that has had so many attempts. What the server noted, such as x-death, stays behind."""
    properties = publish(parcel.message)
    properties.headers |= {ATTEMPTS: attempts, PUBLISHED_AT: repr(parcel.published_at)}
    return properties


def dead_letter(parcel: Parcel, attempts: int, reason: str) -> BasicProperties:
    """The properties of a dead letter."""
    properties = copy(parcel, attempts)
    said = reason.encode(errors="replace").decode()  # an exception's text may be no Unicode
    properties.headers |= {REASON: said, FAILED_AT: repr(time.time())}
    return properties


def receive(method: Any, properties: BasicProperties, body: bytes) -> Parcel:
    """Return what a `Basic.Deliver` or `Basic.GetOk` brought; messages of other programs with the headers they have."""
    headers, now = properties.headers or {}, time.time()
    message = Message(body, _header(headers, properties.message_id))
    return Parcel(
        message,
        properties.message_id or hashlib.sha256(body).hexdigest(),
        _number(headers, PUBLISHED_AT, now),
        int(_number(headers, ATTEMPTS, 0)),
        int(_number(headers, RETURNED, 0)) or int(method.redelivered),
        str(headers.get(REASON, "")),
        _number(headers, FAILED_AT, now),
    )


def _header(headers: dict[str, Any], message_id: str | None) -> dict[str, str]:
    try:
        return read_header(headers[HEADER])
    except (KeyError, ValueError, TypeError):
        theirs = {name: str(value) for name, value in headers.items()}
        return theirs | ({ID: message_id} if message_id and ID not in theirs else {})


def _number(headers: dict[str, Any], name: str, otherwise: float) -> float:
    try:
        number = float(headers.get(name, otherwise))
    except (TypeError, ValueError, OverflowError):
        return otherwise
    return number if 0 <= number <= MAX_NUMBER else otherwise
