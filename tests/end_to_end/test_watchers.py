"""Those who watch a service are answered while its work stands still, or there is far too much of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
import requests

from broker.testing import eventually
from demo.api_client import NewUser
from tests.end_to_end.processes import Service
from tests.servers.mariadb import Operator

WITHIN_SECONDS = 5.0  #: a probe that queued behind the work would take twenty or more
CROWD = 40


@contextmanager
def running(name: str, data: Path, **settings: str) -> Iterator[Service]:
    """That service with those settings."""
    with closing(Service(name, data)) as service:
        service.set(**settings)
        service.start()
        yield service


@contextmanager
def asked(ask: Callable[[int], object]) -> Iterator[None]:
    """Meanwhile a crowd asks, each once; what becomes of it is its own business."""
    with ThreadPoolExecutor(CROWD) as crowd:
        jobs = [crowd.submit(ask, number) for number in range(CROWD)]
        yield
        assert any(not job.done() for job in jobs), "the service was busy to the end"


def probe(service: Service) -> dict[str, int]:
    """The status of each answer."""
    paths = ("/health/live", "/health/ready", "/metrics")
    return {path: requests.get(service.url + path, timeout=WITHIN_SECONDS).status_code for path in paths}


@pytest.mark.parametrize(("name", "path"), [("user_service", "/users/42"), ("email_service", "/emails")])
def test_probes_are_answered_while_the_database_hangs(name: str, path: str, tmp_path: Path, mariadb: Operator) -> None:
    """It lives, it is not ready, and its metrics say what is known; then it goes on."""
    with (
        mariadb.new_database() as url,
        running(name, tmp_path, DATABASE_URL=url) as service,
        mariadb.paused(),
        asked(lambda _: requests.get(service.url + path, timeout=60)),
    ):
        eventually(lambda: not service.is_ready(), "the database hangs")
        for _ in range(3):
            assert probe(service) == {"/health/live": 200, "/health/ready": 503, "/metrics": 200}


def test_probes_are_answered_while_a_crowd_signs_up(tmp_path: Path) -> None:
    """Each password takes a processor for a third of a second or more."""

    def sign_up(number: int) -> None:
        requests.post(f"{service.url}/users", json=NewUser(f"Person {number}").form(), timeout=60)

    with running("user_service", tmp_path, BCRYPT_COST="13") as service, asked(sign_up):
        for _ in range(3):
            assert probe(service) == {"/health/live": 200, "/health/ready": 200, "/metrics": 200}
