"""The contract on the http broker: on each registry, plain and over TLS.

`make test` runs it whole on a shared folder, whole on etcd over TLS, and through mDNS the parts in which it matters how
members are found; `make registries` all of it on each combination.
"""

from __future__ import annotations

import pytest

from broker.testing import BrokerContract
from broker.testing.dead_letters import DeadLetters
from broker.testing.draining import Draining
from broker.testing.faults import Faults
from broker.testing.groups import Groups
from broker.testing.publishing import Publishing
from broker.testing.retries import Retries
from tests.contract.http_harness import OnHttp


class TestHttp(OnHttp, BrokerContract):
    """A shared folder, plain."""


@pytest.mark.matrix
class TestHttpTls(OnHttp, BrokerContract):
    """A shared folder, over TLS."""

    tls = True


class TestHttpMdns(OnHttp, Groups, Faults):
    """Multicast: who gets what, and what goes on after a fault."""

    registry = "mdns"


@pytest.mark.matrix
class TestHttpMdnsRest(OnHttp, Publishing, Retries, DeadLetters, Draining):
    """Multicast: the rest."""

    registry = "mdns"


@pytest.mark.matrix
class TestHttpMdnsTls(OnHttp, BrokerContract):
    """Multicast, over TLS."""

    registry = "mdns"
    tls = True


@pytest.mark.matrix
class TestHttpEtcd(OnHttp, BrokerContract):
    """etcd, plain."""

    registry = "etcd"


class TestHttpEtcdTls(OnHttp, BrokerContract):
    """etcd, over TLS."""

    registry = "etcd"
    tls = True
