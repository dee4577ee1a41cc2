"""Choosing a registry, and the seal on what is in it."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

import broker
from broker.http.once import MAX_WARNINGS
from broker.http.registry import FileRegistry, Member, open_registry
from broker.http.registry.seal import MEMBER, Seal
from broker.message import Message
from broker.testing import Recorder, eventually
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


STRANGE = {
    "id": ["", 1, None, "a\nb", "x" * 1_000],
    "topic": [1, "", "t\x1b", []],
    "group": [1, "", {}, True],
    "url": [
        *("", "ftp://h:1", "http://h", "http://h:0", "http://h:70000", "http://h:x", "http://me:hush@h:1", 1),
        *("http://h:1/path", "http://h:1?x=y", "http://h\x1b:1", "http://h\n:1", "http://a:1,b:2", "http://[::1:1"),
    ],
    "prefetch": [0, -1, 1.5, "10", True, 10**30, None],
    "requests": [0, 65, "1", False],
    "lease_seconds": [0, -1, float("nan"), float("inf"), "30", True, None],
    "expires_at": [float("nan"), float("inf"), "x", True, -1, None],
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in STRANGE.items() for value in values])
def test_an_entry_that_is_not_possible_is_passed_over(
    tmp_path: Path, name: str, value: object, caplog: pytest.LogCaptureFixture
) -> None:
    """With one line in the log however often it is looked at, in a folder and under a seal."""
    registry, seal = FileRegistry(tmp_path), Seal("secret")
    registry.renew(replace(ALICE, topic="t"))
    entry = {**vars(ALICE), "topic": "t", "expires_at": time.time() + 10, name: value}
    (tmp_path / "members" / "t" / "strange.one.json").write_text(json.dumps(entry))
    for _ in range(5):
        assert [member.id for member in registry.members_of("t")] == [ALICE.id]
        assert seal.open_member(seal._close(MEMBER, json.loads(json.dumps(entry))), "at the door") is None
    assert caplog.text.count("is passed over") == 2
    assert "hush" not in caplog.text


@pytest.mark.parametrize("expires_in", [1e308, 10_000.0])
def test_an_entry_that_would_live_for_ever_does_not_live(tmp_path: Path, expires_in: float) -> None:
    """Members renew every few seconds."""
    registry = FileRegistry(tmp_path)
    registry.renew(replace(ALICE, topic="t"))
    [path] = (tmp_path / "members" / "t").iterdir()
    path.write_text(json.dumps({**json.loads(path.read_text()), "expires_at": time.time() + expires_in}))
    assert registry.members_of("t") == []


@pytest.mark.parametrize("case", ["folder", "loop", "pipe", "huge", "device", "another topic's", "not UTF-8", "deep"])
def test_what_is_no_entry_holds_up_nobody(tmp_path: Path, case: str, caplog: pytest.LogCaptureFixture) -> None:
    """Neither a publisher, which looks four times a second and writes at most one line, nor a list of all groups."""
    registry = FileRegistry(tmp_path)
    registry.add_group("t", "g")
    registry.renew(replace(ALICE, topic="t", group="g"))
    for folder in ("members/t", "groups/t", "groups"):
        put(case, tmp_path / folder / ("strange.one.json" if folder == "members/t" else "_ff"))
    with broker.connect("http", data_dir=tmp_path / "data", registry=f"file:{tmp_path}") as b:
        for _ in range(5):
            assert [member.id for member in registry.members_of("t")] == [ALICE.id]
            b.publish("t", Message(b"x"), mandatory=True)
            assert [(group.topic, group.name) for group in b.groups()] == [("t", "g")]
        seen = Recorder()
        b.subscribe("u", seen, group="g")
        b.publish("u", Message(b"x"), mandatory=True)
        seen.wait_for("x")
    assert caplog.text.count("strange.one.json is passed over") <= 2  # here, and by the broker's own


def test_a_group_whose_members_cannot_be_looked_up_holds_up_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is logged once, and tried again until it goes."""
    looked, members_of = [0], FileRegistry.members_of

    def refuse(registry: FileRegistry, topic: str) -> list[Member]:
        looked[0] += topic == "t"
        if topic == "t" and looked[0] < 5:
            raise PermissionError(13, "Permission denied")
        return members_of(registry, topic)

    monkeypatch.setattr(FileRegistry, "members_of", refuse)
    seen = Recorder()
    with broker.connect("http", data_dir=tmp_path) as b:
        for topic in ("t", "u"):
            b.subscribe(topic, seen, group="g")
        b.publish("t", Message(b"x"))
        b.publish("u", Message(b"y"))
        assert sorted(received.text for received in seen.wait(2)) == ["x", "y"]
    assert caplog.text.count("nothing can be sent to g of t") == 1


def test_a_member_that_cannot_be_announced_does_not_end_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever goes wrong with it, which is logged once."""
    monkeypatch.setattr("broker.http.broker.BEAT_SECONDS", 0.01)
    renewed, renew = [0], FileRegistry.renew

    def refuse(registry: FileRegistry, member: Member) -> None:
        if refusing and member.topic == "t":
            raise AttributeError("nobody thought of this")
        renewed[0] += 1
        renew(registry, member)

    refusing = False
    monkeypatch.setattr(FileRegistry, "renew", refuse)
    with broker.connect("http", data_dir=tmp_path) as b:
        for topic in ("t", "u"):
            b.subscribe(topic, Recorder(), group="g")
        refusing = True
        before = renewed[0]
        eventually(lambda: renewed[0] > before + 5, "the other is renewed")
    assert caplog.text.count("nobody thought of this") == 1


@pytest.mark.parametrize("content", [b"", b" \n", b"\xff\xfe\x00", b"x" * 10_000, None, "pipe"])
def test_a_secret_that_cannot_be_one_is_one_clear_error(tmp_path: Path, content: bytes | str | None) -> None:
    """Which names the file, and nothing that is in it."""
    path = tmp_path / "broker" / "secret"
    path.parent.mkdir()
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        put(content or "folder", path)
    with pytest.raises(broker.BrokerError, match=f"{path}.*; remove (the file|it), or set BROKER_SECRET") as caught:
        broker.connect("http", data_dir=tmp_path)
    assert "xxx" not in str(caught.value)


@pytest.mark.parametrize("secret", ["", "\udcff", "x" * 10_000])
def test_a_secret_of_the_environment_that_cannot_be_one_is_refused(tmp_path: Path, secret: str) -> None:
    """Before anything is tried, and without quoting it."""
    with pytest.raises(broker.BrokerError, match=r"the secret \(BROKER_SECRET\)") as caught:
        broker.new("http", data_dir=tmp_path, secret=secret)
    assert "xxx" not in str(caught.value)


def put(case: str, path: Path) -> None:
    """Something that is no entry of ours, in the place of one."""
    match case:
        case "folder":
            path.mkdir()
        case "loop":
            path.symlink_to(path)
        case "pipe":
            os.mkfifo(path)
        case "huge":
            with path.open("wb") as file:
                file.truncate(10_000_000_000)
        case "device":
            path.symlink_to("/dev/zero")
        case "another topic's":
            path.write_text(json.dumps({**vars(ALICE), "id": "other", "topic": "v", "expires_at": time.time() + 10}))
        case "not UTF-8":
            path.write_bytes(b"\xff")
        case "deep":
            path.write_text("[" * 50_000)
