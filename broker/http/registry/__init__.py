"""How publishers find members, chosen by the URL in `REGISTRY`; what each of them does is in `base.py`.

    file, file:FOLDER                   one machine: a shared folder                                `file.py`
    mdns, mdns://ADDRESS                a local network, without a server                           `mdns.py`
    etcd://HOST:PORT                    any network, with an etcd                                   `etcd.py`

Where strangers can write to it, which is everywhere but in a folder, entries are sealed with the secret (`seal.py`).
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

from broker.address import without_secrets
from broker.errors import BrokerError
from broker.extras import install_line
from broker.http.registry.base import Member, Registry
from broker.http.registry.file import FileRegistry
from broker.http.registry.seal import Seal

__all__ = ["FileRegistry", "Member", "Registry", "check_registry", "open_registry"]

KNOWN = "file, file:FOLDER, mdns, mdns://ADDRESS, etcd://HOST:PORT"


def check_registry(url: str, secret: str | None) -> None:
    """Refuse a registry that there is not, that lacks the secret, or that cannot be used from here and now."""
    kind = url.partition(":")[0]
    if kind not in ("file", "mdns", "etcd"):
        raise BrokerError(f"unknown registry {without_secrets(url)!r}; known: {KNOWN}")
    if kind != "file":
        if not secret:
            raise BrokerError(f"REGISTRY={without_secrets(url)} needs BROKER_SECRET, the same on every machine")
        _module(kind).check(url)


def open_registry(url: str, folder: Path, secret: str) -> Registry:
    """The registry of that URL. `folder` is where `file` is, and where `mdns` remembers groups."""
    kind, _, path = url.partition(":")
    if kind == "file":
        return FileRegistry(Path(path) if path else folder)
    seal = Seal(secret)
    opened: Registry = (
        _module(kind).MdnsRegistry(url, seal, FileRegistry(folder))
        if kind == "mdns"
        else _module(kind).EtcdRegistry(url, seal)
    )
    return opened


def _module(kind: str) -> Any:
    """Imported only now: each needs a library of its own."""
    try:
        return import_module(f"{__name__}.{kind}")
    except ModuleNotFoundError as error:
        raise BrokerError(f"REGISTRY={kind} needs the package {error.name!r}: {install_line(kind)}") from error
