"""`docs/operations.md` names each metric that the services have, and no other."""

from __future__ import annotations

import re
from pathlib import Path

from prometheus_client import CollectorRegistry

import email_service.metrics
import user_service.metrics
from chassis.database import Database, sqlite_url
from user_service.tables import SCHEMA_NAME, SCHEMA_VERSION, Base

OPERATIONS = Path(__file__).parents[2] / "docs" / "operations.md"


def test_each_metric_is_in_the_table(tmp_path: Path) -> None:
    """With its labels and its type."""
    registry = CollectorRegistry()
    user_service.metrics.Metrics(registry)
    email_service.metrics.Metrics(registry)
    with Database(
        sqlite_url(tmp_path / "users.db"), Base.metadata, schema_name=SCHEMA_NAME, schema_version=SCHEMA_VERSION
    ) as database:
        registry.register(user_service.metrics.OutboxCollector(database))
        metrics = {(metric.name, metric.type): metric for metric in registry.collect()}
    table = OPERATIONS.read_text("utf-8").split("<!-- metrics -->")[1].split("<!-- /metrics -->")[0]
    rows = re.findall(r"^\| `(\w+)(?:{(\w+)})?` \| (\w+) \|", table, re.MULTILINE)
    assert {(name.removesuffix("_total"), kind) for name, _, kind in rows} == set(metrics)
    for name, label, kind in rows:
        labels = {key for sample in metrics[name.removesuffix("_total"), kind].samples for key in sample.labels} - {
            "le"
        }
        assert labels == {label} - {""}
