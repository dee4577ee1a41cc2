"""The answers as a page: the machine and the versions, whether each goal is met, a table for each question."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import psutil

from benchmarks.bench import Answer, Bench, Effort

PACKAGES = (
    *("redis", "hiredis", "nats-py", "pika", "confluent-kafka", "requests", "faststream", "kombu"),
    *("flask", "waitress", "sqlalchemy", "pymysql", "bcrypt"),
)
SERVERS: Mapping[str, Sequence[str]] = {
    "Redis": ("redis-server", "--version"),
    "NATS": ("nats-server", "--version"),
    "RabbitMQ": ("dpkg-query", "--show", "--showformat=${Version}", "rabbitmq-server"),
    "MariaDB": ("mariadbd", "--version"),
}
BEGIN, END = "<!-- measured -->", "<!-- /measured -->"  #: around all this in a document
CPUINFO = Path("/proc/cpuinfo")


def asked(question: str, bench: Bench) -> Answer:
    """What the file of that name answers."""
    answer: Answer = import_module(f"benchmarks.{question}").answer(bench)
    return answer


def not_measured(question: str, error: Exception) -> Answer:
    """What stands in its place when it could not be."""
    return Answer(question, f"**Not measured**: {type(error).__name__}: {error}")


def page(answers: Sequence[Answer], effort: Effort, chart: str) -> str:
    """Markdown."""
    return "\n\n".join([_head(effort), f"![ratios]({chart})", _goals(answers), *map(_section, answers)])


def with_page(document: str, measured: str) -> str:
    """The document with this in place of what it has between `BEGIN` and `END`."""
    before, begin, rest = document.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"no place for the tables: the document needs {BEGIN} and {END}")
    return f"{before}{BEGIN}\n\n{measured}\n\n{END}{after}"


def _head(effort: Effort) -> str:
    load = os.getloadavg()[0]
    lines = {
        "measured": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC; each figure is the median of {effort.rounds} rounds, "
        "each ratio the median of the ratios within a round",
        "machine": f"{_processor()}, {os.cpu_count()} cores, {psutil.virtual_memory().total / 2**30:.0f} GiB, "
        f"{platform.system()} {platform.release().partition('-')[0]}; "
        f"load {load:.1f} at the end, the measurement's own included",
        "Python": platform.python_version(),
        "servers": ", ".join([*_found(SERVERS, _server), "Kafka: librdkafka's mock cluster, in memory, no real Kafka"]),
        "packages": ", ".join(_found(PACKAGES, version)),
    }
    return table([{"": name, "what": what} for name, what in lines.items()])


def _found(names: Iterable[str], of: Callable[[str], str]) -> list[str]:
    found = []
    for name in names:
        try:
            found.append(f"{name} {of(name)}")
        except (PackageNotFoundError, OSError, subprocess.CalledProcessError):
            found.append(f"{name} (not installed)")
    return found


def _server(name: str) -> str:
    path = f"{os.environ['PATH']}:/usr/sbin:/usr/local/sbin"
    said = subprocess.run(
        SERVERS[name], check=True, capture_output=True, text=True, env={**os.environ, "PATH": path}
    ).stdout
    return next((word.strip("v=,") for word in said.replace("=", " ").split() if any(c.isdigit() for c in word)), "?")


def _processor() -> str:
    if CPUINFO.exists():
        for line in CPUINFO.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _goals(answers: Sequence[Answer]) -> str:
    rows = [
        {
            "question": answer.question,
            "measure": goal.what,
            "goal": f"{'≤' if goal.at_most else '≥'} {goal.bound:g}",
            "measured": f"{goal.value:,.2f}",
            "": "met" if goal.met else "**not met**",
        }
        for answer in answers
        for goal in answer.goals
    ]
    return f"### Goals\n\n{sum(row[''] == 'met' for row in rows)} of {len(rows)} are met.\n\n{table(rows)}"


def _section(answer: Answer) -> str:
    return f"### {answer.question}\n\n{answer.how}\n\n{table(answer.rows) if answer.rows else ''}".rstrip()


def table(rows: Sequence[Mapping[str, str]]) -> str:
    """Markdown; columns in the order in which they first appear, empty where a row has none."""
    columns = list(dict.fromkeys(column for row in rows for column in row))
    lines = [columns, ["---"] * len(columns), *([row.get(column, "") for column in columns] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
