"""A chaos run: people sign up while everything that can break is broken at random; then nothing may be lost.

    make chaos [BROKER=http] [DATABASE=sqlite] [DELIVERY=outbox] [SEED=1] [SECONDS=30]
    python -m tests.chaos.run --broker redis --database mariadb --seed 7 --seconds 60

Broken are: each process of both services (killed, stopped, paused), the broker's server, where there is one (killed,
paused), the mail server (it refuses). You see a timeline, and at the end what came of it. Exit status 0: everybody is
registered, everybody has their email, whatever was sent twice has one Message-ID, each stop by SIGTERM ended with 0.
The seed decides what is broken when; how that meets the requests is up to the machine. DELIVERY=direct is the
tutorial's own way, commit and then publish, under the same attacks: it loses.

`memory` is left out: it ends with its one process, and says so.
"""

from __future__ import annotations

import argparse
import sys
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import mkdtemp

from tests.chaos.crowd import Client, crowd
from tests.chaos.gremlins import Gremlin, gremlins
from tests.chaos.town import SETTINGS, Say, Town, town
from tests.end_to_end.processes import ledger
from tests.servers.brokers import WITH_SERVER

WAIT_SECONDS = 600  #: for what is on its way at the end, at most; on a busy machine that takes a while


@dataclass(frozen=True)
class Plan:
    """What to run; the same plan breaks the same things at the same times."""

    broker: str = "http"
    database: str = "sqlite"
    delivery: str = "outbox"
    seed: int = 1
    seconds: float = 30

    def __str__(self) -> str:
        """The command."""
        return "make chaos " + " ".join(f"{name.upper()}={value}" for name, value in asdict(self).items())


@dataclass(frozen=True)
class Result:
    """What came of a run."""

    registered: int
    retries: int
    attacks: Counter[str]
    ledger: str  #: its last line
    twice: int  #: emails that came again, with the same Message-ID
    wrong: tuple[str, ...]  #: what should not be; empty when nothing is lost

    def __str__(self) -> str:
        """Some lines for people."""
        attacks = " · ".join(f"{what} {times}" for what, times in sorted(self.attacks.items()))
        clients = f"registered {self.registered} · requests tried again {self.retries}"
        lines = [attacks, clients, self.ledger, f"emails sent again with the same Message-ID {self.twice}", *self.wrong]
        return "\n".join(lines)


def chaos(plan: Plan, folder: Path, say: Say) -> Result:
    """Run it; the folder, which must be empty, keeps what every process has said."""
    with town(plan.broker, plan.database, plan.delivery, folder) as everything:
        say("everything", "runs")
        with crowd(everything.users, plan.seed) as clients, gremlins(everything, plan.seed, say) as breakers:
            threading.Event().wait(plan.seconds)
        say("everything", "is mended")
        return judge(everything, clients, breakers)


def judge(everything: Town, clients: Sequence[Client], breakers: Sequence[Gremlin]) -> Result:
    """Count, when all is calm."""
    people = [user for client in clients for user in client.registered]
    errors = {client.name: client.error for client in clients} | {breaker.name: breaker.error for breaker in breakers}
    wrong = [f"WRONG {name}: {error!r}" for name, error in errors.items() if error]
    waiting = ("--wait", str(WAIT_SECONDS), "--settle-seconds", SETTINGS["LEASE_SECONDS"])
    told = ledger(everything.users[0], everything.emails[0], *waiting)
    if told.returncode or f"users {len(people)} · emailed {len(people)} " not in told.stdout:
        wrong.append(f"WRONG the ledger does not balance, or not on {len(people)}: exit status {told.returncode}")
    emails = everything.mailbox.by_recipient
    message_ids = [emails.get(user.form()["email"], []) for user in people]
    if without := sum(not ids for ids in message_ids):
        wrong.append(f"WRONG {without} have no email")
    if different := sum(len(set(ids)) > 1 for ids in message_ids):
        wrong.append(f"WRONG {different} have emails with different Message-IDs")
    return Result(
        registered=len(people),
        retries=sum(client.retries for client in clients),
        attacks=sum((breaker.done for breaker in breakers), Counter()),
        ledger=(told.stdout.splitlines() or [told.stderr])[-1],
        twice=sum(len(ids) - 1 for ids in message_ids if ids),
        wrong=tuple(wrong),
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it as the arguments say; the exit status."""
    plan = Plan(**vars(_parser().parse_args(arguments)))
    folder = Path(mkdtemp(prefix="chaos-"))
    began = time.monotonic()

    def say(who: str, what: str) -> None:
        print(f"{time.monotonic() - began:7.1f} s  {who:12}  {what}", flush=True)

    result = chaos(plan, folder, say)
    print(f"\n{result}\nagain: {plan}\nlogs: {folder}")
    return 1 if result.wrong else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.run", description="Break everything, lose nothing.")
    parser.add_argument("--broker", choices=["http", *WITH_SERVER], default=Plan.broker)
    parser.add_argument("--database", choices=["sqlite", "mariadb"], default=Plan.database)
    parser.add_argument("--delivery", choices=["outbox", "direct"], default=Plan.delivery)
    parser.add_argument("--seed", type=int, default=Plan.seed)
    parser.add_argument("--seconds", type=float, default=Plan.seconds)
    return parser


if __name__ == "__main__":
    sys.exit(main())
