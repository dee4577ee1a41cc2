"""The published contract: what the code writes and reads is what `contracts/` says."""

from __future__ import annotations

import json
import re
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from broker import Message
from contracts.events import (
    EVENT_ID,
    USER_REGISTERED,
    BadBody,
    EventError,
    NotAnEvent,
    UnknownType,
    UnknownVersion,
    UserRegistered,
    new_traceparent,
)
from email_service.tables import InboxRow
from user_service.tables import User

CONTRACTS = Path(__file__).parents[2] / "contracts"
WHEN = datetime(2026, 1, 31, 8, 15, 30, 123456, tzinfo=UTC)

anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.emails() | st.datetimes().map(str),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
)
names = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=200)
users = st.builds(
    UserRegistered,
    user_id=st.from_regex(r"[A-Za-z0-9_-]{1,64}", fullmatch=True),
    name=names,
    email=st.emails(),
    created_at=st.datetimes(timezones=st.just(UTC)),
)


@pytest.fixture(scope="module")
def asyncapi() -> dict[str, Any]:
    """The AsyncAPI document."""
    document: dict[str, Any] = yaml.safe_load((CONTRACTS / "asyncapi.yaml").read_text("utf-8"))
    return document


@pytest.fixture(scope="module")
def body_schema() -> dict[str, Any]:
    """The JSON Schema of the body."""
    schema: dict[str, Any] = json.loads((CONTRACTS / "schemas/user.registered.v1.json").read_text("utf-8"))
    return schema


def conforms(instance: object, schema: dict[str, Any]) -> bool:
    """Whether the schema takes it, formats included."""
    checker = jsonschema.FormatChecker()
    checker.checks("date-time", ValueError)(lambda text: datetime.fromisoformat(text).tzinfo is not None)
    return jsonschema.Draft202012Validator(schema, format_checker=checker).is_valid(instance)


def message(header: dict[str, str | None] | None = None, **body: object) -> Message:
    """A good message with some headers and fields of the body changed; None leaves one out."""
    good = UserRegistered("42", "学院君", "x@example.com", WHEN).to_message()
    fields = {**json.loads(good.body), **body}
    headers = {**good.header, **(header or {})}
    return Message(
        json.dumps({name: value for name, value in fields.items() if value is not None}).encode(),
        {name: value for name, value in headers.items() if value is not None},
    )


@given(event=users)
def test_an_event_survives_the_journey(event: UserRegistered) -> None:
    """What was published is what is read, trace and all."""
    assert UserRegistered.from_message(event.to_message()) == event


@given(event=users)
def test_what_is_published_is_what_the_contract_says(
    event: UserRegistered, asyncapi: dict[str, Any], body_schema: dict[str, Any]
) -> None:
    """Headers and body of every event conform to the published schemas."""
    sent = event.to_message()
    assert conforms(dict(sent.header), asyncapi["components"]["schemas"]["cloudEvent"])
    assert conforms(json.loads(sent.body), body_schema)
    assert sent.header["ce-subject"] == json.loads(sent.body)["id"]
    assert set(json.loads(sent.body)) == set(body_schema["properties"])


def test_the_contract_names_the_topic_and_its_example_can_be_read(
    asyncapi: dict[str, Any], body_schema: dict[str, Any]
) -> None:
    """The document is about this code: same topic, same type, examples that it reads."""
    assert [channel["address"] for channel in asyncapi["channels"].values()] == [USER_REGISTERED]
    described = asyncapi["components"]["messages"]["userRegisteredV1"]
    example = described["examples"][0]
    event = UserRegistered.from_message(Message(json.dumps(example["payload"]).encode(), example["headers"]))
    assert event.name == "学院君"
    assert conforms(example["payload"], body_schema)
    assert (CONTRACTS / described["payload"]["schema"]["$ref"]).is_file()


@pytest.mark.parametrize(
    "broken",
    [
        {"id": None},
        {"id": ""},
        {"id": 42},
        {"id": "../etc"},
        {"id": "x" * 65},
        {"name": None},
        {"name": ""},
        {"name": ["学院君"]},
        {"name": "x" * 201},
        {"name": "学" * 65536},
        {"email": None},
        {"email": "nobody"},
        {"email": "a@example.com\r\nBcc: b@example.com"},
        {"email": "a@example.com,b@example.com"},
        {"email": "a" * 320 + "@example.com"},
        {"email": "a@=?utf-8?q?=0d=0a?="},
        {"created_at": None},
        {"created_at": 1700000000},
        {"created_at": "1700000000"},
        {"created_at": "yesterday"},
        {"created_at": "2026-01-31T08:15:30"},
    ],
    ids=lambda broken: str(broken)[:40],
)
def test_code_and_schema_refuse_the_same_bodies(broken: dict[str, Any], body_schema: dict[str, Any]) -> None:
    """Each rule of the schema is a rule of the code; the error names the field."""
    bad = message(**broken)
    assert not conforms(json.loads(bad.body), body_schema)
    with pytest.raises(BadBody, match=f"bad body: {next(iter(broken))}: "):
        UserRegistered.from_message(bad)


