"""The NATS broker; start at `broker.py`."""

from broker.nats.broker import NatsBroker

__all__ = ["NatsBroker"]
