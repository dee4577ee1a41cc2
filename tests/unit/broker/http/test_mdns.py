"""The registry by multicast DNS: who is heard, who is believed, and what is remembered. Nothing leaves this machine."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

import broker
from broker.base import Broker
from broker.errors import NoSubscriber
from broker.http.registry import FileRegistry, Member
from broker.http.registry.mdns import MdnsRegistry, _entry
from broker.http.registry.seal import Seal
from broker.message import Message
from broker.testing import Recorder, eventually

LOOPBACK = "mdns://127.0.0.1"
RUN = uuid.uuid4().hex[:8]  #: whoever else runs these tests meanwhile is heard, too
SECRET = f"a secret of {RUN}"
LONG = "学院君" * 7  #: with another as long, as much as fits into names
ALICE = Member(f"alice-{RUN}", LONG, LONG, "https://[fe80::1]:45000", prefetch=10, requests=4, lease_seconds=30.0)


def machine(folder: Path, secret: str = SECRET) -> Broker:
    """A broker as on a machine of its own, which shares nothing with others but the network."""
    return broker.connect("http", data_dir=folder, registry=LOOPBACK, secret=secret)


def open_registry(folder: Path, secret: str = SECRET) -> MdnsRegistry:
    """A registry as on a machine of its own."""
    return MdnsRegistry(LOOPBACK, Seal(secret), FileRegistry(folder))


@pytest.fixture
def here(tmp_path: Path) -> Iterator[MdnsRegistry]:
    """One machine."""
    with closing(open_registry(tmp_path / "here")) as registry:
        yield registry


@pytest.fixture
def there(tmp_path: Path) -> Iterator[MdnsRegistry]:
    """Another one."""
    with closing(open_registry(tmp_path / "there")) as registry:
        yield registry


def named(name: str) -> Member:
    """As Alice, but for the name."""
    return replace(ALICE, id=f"{name}-{RUN}")


def ids(registry: MdnsRegistry, topic: str = LONG) -> list[str]:
    """The members of that topic that it believes alive, without `RUN`."""
    return sorted(member.id.removesuffix(f"-{RUN}") for member in registry.members_of(topic))


def test_a_member_is_heard_elsewhere_and_gone_when_it_leaves(here: MdnsRegistry, there: MdnsRegistry) -> None:
    """All of it, however long its names are; its group stays."""
    here.renew(ALICE)
    eventually(lambda: ids(there) == ["alice"], "it is heard")
    assert replace(there.members_of(LONG)[0], expires_at=0.0) == ALICE
    here.withdraw(ALICE)
    eventually(lambda: ALICE.id not in there._heard, "its goodbye is heard")
    assert there.groups_of(LONG) == [LONG]
    eventually(lambda: ids(here) == [], "here, too")


def test_who_starts_later_hears_of_all(here: MdnsRegistry, tmp_path: Path) -> None:
    """With its first question; it waits for the others to answer."""
    here.renew(ALICE)
    here.renew(replace(named("listener"), group=None))
    with closing(open_registry(tmp_path / "late")) as late:
        assert late.groups() == [(LONG, LONG)]
        assert late.broadcasts_of(LONG) == [f"listener-{RUN}"]
        eventually(lambda: ids(late) == ["alice", "listener"], "both are heard")


def test_a_member_that_is_silent_is_not_believed_alive(
    here: MdnsRegistry, there: MdnsRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though its record is in every cache; a listener is still known, as it may be back from a pause."""
    here.renew(ALICE)
    here.renew(replace(named("listener"), group=None))
    eventually(lambda: ids(there) == ["alice", "listener"], "they are heard")
    monkeypatch.setattr("broker.http.registry.mdns.MEMBER_SECONDS", -1.0)
    assert ids(there) == []
    assert there.broadcasts_of(LONG) == [f"listener-{RUN}"]
    monkeypatch.setattr("broker.http.registry.mdns.FORGET_SECONDS", 0.0)
    assert there.broadcasts_of(LONG) == []


