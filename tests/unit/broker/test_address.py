"""The parser of addresses: what it reads, what it refuses, and that no secret gets out either way."""

from __future__ import annotations

import ssl
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.address import Address, without_secrets
from tests.servers.certificate import make_certificate

SECRETS = st.text(st.characters(exclude_categories=["Cs"]), min_size=6).map(lambda text: f"Sec{text}ret")


def parse(text: str, *options: str) -> Address:
    """As an adapter does."""
    return Address.parse(text, port=4222, options=["ca", "cert", "key", *options])


@pytest.mark.parametrize(
    ("text", "scheme", "tls", "hosts", "path"),
    [
        ("nats://h", "nats", False, "h:4222", ""),
        ("nats://", "nats", False, "localhost:4222", ""),
        ("NATS+TLS://h1:1,h2,[::1]:3", "nats", True, "h1:1 h2:4222 [::1]:3", ""),
        ("tls://h", "nats", True, "h:4222", ""),
        ("amqp://h/a%2Fb", "rabbitmq", False, "h:4222", "a/b"),
        ("amqps://h/", "rabbitmq", True, "h:4222", ""),
        ("amqp+tls://h", "rabbitmq", True, "h:4222", ""),
        ("rediss://h:0/0", "redis", True, "h:0", "0"),
        ("kafka://[fe80::1],bücher_1.example", "kafka", False, "[fe80::1]:4222 bücher_1.example:4222", ""),
    ],
)
def test_an_address_is_taken_apart(text: str, scheme: str, tls: bool, hosts: str, path: str) -> None:
    """Aliases stand for the broker's own name; several hosts are kept in order; what is missing is the usual."""
    address = parse(text)
    assert (address.scheme, address.tls, address.path) == (scheme, tls, path)
    assert " ".join(map(str, address.hosts)) == hosts


@given(st.text(st.characters(exclude_categories=["Cs"])), SECRETS)
def test_any_user_and_password_can_be_written(user: str, password: str) -> None:
    """With % and two digits for what is special; and neither its text nor its repr shows them."""
    address = parse(f"nats://{quote(user, '')}:{quote(password, '')}@h")
    assert (address.user, address.password) == (user, password)
    assert password not in f"{address} {address!r}"


@given(SECRETS, st.sampled_from(["nats://app:{}@h", "amqp://app:{}@h/v?ssl=true", "redis://{}@h:x", "amqp://app:{}"]))
def test_a_secret_is_never_quoted(secret: str, template: str) -> None:
    """Whatever it contains: it is read as it stands, or the address is refused without quoting any of it."""
    text = template.format(secret)
    told = without_secrets(text)
    try:
        address = parse(text)
        told += f"{address} {address!r}"
    except ValueError as error:
        told += f"{error} {error.__cause__}"
    assert not [part for part in secret.split("@") if len(part) > 2 and part in told]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("nats", "begins like"),
        ("rabbitmq://app:Secr3tA#x@h/", "write # as %23"),
        ("rabbitmq://app:Secr3tA/x@h/", "/ as %2F"),
        ("rabbitmq://app:Secr3tA", "a host or a port cannot be used"),
        ("nats://h:99999", "larger than 65535"),
        ("nats://h1,,h2", "a host or a port"),
        ("nats://h h", "a host or a port"),
        ("nats://%zz@h", "the user has a %"),
        ("nats://a:%ff@h", "the password is not UTF-8"),
        ("nats+sentinel://h", "the only addition to a scheme is .tls"),
        ("amqp://h?ssl=true", "no option 'ssl'; there are: ca, cert, key, replicas"),
        ("nats://h?replicas=1&replicas=3", "'replicas' is given twice"),
        ("nats://h?replicas", "not written as name=value"),
        ("nats://h?replicas=", "not written as name=value"),
        ("nats://h?ca=file", "'ca' is for TLS.*write nats.tls://"),
    ],
)
def test_what_is_not_understood_is_refused(text: str, says: str) -> None:
    """The part is named, so that one knows where to look."""
    with pytest.raises(ValueError, match=says):
        parse(text, "replicas")


def test_the_context_for_tls_trusts_and_shows_what_the_files_say(tmp_path: Path) -> None:
    """An authority of one's own and a certificate of one's own; without TLS there is no context."""
    certificate, key = tmp_path / "a certificate.pem", tmp_path / "its key.pem"
    make_certificate(certificate, key)
    context = parse(
        f"tls://h?ca={quote(str(certificate))}&cert={quote(str(certificate))}&key={quote(str(key))}"
    ).tls_context()
    assert context
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert len(context.get_ca_certs()) == 1
    assert parse("nats://h").tls_context() is None


@pytest.mark.parametrize(("option", "says"), [("ca", "'ca'"), ("cert", "'cert' and 'key'"), ("key", "without 'cert'")])
def test_a_file_for_tls_that_is_not_there_is_named(option: str, says: str, tmp_path: Path) -> None:
    """The option and the file, before anything is tried."""
    with pytest.raises(ValueError, match=says):
        parse(f"tls://h?{option}={quote(str(tmp_path / 'none'))}").tls_context()


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("nats://a:b@h:1/p?ca=f&token=x", "nats://…@h:1/p?ca=f&token=…"),
        ("mysql+pymysql://root@127.0.0.1/demo", "mysql+pymysql://…@127.0.0.1/demo"),
        ("sqlite:////tmp/users.db", "sqlite:////tmp/users.db"),
        ("rabbitmq://app:Secr3tA", "rabbitmq:…"),
        ("app:Secr3tA@h", "app:…"),
        ("amqp:app:Secr3tA", "amqp:…"),
        ("nats", "nats"),
        ("file:some folder", "file:some folder"),
    ],
)
def test_a_url_is_shown_without_its_secrets(text: str, shown: str) -> None:
    """Any URL, such as a database's; one that cannot be read may have its secret anywhere."""
    assert without_secrets(text) == shown
