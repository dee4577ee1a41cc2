"""What a user of the broker writes: decorators, objects instead of messages, options that an editor completes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields
from typing import Any, Self

import pytest

import broker
from broker import Message
from broker.options import OptionArguments, Options, SubscribeArguments, SubscribeOptions
from broker.testing import Recorder, eventually


@pytest.fixture
def b() -> Iterator[broker.Broker]:
    """A broker that is not connected yet, on a bus of its own."""
    made = broker.new("memory://subscribing")
    yield made
    made.disconnect()


class Number:
    """What the messages of these tests carry."""

    def __init__(self, value: int) -> None:
        self.value = value

    @classmethod
    def from_message(cls, message: Message) -> Self:
        """It refuses what is no number."""
        return cls(int(message.body))


def test_a_handler_gets_the_object_that_its_message_carries(b: broker.Broker) -> None:
    """Reading it is no business of the handler's."""
    seen: list[int] = []
    b.connect()
    b.subscribe("t", lambda number: seen.append(number.value), reads=Number, group="g")
    b.publish("t", Message(b"41"), Message(b"42"))
    eventually(lambda: seen == [41, 42], "both numbers")


def test_what_cannot_be_read_is_a_dead_letter_at_once(b: broker.Broker) -> None:
    """No retry makes it readable; the reason is what the class said."""
    b.connect()
    b.subscribe("t", lambda _: pytest.fail("it was read"), reads=Number, group="g")
    b.publish("t", Message(b"many"))
    [letter] = eventually(lambda: b.group("t", "g").dead_letters(), "a dead letter")
    assert (letter.attempts, letter.reason) == (1, "invalid literal for int() with base 10: b'many'")


def test_a_module_can_be_written_top_down(b: broker.Broker) -> None:
    """Handlers are decorated before anything is connected, and subscribed by each `connect`."""
    numbers: list[int] = []
    bodies: list[bytes] = []

    @b.subscriber("t", group="g")
    def note(event: broker.Event) -> None:
        bodies.append(event.message.body)

    @b.subscriber("t", group="numbers", reads=Number)
    def add(number: Number) -> None:
        numbers.append(number.value)

    for body in (b"1", b"2"):
        with b:
            b.publish("t", Message(body), mandatory=True)
            eventually(lambda last=body: bodies[-1:] == [last] and numbers[-1:] == [int(last)], "both handlers")  # type: ignore[misc]  # bound now
    assert (numbers, bodies) == ([1, 2], [b"1", b"2"])


def test_a_decorated_handler_that_cannot_be_subscribed_leaves_nothing_connected(
    b: broker.Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error is that of `connect`, and another try is possible."""

    def refuse(topic: str, options: SubscribeOptions) -> None:
        raise broker.BrokerError("no more groups")

    b.subscriber("t")(Recorder())
    monkeypatch.setattr(b, "_source", refuse)
    with pytest.raises(broker.BrokerError, match="no more groups"):
        b.connect()
    assert not b.is_connected


def test_a_decorator_refuses_at_once_what_can_never_be_subscribed(b: broker.Broker) -> None:
    """Where it stands in the module, not when it is connected; and notes nothing."""

    async def handle(event: broker.Event) -> None:
        """Would handle it."""

    with pytest.raises(broker.BrokerError, match="coroutine function"):
        b.subscriber("t")(handle)
    with pytest.raises(broker.BrokerError, match="concurrency=0"):
        b.subscriber("t", concurrency=0)(Recorder())
    b.connect()
    assert b._subscriptions == []


def test_it_is_connected_from_connect_to_disconnect(b: broker.Broker) -> None:
    """As a program asks before it publishes."""
    assert not b.is_connected
    b.connect()
    assert b.is_connected
    b.disconnect()
    assert not b.is_connected


@pytest.mark.parametrize(("arguments", "options"), [(OptionArguments, Options), (SubscribeArguments, SubscribeOptions)])
def test_an_editor_knows_each_option(arguments: Any, options: type) -> None:
    """What completes them is a second list of the fields, and it is the same."""
    assert list(arguments.__annotations__) == [field.name for field in fields(options)]
    assert {name: hint.__forward_arg__ for name, hint in arguments.__annotations__.items()} == {
        field.name: field.type for field in fields(options)
    }


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ("a text", "'a text' is no message; write Message"),
        (Message(b"", {"size": 3}), "{'size': 3}"),  # type: ignore[dict-item]  # that is the mistake
        (Message(b"", {4: "x"}), "{4: 'x'}"),  # type: ignore[dict-item]  # likewise
        (Message("text"), "body of type str"),  # type: ignore[arg-type]  # likewise
    ],
)
def test_what_is_no_message_is_refused_at_the_call(b: broker.Broker, wrong: Any, says: str) -> None:
    """The value is named, so that one finds where it came from."""
    b.connect()
    with pytest.raises(broker.BrokerError, match=says):
        b.publish("t", wrong)