def test_a_renewal_is_heard(here: MdnsRegistry, there: MdnsRegistry, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is the announcement that says that its member lives; not before it is due."""
    here.renew(ALICE)
    eventually(lambda: ids(there) == ["alice"], "it is heard")
    first = there._heard[ALICE.id]
    here.renew(ALICE)
    assert here._heard[ALICE.id].member == first.member
    monkeypatch.setattr("broker.http.registry.mdns.RENEW_SECONDS", 0.0)
    here.renew(ALICE)
    eventually(lambda: there._heard[ALICE.id].at > first.at, "it is heard again")


def test_a_stranger_who_announces_himself_is_not_believed(
    here: MdnsRegistry, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither he nor his group; and what he copied from us long ago is too old."""
    with closing(open_registry(tmp_path / "eve", "guessed")) as eve:
        eve.renew(named("eve"))
        eventually(lambda: f"eve-{RUN}._http-broker._tcp.local. is passed over" in caplog.text, "he is heard")
        old = replace(named("copied"), expires_at=time.time() - 1000)
        eve._zeroconf.register_service(_entry(old, Seal(SECRET).close_member(old)), cooperating_responders=True)
        eve._zeroconf.register_service(_entry(named("odd"), b""), cooperating_responders=True)
        here.renew(named("bob"))
        eventually(lambda: f"bob-{RUN}" in eve_s_ears(eve), "announcements are heard")
        assert ids(here) == ["bob"]
        assert here._memory.groups() == [(LONG, LONG)]


def eve_s_ears(eve: MdnsRegistry) -> str:
    """What his side has in its cache."""
    return " ".join(eve._zeroconf.cache.names())


def test_an_announcement_that_cannot_be_dealt_with_leaves_us_listening(
    here: MdnsRegistry, there: MdnsRegistry, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Here the disk is full for a moment."""

    def refuse(topic: str, group: str) -> None:
        raise OSError("no space left")

    with monkeypatch.context() as full:
        full.setattr(there._memory, "add_group", refuse)
        here.renew(ALICE)
        eventually(lambda: "is passed over: no space left" in caplog.text, "it was tried")
    here.renew(named("bob"))
    eventually(lambda: "bob" in ids(there), "the next is heard")


def test_messages_reach_a_machine_that_shares_nothing_but_the_network(tmp_path: Path) -> None:
    """And wait for its group once that was heard of, in this life or an earlier one."""
    seen = Recorder()
    with machine(tmp_path / "users") as users:
        with pytest.raises(NoSubscriber):
            users.publish("t", Message(b"too early"), mandatory=True)
        with machine(tmp_path / "emails") as emails:
            emails.subscribe("t", seen, group="g")
            users.publish("t", Message(b"at once"), mandatory=True)
            seen.wait_for("at once")
        users.publish("t", Message(b"while it is away"), mandatory=True)
    with machine(tmp_path / "users") as users, machine(tmp_path / "emails") as emails:
        users.publish("t", Message(b"not seen yet"), mandatory=True)
        emails.subscribe("t", seen, group="g")
        seen.wait(3)
    assert seen.texts == ["at once", "while it is away", "not seen yet"]


def test_a_machine_with_another_secret_neither_gets_nor_gives(tmp_path: Path) -> None:
    """Each side passes the other over."""
    others = Recorder()
    with machine(tmp_path / "a") as right, machine(tmp_path / "b", "wrong") as wrong:
        wrong.subscribe("t", others, group="h")
        with pytest.raises(NoSubscriber):
            right.publish("t", Message(b"x"), mandatory=True)
    assert others.received == []


def test_a_group_is_forgotten_on_the_machine_that_forgets_it(here: MdnsRegistry, there: MdnsRegistry) -> None:
    """Each has its own memory."""
    for registry in (here, there):
        registry.add_group("t", "g")
    here.forget_group("t", "g")
    assert (here.groups_of("t"), there.groups_of("t")) == ([], ["g"])
