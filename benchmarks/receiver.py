"""What the http broker delivers to, and what `requests` posts to: a process that takes messages in both ways.

    python -m benchmarks.receiver DATA_DIR TOPIC

It prints where it answers plain POSTs; it ends when its standard input does.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from pathlib import Path

import broker
from benchmarks.clients.client import GROUP
from chassis.server import Server


def take(environ: dict[str, object], start_response: Callable[..., object]) -> Iterable[bytes]:
    """A WSGI app that reads a message, and says that it did."""
    environ["wsgi.input"].read()  # type: ignore[attr-defined]  # a stream
    start_response("204 No Content", [])
    return []


def main() -> None:
    """Serve."""
    folder, topic = Path(sys.argv[1]), sys.argv[2]
    with (
        broker.connect("http", data_dir=folder) as bus,
        Server(take, "127.0.0.1", 0) as server,
        server.taking_requests(),
    ):
        bus.subscribe(topic, lambda _: None, group=GROUP)
        print(server.url, flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()
