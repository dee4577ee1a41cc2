"""The broker can be taken along: its wheel, used in an environment that has nothing else."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROGRAM = """
from dataclasses import dataclass
from typing import Self

import broker


@dataclass
class Greeting:
    text: str

    @classmethod
    def from_message(cls, message: broker.Message) -> Self:
        return cls(message.body.decode())

    def to_message(self) -> broker.Message:
        return broker.Message(self.text.encode())


b = broker.new("memory", drain_seconds=5)


@b.subscriber("greetings", reads=Greeting, group="people", concurrency=2)
def greet(greeting: Greeting) -> None:
    print(greeting.text, flush=True)


def main() -> None:
    with b:
        b.publisher("greetings").publish(Greeting("hello"), mandatory=True)
        while b.backlog("greetings", "people"):
            pass


if __name__ == "__main__":
    main()
"""
STOPS_ITSELF = """
import os, signal, sys, threading, time
import broker

b = broker.new("memory")
b.subscriber("t", group="g")(print)


def stop() -> None:
    while not b.is_connected:
        time.sleep(0.01)
    os.kill(os.getpid(), signal.SIGNAL)


threading.Thread(target=stop).start()
sys.exit(broker.run(b))
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy, since a build leaves things behind."""
    folder = tmp_path_factory.mktemp("wheel")
    copy = shutil.copytree(ROOT / "broker", folder / "source", ignore=shutil.ignore_patterns("__pycache__"))
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*build, f"--wheel-dir={folder}", str(copy)], check=True, env=quiet())
    [built] = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Python that has the wheel, and nothing else."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, symlinks=True)
    program = folder / "bin" / "python"
    install = [sys.executable, "-m", "pip", f"--python={program}", "install", "--quiet", "--no-deps", "--no-index"]
    subprocess.run([*install, str(wheel)], check=True, env=quiet())
    return program


def quiet() -> dict[str, str]:
    """An environment in which pip looks nowhere, and finds none of our folders."""
    here = {name: value for name, value in os.environ.items() if not name.startswith(("PIP_", "PYTHON"))}
    return {**here, "PIP_DISABLE_PIP_VERSION_CHECK": "1"}


def run(python: Path, folder: Path, text: str) -> subprocess.CompletedProcess[str]:
    """Run the program in an empty folder."""
    (folder / "program.py").write_text(text)
    command = [str(python), "program.py"]
    return subprocess.run(command, cwd=folder, env=quiet(), capture_output=True, text=True, timeout=60, check=False)


def test_a_program_uses_the_broker_from_an_empty_folder(python: Path, tmp_path: Path) -> None:
    """Typed objects there and back, without Flask, SQLAlchemy or any client library installed."""
    ended = run(python, tmp_path, PROGRAM)
    assert (ended.stdout, ended.stderr, ended.returncode) == ("hello\n", "", 0)


def test_its_types_are_checked(python: Path, tmp_path: Path) -> None:
    """`mypy --strict` passes the program, and refuses an option of a wrong type or name."""
    wrong = PROGRAM.replace("concurrency=2", 'concurrency="two"').replace("drain_seconds=5", "drain=5")
    (tmp_path / "right.py").write_text(PROGRAM)
    (tmp_path / "wrong.py").write_text(wrong)
    command = [sys.executable, "-m", "mypy", "--strict", f"--python-executable={python}", "--cache-dir=cache"]
    told = {
        name: subprocess.run([*command, name], cwd=tmp_path, env=quiet(), capture_output=True, text=True, check=False)
        for name in ("right.py", "wrong.py")
    }
    assert told["right.py"].returncode == 0, told["right.py"].stdout
    assert told["wrong.py"].returncode == 1
    refused = {int(line.split(":")[1]) for line in told["wrong.py"].stdout.splitlines() if ": error:" in line}
    assert [line for n, line in enumerate(wrong.splitlines(), 1) if n in refused] == [
        'b = broker.new("memory", drain=5)',
        '@b.subscriber("greetings", reads=Greeting, group="people", concurrency="two")',
    ]


def test_a_missing_client_library_is_named_with_the_line_that_installs_it(python: Path, tmp_path: Path) -> None:
    """Outside of this project it is the distribution's extra, not that of a folder."""
    ended = run(python, tmp_path, "import broker\nbroker.new('nats')\n")
    assert ended.stderr.endswith("needs the package 'nats': pip install 'one-contract-broker[nats]'\n")


@pytest.mark.parametrize("stop", ["SIGTERM", "SIGINT"])
def test_a_consumer_of_one_s_own_stops_well(python: Path, tmp_path: Path, stop: str) -> None:
    """`broker.run` drains on either signal, and the exit status is 0."""
    ended = run(python, tmp_path, STOPS_ITSELF.replace("SIGNAL", stop))
    assert (ended.stderr, ended.returncode) == ("", 0)


def test_the_wheel_has_the_whole_package_and_no_other(wheel: Path) -> None:
    """Each file of it, the mark that it is typed, and no top-level name but its own."""
    names = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    ours = {str(path.relative_to(ROOT)) for path in (ROOT / "broker").rglob("*.py")} | {"broker/py.typed"}
    assert names == ours


def test_its_extras_are_the_project_s() -> None:
    """Said twice, since each is installed without the other; with the same versions."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    ours = tomllib.loads((ROOT / "broker" / "pyproject.toml").read_text(encoding="utf-8"))
    extras = dict(ours["project"]["optional-dependencies"])
    del extras["testing"]
    assert extras.items() <= project["project"]["optional-dependencies"].items()
    assert set(ours["project"]["dependencies"]) <= set(project["project"]["dependencies"])
