"""The Kafka broker; start at `broker.py`."""

from broker.kafka.broker import KafkaBroker

__all__ = ["KafkaBroker"]
