"""Runs the unit tests on every other Python from 3.11 on that is on this machine: `make pythons`.

Looks on the PATH for `python3.11` and so on, and among pyenv's. Each gets an environment of its own, `.venv-3.13` for
instance, from `locks/dev.lock`; that is made once. You should see a line a version; status 1 if one of them failed.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

ROOT = Path(__file__).parents[1]
LOCK = ROOT / "locks" / "dev.lock"
VERSIONS = tuple(f"3.{minor}" for minor in range(11, 16))
TELL = "import sys; print('%d.%d' % sys.version_info[:2])"


def find(environ: Mapping[str, str]) -> dict[str, Path]:
    """A program for each version that is there, oldest first."""
    pyenv = Path(environ.get("PYENV_ROOT") or Path(environ.get("HOME", "/"), ".pyenv"), "versions")
    found: dict[str, Path] = {}
    for version in VERSIONS:
        on_path = shutil.which(f"python{version}", path=environ.get("PATH", ""))
        programs = [Path(on_path)] if on_path else []
        for program in [*programs, *sorted(pyenv.glob(f"{version}.*/bin/python"), key=_patch, reverse=True)]:
            if _version(program) == version:  # pyenv puts programs on the PATH that may only say what is missing
                found[version] = program
                break
    return found


def test(version: str, program: Path, arguments: Iterable[str]) -> bool:
    """Whether the unit tests pass on it."""
    folder = ROOT / f".venv-{version}"
    python = folder / "bin" / "python"
    mark = folder / ".installed"
    if not mark.exists() or mark.stat().st_mtime < LOCK.stat().st_mtime:
        print(f"Python {version}: installing locks/dev.lock into {folder.name}, once: a minute or so", flush=True)
        subprocess.run([str(program), "-m", "venv", "--clear", str(folder)], check=True)
        pip = [
            str(python),
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
            "--requirement",
            str(LOCK),
        ]
        subprocess.run(pip, check=True)
        mark.touch()
    print(f"Python {version}: the unit tests", flush=True)
    command = [
        str(python),
        "-m",
        "pytest",
        "--quiet",
        "--no-header",
        "-p",
        "no:cacheprovider",
        "tests/unit",
        *arguments,
    ]
    return subprocess.run(command, cwd=ROOT, check=False).returncode == 0


def main(arguments: list[str]) -> int:
    """Test on each; the exit status. The arguments are pytest's."""
    ours = f"{sys.version_info.major}.{sys.version_info.minor}"
    others = {version: program for version, program in find(os.environ).items() if version != ours}
    passed = {version: test(version, program, arguments) for version, program in others.items()}
    for version in VERSIONS:
        if version == ours:
            print(f"Python {version}: is that of `make test`")
        elif version in passed:
            print(f"Python {version}: {'passed' if passed[version] else 'FAILED'}")
        else:
            print(f"Python {version}: not found; `pyenv install {version}` is one way to get it")
    return 0 if all(passed.values()) else 1


def _patch(program: Path) -> tuple[int, ...]:
    """Its version as numbers: 3.12.10 is newer than 3.12.9."""
    return tuple(map(int, re.findall("[0-9]+", program.parents[1].name)))


def _version(program: Path) -> str:
    """What it says; nothing when it cannot be run."""
    try:
        told = subprocess.run([str(program), "-c", TELL], capture_output=True, text=True, check=False, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return told.stdout.strip()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
