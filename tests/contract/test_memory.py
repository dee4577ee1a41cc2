"""The contract on the memory broker."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from broker.errors import BrokerError
from broker.memory import Bus, Entry, MemoryBroker, Queue
from broker.testing import BrokerContract, Harness


class MemoryHarness(Harness):
    """A bus of its own; its queues can be held still."""

    promises = MemoryBroker.promises

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


class TestMemory(BrokerContract):
    """Every promise, in one process."""

    @pytest.fixture
    def harness(self) -> Iterator[Harness]:
        """A bus that no other test has."""
        with MemoryHarness(f"memory://{uuid.uuid4().hex}") as harness:
            yield harness
