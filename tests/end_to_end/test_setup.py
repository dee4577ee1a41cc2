"""`make setup` in whatever shell, and a checkout on whatever system; nothing is fetched."""

from __future__ import annotations

import os
import shutil
import subprocess
import zipfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.end_to_end.processes import NO_SETTINGS, ROOT
from tests.servers.process import missing

WHEEL = "tiny-1-py3-none-any.whl"
METADATA = {
    "tiny.py": "",
    "tiny-1.dist-info/METADATA": "Metadata-Version: 2.1\nName: tiny\nVersion: 1\n",
    "tiny-1.dist-info/WHEEL": "Wheel-Version: 1.0\nGenerator: a test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    "tiny-1.dist-info/RECORD": "tiny.py,,\n",
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A project whose lock names one package, which is there."""
    folder = tmp_path / "a project"
    (folder / "locks").mkdir(parents=True)
    shutil.copy(ROOT / "Makefile", folder)
    (folder / "locks" / "dev.lock").write_text(f"./{WHEEL}\n", encoding="utf-8")
    with zipfile.ZipFile(folder / WHEEL, "w") as wheel:
        for name, text in METADATA.items():
            wheel.writestr(name, text)
    return folder


def make_setup(folder: Path, settings: Mapping[str, str] = NO_SETTINGS) -> str:
    """What `make setup` prints; afterwards the package can be imported."""
    environ = {"PATH": os.environ["PATH"], "HOME": str(folder), **settings}
    made = subprocess.run(
        ["make", "setup"], cwd=folder, env=environ, capture_output=True, encoding="utf-8", timeout=300, check=False
    )
    assert made.returncode == 0, made
    subprocess.run([folder / ".venv" / "bin" / "python", "-c", "import tiny"], check=True, timeout=60)
    return made.stdout


def test_settings_of_the_shell_install_nothing_elsewhere(folder: Path) -> None:
    """Neither pip's variables, nor its file, nor modules that others put before those of Python."""
    (folder / "venv.py").write_text("raise SystemExit('not the venv of Python')", encoding="utf-8")
    (folder / "pip.conf").write_text("[install]\nuser = true\n", encoding="utf-8")
    elsewhere = {name: str(folder / "elsewhere") for name in ("PIP_TARGET", "PIP_PREFIX", "PIP_ROOT", "PIP_PYTHON")}
    python = {"PYTHONPATH": str(folder), "VIRTUAL_ENV": "/nowhere"}
    make_setup(folder, {**elsewhere, **python, "PIP_USER": "1", "PIP_CONFIG_FILE": str(folder / "pip.conf")})
    assert not (folder / "elsewhere").exists()


def test_an_environment_whose_python_is_gone_is_made_anew(folder: Path) -> None:
    """Or is of another version now: make says so, and does it. One that can be used is left alone."""
    assert "Installing" in make_setup(folder)
    assert "Installing" not in make_setup(folder)
    python = folder / ".venv" / "bin" / "python"
    python.unlink()
    python.symlink_to("/nowhere/python3")
    assert "is made anew" in make_setup(folder)
    [packages] = (folder / ".venv" / "lib").iterdir()
    packages.rename(packages.with_name("python3.0"))
    assert "is made anew" in make_setup(folder)


def test_without_docker_make_up_says_what_is_needed(folder: Path) -> None:
    """One line, instead of what another program makes of `compose`."""
    (folder / "docker").write_text("#!/bin/sh\necho unknown command >&2\nexit 1\n", encoding="utf-8")
    (folder / "docker").chmod(0o755)
    environ = {"PATH": f"{folder}:{os.environ['PATH']}"}
    made = subprocess.run(["make", "up"], cwd=folder, env=environ, capture_output=True, encoding="utf-8", check=False)
    assert made.returncode == 2
    assert made.stderr.startswith("Docker with Compose 2.24 or newer is needed: ")
    assert made.stdout == ""


def test_a_checkout_has_the_same_line_ends_on_every_system(tmp_path: Path) -> None:
    """Also where git is told to write those of Windows: a shell, make and `.env` would trip over them."""
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        missing("this is no checkout of git's, or git is not installed; try: apt-get install git")
    clone = [
        "git",
        "clone",
        "--quiet",
        "--depth=1",
        "--config=core.autocrlf=true",
        f"file://{ROOT}",
        str(tmp_path / "clone"),
    ]
    subprocess.run(clone, check=True, timeout=120)
    for path in (".env.example", ".ci/run", "Makefile", "Dockerfile", "client.py", "README.md", "docs/performance.svg"):
        if (tmp_path / "clone" / path).exists():
            assert b"\r" not in (tmp_path / "clone" / path).read_bytes()
