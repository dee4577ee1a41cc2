"""How soon does each service take its first request, and how much memory does it hold then."""

from __future__ import annotations

import time
from functools import partial

import psutil

from benchmarks.bench import Answer, Bench
from benchmarks.services import services
from benchmarks.side_by_side import Rates, side_by_side

SERVICES = ("user_service", "email_service")


def answer(bench: Bench) -> Answer:
    """On the http broker and SQLite."""
    how = (
        "From the start of its process until it says that it is ready, which is asked every 50 ms; on the http broker"
        " and SQLite, in a folder with nothing in it. Memory is what it holds at that moment (RSS)."
    )
    memory: dict[str, list[float]] = {service: [] for service in SERVICES}
    seconds = side_by_side(
        bench.effort.rounds, {service: partial(_start, bench, service, memory[service]) for service in SERVICES}
    )
    held = Rates(memory)
    rows = [
        {
            "service": service,
            "ready after": f"{seconds.typical(service):.2f} s",
            "memory": f"{held.typical(service):.0f} MiB",
        }
        for service in SERVICES
    ]
    return Answer("Start", how, rows)


def _start(bench: Bench, service: str, memory: list[float]) -> float:
    began = time.perf_counter()
    with services({"DATA_DIR": str(bench.folder()), "BROKER": "http"}, service) as stage:
        took = time.perf_counter() - began
        memory.append(psutil.Process(stage.pid(service)).memory_info().rss / 2**20)
    return took
