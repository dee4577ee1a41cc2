"""The Dockerfile and the compose files, as far as they can be judged without an engine: `test_up.py` runs them."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import yaml

import email_service.settings
import user_service.settings
from broker.plugins import BUILT_IN
from chassis.drain import DRAIN_SECONDS
from demo import ledger

ROOT = Path(__file__).parents[2]
FILES = [ROOT / "docker-compose.yml", *sorted((ROOT / "compose").glob("*.yml"))]
DOCKERFILE = re.sub(r"\\\n\s*", "", (ROOT / "Dockerfile").read_text("utf-8"))  # one line an instruction
APPLICATION = yaml.safe_load((ROOT / "compose" / "application.yml").read_text("utf-8"))
BROKERS = sorted({*BUILT_IN, "http-etcd"} - {"memory"})  # which lives in one process
WIRED = ("user-service", "email-service", "ledger")
OURS = "event-driven-users:local"
VARIABLE = re.compile(r"\$\{(\w+)(?::-([^}]*))?\}")
SECRET = re.compile(r"(?i)(?<!EMPTY_)(?:password|secret|token|identified by)[\"':= ]+(\w+)|://[^/\s]*:(\w+)@")


def services() -> Iterator[tuple[str, dict[str, Any]]]:
    """Each service of each file, with the place for a message."""
    for path in FILES:
        for name, service in yaml.safe_load(path.read_text("utf-8")).get("services", {}).items():
            yield f"{path.name}: {name}", service


def every(key: str) -> list[tuple[str, Any]]:
    """What the services say under that key, with the place of each."""
    return [(where, service[key]) for where, service in services() if key in service]


def test_each_broker_of_more_than_one_process_has_a_file() -> None:
    """And each file is included by its name."""
    assert sorted(path.stem for path in FILES[1:]) == sorted([*BROKERS, "application"])
    included = yaml.safe_load(FILES[0].read_text("utf-8"))["include"][0]["path"]
    assert included == ["compose/application.yml", "compose/${BROKER:-nats}.yml"]


@pytest.mark.parametrize("broker", BROKERS)
def test_each_broker_is_wired_to_both_services_and_the_ledger(broker: str) -> None:
    """By a URL of its scheme, once the servers in that file are healthy, if there are any."""
    file = yaml.safe_load((ROOT / "compose" / f"{broker}.yml").read_text("utf-8"))["services"]
    after = {server: {"condition": "service_healthy"} for server in set(file) - set(WIRED)}
    for name in WIRED:
        assert file[name]["environment"]["BROKER"].startswith(f"{broker.partition('-')[0]}://")
        assert file[name].get("depends_on", {}) == after


def test_every_image_is_named_with_a_version() -> None:
    """`latest` is another one tomorrow."""
    images = [image for _, image in every("image")] + re.findall(r"^FROM (\S+)", DOCKERFILE, re.MULTILINE)
    assert len(images) > len(BROKERS)
    assert [image for image in images if not re.search(r":v?\d+\.\d+", image)] == [OURS] * images.count(OURS)


def test_only_the_web_ports_are_published_and_on_this_machine_alone() -> None:
    """Each on 127.0.0.1, and each where you say."""
    assert [port for _, ports in every("ports") for port in ports] == [
        "127.0.0.1:${USERS_PORT:-8000}:8000",
        "127.0.0.1:${EMAILS_PORTS:-8001-8010}:8000",
        "127.0.0.1:${MAILPIT_PORT:-8025}:8025",
    ]


def test_every_variable_is_in_the_example_with_its_default() -> None:
    """An empty one there: what the example says of it in words."""
    example = dict(re.findall(r"^(\w+)=(.*)$", (ROOT / ".env.example").read_text("utf-8"), re.MULTILINE))
    used = [found for path in FILES for found in VARIABLE.findall(path.read_text("utf-8"))]
    assert {name for name, _ in used} <= set(example)
    assert {(name, example[name]) for name, _ in used if example[name]} == {
        (name, default) for name, default in used if example[name]
    }


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("user-service", user_service.settings.Settings),
        ("email-service", email_service.settings.Settings),
        ("ledger", ledger.Settings),
    ],
)
def test_every_setting_can_be_given(name: str, settings: type) -> None:
    """By compose/application.yml, the broker's file or the image; a new setting needs its line in the first."""
    elsewhere = {"HOST", "PORT", "DATA_DIR", "BROKER"}
    faults = set() if name == "ledger" else {"DEMO_FAULTS"}
    wanted = {f.name.upper() for f in fields(settings)} - elsewhere | faults
    assert wanted == set(APPLICATION["services"][name]["environment"])


