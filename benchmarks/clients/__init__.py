"""The ways to use a broker's server that are compared: our broker, its library used bare, and other frameworks.

`rivals(…)` gives those that are installed, ours first.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from benchmarks.clients.client import Client
from benchmarks.clients.ours import Ours

LIBRARIES = frozenset({"redis", "nats", "rabbitmq", "kafka"})
FASTSTREAM = frozenset({"redis", "nats", "rabbitmq", "kafka"})
KOMBU = frozenset({"redis", "rabbitmq"})  #: its transport for Kafka is left out: it polls a second for each message


@contextmanager
def rivals(broker: str, address: str, folder: Path) -> Iterator[list[Client]]:
    """All of them connected; `folder` is for ours, where it needs one."""
    with ExitStack() as connected:
        yield [connected.enter_context(client(address)) for client in _known(broker, folder)]


def _known(broker: str, folder: Path) -> Iterator[Callable[[str], Client]]:
    yield partial(Ours, folder=folder)
    if broker in LIBRARIES:
        yield import_module(f"benchmarks.clients.{broker}").Library
    if broker in FASTSTREAM and _is_installed("faststream"):
        yield partial(import_module("benchmarks.clients.faststream").FastStream, broker)
    if broker in KOMBU and _is_installed("kombu"):
        yield partial(import_module("benchmarks.clients.kombu").Kombu, broker)


def _is_installed(package: str) -> bool:
    return package in sys.modules or find_spec(package) is not None  # once imported, Kombu cannot be found any more
