"""`python -m broker`."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import broker
import client
from broker.cli import console
from broker.cli.main import main
from broker.message import Event, Message
from broker.testing import Recorder, eventually
from demo import ledger


@pytest.fixture(autouse=True)
def data_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An http broker of its own for each test."""
    monkeypatch.setenv("BROKER", "http")
    monkeypatch.setenv("DATA_DIR", str(tmp_path))
    return tmp_path


def dead_letter(message: Message | None = None, reason: str = "unknown type 'x'") -> Message:
    """A message that has become a dead letter of group g."""
    message = message or Message("学院君".encode(), {"ce-type": "x"})

    def fail(event: Event) -> None:
        raise broker.Reject(reason)

    with broker.connect() as b:
        b.subscribe("t", fail, group="g")
        b.publish("t", message)
        letters = b.group("t", "g").dead_letters
        eventually(lambda: message.id in {letter.message.id for letter in letters()}, "it is a dead letter")
    return message


def test_a_published_message_reaches_its_group(capsys: pytest.CaptureFixture[str]) -> None:
    """It says the id."""
    seen = Recorder()
    with broker.connect() as b:
        b.subscribe("t", seen, group="g")
        assert main(["publish", "t", "hello", "--header", "a=b=c", "--mandatory"]) == 0
        [received] = seen.wait(1)
    assert (received.text, received.message.header["a"]) == ("hello", "b=c")
    assert capsys.readouterr().out == received.message.id + "\n"


def test_a_subscription_prints_what_comes(capsys: pytest.CaptureFixture[str]) -> None:
    """And ends after `--count`."""
    with broker.connect() as b:
        b.subscribe("t", Recorder(), group="g").unsubscribe()
        b.publish("t", Message("学院君".encode()))
    assert main(["subscribe", "t", "--group", "g", "--count", "1"]) == 0
    assert "attempt 1  学院君" in capsys.readouterr().out


def test_dead_letters_are_listed_and_shown(capsys: pytest.CaptureFixture[str]) -> None:
    """With the reason, the attempts, and the times of the first and of the last."""
    message = dead_letter()
    with broker.connect() as b:
        [letter] = b.group("t", "g").dead_letters()
    assert main(["dead", "list"]) == 0
    line = capsys.readouterr().out
    times = f"{letter.published_at:%Y-%m-%d %H:%M:%S} … {letter.failed_at:%Y-%m-%d %H:%M:%S} UTC"
    assert line == f"{message.id}  t → g  {times}  attempts 1  unknown type 'x'\n"
    assert main(["dead", "show", message.id]) == 0
    shown = capsys.readouterr().out
    assert all(part in shown for part in ("header        ce-type: x\n", "body          学院君\n", "attempts      1\n"))


def test_a_long_reason_is_whole_only_when_shown(capsys: pytest.CaptureFixture[str]) -> None:
    """One line for each is a list."""
    message = dead_letter(reason="x" * 1000)
    assert main(["dead", "list"]) == 0
    assert capsys.readouterr().out.endswith(f"  {'x' * 200}…\n")
    assert main(["dead", "show", message.id]) == 0
    assert f"reason        {'x' * 1000}\n" in capsys.readouterr().out


def test_a_discard_leaves_a_line_that_says_why(capsys: pytest.CaptureFixture[str]) -> None:
    """In the form of the services' log lines; without a reason nothing is discarded."""
    message = dead_letter()
    for none in ([], ["--reason", " "]):
        with pytest.raises(SystemExit) as refused:
            main(["dead", "discard", message.id, *none])
        assert refused.value.code == 2
    capsys.readouterr()
    assert main(["dead", "discard", message.id, "--reason", "not ours"]) == 0
    line = json.loads(capsys.readouterr().out)
    assert line["event"] == "dead letter discarded: not ours"
    assert (line["event_id"], line["topic"], line["group"], line["attempts"]) == (message.id, "t", "g", 1)
    assert line["reason"] == "unknown type 'x'"
    assert main(["dead", "list"]) == 0
    assert capsys.readouterr().out == ""


def test_what_strangers_have_written_is_shown_without_being_obeyed(capsys: pytest.CaptureFixture[str]) -> None:
    """Neither terminal nor reader is fooled by an id, a header or a body; the id is used as it is shown."""
    evil = "\x1b[2J\r\nbody: \u202e学院君"
    dead_letter(Message(b"\x1b[2J\n\xff", {"ce-id": "a\nb"}), reason=evil)
    dead_letter(Message(evil.encode(), {"ce-id": "c", evil: evil}))
    harmless = r"\x1b[2J\r\nbody: \u202e学院君"
    for command in (["list"], ["show", r"a\nb"], ["show", "c"], ["replay", r"a\nb"]):
        assert main(["dead", *command]) == 0
    told = capsys.readouterr().out
    assert all(line.isprintable() for line in told.split("\n"))
    for line in (
        r"body          b'\x1b[2J\n\xff'",
        f"body          {harmless}",
        f"header        {harmless}: {harmless}",
    ):
        assert f"{line}\n" in told
    assert f"attempts 1  {harmless}\n" in told


