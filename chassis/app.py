"""A Flask app with what every service's API has: problems, health, metrics, its contract, readable JSON."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from flask import Flask
from flask.json.provider import DefaultJSONProvider
from prometheus_client import CollectorRegistry

from chassis import health, metrics, openapi, problems

MAX_BODY_BYTES = 64 * 1024


class ReadableJson(DefaultJSONProvider):
    """Every script as it is written, and fields in the order of the contract."""

    ensure_ascii = False
    sort_keys = False


def new_app(name: str, *, contract: Path, is_ready: Callable[[], bool], registry: CollectorRegistry) -> Flask:
    """An app that answers for its errors, its health, what it counts and its contract; the service adds its views."""
    app = Flask(name, static_folder=None)
    app.json = ReadableJson(app)
    app.config["MAX_CONTENT_LENGTH"] = MAX_BODY_BYTES
    problems.install(app)
    app.register_blueprint(health.blueprint(is_ready))
    app.register_blueprint(metrics.blueprint(registry))
    app.register_blueprint(openapi.blueprint(contract))
    return app