def test_no_secret_is_baked_in() -> None:
    """What looks like one comes from a variable; and the image gets none of the files that might hold one."""
    for text in (DOCKERFILE, *(path.read_text("utf-8") for path in FILES)):
        found = [value for pair in SECRET.findall(VARIABLE.sub("", text)) for value in pair if value]
        assert not found
    assert (ROOT / ".dockerignore").read_text("utf-8").splitlines()[1] == "*"


def test_the_image_runs_without_a_shell_and_not_as_root() -> None:
    """Signals reach Python, and nothing that breaks in owns the container."""
    commands = re.findall(r"(?:^RUN|CMD|^ENTRYPOINT) (.*)$", DOCKERFILE, re.MULTILINE)
    assert len(commands) >= 4
    for command in commands:
        assert isinstance(json.loads(command), list), command
    assert re.findall(r"^USER (.*)$", DOCKERFILE, re.MULTILINE) == ["10001"]


def test_the_containers_run_without_a_shell() -> None:
    """Commands and health checks are lists."""
    for where, command in every("command") + every("entrypoint"):
        assert isinstance(command, list), where
    for where, check in every("healthcheck"):
        assert check["test"][0] == "CMD", where


def test_what_others_wait_for_says_when_it_is_ready() -> None:
    """A service that is waited for has a health check, and it is waited for by that."""
    conditions = {(name, how["condition"]) for _, on in every("depends_on") for name, how in on.items()}
    assert {condition for _, condition in conditions} == {"service_healthy"}
    assert "HEALTHCHECK" in DOCKERFILE
    for where, service in services():
        name = where.rpartition(" ")[2]
        if name in dict(conditions) and service.get("image") not in (None, OURS):
            assert "healthcheck" in service, where


def test_a_stop_leaves_time_to_drain() -> None:
    """Docker kills after the grace period."""
    for where, service in services():
        if service.get("image") == OURS:
            assert int(service["stop_grace_period"].removesuffix("s")) > DRAIN_SECONDS, where


def test_the_image_has_every_file_of_the_project_that_is_installed_elsewhere() -> None:
    """`.dockerignore` lets in what `pyproject.toml` calls the project."""
    setuptools = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["setuptools"]
    let_in = {line.strip("!/") for line in (ROOT / ".dockerignore").read_text("utf-8").splitlines() if line[:1] == "!"}
    assert let_in >= {package.rstrip("*") for package in setuptools["packages"]["find"]["include"]} | {"*.py"}


def test_the_image_has_the_versions_that_are_tested() -> None:
    """`make lock` writes both files; the image's has no tools in it."""
    tested, installed = (pins(ROOT / name) for name in ("locks/dev.lock", "locks/run.lock"))
    assert installed.items() <= tested.items()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    for wanted in (project["dependencies"], *project["optional-dependencies"].values()):
        assert {plain(requirement) for requirement in wanted} <= set(installed)
    assert not {"pytest", "ruff", "mypy"} & set(installed)


def pins(lock: Path) -> dict[str, str]:
    """Each package's version, and what it must hash to."""
    text = re.sub(r" \\\n\s*", " ", lock.read_text("utf-8"))
    return dict(re.findall(r"^([\w.-]+)==(.*)$", text, re.MULTILINE))


def plain(requirement: str) -> str:
    """The name alone."""
    return re.split(r"[^\w.-]", requirement)[0].lower()
