"""The demo as a newcomer sees it, and what it leaves behind: nothing."""

from __future__ import annotations

import os
import pty
import re
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import requests

from broker.testing import eventually
from demo.processes import Stage
from tests.end_to_end.processes import Program, run
from tests.servers.stranger import stranger

DEMO = ["-m", "demo", "--free-ports"]  # several run at a time


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[Program]:
    """The demo in the background; its temporary folders are in the test's own."""
    program = Program(DEMO, tmp_path / "demo.log", {"TMPDIR": str(tmp_path)})
    yield program
    program.close()


@pytest.mark.parametrize("broker", ["http", "memory"])
def test_it_tells_the_story_and_ends_by_itself(broker: str, tmp_path: Path) -> None:
    """With the tutorial's own lines, the conflict, and the ledger at the end; nothing is left but what was there."""
    ended = run(*DEMO, "--broker", broker, settings={"TMPDIR": str(tmp_path)})
    assert (ended.returncode, ended.stderr) == (0, ""), ended.stdout
    for name in ("学院君", "Ada Lovelace", "Zoë 🦊"):
        assert ended.stdout.count(f"[User Registered]: {name}") == 1
        assert ended.stdout.count(f"[SENDING A EMAIL TO {name}...]") == 1
    assert "409" in ended.stdout
    assert ended.stdout.count(" stopped\n") >= 1, "drained, not killed"
    assert "LEDGER" in ended.stdout.splitlines()[-1]
    assert "\x1b" not in ended.stdout
    assert _processes_of(tmp_path) == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGKILL])
def test_it_leaves_no_process_however_it_ends(demo: Program, number: signal.Signals, tmp_path: Path) -> None:
    """Asked to, by Ctrl-C, with its terminal, or killed: both services go with it, in the middle of an email."""
    with stranger() as mail_port:
        demo.set(MAIL_URL=f"smtp://127.0.0.1:{mail_port}", DRAIN_SECONDS="1")
        demo.start()
        eventually(lambda: demo.says("is registered"), "somebody waits for an email")
        assert len(_processes_of(tmp_path)) == 3
        assert demo.stop(number) != 0
    eventually(lambda: _processes_of(tmp_path) == [], "no process is left")


def test_in_a_terminal_it_stays_until_ctrl_c(demo: Program, tmp_path: Path) -> None:
    """It says what to try next."""
    ours, its = pty.openpty()
    demo.start(stdin=its)
    eventually(lambda: demo.says("Ctrl-C in this window ends everything"), "it says what to try")
    assert re.search(r"client\.py --url http://127\.0\.0\.1:\d+", demo.output)
    assert demo.stop(signal.SIGINT) == 0
    assert _processes_of(tmp_path) == []
    os.close(ours)
    os.close(its)


def test_it_keeps_the_data_where_it_is_told(tmp_path: Path) -> None:
    """And a second run goes on with them."""
    folder = tmp_path / "kept"
    for _ in range(2):
        assert run(*DEMO, "--keep", str(folder)).returncode == 0
    assert (folder / "users.db").exists()


@pytest.mark.parametrize("one_process", [True, False])
def test_who_loses_a_port_to_somebody_else_takes_another(one_process: bool, tmp_path: Path) -> None:
    """As when two demos start at once: between the choice of a port and the listening there is always a moment."""
    said: list[str] = []
    with socket.create_server(("127.0.0.1", 0)) as taken, socket.create_server(("127.0.0.1", 0)) as taken_too:
        ports = {"email_service": taken.getsockname()[1], "user_service": taken_too.getsockname()[1]}
        shared = {"DATA_DIR": str(tmp_path), "BROKER": "memory" if one_process else "http"}
        settings = {name: {**shared, "PORT": str(port)} for name, port in ports.items()}
        with Stage(settings, one_process, lambda who, line: said.append(f"{who} {line}")) as stage:
            for service, port in ports.items():
                assert stage.url(service) != f"http://127.0.0.1:{port}"
                assert stage.url(service).endswith(f":{stage.settings[service]['PORT']}")
                assert requests.get(f"{stage.url(service)}/health/ready", timeout=10).ok
    assert [line for line in said if line.startswith("demo somebody else was quicker on port ")]


@pytest.mark.parametrize(
    ("url", "says"),
    [
        (
            "mysql://root:hush@127.0.0.1:1/demo",
            "demo: database mysql+pymysql://root:***@127.0.0.1:1/demo: Can't connect to ",
        ),
        ("mysql+mysqldb://root:hush@127.0.0.1:1/demo", "needs the package 'MySQLdb'"),
        ("mysql://root:hush@127.0.0.1/demo?surprise=1", "is not possible: "),
        ("mysql://root:hu/sh@127.0.0.1/demo", "127.0.0.1"),
        ("mysql://root:hush@127.0.0.1/demo?charset=hush", "is not possible: "),
        ("hush", "is not a URL such as"),
    ],
)
def test_a_database_that_cannot_be_used_is_one_line(url: str, says: str, tmp_path: Path) -> None:
    """Without the password, whatever is wrong with it."""
    ended = run(*DEMO, "--database", url, settings={"TMPDIR": str(tmp_path)})
    [line] = ended.stderr.splitlines()
    assert line.startswith("demo: ")
    assert says in line
    assert "hush" not in line
    assert (ended.returncode, ended.stdout) == (1, "")


def test_it_fails_when_a_service_does_not_start(tmp_path: Path) -> None:
    """The service's own line is in the story, and the demo says which one it was."""
    ended = run(*DEMO, "--broker", "carrier-pigeon", settings={"TMPDIR": str(tmp_path)})
    assert ended.returncode == 1
    assert "unknown broker 'carrier-pigeon'" in ended.stdout
    assert "did not start" in ended.stderr
    assert _processes_of(tmp_path) == []


def _processes_of(folder: Path) -> list[int]:
    """The processes that were started with this temporary folder, alive or not yet."""
    seen = psutil.process_iter(["pid", "environ", "status"])
    return [
        each.pid
        for each in seen
        if (each.info["environ"] or {}).get("TMPDIR") == str(folder) and each.info["status"] != psutil.STATUS_ZOMBIE
    ]
