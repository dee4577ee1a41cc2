"""What stops a service from starting is one clear line on standard error, and exit status 2."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.end_to_end.processes import ROOT, RUN_SECONDS, Application, environment, run

SERVICES = ["user_service", "email_service"]


@pytest.mark.parametrize("service", SERVICES)
@pytest.mark.parametrize(
    ("setting", "value", "says"),
    [
        ("BROKER", "carrier-pigeon", "unknown broker 'carrier-pigeon'; known: memory, http"),
        ("PORT", "eighty", "PORT='eighty' is not possible"),
        ("DATABASE_URL", "mysql+pymysql://root:hush@127.0.0.1:1/users", "127.0.0.1"),
    ],
)
def test_a_bad_setting_stops_the_start(service: str, setting: str, value: str, says: str, tmp_path: Path) -> None:
    """The line names what was wrong; a password in a URL is not part of it."""
    _refuses(service, says, {"DATA_DIR": str(tmp_path), "PORT": "0", setting: value})


@pytest.mark.parametrize("service", SERVICES)
def test_a_busy_port_stops_the_start(service: str, tmp_path: Path) -> None:
    """Somebody else listens there."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        _refuses(service, port, {"DATA_DIR": str(tmp_path), "PORT": port})


@pytest.mark.parametrize("service", SERVICES)
def test_an_unwritable_data_folder_stops_the_start(service: str, tmp_path: Path) -> None:
    """A folder that cannot be made: its parent is a file (permissions do not stop root)."""
    (tmp_path / "file").touch()
    folder = str(tmp_path / "file" / "data")
    _refuses(service, folder, {"DATA_DIR": folder, "PORT": "0"})


def test_a_bad_mail_url_stops_the_start(tmp_path: Path) -> None:
    """Only the email service has one."""
    _refuses("email_service", "'pigeon:' is none of", {"DATA_DIR": str(tmp_path), "PORT": "0", "MAIL_URL": "pigeon:"})


@pytest.mark.parametrize(
    "name", ["what?", "a%20b", "a%2Fb", "#1", "two words", 'it\'s "it"', "Ümlaut", "file:x", "a:b@c"]
)
def test_all_files_are_in_the_folder_that_is_named(name: str, tmp_path: Path) -> None:
    """Whatever the name has in it: databases, the http broker's files and emails; the ledger finds them there."""
    app = Application(tmp_path)
    app.set(DATA_DIR=str(tmp_path / name))
    app.emails.set(MAIL_URL=f"file:{tmp_path / name / name}")
    with ExitStack() as ending:
        ending.callback(app.close)
        app.start()
        users = app.register("Ada")
        app.wait_for_emails(users)
        assert app.ledger().stdout.startswith("LEDGER  users 1 · emailed 1 ")
    assert {path.name for path in tmp_path.iterdir()} == {name, "user_service.log", "email_service.log"}
    assert {path.name for path in (tmp_path / name).iterdir()} >= {"users.db", "emails.db", "broker", name}
    assert len(list((tmp_path / name / name).glob("*.eml"))) == 1


@pytest.mark.parametrize("service", SERVICES)
def test_the_help_names_each_setting_with_its_default(service: str) -> None:
    """It says what the program is, too; nothing starts."""
    ended = run("-m", service, "--help")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.startswith(f"Runs the {service.replace('_', ' ')}: `python -m {service}`.")
    example = (ROOT / ".env.example").read_text(encoding="utf-8")
    listed = dict(re.findall(r"^  ([A-Z_]+)=(.*)$", ended.stdout, re.MULTILINE))
    assert listed["DATA_DIR"] == "data"
    assert {name for name in listed if f"\n{name}=" not in example} == set()


@pytest.mark.parametrize("closed", ["<&-", "2>&-", "<&- >&- 2>&-"])
@pytest.mark.parametrize(
    ("command", "status"),
    [
        ("-m user_service", 2),
        ("-m email_service", 2),
        ("client.py --url http://127.0.0.1:9", 2),
        ("ledger.py", 2),
        ("-m demo --free-ports", 0),
    ],
)
def test_whoever_closes_standard_streams_gets_the_same_end(
    command: str, status: int, closed: str, tmp_path: Path
) -> None:
    """The demo runs; what cannot run says so on standard error, or nowhere."""
    (tmp_path / "file").touch()
    settings = {"TMPDIR": str(tmp_path), "DATA_DIR": str(tmp_path / "file" / "data")}
    ended = subprocess.run(
        ["bash", "-c", f'exec "$0" {command} {closed}', sys.executable],
        cwd=ROOT,
        env=environment(settings),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        timeout=RUN_SECONDS,
        check=False,
    )
    assert ended.returncode == status, ended
    assert (ended.stdout == "") == (status == 2 or ">&- " in closed)
    assert len(ended.stderr.splitlines()) == (status == 2 and "2" not in closed)


def _refuses(service: str, says: str, settings: Mapping[str, str]) -> None:
    ended = run("-m", service, settings=settings)
    [line] = ended.stderr.splitlines()
    assert line.startswith(f"{service.replace('_', '-')}: ")
    assert says in line
    assert "hush" not in line
    assert (ended.returncode, ended.stdout) == (2, "")
