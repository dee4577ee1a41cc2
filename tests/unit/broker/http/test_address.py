"""The http broker's address: where members listen, and what they tell others."""

from __future__ import annotations

from pathlib import Path

import pytest

import broker
from broker.http.address import Address


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("http://", "http://10.0.0.1:7000"),
        ("http://name-of-this-machine:7000", "http://10.0.0.1:7000"),
        ("http://0.0.0.0?advertise=emails", "http://emails:7000"),
        ("http://0.0.0.0:7000?advertise=emails:80", "http://emails:80"),
        ("http://0.0.0.0?advertise=[fe80::1]:80", "http://[fe80::1]:80"),
        ("https://emails?certificates=some/where", "https://10.0.0.1:7000"),
        ("https://emails?certificates=some/where&advertise=emails", "https://emails:7000"),
    ],
)
def test_others_are_told_where_it_listens_or_what_is_advertised(given: str, told: str) -> None:
    """Not the name in the URL: that may mean another machine to them."""
    assert Address.parse(given).url("10.0.0.1", 7000) == told


def test_the_folder_of_certificates_is_a_path() -> None:
    """Relative to where the program runs."""
    assert Address.parse("https://?certificates=some/where").certificates == Path("some/where")


@pytest.mark.parametrize(
    ("address", "says"),
    [
        ("http://127.0.0.1:eighty", "a host or a port cannot be used"),
        ("http://127.0.0.1:70000", "a port is larger than 65535"),
        ("http://127.0.0.1:7000?advertise=emails:eighty", "'advertise' is not NAME or NAME:PORT"),
        ("http://127.0.0.1:7000?advertise=emails:70000", "'advertise' is not NAME or NAME:PORT"),
        ("http://127.0.0.1:7000?advertise=emails:%d9%a1", "'advertise' is not NAME or NAME:PORT"),
        ("http://127.0.0.1:7000?advertise=a,b", "'advertise' is not NAME or NAME:PORT"),
        ("http://127.0.0.1:7000?advertise=", "an option is not written as name=value"),
        ("http://127.0.0.1:7000?advertized=emails", "no option 'advertized'; there are: advertise, certificates"),
        ("http://127.0.0.1:7000?emails", "an option is not written as name=value"),
        ("http://127.0.0.1:7000/path", "without user and path"),
        ("http://a,b", "it is http://HOST:PORT"),
        ("http://0.0.0.0:7000", r"say \?advertise=NAME"),
        ("http://[::]:7000", r"say \?advertise=NAME"),
        ("http://127.0.0.1?certificates=some/where", "certificates are for https"),
        ("https://127.0.0.1", r"https needs \?certificates=DIR"),
        ("https", r"https needs \?certificates=DIR"),
    ],
)
def test_an_address_that_cannot_work_is_refused(address: str, says: str) -> None:
    """Before anything is tried; `https`, a short name, is not taken for plain http."""
    with pytest.raises(broker.BrokerError, match=says):
        broker.new(address)


@pytest.mark.parametrize(
    "address",
    ["http://me:hush@127.0.0.1", "http://me:hush@127.0.0.1:x", "http://127.0.0.1?advertise=me:hush@x", "http://h:hush"],
)
def test_no_secret_of_an_address_is_quoted(address: str) -> None:
    """Wherever somebody has put one."""
    with pytest.raises(broker.BrokerError) as caught:
        broker.new(address)
    assert "hush" not in str(caught.value)
