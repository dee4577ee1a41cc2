"""`GET /metrics` for Prometheus: what a service counts about itself, and what its process uses.

    registry = new_registry()
    published = Counter("users_events_published", "…", registry=registry)

One registry for each app, handed on as an argument: nothing is global, and two services may share a process. A
service is one process, so there is nothing to add up here.
https://prometheus.io/docs/practices/naming/
"""

from __future__ import annotations

from flask import Blueprint, Response, request
from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.exposition import choose_encoder


def new_registry() -> CollectorRegistry:
    """A registry that has the library's own metrics of this process: memory, CPU, descriptors, garbage, Python."""
    registry = CollectorRegistry()
    for collector in (ProcessCollector, PlatformCollector, GCCollector):
        collector(registry=registry)
    return registry


def blueprint(registry: CollectorRegistry) -> Blueprint:
    """`GET /metrics`: everything in the registry, in the form that the scraper asks for."""
    metrics = Blueprint("metrics", __name__)

    @metrics.get("/metrics")
    def scrape() -> Response:
        encode, content_type = choose_encoder(request.headers.get("Accept", ""))
        return Response(encode(registry), content_type=content_type)

    return metrics
