"""What every service's app answers to those who run it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from flask.testing import FlaskClient
from prometheus_client import CollectorRegistry, Counter

from chassis.app import new_app
from chassis.metrics import new_registry

NewClient = Callable[[Callable[[], bool]], FlaskClient]


@pytest.fixture
def registry() -> CollectorRegistry:
    """A registry with the library's own metrics."""
    return new_registry()


@pytest.fixture
def new_client(tmp_path: Path, registry: CollectorRegistry) -> NewClient:
    """Makes a client of an app that is ready when the given function says so."""
    (tmp_path / "openapi.yaml").write_text("openapi: 3.1.0")

    def new(is_ready: Callable[[], bool]) -> FlaskClient:
        return new_app("app", contract=tmp_path / "openapi.yaml", is_ready=is_ready, registry=registry).test_client()

    return new


@pytest.fixture
def hangs() -> Iterator[Callable[[], bool]]:
    """A database whose server has gone without a word; it comes back when the test is over."""
    back = threading.Event()
    yield lambda: back.wait(60)
    back.set()


def test_what_hangs_is_not_ready_and_alive(new_client: NewClient, hangs: Callable[[], bool]) -> None:
    """The probe gets an answer all the same."""
    client = new_client(hangs)
    assert client.get("/health/ready").status_code == 503
    assert client.get("/health/live").status_code == 200


def test_ready_is_what_the_service_says(new_client: NewClient) -> None:
    """Now so, now otherwise."""
    answers = iter([True, False, True])
    client = new_client(lambda: next(answers))
    assert [client.get("/health/ready").status_code for _ in range(3)] == [200, 503, 200]


@pytest.mark.parametrize(
    ("accept", "content_type", "end"),
    [
        ("*/*", "text/plain", ""),
        ("application/openmetrics-text;version=1.0.0,text/plain;q=0.5", "application/openmetrics-text", "# EOF\n"),
    ],
)
def test_metrics_come_in_the_form_that_the_scraper_asks_for(
    new_client: NewClient, registry: CollectorRegistry, accept: str, content_type: str, end: str
) -> None:
    """The app's own, and what its process uses."""
    Counter("pigeons", "Those sent.", registry=registry).inc(3)
    answer = new_client(lambda: True).get("/metrics", headers={"Accept": accept})
    assert (answer.status_code, answer.mimetype) == (200, content_type)
    assert "pigeons_total 3.0\n" in answer.text
    assert "process_resident_memory_bytes " in answer.text
    assert answer.text.endswith(end)


def test_two_apps_in_one_process_count_for_themselves() -> None:
    """Nothing is global."""
    for _ in range(2):
        Counter("pigeons", "Those sent.", registry=new_registry())
