"""Which Pythons `make pythons` finds."""

from __future__ import annotations

from pathlib import Path

from tests.pythons import find


def make(program: Path, version: str) -> Path:
    """A program that says it is that Python; pyenv's, for one that is not there, says nothing."""
    program.parent.mkdir(parents=True, exist_ok=True)
    program.write_text(f"#!/bin/sh\necho {version}\n")
    program.chmod(0o755)
    return program


def test_each_version_is_found_once_wherever_it_is(tmp_path: Path) -> None:
    """On the PATH first, else among pyenv's; a name on the PATH that is no such Python is passed over."""
    versions = tmp_path / "pyenv" / "versions"
    on_path = make(tmp_path / "bin" / "python3.11", "3.11")
    make(tmp_path / "bin" / "python3.12", "")
    make(versions / "3.11.7" / "bin" / "python", "3.11")
    make(versions / "3.12.9" / "bin" / "python", "3.12")
    newer = make(versions / "3.12.10" / "bin" / "python", "3.12")
    make(tmp_path / "bin" / "python3.13", "3.13").write_text("no program")
    make(versions / "3.10.2" / "bin" / "python", "3.10")
    environ = {"PATH": f"{tmp_path / 'bin'}", "PYENV_ROOT": str(tmp_path / "pyenv")}
    assert find(environ) == {"3.11": on_path, "3.12": newer}


def test_a_machine_without_any_has_none(tmp_path: Path) -> None:
    """Nothing is made up."""
    assert find({"PATH": str(tmp_path), "HOME": str(tmp_path)}) == {}
