"""How names, messages, settings and errors of ours look to Kafka."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qsl

import confluent_kafka as kafka
from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient

from broker.address import Address
from broker.errors import BrokerError
from broker.message import ID, Message
from broker.names import LETTERS, NO_DOTS, encode

MAX_NAME = 249  #: characters in the name of a topic
#: option of the address → librdkafka's name
TLS_FILES = (("ca", "ca"), ("cert", "certificate"), ("key", "key"))
DEFAULT_PORT = 9092

# Errors that librdkafka itself finds; the underscore tells them from those that a server answers.
ALL_DOWN: int = KafkaError._ALL_BROKERS_DOWN  # noqa: SLF001
END: int = KafkaError._PARTITION_EOF  # noqa: SLF001
FATAL: int = KafkaError._FATAL  # noqa: SLF001
QUEUE_FULL: int = KafkaError._QUEUE_FULL  # noqa: SLF001
TIMED_OUT: int = KafkaError._TIMED_OUT  # noqa: SLF001
UNSUPPORTED: int = KafkaError._UNSUPPORTED_FEATURE  # noqa: SLF001

UNKNOWN_TOPIC = frozenset(
    {KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC, KafkaError._UNKNOWN_PARTITION}  # noqa: SLF001
)
#: these say that something went wrong, not what: the last connection's error tells
VAGUE = frozenset(
    {TIMED_OUT, KafkaError._TRANSPORT, KafkaError._MSG_TIMED_OUT, KafkaError._WAIT_COORD}  # noqa: SLF001
)


Settings = dict[str, Any]


# --- names: `encode` never writes two underscores, so they can stand between and around names -------------------


def topic_name(topic: str) -> str:
    """The Kafka topic of a topic."""
    return encode(topic, LETTERS if topic.strip(".") else NO_DOTS)  # a topic called `.` is not allowed


def group_name(topic: str, queue: str) -> str:
    """The Kafka group of a group; of one topic only, so that two topics' offsets are never together."""
    return _short(f"{topic_name(topic)}__{encode(queue)}")


def dead_name(topic: str, queue: str) -> str:
    """The Kafka topic of a group's dead letters."""
    return _short(f"{topic_name(topic)}__{encode(queue)}__dead")


def _short(name: str) -> str:
    if len(name) <= MAX_NAME:
        return name
    digest = hashlib.sha256(name.encode()).hexdigest()
    return f"{name[: MAX_NAME - len(digest) - 2]}__{digest}"


# --- messages ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Record:
    """What is sent. No value is a tombstone: the key's earlier records are gone."""

    key: bytes
    value: bytes | None
    headers: list[tuple[str, str | bytes | None]]


def encode_message(message: Message, key: str) -> Record:
    """As a record."""
    return Record(key.encode(), message.body, [(name, value.encode()) for name, value in message.header.items()])


def decode_message(record: kafka.Message) -> Message:
    """From a record, also of another program: without an id, its place in the topic is its id."""
    header = {name: _text(value) for name, value in dict(record.headers() or ()).items()}
    header.setdefault(ID, f"{record.partition()}-{record.offset()}")
    return Message(record.value() or b"", header)


def _text(value: bytes | str | None) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else value or ""


def published_at(record: kafka.Message) -> float:
    """Seconds since 1970."""
    return record.timestamp()[1] / 1000


def utc(seconds: float) -> datetime:
    """The same, as people's time."""
    return datetime.fromtimestamp(seconds, UTC)


# --- settings ---------------------------------------------------------------------------------------------------


def settings(where: Address, query: str) -> Settings:
    """What an address says, as settings of librdkafka; what stands after its `?` is passed on and wins over ours."""
    given = dict(parse_qsl(query))
    files = {f"ssl.{name}.location": given.pop(option) for option, name in TLS_FILES if option in given}
    found: Settings = {
        "bootstrap.servers": ",".join(map(str, where.hosts)),
        "client.id": "broker",
        "log_level": 0,  # it would write to standard error; what matters comes as an error
        "socket.nagle.disable": True,
        "reconnect.backoff.ms": 20,
        "reconnect.backoff.max.ms": 500,
        "topic.metadata.refresh.interval.ms": 5000,  # so soon are a topic made again and new partitions noticed
        "security.protocol": ("SASL_" if where.user else "") + ("SSL" if where.tls else "PLAINTEXT"),
    }
    if where.user:
        found |= {"sasl.mechanism": "PLAIN", "sasl.username": where.user, "sasl.password": where.password or ""}
    return found | files | given


# --- errors -----------------------------------------------------------------------------------------------------


class UnknownTopic(BrokerError):
    """There is no such topic."""


class Errors:
    """Makes errors of ours of librdkafka's. `describe` writes a line for people, with broker and address."""

    def __init__(self, describe: Callable[[object], str], timeout_seconds: float) -> None:
        self._describe = describe
        self._timeout_seconds = timeout_seconds
        self._trouble = ""
        self._trouble_at = 0.0

    def note(self, error: KafkaError) -> None:
        """Remember what happened to a connection; librdkafka's `error_cb`."""
        if error.code() != ALL_DOWN:
            self._trouble, self._trouble_at = error.str(), time.monotonic()

    def cause(self, error: KafkaError) -> str:
        """What went wrong."""
        return error.str() + (self.trouble() if error.code() in VAGUE else "")

    def trouble(self) -> str:
        """What recently happened to a connection, to be added to a line."""
        recent = time.monotonic() - self._trouble_at < self._timeout_seconds + 1
        return f" ({self._trouble})" if self._trouble and recent else ""

    def of(self, error: KafkaException | KafkaError) -> BrokerError:
        """The same as an error of ours."""
        cause = error.args[0] if isinstance(error, KafkaException) else error
        if not isinstance(cause, KafkaError):
            return self.saying(cause)
        return (UnknownTopic if cause.code() in UNKNOWN_TOPIC else BrokerError)(self._describe(self.cause(cause)))

    def saying(self, cause: object) -> BrokerError:
        """An error with that cause."""
        return BrokerError(self._describe(cause))

    @contextmanager
    def translated(self, *clients: kafka.Producer | AdminClient) -> Iterator[None]:
        """Raise errors of ours for librdkafka's."""
        try:
            yield
        except KafkaException as error:
            for client in clients:
                with suppress(KafkaException):  # a fatal error of a producer, which its next `produce` raises as well
                    client.poll(0)  # what went wrong with its connections is noted only now
            raise self.of(error) from error
