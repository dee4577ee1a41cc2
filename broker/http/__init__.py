"""The http broker; start at `broker.py`."""

from broker.http.broker import HttpBroker

__all__ = ["HttpBroker"]
