"""Where a broker is, how it is reached and as whom: the one parser of addresses, for every adapter.

    scheme[+tls]://[user[:password]@][host[:port][,host[:port]…]][/path][?option=value&…]

The options `ca`, `cert` and `key` name files in PEM form for TLS; each adapter says which others it knows. A special
character in a user, a password or a path is written as `%` and two hexadecimal digits (RFC 3986, 2.1). What this parser
does not understand it refuses. It names the part that is wrong and does not quote it: that may belong to a password.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import NamedTuple
from urllib.parse import unquote

#: other names of a scheme → what they stand for
ALIASES = MappingProxyType(
    {"amqp": "rabbitmq", "amqps": "rabbitmq+tls", "https": "http+tls", "rediss": "redis+tls", "tls": "nats+tls"}
)
TLS_FILES = ("ca", "cert", "key")  #: whom to trust (else the system's authorities); our certificate and its key
LAST_PORT = 65535

_URL = re.compile(
    r"(?P<scheme>[a-z][a-z0-9+.-]*)://"
    r"((?P<user>[^:/?#@]*)(:(?P<password>[^/?#@]*))?@)?"
    r"(?P<hosts>[^/?#@]*)(/(?P<path>[^?#@]*))?(\?(?P<query>[^#@]*))?",
    re.IGNORECASE,
)
_HOST = re.compile(r"(?:\[(?P<ip6>[0-9A-Fa-f:.]+)\]|(?P<name>[\w.-]+))(?::(?P<port>[0-9]{1,5}))?")
_OPTION = re.compile(r"(?P<name>[a-z_]+)=(?P<value>.+)", re.DOTALL)


class Host(NamedTuple):
    """One server of an address."""

    name: str
    port: int

    def __str__(self) -> str:
        return f"[{self.name}]:{self.port}" if ":" in self.name else f"{self.name}:{self.port}"


@dataclass(frozen=True)
class Address:
    """An address, taken apart. Its text is the address without user and password."""

    scheme: str  #: the broker's own name, whatever alias was given
    tls: bool
    hosts: tuple[Host, ...]  #: at least one
    path: str = ""  #: what follows the first slash, decoded
    user: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)
    options: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def parse(cls, text: str, *, port: int, host: str = "localhost", options: Collection[str] = TLS_FILES) -> Address:
        """The parts of an address; `ValueError` says which part cannot be used.

        `port` and `host` stand where the address names none; `options` are those that may follow the `?`.
        """
        parts = _split(text)
        scheme, tls = known_scheme(parts["scheme"])
        given = _options(parts["query"], options)
        if not tls and (files := [name for name in TLS_FILES if name in given]):
            raise ValueError(f"the option {files[0]!r} is for TLS, and this address is without: write {scheme}+tls://")
        return cls(
            scheme,
            tls,
            tuple(_host(each, port) for each in (parts["hosts"] or host).split(",")),
            _decoded(parts["path"], "path") or "",
            _decoded(parts["user"], "user"),
            _decoded(parts["password"], "password"),
            MappingProxyType(given),
        )

    def tls_context(self) -> ssl.SSLContext | None:
        """What TLS needs, from the files that the options name; None for an address without TLS.

        `ValueError` names the option whose file cannot be used.
        """
        if not self.tls:
            return None
        ca, cert, key = (self.options.get(name) for name in TLS_FILES)
        try:
            context = ssl.create_default_context(cafile=ca)
        except OSError as error:
            raise ValueError(f"the file of the option 'ca' cannot be used: {ca}: {_why(error)}") from error
        if cert:
            try:
                context.load_cert_chain(cert, key, password=_no_password)
            except OSError as error:
                files = " and ".join(filter(None, [cert, key]))
                raise ValueError(
                    f"the files of the options 'cert' and 'key' cannot be used: {files}: {_why(error)}"
                ) from error
        elif key:
            raise ValueError("the option 'key' is given without 'cert'")
        return context

    def __str__(self) -> str:
        tls = "+tls" if self.tls else ""
        path = f"/{self.path}" if self.path else ""
        return f"{self.scheme}{tls}://{','.join(map(str, self.hosts))}{path}"


def known_scheme(text: str) -> tuple[str, bool]:
    """The broker that a scheme or an alias stands for, and whether with TLS; `ValueError` for an unknown addition."""
    name, _, addition = text.lower().partition("+")
    if addition not in ("", "tls"):
        raise ValueError(f"there is no {text}://; the only addition to a scheme is +tls")
    known, _, implied = ALIASES.get(name, name).partition("+")
    return known, bool(addition or implied)


def without_secrets(text: str) -> str:
    """A URL of any kind as it may be shown: without user and password; only its scheme if it cannot be read."""
    scheme, _, rest = text.partition(":")
    if not re.search("[@:/]", rest):
        return text  # a word, such as nats, or file:folder
    try:
        parts = _split(text)
        for each in filter(None, parts["hosts"].split(",")):
            _host(each, 0)
    except ValueError:
        return f"{scheme}:…" if re.fullmatch(r"[A-Za-z][A-Za-z0-9+.-]*", scheme) else "…"
    path = "" if parts["path"] is None else f"/{parts['path']}"
    query = re.sub(r"(password|secret|token)=[^&]*", r"\1=…", parts["query"] or "")
    login = "…@" if parts["user"] is not None else ""
    return f"{parts['scheme']}://{login}{parts['hosts']}{path}{'?' if query else ''}{query}"


def _split(text: str) -> dict[str, str]:
    if "://" not in text:
        raise ValueError("an address begins like nats://")
    if parts := _URL.fullmatch(text):
        return parts.groupdict()
    raise ValueError(
        "it has a special character in a place where it means something else;"
        " in user, password and path, write # as %23, / as %2F, : as %3A, ? as %3F, @ as %40"
    )


def _host(text: str, port: int) -> Host:
    parts = _HOST.fullmatch(text)
    if not parts:
        raise ValueError("a host or a port cannot be used; servers are written as HOST:PORT, with commas between them")
    given = int(parts["port"]) if parts["port"] else port
    if given > LAST_PORT:
        raise ValueError(f"a port is larger than {LAST_PORT}")
    return Host(parts["ip6"] or parts["name"], given)


def _options(query: str | None, known: Collection[str]) -> dict[str, str]:
    given: dict[str, str] = {}
    for text in query.split("&") if query else []:
        parts = _OPTION.fullmatch(text)
        if not parts:
            raise ValueError("an option is not written as name=value")
        name = parts["name"]
        if name not in known:
            raise ValueError(f"no option {name!r}; there {_are(known)}")
        if name in given:
            raise ValueError(f"the option {name!r} is given twice")
        given[name] = _decoded(parts["value"], f"option {name!r}") or ""
    return given


def _are(known: Collection[str]) -> str:
    return f"are: {', '.join(sorted(known))}" if known else "are none"


def _decoded(text: str | None, part: str) -> str | None:
    """The text without its percent signs; None stays None."""
    if text is None:
        return None
    if re.search("%(?![0-9A-Fa-f]{2})", text):
        raise ValueError(f"the {part} has a % that is not followed by two hexadecimal digits; write % as %25")
    try:
        return unquote(text, errors="strict")
    except UnicodeDecodeError:
        raise ValueError(f"the {part} is not UTF-8 once its % signs are read") from None


def _no_password() -> str:
    """OpenSSL would otherwise ask for it at the terminal, and wait."""
    raise ValueError("the key is encrypted; give one that is not")


def _why(error: OSError) -> str:
    return error.strerror or str(error)
