"""A pytest plugin: the marker `promise(n)`, and a table of brokers and promises after the run."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Generator

import pytest

PROMISES = 15


def pytest_configure(config: pytest.Config) -> None:
    """Make the marker known."""
    config.addinivalue_line("markers", "promise(number): the promise of broker/base.py that this test holds")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Note on the report which broker and promise it is about; the note travels between processes with it."""
    report = yield
    marker = item.get_closest_marker("promise")
    if marker is not None and item.parent is not None:
        report.user_properties.append(("promise", [item.parent.name.removeprefix("Test"), *marker.args]))
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print how many tests of each promise passed on each broker."""
    passed: dict[str, dict[int, int]] = defaultdict(lambda: defaultdict(int))
    failed: dict[str, dict[int, int]] = defaultdict(lambda: defaultdict(int))
    for outcome, table in (("passed", passed), ("failed", failed), ("error", failed)):
        for report in terminalreporter.getreports(outcome):
            for name, value in getattr(report, "user_properties", ()):  # a module that failed to load has none
                if name == "promise" and (report.when == "call" or outcome == "error"):
                    broker, *numbers = value
                    for number in numbers:
                        table[broker][number] += 1
    if not passed and not failed:
        return
    terminalreporter.section("promises: tests passed on each broker (see broker/base.py)")
    terminalreporter.line(f"{'':<14}" + "".join(f"{number:>5}" for number in range(1, PROMISES + 1)))
    for broker in sorted({*passed, *failed}):
        cells = (_cell(passed[broker][number], failed[broker][number]) for number in range(1, PROMISES + 1))
        terminalreporter.line(f"{broker:<14}" + "".join(f"{cell:>5}" for cell in cells))


def _cell(passed: int, failed: int) -> str:
    return f"{failed}✗" if failed else str(passed or "-")