@given(st.text(st.characters(exclude_categories=[])))
def test_any_text_is_shown_in_one_line_that_can_be_printed(text: str) -> None:
    """Also half a character, which no output would take."""
    shown = console.shown(text)
    assert shown.isprintable()
    assert shown.encode().decode() == shown
    assert shown == text or not text.isprintable()


def test_a_dead_letter_is_replayed_to_its_group(capsys: pytest.CaptureFixture[str]) -> None:
    """One or all, to a member that is there now; when none is left, it says so."""
    letters, seen = [dead_letter(), dead_letter()], Recorder()
    with broker.connect() as b:
        b.subscribe("t", seen, group="g")
        assert main(["dead", "replay", letters[0].id]) == 0
        assert main(["dead", "replay", "--all"]) == 0
        received = seen.wait(2)
    assert [each.message.id for each in received] == [letter.id for letter in letters]
    assert capsys.readouterr().out == "replayed 1  t → g\n" * 2
    assert main(["dead", "replay", "--all"]) == 0
    assert capsys.readouterr().err == "no dead letters; there are: t → g\n"


@pytest.mark.parametrize(
    "command",
    [
        ["dead", "list", "--group", "typo"],
        ["dead", "list", "--topic", "typo", "--group", "g"],
        ["dead", "replay", "--all", "--group", "typo"],
        ["dead", "show", "id", "--group", "typo"],
        ["dead", "discard", "id", "--group", "typo", "--reason", "x"],
        ["groups", "forget", "t", "typo"],
    ],
    ids=" ".join,
)
def test_a_group_that_is_not_there_is_named_and_not_made(
    command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """With those that are."""
    dead_letter()
    assert main(command) == 1
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("broker: no group ")
    assert line.endswith("; there are: t → g")
    assert main(["groups", "list"]) == 0
    assert capsys.readouterr().out == "t → g  backlog 0  dead 1\n"


@pytest.mark.parametrize("command", [["show"], ["replay"], ["discard", "--reason", "x"]], ids=lambda c: c[0])
def test_a_dead_letter_that_is_not_there_is_said_to_be_none(
    command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Status 1, and where to look."""
    dead_letter()
    assert main(["dead", *command, "nobody"]) == 1
    assert capsys.readouterr().err == "broker: no dead letter nobody; see `python -m broker dead list`\n"


def test_nothing_at_all_is_said_to_be_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    """An empty list is empty on standard output, and explained on the other."""
    assert main(["dead", "list"]) == 0
    assert capsys.readouterr() == ("", "no dead letters; no group has ever subscribed\n")


def test_any_bytes_are_published() -> None:
    """Also those that are no text."""
    seen = Recorder()
    with broker.connect() as b:
        b.subscribe("t", seen, group="g")
        assert main(["publish", "t", os.fsdecode(b"\xff")]) == 0
        [received] = seen.wait(1)
    assert received.message.body == b"\xff"


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


def test_the_memory_broker_cannot_be_reached_from_another_process(capsys: pytest.CaptureFixture[str]) -> None:
    """It says so, instead of showing an empty list."""
    assert main(["--broker", "memory", "dead", "list"]) == 2
    assert "the memory broker lives in one process, and this command is another" in capsys.readouterr().err


@pytest.mark.parametrize("number", ["nan", "inf", "1e300", "-1", "five", "9" * 5000])
@pytest.mark.parametrize(
    "run",
    [
        lambda number: main(["subscribe", "t", f"--count={number}"]),
        lambda number: main(["certificates", "DIR", "NAME", f"--days={number}"]),
        lambda number: ledger.main([f"--wait={number}"]),
        lambda number: ledger.main([f"--settle-seconds={number}"]),
        lambda number: client.main([f"--timeout={number}"]),
        lambda number: client.main([f"--count={number}"]),
        lambda number: client.main([f"--concurrency={number}"]),
    ],
    ids=["count", "days", "wait", "settle-seconds", "client-timeout", "client-count", "client-concurrency"],
)
def test_a_number_that_makes_no_sense_is_refused(
    run: Callable[[str], int], number: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """By every command that takes one: the usage, one line, and status 2."""
    with pytest.raises(SystemExit) as ended:
        run(number)
    assert ended.value.code == 2
    assert "error: " in capsys.readouterr().err
