"""Every command of both READMEs is run, or it is said why not, and it is at least one that there is.

README has commands in tables and lists for the eye; `readme/*.md` have the same ones in an order in which they can be
typed, with what is to be seen then.
"""

from __future__ import annotations

import re
import subprocess
import tomllib
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import yaml

from tests.docs.pages import ROOT, Page, Type
from tests.docs.walk import walk
from tests.servers.brokers import broker_server
from tests.servers.mariadb import Operator as MariaDb

README, README_ZH = Page(ROOT / "README.md"), Page(ROOT / "README.zh-CN.md")
PAGES = sorted((Path(__file__).parent / "readme").glob("*.md"))
UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f-]{27}")

FETCHES = "it installs from the network; `test_setup.py` runs `make setup` without"
WHEEL = "it fetches what builds it; `test_distribution.py` builds it without the network"
LONG = "it takes minutes, and this is one of the tests that it runs or that run a part of it"
ENGINE = "it needs a container engine: `make test-compose` runs it"
NO_COMMAND = "it wants a number, or a verb, and is named without"

NOT_RUN = {
    ".venv/bin/pip install -r locks/dev.lock": FETCHES,
    "pip install '.[etcd,mdns,certificates]'": FETCHES,
    **{f"pip install '.[{extra}]'": FETCHES for extra in ("redis", "nats", "rabbitmq", "kafka")},
    "pip wheel './broker'": WHEEL,
    "make test": LONG,
    ".venv/bin/python -m pytest": LONG,
    "make matrix": LONG,
    "make chaos BROKER=redis SEED=7 SECONDS=60": LONG,
    **{f"make {target}": ENGINE for target in ("up", "logs", "down")},
    "kill -9": NO_COMMAND,
    "python -m broker": NO_COMMAND,
}
DOCKER = re.compile(r"(?:[A-Z_]+=\S+ )*docker compose (?P<verb>\w+)(?P<words>.*)")
SERVICE = re.compile(r" (?!-)([a-z][a-z-]+)")

SERVERS = {
    "redis": "redis://localhost:6379/0",
    "nats": "nats://localhost:4222",
    "rabbitmq": "rabbitmq://guest:guest@localhost:5672/",
}
MYSQL = "mysql://root@127.0.0.1/demo"


def in_readme(command: str) -> str:
    """The command as README has it: without a comment, and ID for an id."""
    return UUID.sub("ID", re.sub(r"(?:^|\s+)#.*$", "", command)).strip()


COMMANDS = sorted({in_readme(command) for page in (README, README_ZH) for command in page.commands} - {""})
EXCUSED = [command for command in COMMANDS if command in NOT_RUN or DOCKER.fullmatch(command)]


def test_every_command_is_run_or_it_is_said_why_not() -> None:
    """Also those of the Chinese README; and what is excused is still there."""
    typed = [step.text for path in PAGES for step in Page(path).steps if isinstance(step, Type)]
    run = {in_readme(line) for text in typed for line in text.splitlines()}
    assert [command for command in COMMANDS if command not in run and command not in EXCUSED] == []
    assert set(NOT_RUN) <= set(COMMANDS)


@pytest.mark.parametrize("command", EXCUSED)
def test_a_command_that_is_not_run_is_one_that_there_is(command: str) -> None:
    """A shell can read it; its make target, extra, file or container is there."""
    subprocess.run(["bash", "-n", "-c", command], check=True, timeout=60)
    if command.startswith("make "):
        subprocess.run(["make", "-n", *command.split()[1:]], cwd=ROOT, check=True, capture_output=True, timeout=60)
    for extra in re.findall(r"\.\[([a-z,]+)\]", command):
        project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
        assert set(extra.split(",")) <= set(project["optional-dependencies"])
    if match := DOCKER.fullmatch(command):
        assert set(SERVICE.findall(match["words"])[:1]) <= containers(), "there is no such container"


def containers() -> set[str]:
    """Those of the compose files; `broker` is the server of whichever is chosen."""
    files = [ROOT / "docker-compose.yml", *(ROOT / "compose").glob("*.yml")]
    return {name for path in files for name in yaml.safe_load(path.read_text("utf-8")).get("services", {})}


@pytest.fixture
def known(request: pytest.FixtureRequest, mariadb: MariaDb, tmp_path: Path) -> Iterator[dict[str, str]]:
    """README's addresses, and those of private servers that stand for them."""
    port = mariadb.address.port
    with ExitStack() as running:
        urls = {
            address: running.enter_context(broker_server(broker, tmp_path / broker)).url
            for broker, address in SERVERS.items()
        }
        yield {**urls, MYSQL: MYSQL.replace("127.0.0.1", f"127.0.0.1:{port}")}


@pytest.mark.timeout(900)
def test_the_commands_that_swap_the_broker_do_it(known: dict[str, str], tmp_path: Path) -> None:
    """Word for word, but for the addresses: the servers of the tests are never those on the usual ports."""
    walk(Page(Path(__file__).parent / "readme" / "swap.md"), tmp_path, known)


@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", ["run.md", "machines.md", "dead.md", "break.md"])
def test_the_other_commands_do_what_readme_says(name: str, tmp_path: Path) -> None:
    """README offers mDNS where there is no etcd; `test_two_machines.py` has both."""
    walk(Page(Path(__file__).parent / "readme" / name), tmp_path, {"etcd://registry.example:2379": "mdns://127.0.0.1"})
