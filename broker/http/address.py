"""The http broker's address: where members listen, what they tell others, and whether it is TLS.

    http://HOST:PORT                                        plain
    https://HOST:PORT?certificates=DIR                      TLS, with what is in that folder; see `tls.py`
    …?advertise=NAME, …?advertise=NAME:PORT                 what others are told instead

Without a host it is 127.0.0.1, and without a port a free one. Others are told the address that we listen on, not the
name that stands here: it may mean another machine to them.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from pathlib import Path

from broker import address as any_broker
from broker.address import Host, without_secrets
from broker.errors import BrokerError

OPTIONS = ("advertise", "certificates")  #: that the URL may have after its `?`


@dataclass(frozen=True)
class Address:
    """An address, taken apart."""

    scheme: str
    host: str
    port: int  #: 0: a free one
    advertised: str | None  #: the host's name for others
    advertised_port: int | None
    certificates: Path | None

    @classmethod
    def parse(cls, url: str) -> Address:
        """From a URL; `BrokerError` when it cannot be one, or lacks what it needs."""
        try:
            where = any_broker.Address.parse(
                url if "://" in url else f"{url}://", port=0, host="127.0.0.1", options=OPTIONS
            )
            host, port = _only_host(where, "it is http://HOST:PORT, without user and path")
            told = _advertised(where.options.get("advertise"))
            folder = where.options.get("certificates")
            scheme = "https" if where.tls else "http"
            address = cls(scheme, host, port, told and told.name, told and told.port, Path(folder) if folder else None)
            address._check()
        except ValueError as error:
            raise BrokerError(f"http broker cannot use the address {without_secrets(url)}: {error}") from None
        return address

    def url(self, host: str, port: int) -> str:
        """What others are told, when that is what we listen on."""
        name = self.name(host)
        return f"{self.scheme}://{f'[{name}]' if ':' in name else name}:{self.advertised_port or port}"

    def name(self, host: str) -> str:
        """What others call this machine, when it listens on that address; the name in its certificate."""
        return self.advertised or host

    def _check(self) -> None:
        if self.scheme == "https" and not self.certificates:
            raise ValueError(
                "https needs ?certificates=DIR; `python -m broker certificates --help` says how to make one"
            )
        if self.scheme == "http" and self.certificates:
            raise ValueError("certificates are for https://")
        if _is_every_interface(self.name(self.host)):
            raise ValueError("others cannot find it there; say ?advertise=NAME, the name of this machine for them")


def _advertised(text: str | None) -> Host | None:
    """What others are told instead; its port is 0 where that is the one that we listen on."""
    if text is None:
        return None
    try:
        told = any_broker.Address.parse(f"http://{text}", port=0, options=())
    except ValueError as error:
        raise ValueError(f"the option 'advertise' is not NAME or NAME:PORT: {error}") from None
    return _only_host(told, "the option 'advertise' is not NAME or NAME:PORT")


def _only_host(where: any_broker.Address, else_says: str) -> Host:
    if len(where.hosts) > 1 or where.user is not None or where.path:
        raise ValueError(else_says)
    return where.hosts[0]


def _is_every_interface(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_unspecified
    except ValueError:  # a name
        return False
