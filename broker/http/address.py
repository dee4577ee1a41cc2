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
from urllib.parse import SplitResult, parse_qsl, urlsplit

from broker.address import without_secrets
from broker.errors import BrokerError

SETTINGS = ("advertise", "certificates")  #: that the URL may have after its `?`


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
            where = urlsplit(url)
            given = _settings(where)
            told = urlsplit(f"//{given.get('advertise', '')}")
            address = cls(
                where.scheme,
                where.hostname or "127.0.0.1",
                where.port or 0,
                told.hostname,
                told.port,
                Path(given["certificates"]) if "certificates" in given else None,
            )
            address._check()
        except ValueError as error:
            raise BrokerError(f"http broker cannot use the address {without_secrets(url)}: {error}") from error
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


def _settings(where: SplitResult) -> dict[str, str]:
    given = dict(parse_qsl(where.query, keep_blank_values=True, strict_parsing=bool(where.query)))
    for name, value in given.items():
        if name not in SETTINGS:
            raise ValueError(f"no setting {name!r}; there are: {', '.join(SETTINGS)}")
        if not value:
            raise ValueError(f"{name} is empty")
    return given


def _is_every_interface(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_unspecified
    except ValueError:  # a name
        return False
