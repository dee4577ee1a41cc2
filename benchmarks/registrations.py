"""How many people can register in a second, and how long does each wait."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager

import bcrypt

from benchmarks.bench import Answer, Bench, Goal, ms, rate
from benchmarks.load import Load, load
from benchmarks.services import bare_server, make_group, services
from benchmarks.side_by_side import Rates, side_by_side

PASSWORD = b"correct horse battery"
COST, LOWEST_COST = 12, 4


def answer(bench: Bench) -> Answer:
    """The whole user service: it also publishes, to the http broker, whose group is known and away."""
    how = (
        f"{bench.effort.clients} clients in two processes, over http.client, on the same machine. The user service runs"
        " whole: its relay publishes to the http broker, whose group is known and away. At cost 12 beside bcrypt alone,"
        f" in a thread for each core. At cost {LOWEST_COST} beside its own handler without a database, and beside a"
        " plain Flask view that inserts one row by the ORM, on the same server, hashing too."
    )
    found = Answer("Registrations", how)
    for database in bench.databases:
        _at_full_cost(bench, database, found)
        _at_lowest_cost(bench, database, found)
    return found


def _at_full_cost(bench: Bench, database: str, found: Answer) -> None:
    with user_service(bench, database, COST) as url:
        rates, loads = _measured(bench, {"ours": url}, {"bcrypt": lambda: _bare_bcrypt(bench.effort.load_seconds)})
    ratio, spread = rates.ratio("ours", "bcrypt"), _median(loads["ours"], lambda one: one.p99 / one.p50)
    found.rows.append(_row(f"{database}, cost {COST}", rates, loads) | {"÷ bcrypt": f"{ratio:.2f}"})
    found.goals.append(Goal(f"{database}, cost {COST} ÷ bare bcrypt on all cores", ratio, 0.97))
    found.goals.append(Goal(f"{database}, cost {COST}, p99 ÷ p50", spread, 1.15, at_most=True))


def _at_lowest_cost(bench: Bench, database: str, found: Answer) -> None:
    with ExitStack() as running:
        urls = {
            "ours": running.enter_context(user_service(bench, database, LOWEST_COST)),
            "no database": running.enter_context(bare_server("handler")),
            "plain ORM": running.enter_context(bare_server("orm", bench.database(database))),
        }
        rates, loads = _measured(bench, urls, {})
    ratios = {name: rates.ratio("ours", name) for name in ("no database", "plain ORM")}
    waits = _p99(loads["ours"]) / _p99(loads["plain ORM"])
    cells = {f"÷ {name}": f"{ratio:.2f}" for name, ratio in ratios.items()}
    found.rows.append(_row(f"{database}, cost {LOWEST_COST}", rates, loads) | cells)
    found.goals.append(Goal(f"{database}, cost 4 ÷ no database", ratios["no database"], 0.8))
    found.goals.append(Goal(f"{database}, cost 4 ÷ plain ORM", ratios["plain ORM"], 1.4))
    found.goals.append(Goal(f"{database}, cost 4, p99 ÷ plain ORM's", waits, 0.1, at_most=True))


@contextmanager
def user_service(bench: Bench, database: str, cost: int) -> Iterator[str]:
    """The whole service, and where it listens."""
    folder = bench.folder()
    make_group("http", folder)
    settings = {
        "DATA_DIR": str(folder),
        "BROKER": "http",
        "DATABASE_URL": bench.database(database),
        "BCRYPT_COST": str(cost),
        "DRAIN_SECONDS": "1",
    }
    with services(settings, "user_service") as stage:
        yield stage.url("user_service")


def _measured(
    bench: Bench, urls: dict[str, str], others: dict[str, Callable[[], float]]
) -> tuple[Rates, dict[str, list[Load]]]:
    """Rates of all, and what the clients of each server saw in each round."""
    loads: dict[str, list[Load]] = {name: [] for name in urls}

    def measure(name: str) -> float:
        loads[name].append(load(urls[name], bench.effort.clients, bench.effort.load_seconds))
        return loads[name][-1].per_second

    servers = {name: (lambda name=name: measure(name)) for name in urls}
    rates = side_by_side(bench.effort.rounds, {**servers, **others})
    return rates, {name: found[-bench.effort.rounds :] for name, found in loads.items()}


def _bare_bcrypt(seconds: float) -> float:
    """What this machine can hash in a second, on all its cores."""
    cores = os.cpu_count() or 1
    until = time.perf_counter() + seconds

    def hash_on(_: int) -> int:
        count = 0
        while time.perf_counter() < until:
            bcrypt.hashpw(PASSWORD, bcrypt.gensalt(COST))
            count += 1
        return count

    with ThreadPoolExecutor(cores) as threads:
        began = time.perf_counter()
        count = sum(threads.map(hash_on, range(cores)))
        return count / (time.perf_counter() - began)


def _row(case: str, rates: Rates, loads: dict[str, list[Load]]) -> dict[str, str]:
    row = {"case": case, "ours": rate(rates.typical("ours"))}
    row |= {"p50": ms(_median(loads["ours"], lambda one: one.p50)), "p99": ms(_p99(loads["ours"]))}
    for name in rates.of:
        if name != "ours":
            row[name] = rate(rates.typical(name))
    if "plain ORM" in loads:
        row["its p99"] = ms(_p99(loads["plain ORM"]))
    return row


def _median(loads: list[Load], figure: Callable[[Load], float]) -> float:
    return Rates({"": [figure(one) for one in loads]}).typical("")


def _p99(loads: list[Load]) -> float:
    return _median(loads, lambda one: one.p99)
