"""Files and folders that are this user's alone, whatever the umask says; the chassis uses them, too."""

from __future__ import annotations

import os
import stat
from pathlib import Path

FOLDER, FILE = 0o700, 0o600
OTHERS = 0o077  #: what group and others may do


def make_folder(path: Path) -> None:
    """A folder, with those above it, unless it is there: somebody else may have made that for more than us."""
    if not path.is_dir():
        make_folder(path.parent)
        path.mkdir(FOLDER, exist_ok=True)


def make_file(path: Path) -> None:
    """An empty file; one that is there is closed to others, as an earlier version may have left it open.

    It is not opened for that: closing it would end the locks that SQLite holds on it in this process.
    """
    try:
        os.close(os.open(path.resolve(), os.O_CREAT | os.O_EXCL | os.O_WRONLY, FILE))
    except FileExistsError:
        if path.is_file():  # not a folder, whose files are not ours, nor a device
            close_to_others(path)


def make_database(path: Path) -> None:
    """The empty file of a SQLite database, which makes the files beside it as open as that one is."""
    make_file(path)
    for beside in ("-wal", "-shm", "-journal"):  # of one that was killed
        close_to_others(path.with_name(path.name + beside))


def close_to_others(path: Path) -> None:
    """Take from others what they may do with a file or a folder of this user's, if it is there; never with a device."""
    if (path.is_file() or path.is_dir()) and (status := path.stat()).st_uid == os.geteuid():
        path.chmod(stat.S_IMODE(status.st_mode) & ~OTHERS)
