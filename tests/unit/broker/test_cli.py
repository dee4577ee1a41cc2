"""`python -m broker`."""

from __future__ import annotations

from pathlib import Path

import pytest

import broker
from broker.__main__ import main
from broker.message import Event, Message
from broker.testing import Recorder, eventually


@pytest.fixture(autouse=True)
def data_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An http broker of its own for each test."""
    monkeypatch.setenv("BROKER", "http")
    monkeypatch.setenv("DATA_DIR", str(tmp_path))
    return tmp_path


def fail(event: Event) -> None:
    """A handler that wants none of it."""
    raise broker.Reject("unknown type 'x'")


def dead_letter() -> Message:
    """A message that has become a dead letter of group g."""
    message = Message("学院君".encode(), {"ce-type": "x"})
    with broker.connect() as b:
        b.subscribe("t", fail, queue="g")
        b.publish("t", message)
        eventually(b.group("t", "g").dead_letters, "there is a dead letter")
    return message


def test_a_published_message_reaches_its_group(capsys: pytest.CaptureFixture[str]) -> None:
    """It says the id."""
    seen = Recorder()
    with broker.connect() as b:
        b.subscribe("t", seen, queue="g")
        assert main(["publish", "t", "hello", "--header", "a=b=c", "--mandatory"]) == 0
        [received] = seen.wait(1)
    assert (received.text, received.message.header["a"]) == ("hello", "b=c")
    assert capsys.readouterr().out == received.message.id + "\n"


def test_a_subscription_prints_what_comes(capsys: pytest.CaptureFixture[str]) -> None:
    """And ends after `--count`."""
    with broker.connect() as b:
        b.subscribe("t", Recorder(), queue="g").unsubscribe()
        b.publish("t", Message("学院君".encode()))
    assert main(["subscribe", "t", "--queue", "g", "--count", "1"]) == 0
    assert "attempt 1  学院君" in capsys.readouterr().out


def test_dead_letters_are_listed_shown_and_discarded(capsys: pytest.CaptureFixture[str]) -> None:
    """With the reason; a discard wants one too."""
    message = dead_letter()
    assert main(["dead", "list"]) == 0
    line = capsys.readouterr().out
    assert all(part in line for part in (message.id, "t → g", "attempts 1", "unknown type 'x'"))
    assert main(["dead", "show", message.id]) == 0
    assert "学院君" in capsys.readouterr().out
    assert main(["dead", "discard", message.id, "--reason", "not ours"]) == 0
    assert main(["dead", "show", message.id]) == 1
    assert "no dead letter" in capsys.readouterr().err


def test_a_dead_letter_is_replayed_to_its_group() -> None:
    """To a member that is there now."""
    message, seen = dead_letter(), Recorder()
    with broker.connect() as b:
        b.subscribe("t", seen, queue="g")
        assert main(["dead", "replay", "--all"]) == 0
        [received] = seen.wait(1)
    assert received.message.id == message.id


def test_groups_are_listed_and_forgotten(capsys: pytest.CaptureFixture[str]) -> None:
    """With their backlog and their dead."""
    dead_letter()
    assert main(["groups", "list"]) == 0
    assert capsys.readouterr().out == "t → g  backlog 0  dead 1\n"
    assert main(["groups", "forget", "t", "g"]) == 0
    assert main(["groups", "list"]) == 0
    assert capsys.readouterr().out == ""


def test_a_mistake_is_one_line_and_status_2(capsys: pytest.CaptureFixture[str]) -> None:
    """No traceback."""
    assert main(["--broker", "nobody", "groups", "list"]) == 2
    assert main(["publish", "t", "x", "--mandatory"]) == 2
    first, second = capsys.readouterr().err.splitlines()
    assert "unknown broker 'nobody'" in first
    assert "has no group yet" in second


def test_the_memory_broker_says_that_it_lives_elsewhere(capsys: pytest.CaptureFixture[str]) -> None:
    """Instead of showing an empty list and leaving it at that."""
    assert main(["--broker", "memory", "dead", "list"]) == 0
    assert "lives in one process" in capsys.readouterr().err
