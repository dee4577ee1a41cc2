"""Choosing a registry, and the seal on what is in it."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

import broker
from broker.http.registry import FileRegistry, Member, open_registry
from broker.http.registry.seal import MAX_WARNINGS, MEMBER, Seal
from tests.servers.process import reserved_port
from tests.servers.stranger import stranger

ALICE = Member("a" * 32, "users 学院君", "g", "http://127.0.0.1:1", prefetch=10, requests=4, lease_seconds=30.0)


@pytest.mark.parametrize("url", ["mdns", "mdns://127.0.0.1", "etcd://127.0.0.1:2379"])
def test_a_registry_that_strangers_can_write_to_needs_the_secret(url: str) -> None:
    """One that is made on first use would be another one on each machine."""
    with pytest.raises(broker.BrokerError, match=f"REGISTRY={url} needs BROKER_SECRET, the same on every machine"):
        broker.new("http", registry=url)


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("mdns://192.0.2.1", r"REGISTRY=mdns://192\.0\.2\.1: no interface of this machine has that address"),
        ("mdns://127.0.0.1/path", "write mdns, or mdns://ADDRESS"),
        ("etcd:", "etcd://HOST:PORT is all that there can be"),
        ("etcd://host/prefix", "etcd://HOST:PORT is all that there can be"),
        ("etcd://user:hush@host:2379", "etcd://HOST:PORT is all that there can be"),
        ("etcd://user:hush@host:port", "REGISTRY=etcd:… is not possible"),
        ("consul://user:hush@host:2379", "unknown registry 'consul://…@host:2379'; known: file"),
        ("etcd://nobody.invalid", "the registry etcd://nobody.invalid cannot be used"),
    ],
)
def test_a_url_that_cannot_work_is_refused(url: str, says: str) -> None:
    """Before anything is tried, in one line without a password."""
    with pytest.raises(broker.BrokerError, match=says) as caught:
        broker.new("http", registry=url, secret="x")
    assert "hush" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_etcd_that_is_not_there_is_refused_at_once(caplog: pytest.LogCaptureFixture) -> None:
    """And nothing else is said of it."""
    refusal = r"the registry etcd://127\.0\.0\.1:\d+ cannot be used: .*refused"
    with reserved_port() as port, pytest.raises(broker.BrokerError, match=refusal):
        broker.new("http", registry=f"etcd://127.0.0.1:{port}", secret="x")
    assert caplog.text == ""


@pytest.mark.parametrize(
    "answer",
    [b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n[]", b"HTTP/1.1 404 No\r\ncontent-length: 0\r\n\r\n", b"220 "],
)
def test_another_server_in_the_place_of_etcd_is_refused(answer: bytes) -> None:
    """Whatever it says."""
    with stranger(answer=answer) as port, pytest.raises(broker.BrokerError, match="cannot be used"):
        broker.new("http", registry=f"etcd://127.0.0.1:{port}", secret="x")


@pytest.mark.parametrize(("kind", "library"), [("mdns", "zeroconf"), ("etcd", "etcd3gw")])
def test_a_missing_extra_is_refused_with_its_install_line(kind: str, library: str) -> None:
    """Here the library is not to be had."""
    script = (
        f"import sys; sys.modules[{library!r}] = None\nimport broker\n"
        f"try: broker.new('http', registry='{kind}://127.0.0.1', secret='x')\n"
        "except broker.BrokerError as error: print(error)"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert f"pip install '.[{kind}]'" in result.stdout


def test_a_folder_elsewhere_is_a_registry_too(tmp_path: Path) -> None:
    """`file:FOLDER`."""
    registry = open_registry(f"file:{tmp_path}/other", tmp_path / "usual", "x")
    registry.add_group("t", "g")
    assert FileRegistry(tmp_path / "other").groups() == [("t", "g")]


def test_a_sealed_entry_is_read_by_who_has_the_same_secret() -> None:
    """And is the same each time, so that it need not be written again."""
    sealed = Seal("secret").close_member(ALICE)
    assert Seal("secret").open_member(sealed, "here") == ALICE
    assert Seal("secret").close_member(ALICE) == sealed
    assert Seal("secret").open_group(Seal("secret").close_group("t", "学院君"), "here") == ("t", "学院君")


@pytest.mark.parametrize("case", ["another secret", "changed", "a group's seal", "no seal", "nothing", "not text"])
def test_an_entry_that_is_not_ours_is_passed_over(case: str, caplog: pytest.LogCaptureFixture) -> None:
    """With one warning that says where it is, however often it is read."""
    ours = Seal("secret").close_member(ALICE)
    sealed = {
        "another secret": Seal("another").close_member(ALICE),
        "changed": ours.replace(b"127.0.0.1", b"127.0.0.9"),
        "a group's seal": Seal("secret").close_group("t", "g"),
        "no seal": ours.partition(b" ")[2],
        "nothing": b"",
        "not text": b"\xff \xff",
    }[case]
    seal = Seal("secret")
    assert seal.open_member(sealed, "at the door") is None
    assert seal.open_member(sealed, "at the door") is None
    [record] = caplog.records
    assert "the entry at the door is passed over: it was made by a stranger, or with another" in record.getMessage()


def test_a_stranger_with_many_entries_does_not_fill_the_log(caplog: pytest.LogCaptureFixture) -> None:
    """The first ones are named."""
    seal = Seal("secret")
    for n in range(MAX_WARNINGS + 5):
        seal.open_member(b"nonsense", f"entry {n}")
    assert len(caplog.records) == MAX_WARNINGS


def test_entries_of_other_versions_of_this_program_are_read_where_they_can_be(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """What is new is ignored; what lacks something is passed over."""
    seal = Seal("secret")
    newer = seal._close(MEMBER, {**vars(ALICE), "colour": "green"})
    older = seal._close(MEMBER, {"id": "1", "topic": "t"})
    assert seal.open_member(newer, "here") == ALICE
    with caplog.at_level(logging.WARNING):
        assert seal.open_member(older, "there") is None
    assert "there is passed over: it is of another version" in caplog.text


def test_a_damaged_entry_of_a_folder_is_passed_over(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Others are found."""
    registry = FileRegistry(tmp_path)
    registry.renew(replace(ALICE, topic="t"))
    for name, text in (("list", "[]"), ("half", "{"), ("empty", "{}"), ("word", json.dumps("id"))):
        (tmp_path / "members" / "t" / f"{name}.one.json").write_text(text)
    assert [member.id for member in registry.members_of("t")] == [ALICE.id]
    assert caplog.text.count("is passed over") == 4