def test_every_value_that_the_contract_allows_fits_its_column(body_schema: dict[str, Any]) -> None:
    """What is stored of an event, and of a user that an event is about: no database is left to find out."""
    longest = {name: rules.get("maxLength", 64) for name, rules in body_schema["properties"].items()}
    event_id = int(re.findall(r"\d+", EVENT_ID.pattern)[-1])
    inbox = {column.name: getattr(column.type, "length", None) for column in InboxRow.__table__.columns}
    assert (inbox["event_id"], inbox["user_id"], inbox["recipient"]) == (event_id, longest["id"], longest["email"])
    users = {column.name: getattr(column.type, "length", None) for column in User.__table__.columns}
    assert (users["id"], users["name"]) == (longest["id"], longest["name"])
    assert users["email"] <= longest["email"]


def test_a_field_more_breaks_no_reader(body_schema: dict[str, Any]) -> None:
    """A tolerant reader: what a later publisher adds is passed over."""
    later = message(nickname="君", address={"city": "杭州"})
    assert UserRegistered.from_message(later).name == "学院君"
    assert conforms(json.loads(later.body), body_schema)


@pytest.mark.parametrize(
    ("header", "error", "reason"),
    [
        ({"ce-specversion": None}, NotAnEvent, "ce-specversion is missing instead of '1.0'"),
        ({"ce-specversion": "0.3"}, NotAnEvent, "ce-specversion is '0.3' instead of '1.0'"),
        ({"ce-id": "../../etc/passwd"}, NotAnEvent, "ce-id '../../etc/passwd'"),
        ({"ce-type": None}, UnknownType, "unknown type ''; this topic carries user.registered.v1"),
        ({"ce-type": "user.deleted.v1"}, UnknownType, "unknown type 'user.deleted.v1'"),
        ({"ce-type": "user.registered"}, UnknownType, "unknown type 'user.registered'"),
        ({"ce-type": "user.registered.v2"}, UnknownVersion, "unknown version 'user.registered.v2'"),
    ],
)
def test_what_is_not_our_event_is_told_apart_by_its_header(
    header: dict[str, str | None], error: type[EventError], reason: str
) -> None:
    """Not an event, another type, another version: each has its own error and a reason for people."""
    with pytest.raises(error, match=re.escape(reason)):
        UserRegistered.from_message(message(header))


@given(st.binary(), st.dictionaries(st.sampled_from(sorted(message().header)), st.text()))
def test_no_message_raises_anything_but_an_event_error(body: bytes, header: dict[str, str]) -> None:
    """Whatever arrives, a consumer has one error to catch."""
    for headers in ({**message().header, **header}, message().header):
        with pytest.raises(EventError):
            UserRegistered.from_message(Message(body, headers))


@given(
    st.dictionaries(st.sampled_from([*json.loads(message().body), "more"]), anything),
    st.dictionaries(st.text() | st.sampled_from(sorted(message().header)), st.text()),
)
def test_what_is_nearly_an_event_is_one_or_is_refused(fields: dict[str, object], header: dict[str, str]) -> None:
    """Fields of every kind, headers of every name: an event that can be published again, or an `EventError`."""
    body = json.dumps({**json.loads(message().body), **fields}).encode()
    for headers in ({**message().header, **header}, message().header):
        with suppress(EventError):
            event = UserRegistered.from_message(Message(body, headers))
            assert UserRegistered.from_message(event.to_message()) == event


def test_a_user_without_a_time_zone_is_not_published() -> None:
    """A time that every reader would take for another one never leaves."""
    with pytest.raises(ValueError, match="created_at"):
        UserRegistered("42", "学院君", "x@example.com", WHEN.replace(tzinfo=None)).to_message()


def test_a_trace_is_continued_and_a_malformed_one_begun_anew() -> None:
    """W3C Trace Context: same trace, next step; what is malformed counts as none."""
    parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"
    step = new_traceparent(parent)
    assert re.fullmatch(r"00-0af7651916cd43dd8448eb211c80319c-[0-9a-f]{16}-00", step)
    assert step != parent
    zero = "00-00000000000000000000000000000000-b7ad6b7169203331-01"
    for malformed in (None, "", "nonsense", zero):
        assert re.fullmatch(r"00-(?!0{32})[0-9a-f]{32}-[0-9a-f]{16}-01", new_traceparent(malformed))
    assert UserRegistered.from_message(message({"traceparent": zero})).traceparent != zero
