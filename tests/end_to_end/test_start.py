"""What stops a service from starting is one clear line on standard error, and exit status 2."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.end_to_end.processes import run

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


def _refuses(service: str, says: str, settings: Mapping[str, str]) -> None:
    ended = run("-m", service, settings=settings)
    [line] = ended.stderr.splitlines()
    assert line.startswith(f"{service.replace('_', '-')}: ")
    assert says in line
    assert "hush" not in line
    assert (ended.returncode, ended.stdout) == (2, "")
