"""The redis broker; start at `broker.py`."""

from broker.redis.broker import RedisBroker

__all__ = ["RedisBroker"]
