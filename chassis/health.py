"""Health for those who run the service: whether the process is alive, and whether it should get requests."""

from __future__ import annotations

from collections.abc import Callable

from flask import Blueprint

from chassis.errors import NoAnswer
from chassis.patience import Patient
from chassis.problems import Problem


def blueprint(is_ready: Callable[[], bool]) -> Blueprint:
    """`GET /health/live` answers 200 while the process serves; `GET /health/ready` 503 while `is_ready()` is false.

    It is 503, too, when `is_ready()` takes too long. The liveness asks nobody: what restarts this process would not
    mend a database.
    """
    health = Blueprint("health", __name__, url_prefix="/health")
    ask = Patient(is_ready)

    @health.get("/live")
    def live() -> dict[str, str]:
        return {"status": "live"}

    @health.get("/ready")
    def ready() -> dict[str, str]:
        try:
            is_ready = ask()
        except NoAnswer:
            is_ready = False
        if not is_ready:
            raise Problem(503, "not ready")
        return {"status": "ready"}

    return health
