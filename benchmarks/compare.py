"""What the questions about brokers share: each broker's rivals side by side, as a table of rates and ratios."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from benchmarks.bench import Answer, Bench, Goal, rate
from benchmarks.clients import rivals
from benchmarks.clients.client import Client
from benchmarks.clients.ours import OURS
from benchmarks.side_by_side import Rates, side_by_side

Goals = Mapping[str, Mapping[str, float]]  #: broker → rival → least ratio


def compare(bench: Bench, answer: Answer, measure: Callable[[Client], float], goals: Goals) -> Answer:
    """Fill the answer: a row for each broker, with every rival that is installed."""
    for broker in bench.brokers:
        with rivals(broker, bench.address(broker), bench.folder()) as clients:
            rates = side_by_side(bench.effort.rounds, {client.name: partial(measure, client) for client in clients})
        answer.rows.append({"broker": broker, **_cells(rates)})
        for rival, bound in goals.get(broker, {}).items():
            if rival in rates.of:
                answer.goals.append(Goal(f"{broker} ÷ {rival}", rates.ratio(OURS, rival), bound))
    return answer


def _cells(rates: Rates) -> dict[str, str]:
    cells = {name: rate(rates.typical(name)) for name in rates.of}
    ratios = {f"÷ {name}": f"{rates.ratio(OURS, name):.2f}" for name in rates.of if name != OURS}
    return cells | ratios
