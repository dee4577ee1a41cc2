"""How each broker writes a message down: what we write is what we read, and what strangers have written ends nobody."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pika import BasicProperties  # type: ignore[import-untyped]  # pika has no types
from pika.spec import Basic  # type: ignore[import-untyped]  # the same

from broker import InvalidName, names
from broker.http import wire as http
from broker.kafka import wire as kafka
from broker.message import ID, Message
from broker.nats import wire as nats
from broker.rabbitmq import wire as rabbitmq
from broker.redis import wire as redis

texts = st.text(max_size=30)
messages = st.builds(Message, st.binary(max_size=300), st.dictionaries(texts | st.just(ID), texts, max_size=5))
names_of_ours = st.sampled_from(
    [ID, "header", rabbitmq.HEADER, rabbitmq.ATTEMPTS, rabbitmq.PUBLISHED_AT, "Nats-X", "%"]
)
json_like = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(texts, inner)
)
json_texts = json_like.map(json.dumps) | st.sampled_from(
    ["[" * 20_000, "9" * 5_000, '{"a": "\\ud800"}', '{"ce-id": 1}']
)


@dataclass(frozen=True)
class KafkaRecord:
    """As much of one as is read."""

    sent: kafka.Record

    def headers(self) -> list[tuple[str, str | bytes | None]]:
        return self.sent.headers

    def value(self) -> bytes | None:
        return self.sent.value

    def partition(self) -> int:
        return 3

    def offset(self) -> int:
        return 42


@dataclass(frozen=True)
class NatsMsg:
    """The same."""

    data: bytes
    headers: dict[str, str]
    metadata: Any = field(
        default_factory=lambda: SimpleNamespace(
            stream="s", sequence=SimpleNamespace(stream=42), timestamp=datetime(2026, 1, 31, tzinfo=UTC)
        )
    )


def through_http(message: Message) -> Message:
    """As a publisher posts it to a member."""
    parcel = http.Parcel(1, message, 1, last_started=False)
    [received] = http.decode_request(http.encode_request(http.Request("m", "t", "g", [parcel])).encode()).parcels
    return received.message


def through_redis(message: Message) -> Message:
    """As an entry of a stream."""
    return redis.to_message(b"1-0", [x.encode() if isinstance(x, str) else x for x in redis.to_fields(message)])


def through_nats(message: Message) -> Message:
    """As a stream keeps it."""
    return nats.received(NatsMsg(*nats.encoded(message)))  # type: ignore[arg-type]


def through_rabbitmq(message: Message) -> Message:
    """As properties and a body."""
    return rabbitmq.receive(Basic.Deliver(), rabbitmq.publish(message), message.body).message


def through_kafka(message: Message) -> Message:
    """As a record."""
    return kafka.decode_message(KafkaRecord(kafka.encode_message(message, "key")))  # type: ignore[arg-type]


JOURNEYS = [through_http, through_redis, through_nats, through_rabbitmq, through_kafka]


@pytest.mark.parametrize("journey", JOURNEYS, ids=lambda journey: journey.__name__.removeprefix("through_"))
@given(message=messages)
def test_a_message_is_read_as_it_was_written(journey: Callable[[Message], Message], message: Message) -> None:
    """Any bytes, any Unicode in names and values, and nothing more or less."""
    assert journey(message) == message


def is_carried_on(message: Message) -> None:
    """Fail unless each broker could keep it as a dead letter."""
    assert all(isinstance(text, str) for pair in message.header.items() for text in pair)
    for journey in JOURNEYS:
        assert journey(message) == message


@given(st.dictionaries(st.sampled_from([b"header", b"body", b"x"]), st.binary() | json_texts.map(str.encode)))
def test_any_entry_of_a_redis_stream_is_a_message(fields: dict[bytes, bytes]) -> None:
    """One that cannot be read would come first for ever, and hold up its group."""
    is_carried_on(redis.to_message(b"1-0", [part for pair in fields.items() for part in pair]))


@given(
    st.dictionaries(names_of_ours | texts, texts | json_texts | st.integers() | st.floats() | st.binary() | st.none())
)
def test_any_publication_on_rabbitmq_is_a_message(headers: dict[str, Any]) -> None:
    """With sensible notes on it."""
    parcel = rabbitmq.receive(Basic.Deliver(), BasicProperties(headers=headers), b"x")
    is_carried_on(parcel.message)
    assert min(parcel.attempts, parcel.returned) >= 0
    assert datetime.fromtimestamp(parcel.published_at, UTC) <= datetime.fromtimestamp(rabbitmq.MAX_NUMBER, UTC)


@given(st.dictionaries(names_of_ours | texts, st.binary().map(lambda raw: raw.decode(errors="surrogateescape"))))
def test_any_message_on_nats_is_one(headers: dict[str, str]) -> None:
    """Header values that are no UTF-8 reach us as half characters."""
    is_carried_on(nats.received(NatsMsg(b"x", headers)))  # type: ignore[arg-type]


@given(st.lists(st.tuples(names_of_ours | texts, st.binary() | st.none())), st.binary() | st.none())
def test_any_record_of_kafka_is_a_message(headers: list[tuple[str, bytes | None]], value: bytes | None) -> None:
    """A tombstone is an empty one."""
    is_carried_on(kafka.decode_message(KafkaRecord(kafka.Record(b"", value, list(headers)))))  # type: ignore[arg-type]


@given(st.binary() | json_texts.map(str.encode))
def test_what_is_no_delivery_is_refused_as_malformed(body: bytes) -> None:
    """A member answers 400, and goes on; a publisher keeps the answers before it, and delivers the rest again."""
    with pytest.raises(http.Malformed):
        http.decode_request(body)
    good = http.Answer(1, http.OK)
    answers, trouble = http.decode_answers([http.encode_answers([good]).strip(), body or b"{}"])
    assert answers == [good]
    assert trouble


@given(st.sampled_from(["member", "topic", "messages", "seq", "attempt", "last_started", "header", "body"]), json_like)
def test_a_delivery_with_a_field_of_another_kind_is_refused_or_harmless(name: str, value: object) -> None:
    """Whatever stands in it, it is read as what it should be, or not at all."""
    parcel: dict[str, object] = {"seq": 1, "attempt": 1, "last_started": False, "header": {}, "body": ""}
    fields: dict[str, object] = {"member": "m", "topic": "t", "group": "g", "messages": [parcel]}
    (parcel if name in parcel else fields)[name] = value
    with suppress(http.Malformed):
        request = http.decode_request(json.dumps(fields).encode())
        assert isinstance(request.member, str)
        for read in request.parcels:
            assert (type(read.seq), type(read.attempt), type(read.last_started)) == (int, int, bool)
            is_carried_on(read.message)


@pytest.mark.parametrize("allowed", [names.LETTERS, names.NO_DOTS, names.LOWER])
@given(name=st.text())
def test_a_name_is_written_in_allowed_letters_and_read_as_it_was(allowed: frozenset[str], name: str) -> None:
    """So that two names are never one on the server."""
    encoded = names.encode(name, allowed)
    assert set(encoded) <= allowed | {"_"}
    assert names.decode(encoded) == name


@given(st.text(st.characters(exclude_categories=[])))
def test_a_name_that_is_taken_can_be_used_everywhere(name: str) -> None:
    """Seen by people, and short enough for every server; all else is refused by one error."""
    with suppress(InvalidName):
        names.checked(name, "topic")
        assert name.isprintable()
        assert 0 < len(names.encode(name, names.LOWER)) <= names.MAX_NAME_BYTES
