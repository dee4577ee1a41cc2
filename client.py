"""The client: registers users over HTTP alone, and shows what came of each.

Needs both services, each in a terminal of its own: `python -m user_service` and `python -m email_service`.

    python client.py                                # 学院君, as in the tutorial
    python client.py --count 100 --concurrency 8    # many, with latencies

You should see each user registered and each email sent.
Exit status: 0 all of them; 1 not all; 2 no user service, or the client itself failed.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import cycle, islice
from math import ceil
from types import MappingProxyType
from typing import Self, TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.text import Text

from chassis.text import shown
from demo.api_client import ClientError, NewUser, NotYet, NoUserService, Services
from demo.command import FAILED, Screen, run

USERS_URL = "http://127.0.0.1:8000"
EMAILS_URL = "http://127.0.0.1:8001"
NAMES = ("学院君", "Ada Lovelace", "Zoë 🦊", "Олена", "محمد")
PATIENCE_SECONDS = 30.0
MOST = MappingProxyType({"count": 10_000_000, "concurrency": 1000, "timeout": 24 * 3600})
SHOW_SECONDS = 0.1  #: between two looks at how far it is
LINE_SECONDS = 2.0  #: between lines of progress where there is no terminal
MOST_PROBLEMS = 5  #: shown at the end

Result = TypeVar("Result")


def register_one(services: Services, user: NewUser, console: Console) -> None:
    """Register, read back, wait for the email, and tell each of it; a `ClientError` where it stops."""
    registered = services.register(user)
    since = time.monotonic()
    console.print(f"registered  {registered['name']} <{registered['email']}>, id {registered['id']}")
    known = services.user(user.id)
    console.print(f"read back   {known['name']} <{known['email']}>, registered at {known['created_at']}")
    with _said_once(console) as waiting:
        email = services.email(user.id, since, waiting)
    console.print(
        f"email sent  “{email['subject']}” to {email['to']}, event {email['event_id']}, "
        f"{time.monotonic() - since:.2f} s after the registration",
        style="green",
    )


@contextmanager
def _said_once(console: Console) -> Iterator[Callable[[NotYet], None]]:
    """Says what is waited for: with a spinner in a terminal, elsewhere as a line when it changes."""
    said = ""

    def say(reason: NotYet) -> None:
        nonlocal said
        if str(reason) != said:
            said = str(reason)
            spinner.update(Text(shown(f"waiting: {said}")))
            if not console.is_terminal:
                console.print(f"waiting     {said}")

    with console.status("waiting: no email so far") as spinner:
        yield say


# --- many ----------------------------------------------------------------------------------------------------


@dataclass
class Tally:
    """What came of many registrations; the latencies are in seconds."""

    asked: int
    registrations: list[float] = field(default_factory=list)
    emails: list[float] = field(default_factory=list)  #: from the answer to the registration until the email is seen
    problems: list[str] = field(default_factory=list)

    @property
    def complete(self) -> bool:
        """Whether every user was registered and every email sent."""
        return len(self.registrations) == len(self.emails) == self.asked


class Board:
    """How far it is: two bars in a terminal, elsewhere a line now and then."""

    def __init__(self, console: Console, tally: Tally) -> None:
        self._console = console
        self._tally = tally
        self._next_line = time.monotonic() + LINE_SECONDS
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        self._bars = Progress(*columns, console=console, disable=not console.is_terminal)
        self._registered = self._bars.add_task("registered", total=tally.asked)
        self._sent = self._bars.add_task("emails    ", total=tally.asked)

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()

    def follow(self, jobs: Sequence[Future[Result]]) -> list[Result]:
        """Show the tally until all these are done; what they came to."""
        while wait(jobs, timeout=SHOW_SECONDS).not_done:
            self._show()
        self._show()
        return [job.result() for job in jobs]

    def _show(self) -> None:
        registered, sent = len(self._tally.registrations), len(self._tally.emails)
        self._bars.update(self._registered, completed=registered)
        self._bars.update(self._sent, completed=sent)
        if not self._console.is_terminal and time.monotonic() >= self._next_line:
            self._next_line = time.monotonic() + LINE_SECONDS
            self._console.print(f"{registered} of {self._tally.asked} registered, {sent} emails")


def register_many(services: Services, tally: Tally, concurrency: int, board: Board) -> None:
    """Register that many users and watch for their emails, filling the tally; no registration waits for an email."""
    users = [NewUser(name) for name in islice(cycle(NAMES), tally.asked)]
    with ThreadPoolExecutor(concurrency) as registrars, ThreadPoolExecutor(concurrency) as watchers:

        def watch(user: NewUser, since: float) -> None:
            try:
                services.email(user.id, since)
                tally.emails.append(time.monotonic() - since)
            except ClientError as error:
                tally.problems.append(str(error))

        def register(user: NewUser) -> Future[None] | None:
            started = time.monotonic()
            try:
                services.register(user)
            except ClientError as error:
                tally.problems.append(str(error))
                if isinstance(error, NotYet):
                    services.give_up()  # it was away for as long as we have patience: do not wait again for each user
                return None
            tally.registrations.append(time.monotonic() - started)
            return watchers.submit(watch, user, time.monotonic())

        try:
            watching = board.follow([registrars.submit(register, user) for user in users])
            board.follow([job for job in watching if job])
        finally:  # also on Ctrl-C
            services.give_up()
            registrars.shutdown(cancel_futures=True)
            watchers.shutdown(cancel_futures=True)


def report(tally: Tally, seconds: float, console: Console) -> None:
    """Counts, latencies, and what went wrong."""
    console.print(
        f"{len(tally.registrations)} of {tally.asked} users registered, {len(tally.emails)} emails sent "
        f"in {seconds:.1f} s"
    )
    for what, latencies in (("registration", tally.registrations), ("registration → email", tally.emails)):
        if latencies:
            p50, p99 = percentile(latencies, 50), percentile(latencies, 99)
            console.print(f"{what}: p50 {p50 * 1000:.0f} ms, p99 {p99 * 1000:.0f} ms")
    for problem, times in Counter(tally.problems).most_common(MOST_PROBLEMS):
        console.print(f"{times} × {problem}", style="red")


def percentile(values: Sequence[float], percent: float) -> float:
    """The smallest of the values that so many percent of them do not exceed (nearest rank)."""
    return sorted(values)[ceil(len(values) * percent / 100) - 1]


# --- the command line ----------------------------------------------------------------------------------------


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; the exit status."""
    return run("client", lambda: _run(_options(arguments)))


