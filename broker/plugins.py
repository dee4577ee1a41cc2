"""From a name or a URL to a broker class: `nats`, `nats://host:4222`. Only that one's client library is imported.

Brokers of other people are found by the entry-point group `broker.plugins`; its names are URL schemes.
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import entry_points
from types import MappingProxyType

from broker.address import known_scheme
from broker.base import Broker
from broker.errors import UnknownBroker
from broker.extras import install_line

GROUP = "broker.plugins"

#: scheme → where the class is
BUILT_IN = MappingProxyType(
    {
        "memory": "broker.memory:MemoryBroker",
        "http": "broker.http:HttpBroker",
        "redis": "broker.redis:RedisBroker",
        "nats": "broker.nats:NatsBroker",
        "rabbitmq": "broker.rabbitmq:RabbitMQBroker",
        "kafka": "broker.kafka:KafkaBroker",
    }
)


def known_names() -> list[str]:
    """Every scheme that can be asked for, built in or installed."""
    return [*BUILT_IN, *sorted(entry_points(group=GROUP).names - set(BUILT_IN))]


def find(address: str) -> tuple[type[Broker], str | None]:
    """The class for a short name or URL, and the URL (None for a short name: the class knows its default)."""
    scheme, colon, _ = address.partition(":")
    try:
        name, tls = known_scheme(scheme)
    except ValueError as error:
        raise UnknownBroker(str(error)) from None
    url = address if colon else f"{scheme}://" if tls else None  # a class's own default is without TLS
    return _load(name), url


def _load(name: str) -> type[Broker]:
    classes = [*filter(None, [BUILT_IN.get(name)]), *(plugin.value for plugin in entry_points(group=GROUP, name=name))]
    if not classes:
        raise UnknownBroker(f"unknown broker {name!r}; known: {', '.join(known_names())}")
    if len(classes) > 1:
        raise UnknownBroker(f"several brokers are called {name!r}: {', '.join(classes)}; uninstall all but one")
    if name in BUILT_IN:
        return _load_built_in(name)
    [plugin] = entry_points(group=GROUP, name=name)
    loaded: type[Broker] = plugin.load()
    return loaded


def _load_built_in(scheme: str) -> type[Broker]:
    module, _, name = BUILT_IN[scheme].partition(":")
    try:
        loaded: type[Broker] = getattr(import_module(module), name)
    except ModuleNotFoundError as error:
        raise UnknownBroker(f"the {scheme} broker needs the package {error.name!r}: {install_line(scheme)}") from error
    return loaded
