"""The contract on the pigeon broker: every promise of `broker/base.py`, for the price of a harness."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from pigeon_broker import PigeonBroker

from broker.errors import BrokerError
from broker.memory import Bus, Entry, Queue
from broker.testing import BrokerContract, Harness


class PigeonHarness(Harness):
    """A loft of its own for each test, with power over what is in it."""

    promises = PigeonBroker.promises

    @contextmanager
    def paused(self) -> Iterator[None]:
        queues = list(Bus.named(self.address)._groups.values())
        for queue in queues:
            queue.changed.acquire()
        try:
            yield
        finally:
            for queue in queues:
                queue.changed.release()

    @contextmanager
    def dead_letters_unreachable(self) -> Iterator[None]:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Queue, "bury", _refuse)
            yield

    def lose_group(self, topic: str, group: str) -> None:
        Bus.named(self.address).forget(topic, group)


def _refuse(queue: Queue, entry: Entry, reason: str) -> None:
    raise BrokerError("no room for the dead")


class TestPigeon(BrokerContract):
    """Every promise, by pigeon."""

    @pytest.fixture
    def harness(self) -> Iterator[Harness]:
        """A loft that no other test has."""
        with PigeonHarness(f"pigeon://{uuid.uuid4().hex}") as harness:
            yield harness
