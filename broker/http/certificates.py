"""A certificate authority for a demo, and a certificate for each member: `python -m broker certificates DIR NAME…`.

    DIR/ca.pem                              the authority; publishers believe whom it vouches for
    DIR/ca-key.pem                          its key: stays where it is; with it anybody can pass for a member
    DIR/NAME/                               for the machine of that name or address, all that it needs:
        ca.pem, certificate.pem, key.pem    BROKER='https://NAME?certificates=…/NAME'

A second run keeps the authority and makes the certificates anew. Where you have an authority, use that.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from broker.errors import BrokerError
from broker.http.tls import CA, CERTIFICATE, KEY
from broker.private import make_file, make_folder

CA_KEY = "ca-key.pem"
CA_DAYS = 3650.0
CLOCKS_DIFFER = timedelta(days=1)  #: certificates hold from that long ago
NAME = re.compile(r"[A-Za-z0-9:][A-Za-z0-9.:-]*")  #: of a host, or an address; it becomes a folder's name


class Pair(NamedTuple):
    """A certificate and its key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey


def make_certificates(folder: Path, names: Sequence[str], days: float) -> list[Path]:
    """The folders of those members, filled; `BrokerError` for a name or a folder that cannot be used."""
    for name in names:
        if not NAME.fullmatch(name):
            raise BrokerError(f"{name!r} is neither a host's name nor an address")
    try:
        authority = _authority(folder)
        return [_member(folder, name, authority, days) for name in names]
    except (OSError, ValueError, TypeError, OverflowError) as error:  # TypeError: a key with a password
        raise BrokerError(f"cannot make certificates in {folder}: {error}") from error


def _authority(folder: Path) -> Pair:
    """The one of that folder, made if there is none."""
    if (folder / CA).exists():
        key = serialization.load_pem_private_key((folder / CA_KEY).read_bytes(), None)
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise ValueError(f"{CA_KEY} is not one of ours")
        return Pair(x509.load_pem_x509_certificate((folder / CA).read_bytes()), key)
    make_folder(folder)
    pair = _issue("authority of the http broker", CA_DAYS, None, x509.BasicConstraints(ca=True, path_length=0))
    _write_key(folder / CA_KEY, pair)
    _write(folder / CA, pair)
    return pair


def _member(folder: Path, name: str, authority: Pair, days: float) -> Path:
    mine = folder / name
    make_folder(mine)
    names = x509.SubjectAlternativeName([_general_name(name)])
    serves = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])
    pair = _issue(name, days, authority, x509.BasicConstraints(ca=False, path_length=None), names, serves)
    _write_key(mine / KEY, pair)
    _write(mine / CERTIFICATE, pair)
    _write(mine / CA, authority)
    return mine


def _issue(name: str, days: float, authority: Pair | None, *extensions: x509.ExtensionType) -> Pair:
    """A new key, certified by the authority, or by itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, name)])
    issuer, signing = (authority.certificate.subject, authority.key) if authority else (subject, key)
    now = datetime.now(UTC)
    until = now + timedelta(days=days)
    builder = (
        x509.CertificateBuilder(issuer, subject, key.public_key(), x509.random_serial_number())
        .not_valid_before(min(now, until) - CLOCKS_DIFFER)
        .not_valid_after(until)
        .add_extension(_usage(is_authority=authority is None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signing.public_key()), critical=False)
    )
    for extension in extensions:
        builder = builder.add_extension(extension, critical=isinstance(extension, x509.BasicConstraints))
    return Pair(builder.sign(signing, hashes.SHA256()), key)


def _usage(*, is_authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not is_authority,
        key_cert_sign=is_authority,
        crl_sign=is_authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _write(path: Path, pair: Pair) -> None:
    make_file(path)
    path.write_bytes(pair.certificate.public_bytes(serialization.Encoding.PEM))


def _write_key(path: Path, pair: Pair) -> None:
    path.unlink(missing_ok=True)
    make_file(path)
    form = serialization.PrivateFormat.PKCS8
    path.write_bytes(pair.key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()))
