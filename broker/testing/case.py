"""What every part of the suite starts from: a harness, a topic of its own, and a few words."""

from __future__ import annotations

import uuid

import pytest

from broker.base import Broker
from broker.message import Message
from broker.testing.harness import Harness
from broker.testing.recorder import Recorder

QUICK = (0.05,)  #: retry delays for tests that are not about them
LEASE = 4.0  #: seconds, for tests that have to wait for one to end; a busy machine may stand still for as long as half


class Case:
    """Base of the parts. Every test gets `harness`, which the author defines, and `topic`."""

    @pytest.fixture
    def harness(self) -> Harness:
        """Override this one."""
        raise NotImplementedError("define a fixture `harness` in your test class")

    @pytest.fixture
    def topic(self) -> str:
        """A topic that no other test has."""
        return f"test.{uuid.uuid4().hex[:12]}"

    @pytest.fixture
    def b(self, harness: Harness) -> Broker:
        """A connected broker."""
        return harness.connect()


def texts(*bodies: str) -> list[Message]:
    """A message for each body."""
    return [Message(body.encode()) for body in bodies]


def numbered(count: int, prefix: str = "") -> list[Message]:
    """As many messages, with the bodies 0, 1, 2 and so on."""
    return texts(*(f"{prefix}{n}" for n in range(count)))


def only_this_arrives(b: Broker, topic: str, *recorders: Recorder, before: int) -> None:
    """Publish one more message, and see that it is the next to arrive at each, after the first `before` calls."""
    b.publish(topic, *texts("one more"))
    for seen in recorders:
        seen.wait_for("one more")
        assert seen.texts[before:] == ["one more"], "something was delivered that should not have been"
