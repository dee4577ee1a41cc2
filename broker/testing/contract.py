"""The whole contract, to be subclassed once for each broker."""

from broker.testing.dead_letters import DeadLetters
from broker.testing.draining import Draining
from broker.testing.faults import Faults
from broker.testing.groups import Groups
from broker.testing.handlers import Handlers
from broker.testing.publishing import Publishing
from broker.testing.retries import Retries


class BrokerContract(Publishing, Groups, Handlers, Retries, DeadLetters, Draining, Faults):
    """Every promise; override the fixture `harness`."""
