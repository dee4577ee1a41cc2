"""Serves a contract to those who build clients: `contracts/*.yaml` as `GET /openapi.json`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from flask import Blueprint


def blueprint(contract: Path) -> Blueprint:
    """The OpenAPI document in that YAML file, read once."""
    document = yaml.safe_load(contract.read_text(encoding="utf-8"))
    openapi = Blueprint("openapi", __name__)

    @openapi.get("/openapi.json")
    def serve() -> Any:
        return document

    return openapi
