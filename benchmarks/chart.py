"""The ratios of the brokers as bars, in an SVG: how many times as fast as each rival we are."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.bench import Answer

RIVALS = {"÷ library": "#8da0cb", "÷ FastStream": "#fc8d62", "÷ Kombu": "#66c2a5"}
BAR = 0.25  #: of the space that a broker has
INCHES = (9, 2.4)  #: width, and height of each question


def draw(answers: Sequence[Answer], file: Path) -> None:
    """Write it; needs matplotlib. Questions without such ratios have no bars."""
    from matplotlib.figure import Figure  # noqa: PLC0415  # an extra, for this alone

    compared = [answer for answer in answers if any(set(RIVALS) & set(row) for row in answer.rows)]
    figure = Figure(figsize=(INCHES[0], INCHES[1] * max(1, len(compared))), layout="constrained")
    for number, answer in enumerate(compared, 1):
        axes = figure.add_subplot(len(compared), 1, number)
        _bars(axes, [row for row in answer.rows if set(RIVALS) & set(row)])
        axes.set_title(f"{answer.question}: ours ÷ theirs", loc="left")
    figure.savefig(file, metadata={"Date": None})


def _bars(axes: Any, rows: Sequence[dict[str, str]]) -> None:
    for offset, (column, color) in enumerate(RIVALS.items()):
        places = [place for place, row in enumerate(rows) if column in row]
        values = [float(rows[place][column]) for place in places]
        drawn = axes.bar([place + BAR * (offset - 1) for place in places], values, BAR, label=column, color=color)
        axes.bar_label(drawn, [f"{value:.2g}" for value in values], fontsize=8)
    axes.axhline(1, color="black", linewidth=0.8)
    axes.set_yscale("log")
    axes.set_xticks(range(len(rows)), [row.get("broker") or row["case"] for row in rows])
    axes.margins(y=0.25)
    axes.legend(fontsize=8, ncols=len(RIVALS))
