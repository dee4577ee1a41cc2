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
    """A folder or a device that is named as a database belongs to others, even where the service runs as root."""
    pipe, folder = tmp_path / "pipe", tmp_path / "folder"
    os.mkfifo(pipe, 0o644)
    folder.mkdir(0o755)
    folder.chmod(0o755)
    paths = (pipe, folder, Path(os.devnull))
    before = [stat.S_IMODE(path.stat().st_mode) for path in paths]
    for path in paths:
        make_database(path)
    close_to_others(pipe)
    assert [stat.S_IMODE(path.stat().st_mode) for path in paths] == before
