"""The registry in etcd: what a stranger can do, and what happens while etcd is away."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

import broker
from broker.base import Broker
from broker.errors import NoSubscriber, PublishError
from broker.http.registry import Member
from broker.http.registry.etcd import GROUPS, MEMBERS, Away, EtcdRegistry
from broker.http.registry.seal import Seal
from broker.message import Message
from broker.testing import Recorder, eventually
from tests.servers.etcd import EtcdServer

SECRET = "a secret for tests"
ALICE = Member("alice", "t", "g", "http://127.0.0.1:1", prefetch=10, requests=4, lease_seconds=30.0)


@pytest.fixture
def etcd(tmp_path: Path) -> Iterator[EtcdServer]:
    """One of this test's own: it may be stopped, and nobody else writes to it."""
    folder = tmp_path / "etcd"
    folder.mkdir()
    with EtcdServer(folder) as started:
        yield started


@pytest.fixture
def registry(etcd: EtcdServer) -> Iterator[EtcdRegistry]:
    """What a publisher or a member has of it."""
    with closing(EtcdRegistry(etcd.url, Seal(SECRET))) as opened:
        yield opened


def machine(etcd: EtcdServer, folder: Path, secret: str = SECRET) -> Broker:
    """A broker as on a machine of its own, which shares nothing with others but the etcd."""
    return broker.connect("http", data_dir=folder, registry=etcd.url, secret=secret, publish_timeout_seconds=5)


