"""`python -m broker certificates`."""

from __future__ import annotations

from pathlib import Path

import pytest

from broker.cli.main import main

HERE = "127.0.0.1"


def test_certificates_are_made_by_one_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It says where they are; keys are for their owner alone; a second run keeps the authority."""
    folder = tmp_path / "certificates"
    assert main(["certificates", str(folder), HERE, "emails.example"]) == 0
    assert capsys.readouterr().out.split() == [str(folder / HERE), str(folder / "emails.example")]
    for key in (folder / "ca-key.pem", folder / HERE / "key.pem", folder / "emails.example" / "key.pem"):
        assert key.stat().st_mode & 0o777 == 0o600
    before = (folder / "ca.pem").read_bytes(), (folder / HERE / "certificate.pem").read_bytes()
    assert main(["certificates", str(folder), HERE]) == 0
    assert (folder / "ca.pem").read_bytes() == (folder / HERE / "ca.pem").read_bytes() == before[0]
    assert (folder / HERE / "certificate.pem").read_bytes() != before[1]


@pytest.mark.parametrize(
    ("name", "spoil", "says"),
    [
        ("../x", "", "'../x' is neither a host's name nor an address"),
        ("", "", "'' is neither"),
        (HERE, "ca.pem", "cannot make certificates in"),
        (HERE, "ca-key.pem", "cannot make certificates in"),
    ],
)
def test_certificates_that_cannot_be_made_are_one_line(
    name: str, spoil: str, says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """And exit status 2."""
    assert main(["certificates", str(tmp_path), HERE]) == 0
    if spoil:
        (tmp_path / spoil).write_text("nonsense")
    assert main(["certificates", str(tmp_path), name]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert says in line
