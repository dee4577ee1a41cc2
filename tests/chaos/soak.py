"""A soak: many registrations, while memory, threads, descriptors and tables are watched. They must stay flat.

    make soak [COUNT=20000]
    python -m tests.chaos.soak --count 20000

Both services run on the http broker and SQLite, at bcrypt's lowest cost; the outbox forgets what was published ten
seconds ago. You see a line of figures every five seconds. Exit status 0: everybody was emailed, and from the first
quarter to the end memory has grown by less than a fifth, and the rest has not grown by more than a handful.
"""

from __future__ import annotations

import argparse
import sqlite3
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from tempfile import mkdtemp

from tests.end_to_end.processes import Application, Program

EVERY_SECONDS = 5
KEEP_SECONDS = "10"
MEMORY_MAY_GROW = 1.2
OTHERS_MAY_GROW = {"threads": 10, "descriptors": 10, "outbox": 5000, "spool": 1000}  #: rows: those of some seconds


@dataclass(frozen=True)
class Sample:
    """How large things are at one moment; of both services together."""

    users: int
    megabytes: float
    threads: int
    descriptors: int
    outbox: int  #: rows, published or not
    spool: int  #: rows of the http broker


def sample(app: Application) -> Sample:
    """Look."""
    processes = (app.users.process, app.emails.process)
    return Sample(
        users=_count(app.data / "users.db", "users"),
        megabytes=round(sum(process.memory_info().rss for process in processes) / 2**20, 1),
        threads=sum(process.num_threads() for process in processes),
        descriptors=sum(process.num_fds() for process in processes),
        outbox=_count(app.data / "users.db", "outbox"),
        spool=_count(app.data / "broker" / "spool.db", "spooled"),
    )


def grown(samples: Sequence[Sample]) -> list[str]:
    """What has grown from the first quarter to the last, and should not have."""
    quarter = len(samples) // 4 or 1
    early, late = samples[:quarter], samples[-quarter:]

    def most(of: Sequence[Sample], name: str) -> float:
        return max(float(getattr(each, name)) for each in of)

    found = [name for name, more in OTHERS_MAY_GROW.items() if most(late, name) > most(early, name) + more]
    if most(late, "megabytes") > most(early, "megabytes") * MEMORY_MAY_GROW:
        found.append("megabytes")
    return [f"GREW {name}: {most(early, name):g} → {most(late, name):g}" for name in found]


def soak(count: int, folder: Path, say: Callable[[str], None]) -> list[str]:
    """Run it; what is wrong at the end."""
    app = Application(folder)
    app.users.set(KEEP_SENT_SECONDS=KEEP_SECONDS)
    client = Program([], folder / "client.log", {})
    samples: list[Sample] = []
    try:
        app.start()
        urls = ["--url", app.users.url, "--emails-url", app.emails.url, "--timeout", "120"]
        client = Program(["client.py", *urls, "--count", str(count), "--concurrency", "8"], folder / "client.log", {})
        client.start()
        say("".join(f"{field.name:>12}" for field in fields(Sample)))
        while client.process.poll() is None:
            samples.append(sample(app))
            say("".join(f"{value:>12}" for value in asdict(samples[-1]).values()))
            threading.Event().wait(EVERY_SECONDS)
        say(client.output[-1000:])
        return ([] if client.process.wait() == 0 else ["WRONG the client was not content"]) + grown(samples)
    finally:
        client.close()
        app.close()


def _count(file: Path, table: str) -> int:
    with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True, timeout=30)) as db:
        return int(db.execute(f"SELECT count(*) FROM {table}").fetchone()[0])


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it as the arguments say; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.soak", description="Run long, and stay flat.")
    parser.add_argument("--count", type=int, default=20_000)
    wrong = soak(
        parser.parse_args(arguments).count, Path(mkdtemp(prefix="soak-")), lambda line: print(line, flush=True)
    )
    print(*(wrong or ["FLAT"]), sep="\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