def test_a_member_that_is_silent_is_forgotten_and_its_group_is_not(
    etcd: EtcdServer, registry: EtcdRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A listener is kept for longer: it may be back from a pause."""
    monkeypatch.setattr("broker.http.registry.etcd.MEMBER_SECONDS", 1.0)
    registry.add_group("t", "g")
    registry.renew(ALICE)
    registry.renew(replace(ALICE, id="listener", group=None))
    assert {member.id for member in registry.members_of("t")} == {"alice", "listener"}
    eventually(lambda: [member.id for member in registry.members_of("t")] == ["listener"], "alice is forgotten")
    assert registry.broadcasts_of("t") == ["listener"]
    assert registry.groups() == [("t", "g")]


def test_a_renewal_writes_nothing_that_is_there_already(etcd: EtcdServer, registry: EtcdRegistry) -> None:
    """Every version would be kept; what was deleted underneath is written again."""
    for _ in range(5):
        registry.add_group("t", "g")
        registry.renew(ALICE)
    [(_, kept)] = etcd.client().get_prefix(MEMBERS)
    assert kept["version"] == "1"
    etcd.client().delete_prefix("/http-broker")
    registry.add_group("t", "g")
    registry.renew(ALICE)
    assert (registry.groups_of("t"), registry.members_of("t")) == (["g"], [ALICE])


def test_a_member_that_was_away_for_long_is_announced_anew(
    etcd: EtcdServer, registry: EtcdRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its lease has ended meanwhile."""
    monkeypatch.setattr("broker.http.registry.etcd.MEMBER_SECONDS", 1.0)
    registry.renew(ALICE)
    eventually(lambda: registry.members_of("t") == [], "alice is forgotten")
    registry.renew(ALICE)
    assert registry.members_of("t") == [ALICE]
    registry.withdraw(ALICE)
    assert registry.members_of("t") == []


def test_a_stranger_s_entries_get_nothing(etcd: EtcdServer, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Neither a member nor a group that was not made with the secret, nor ours under another topic's name."""
    client, ours = etcd.client(), Seal(SECRET)
    client.put(f"{MEMBERS}t/eve", Seal("guessed").close_member(replace(ALICE, id="eve")))
    client.put(f"{GROUPS}t/eve", b"")
    client.put(f"{MEMBERS}t/copied", ours.close_member(replace(ALICE, topic="other")))
    client.put(f"{GROUPS}t/copied", ours.close_group("other", "g"))
    with machine(etcd, tmp_path / "a") as b:
        with pytest.raises(NoSubscriber):
            b.publish("t", Message(b"x"), mandatory=True)
        assert b._registry.members_of("t") == []  # type: ignore[attr-defined]  # an http broker
    assert f"{MEMBERS}t/eve is passed over" in caplog.text
    assert f"{GROUPS}t/eve is passed over" in caplog.text


def test_a_machine_with_another_secret_neither_gets_nor_gives(etcd: EtcdServer, tmp_path: Path) -> None:
    """Each side passes the other over; a group's entry is put right by who has the secret."""
    seen, others = Recorder(), Recorder()
    with machine(etcd, tmp_path / "a") as right, machine(etcd, tmp_path / "b", "wrong") as wrong:
        wrong.subscribe("t", others, group="h")
        with pytest.raises(NoSubscriber):
            right.publish("t", Message(b"x"), mandatory=True)
        right.subscribe("t", seen, group="g")
        right.publish("t", Message(b"x"), mandatory=True)
        with pytest.raises(broker.PublishError):
            wrong.publish("u", Message(b"x"), mandatory=True)
        assert [received.text for received in seen.wait(1)] == ["x"]
    assert others.received == []


def test_publishing_goes_on_while_etcd_is_away(
    etcd: EtcdServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """To the members that were known; once it is back, members that it has lost are announced anew."""
    seen = Recorder()
    with machine(etcd, tmp_path / "users") as publisher, machine(etcd, tmp_path / "emails") as consumer:
        consumer.subscribe("t", seen, group="g")
        registry: EtcdRegistry = publisher._registry  # type: ignore[attr-defined]  # an http broker
        eventually(lambda: f"{GROUPS}t/g" in registry._known, "the publisher has looked around")
        etcd.kill()
        publisher.publish("t", Message(b"while it is away"), mandatory=True)
        seen.wait_for("while it is away")
        eventually(lambda: caplog.text.count("what was known of it holds") == 2, "each machine says so, once")
        with pytest.raises(PublishError, match="no group of 'unheard of' was known before"):
            publisher.publish("unheard of", Message(b"x"))
        with pytest.raises(broker.BrokerError, match=r"cannot register: the registry etcd://.* is away"):
            consumer.subscribe("t", Recorder(), group="g")
        shutil.rmtree(etcd.folder / "data")
        etcd.start()
        eventually(lambda: etcd.client().get_prefix(MEMBERS), "it is announced again")
        eventually(lambda: "is back" in caplog.text, "somebody says so")
        with machine(etcd, tmp_path / "new") as new:
            new.publish("t", Message(b"afterwards"), mandatory=True)
            seen.wait_for("afterwards")


def test_an_etcd_that_hangs_holds_up_nobody_for_long(etcd: EtcdServer, registry: EtcdRegistry) -> None:
    """It is asked once, then left alone for a while."""
    registry.add_group("t", "g")
    assert registry.groups_of("t") == ["g"]
    with etcd.paused():
        assert registry.groups_of("t") == ["g"]
        for _ in range(1000):
            assert registry.groups_of("t") == ["g"]
        with pytest.raises(Away):
            registry.add_group("t", "h")
    eventually(lambda: _added(registry, "h"), "it is asked again")
    assert sorted(registry.groups_of("t")) == ["g", "h"]


def test_a_restart_of_etcd_forgets_nobody(etcd: EtcdServer, tmp_path: Path) -> None:
    """What it had confirmed is on its disk."""
    seen = Recorder()
    with machine(etcd, tmp_path / "emails") as consumer:
        consumer.subscribe("t", seen, group="g")
        consumer.subscribe("t", Recorder(), group="h").unsubscribe()
        etcd.kill()
        etcd.start()
        with machine(etcd, tmp_path / "users") as publisher:
            assert [(group.topic, group.name) for group in publisher.groups()] == [("t", "g"), ("t", "h")]
            publisher.publish("t", Message(b"x"), mandatory=True)
            seen.wait_for("x")


def _added(registry: EtcdRegistry, group: str) -> bool:
    try:
        registry.add_group("t", group)
    except Away:
        return False
    return True
