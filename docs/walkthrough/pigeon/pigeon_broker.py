"""A broker of somebody else's, in a package of its own; chapter 8 of the walkthrough.

    pigeon://LOFT       publishers and subscribers in one process, and a pigeon between them

It takes what it can from the memory broker. One that is to carry between processes writes the six methods at the end of
`broker/base.py` itself.
"""

from __future__ import annotations

import sys
from dataclasses import replace

from broker import Message
from broker.memory import MemoryBroker


class PigeonBroker(MemoryBroker):
    """Messages travel by pigeon."""

    name = "pigeon"
    default_address = "pigeon://loft"
    promises = replace(MemoryBroker.promises, needs="a pigeon")

    def _publish(self, topic: str, messages: tuple[Message, ...], mandatory: bool) -> None:
        print(f"a pigeon takes off for {topic} with {len(messages)} messages", file=sys.stderr)
        super()._publish(topic, messages, mandatory)
