"""Messages, names and options: what is refused, and what is kept."""

from __future__ import annotations

import copy
import dataclasses
import pickle
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.errors import BrokerError
from broker.message import Message, check
from broker.names import LETTERS, LOWER, NO_DOTS, checked, decode, encode
from broker.options import SubscribeOptions


def test_a_message_gives_itself_an_id_and_keeps_one_it_is_given() -> None:
    """So that a consumer can always tell a duplicate."""
    assert Message().id != Message().id
    assert Message(header={"ce-id": "7"}).id == "7"


def test_a_message_cannot_be_changed() -> None:
    """Neither its fields nor its header, nor the mapping that it was made from."""
    header = {"a": "1"}
    message = Message(b"x", header)
    header["a"] = "2"
    assert message.header["a"] == "1"
    with pytest.raises(dataclasses.FrozenInstanceError):
        message.body = b"y"  # type: ignore[misc]  # that it cannot be done is the test
    with pytest.raises(TypeError):
        message.header["a"] = "3"  # type: ignore[index]  # that it cannot be done is the test


def test_a_message_survives_copy_and_pickle() -> None:
    """It is sent to other processes in tests and benchmarks."""
    message = Message(b"x", {"名": "学院君"})
    for twin in (copy.deepcopy(message), pickle.loads(pickle.dumps(message)), message.with_header(other="1")):
        assert (twin.body, twin.id, twin.header["名"]) == (b"x", message.id, "学院君")


def test_a_header_that_is_no_unicode_is_refused() -> None:
    """A lone surrogate could not be sent."""
    with pytest.raises(BrokerError, match="not valid Unicode"):
        check(Message(b"", {"h": "\ud800"}))


@given(st.text(min_size=1, max_size=20), st.sampled_from([LETTERS, LOWER, NO_DOTS]))
def test_an_encoded_name_has_allowed_letters_only_and_can_be_read_back(name: str, allowed: frozenset[str]) -> None:
    """So no two names become the same one."""
    if "\ud800" <= max(name) <= "\udfff" or any("\ud800" <= c <= "\udfff" for c in name):
        name = "x"
    encoded = encode(name, allowed)
    assert set(encoded) <= allowed | {"_"}
    assert decode(encoded) == name


@pytest.mark.parametrize("name", ["user.registered", "学院君", "a b", "x" * 200])
def test_a_usual_name_is_taken(name: str) -> None:
    """In any script."""
    assert checked(name, "topic") == name


@pytest.mark.parametrize(
    "options",
    [{"concurrency": 0}, {"max_attempts": 0}, {"lease_seconds": -1}, {"prefetch": 0}, {"retry_delays": ()}],
)
def test_an_impossible_option_is_refused_by_name(options: dict[str, Any]) -> None:
    """Before anything is subscribed."""
    with pytest.raises(BrokerError, match=next(iter(options))):
        SubscribeOptions(**options)