def _run(options: argparse.Namespace) -> int:
    console = Screen()
    services = Services(options.url, options.emails_url, options.timeout, 2 * options.concurrency)
    try:
        services.check()
        if options.count == 1:
            register_one(services, NewUser(options.name), console)
            return 0
        return 0 if _many(services, options, console) else 1
    except ClientError as error:
        print(f"client: {shown(str(error))}", file=sys.stderr)
        return FAILED if isinstance(error, NoUserService) else 1
    finally:
        services.close()


def _many(services: Services, options: argparse.Namespace, console: Console) -> bool:
    tally = Tally(options.count)
    started = time.monotonic()
    try:
        with Board(console, tally) as board:
            register_many(services, tally, options.concurrency, board)
    finally:
        report(tally, time.monotonic() - started, console)
    return tally.complete


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="client.py",
        description="Register users and see their emails sent.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--name", default=NAMES[0], help="who signs up")
    parser.add_argument("--count", type=int, default=1, help="how many sign up")
    parser.add_argument("--concurrency", type=int, default=4, help="how many at a time")
    parser.add_argument(
        "--timeout", type=float, default=PATIENCE_SECONDS, help="seconds to wait for each answer and email"
    )
    parser.add_argument("--url", default=USERS_URL, help="where the user service is")
    parser.add_argument("--emails-url", default=EMAILS_URL, help="where the email service is")
    options = parser.parse_args(arguments)
    for name, most in MOST.items():
        if not 0 < getattr(options, name) <= most:
            parser.error(f"--{name} must be above zero, and at most {most:,}")
    return options


if __name__ == "__main__":
    sys.exit(main())
