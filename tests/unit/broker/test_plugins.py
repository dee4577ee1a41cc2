"""Choosing a broker with one word."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import broker
from broker.memory import MemoryBroker
from broker.message import Event, Message
from broker.plugins import find
from broker.testing import Recorder


def test_a_short_name_and_a_url_choose_the_same_class() -> None:
    """The URL is kept as the address."""
    assert find("memory") == (MemoryBroker, None)
    assert find("memory://mine") == (MemoryBroker, "memory://mine")


def test_an_unknown_name_is_refused_with_those_that_are_known() -> None:
    """So that a typing error is seen at once."""
    with pytest.raises(broker.UnknownBroker, match=r"'nast'; known: memory, http, .*nats"):
        broker.new("nast")


def test_a_missing_extra_is_refused_with_its_install_line() -> None:
    """Here the client library of NATS is not to be had."""
    script = (
        "import sys; sys.modules['nats'] = None\nimport broker\n"
        "try: broker.new('nats')\nexcept broker.UnknownBroker as error: print(error)"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert "pip install '.[nats]'" in result.stdout


def test_only_the_chosen_broker_s_library_is_imported() -> None:
    """Neither at import nor by choosing another one."""
    script = "import sys, broker; broker.new('memory'); print([m for m in sys.modules if m in sys.argv[1:]])"
    libraries = ["requests", "waitress", "redis", "nats", "pika", "confluent_kafka"]
    result = subprocess.run([sys.executable, "-c", script, *libraries], capture_output=True, text=True, check=True)
    assert result.stdout == "[]\n"


def test_two_brokers_of_one_name_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whichever came first would depend on where things are installed."""
    for n in (1, 2):
        info = tmp_path / f"pigeon{n}-1.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: pigeon{n}\nVersion: 1\n")
        (info / "entry_points.txt").write_text(f"[broker.plugins]\npigeon = pigeon{n}:Pigeon\nmemory = mine{n}:Mine\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(broker.UnknownBroker, match=r"several brokers are called 'pigeon': pigeon\d:Pigeon, pi"):
        broker.new("pigeon")
    with pytest.raises(broker.UnknownBroker, match=r"'memory': broker.memory:MemoryBroker, mine"):
        broker.new("memory")


def test_other_people_s_brokers_are_found_by_their_entry_point(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package that is merely installed adds its scheme."""
    (tmp_path / "pigeon.py").write_text(
        "from broker.memory import MemoryBroker\nclass Pigeon(MemoryBroker):\n    name = 'pigeon'\n"
    )
    info = tmp_path / "pigeon-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: pigeon\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[broker.plugins]\npigeon = pigeon:Pigeon\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with broker.connect("pigeon://loft") as b:
        assert (b.name, b.address) == ("pigeon", "pigeon://loft")
    with pytest.raises(broker.UnknownBroker, match="pigeon"):
        broker.new("nobody")


def test_the_default_broker_is_made_once_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """On first use, not at import."""
    monkeypatch.setenv("BROKER", "memory://default")
    broker.default.cache_clear()
    try:
        assert broker.default() is broker.default()
        assert broker.default().address == "memory://default"
    finally:
        broker.default().disconnect()
        broker.default.cache_clear()


def test_an_address_is_shown_without_its_password() -> None:
    """In errors and in repr."""
    b = MemoryBroker("memory://user:pa55@host")
    assert "pa55" not in f"{b!r} {b.error('cause')}"
    assert "host: cause" in str(b.error("cause"))


def test_a_decorated_function_is_subscribed_and_objects_are_published() -> None:
    """The two conveniences of the ancestor."""

    class Ping:
        def to_message(self) -> Message:
            return Message(b"ping")

    seen = Recorder()
    with broker.connect("memory://conveniences") as b:

        @b.subscriber("t", group="g")
        def handler(event: Event) -> None:
            seen(event)

        b.publisher("t").publish(Ping(), Message(b"plain"), mandatory=True)
        assert [received.text for received in seen.wait(2)] == ["ping", "plain"]
