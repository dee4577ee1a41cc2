"""Measures everything, or what is asked for.

    make bench [ARGS="…"]
    python -m benchmarks [--quick] [--only QUESTION,…] [--brokers NAME,…] [--databases NAME,…] [--into FILE.md]

After each question it says its table, and writes a page and a chart into `build/benchmarks/`, or the page into a
document that has a place for it, and the chart beside that. Exit status 0: everything could be measured,
whatever came out; what could not says so on the page.
"""

from __future__ import annotations

import argparse
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks import report
from benchmarks.bench import BROKERS, DATABASES, FULL, QUICK, Answer, Bench
from benchmarks.chart import draw

QUESTIONS = (
    "publish_one",
    "publish_batch",
    "consume",
    "processor",
    "latency",
    "memory_broker",
    "http_broker",
    "relay",
    "outbox",
    "many_users",
    "registrations",
    "commit_to_email",
    "scale",
    "start",
)
QUICK_QUESTIONS = ("publish_one", "publish_batch", "consume", "memory_broker", "http_broker")
QUICK_BROKERS = ("memory", "http", "redis", "nats")
BUILD = Path("build/benchmarks")


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure as the arguments say."""
    args = _arguments(arguments)
    effort = QUICK if args.quick else FULL
    with (
        TemporaryDirectory(prefix="bench-") as folder,
        Bench(effort, Path(folder), args.brokers, args.databases) as bench,
    ):
        answers: list[Answer] = []
        for question in args.only:
            answers.append(_asked(question, bench))
            _write(answers, report.page(answers, effort, f"{args.into.stem}.svg"), args.into)
    print(f"\nwritten: {args.into}")
    return 0 if all(answer.rows for answer in answers) else 1


def _asked(question: str, bench: Bench) -> Answer:
    began = time.monotonic()
    try:
        answer = report.asked(question, bench)
    except Exception as error:  # noqa: BLE001  # whatever it is, the other questions have their answers
        traceback.print_exc()
        answer = report.not_measured(question, error)
    print(f"\n{answer.question}  ({time.monotonic() - began:.0f} s)\n{report.table(answer.rows)}", flush=True)
    return answer


def _write(answers: Sequence[Answer], page: str, into: Path) -> None:
    into.parent.mkdir(parents=True, exist_ok=True)
    document = into.read_text("utf-8") if into.exists() else f"{report.BEGIN}\n{report.END}\n"
    into.write_text(report.with_page(document, page), "utf-8")
    if find_spec("matplotlib"):
        draw(answers, into.with_suffix(".svg"))


def _arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description="How fast is it? Side by side, in one run."
    )
    parser.add_argument("--quick", action="store_true", help="under a minute: fewer questions, brokers and messages")
    parser.add_argument("--only", type=_names(QUESTIONS), help=f"of {', '.join(QUESTIONS)}")
    parser.add_argument("--brokers", type=_names(BROKERS), help=f"of {', '.join(BROKERS)}")
    parser.add_argument("--databases", type=_names(DATABASES), default=DATABASES, help=f"of {', '.join(DATABASES)}")
    parser.add_argument("--into", type=Path, default=BUILD / "performance.md", help="write the page into this document")
    args = parser.parse_args(arguments)
    args.only = args.only or (QUICK_QUESTIONS if args.quick else QUESTIONS)
    args.brokers = args.brokers or (QUICK_BROKERS if args.quick else BROKERS)
    return args


def _names(known: Sequence[str]) -> Callable[[str], list[str]]:
    def parse(text: str) -> list[str]:
        names = text.split(",")
        if unknown := set(names).difference(known):
            raise argparse.ArgumentTypeError(f"{', '.join(unknown)} is none of {', '.join(known)}")
        return names

    return parse


if __name__ == "__main__":
    sys.exit(main())
