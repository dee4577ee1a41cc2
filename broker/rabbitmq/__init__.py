"""The rabbitmq broker; start at `broker.py`."""

from broker.rabbitmq.broker import RabbitMQBroker

__all__ = ["RabbitMQBroker"]
