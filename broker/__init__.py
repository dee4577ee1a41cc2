"""One delivery contract on every broker, swapped with one word. Start reading at `base.py`.

with broker.connect("nats://localhost:4222") as b:          # or "nats", or $BROKER
    b.subscribe("user.registered", handler, group="email-service")
    b.publish("user.registered", Message(body=b"…"))
"""

from __future__ import annotations

import os
from dataclasses import replace
from functools import cache
from typing import Unpack

from broker.base import Broker, DeadLetter, Decodable, Encodable, Group, Promises, Publisher
from broker.engine.report import Outcome, Settled
from broker.engine.source import Delivery, Source
from broker.engine.subscription import Handler, Subscription
from broker.errors import (
    BrokerError,
    DrainTimeout,
    InvalidName,
    MessageTooLarge,
    NoSubscriber,
    PublishError,
    Reject,
    UnknownBroker,
)
from broker.message import Event, Message
from broker.options import OptionArguments, Options, SubscribeOptions, known
from broker.plugins import find
from broker.runner import run

__all__ = [
    "Broker",
    "BrokerError",
    "DeadLetter",
    "Decodable",
    "Delivery",
    "DrainTimeout",
    "Encodable",
    "Event",
    "Group",
    "Handler",
    "InvalidName",
    "Message",
    "MessageTooLarge",
    "NoSubscriber",
    "Options",
    "Outcome",
    "Promises",
    "PublishError",
    "Publisher",
    "Reject",
    "Settled",
    "Source",
    "SubscribeOptions",
    "Subscription",
    "UnknownBroker",
    "connect",
    "default",
    "new",
    "run",
]


def new(address: str | None = None, **options: Unpack[OptionArguments]) -> Broker:
    """A broker, not yet connected: of the given short name or URL, else of `$BROKER`, else `http`.

    Options that are not given come from the environment (`DATA_DIR`, `REGISTRY`, `BROKER_SECRET`).
    """
    cls, url = find(address or os.environ.get("BROKER") or "http")
    known(Options, options)
    return cls(url, replace(Options.from_environ(os.environ), **options))


def connect(address: str | None = None, **options: Unpack[OptionArguments]) -> Broker:
    """As `new`, and connected. Use it in a `with` statement, or call `disconnect()`."""
    broker = new(address, **options)
    broker.connect()
    return broker


@cache
def default() -> Broker:
    """The one broker of this process, made and connected on first use from `$BROKER`."""
    return connect()
