"""What the application keeps is its own user's alone, whatever the umask says."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.end_to_end.processes import Application

FILES = {"users.db", "users.db-wal", "emails.db", "emails.db-wal", "spool.db", "spool.db-wal", "secret"}


@pytest.fixture(params=[0, 0o022], ids=oct)
def umask(request: pytest.FixtureRequest) -> Iterator[None]:
    """How open this process, and those that it starts, make their files unless they say otherwise."""
    before = os.umask(request.param)
    yield
    os.umask(before)


def open_to_others(folder: Path) -> list[str]:
    """What others could do something with, from that folder on."""
    found = [folder, *folder.rglob("*")]
    return [f"{path}: {path.stat().st_mode:o}" for path in found if path.exists() and path.stat().st_mode & 0o077]


@pytest.mark.usefixtures("umask")
def test_nobody_else_may_read_what_the_application_keeps(app: Application, tmp_path: Path) -> None:
    """Databases with what SQLite puts beside them, spool, registry, secret, emails, and each folder that was made."""
    made = tmp_path / "made"
    app.set(DATA_DIR=str(made / "data"), MAIL_URL=f"file:{made / 'mail'}")
    app.start()
    app.wait_for_emails(app.register("学院君"))
    names = {path.name for path in made.rglob("*")}
    assert names >= FILES
    assert [name for name in names if name.endswith(".eml")]
    assert open_to_others(made) == []
