"""What is closed to others, and what never is."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from broker.private import close_to_others, make_database


def test_a_file_that_was_open_to_others_is_closed(tmp_path: Path) -> None:
    """With what SQLite has left beside it; what we may do with it stays."""
    files = [tmp_path / name for name in ("a.db", "a.db-wal")]
    for file in files:
        file.touch(0o755)
    make_database(files[0])
    assert [stat.S_IMODE(file.stat().st_mode) for file in files] == [0o700, 0o700]


def test_what_is_no_file_of_ours_is_left_as_it_is(tmp_path: Path) -> None:
    """A device belongs to everybody, even where the service runs as root; so does a pipe that somebody reads."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe, 0o644)
    before = [stat.S_IMODE(path.stat().st_mode) for path in (pipe, Path(os.devnull))]
    for path in (pipe, Path(os.devnull), tmp_path / "nothing"):
        close_to_others(path)
    assert [stat.S_IMODE(path.stat().st_mode) for path in (pipe, Path(os.devnull))] == before
