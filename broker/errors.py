"""Every error of this package, as one tree; a client library's own errors never get out.

BrokerError                 anything below; catch this one
├── UnknownBroker           no broker of that name, or its extra is not installed
├── InvalidName             a topic or group name that no broker takes
├── MessageTooLarge         refused before anything was sent
├── PublishError            some messages were not confirmed; says which
│   └── NoSubscriber        mandatory, and the topic has no group yet
├── DrainTimeout            handlers were still running at the deadline
└── Reject                  raised *by a handler*: dead-letter this message, do not try it again
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from broker.message import Message


class BrokerError(Exception):
    """Something went wrong between this process and the broker; the text names broker, address and cause."""


class UnknownBroker(BrokerError):
    """No broker answers to that name; the text lists those that do, or the install line that is missing."""


class InvalidName(BrokerError):
    """A topic or group name that cannot be used on every broker."""


class MessageTooLarge(BrokerError):
    """Body or headers are over the limit; nothing was sent."""


class PublishError(BrokerError):
    """Not every message was confirmed.

    `unconfirmed` holds those that may or may not be stored, in the order given. Publishing them again
    loses nothing and may deliver them twice.
    """

    def __init__(self, text: str, unconfirmed: tuple[Message, ...]) -> None:
        super().__init__(text)
        self.unconfirmed = unconfirmed


class NoSubscriber(PublishError):
    """A mandatory publish to a topic that no group has ever subscribed to; nothing was stored."""


class DrainTimeout(BrokerError):
    """Handlers were still running when the drain's deadline passed; what they had will be delivered again."""


class Reject(BrokerError):
    """Raise it in a handler to send the message to the dead letters at once: `raise Reject("no such type")`."""
