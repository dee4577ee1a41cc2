"""Registers people as fast as a server answers: several processes of ours, over http.client.

Why not a tool: each registration needs a body of its own, which those without a language inside cannot make, and those
with one are another thing to install. Two processes of threads are enough for what a Python server answers, and each
answer's time is kept. All rivals are under the same load.

    python -m benchmarks.load URL CLIENTS SECONDS       begins when a line comes in, prints each answer's seconds
"""

from __future__ import annotations

import http.client
import json
import subprocess
import sys
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from urllib.parse import urlsplit

from benchmarks.bench import quantile

PROCESSES = 2
TIMEOUT_SECONDS = 60


@dataclass(frozen=True)
class Load:
    """What the clients saw."""

    per_second: float
    p50: float  #: seconds
    p99: float


def load(url: str, clients: int, seconds: float) -> Load:
    """Let so many clients register people, each as soon as it has its last answer."""
    command = [sys.executable, "-m", "benchmarks.load", url, str(clients // PROCESSES), str(seconds)]
    processes = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(PROCESSES)
    ]
    for process in processes:
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin
        process.stdin.write("go\n")
        process.stdin.flush()
    began = time.perf_counter()
    took = [second for process in processes for second in json.loads(process.communicate()[0])]
    return Load(len(took) / (time.perf_counter() - began), quantile(took, 0.5), quantile(took, 0.99))


def register(connection: http.client.HTTPConnection) -> float:
    """Register somebody new; how many seconds that took."""
    number = uuid.uuid4().hex
    user = {"name": "学院君", "email": f"{number}@example.com", "password": "correct horse battery"}
    began = time.perf_counter()
    connection.request("POST", "/users", json.dumps(user), {"content-type": "application/json"})
    answer = connection.getresponse()
    body = answer.read()
    assert answer.status == http.client.CREATED, body
    return time.perf_counter() - began


def connected(url: str) -> http.client.HTTPConnection:
    """To be used by one thread."""
    return http.client.HTTPConnection(urlsplit(url).netloc, timeout=TIMEOUT_SECONDS)


def client(url: str, seconds: float) -> list[float]:
    """One after the other, until the time is up; what began in time counts."""
    connection, until, took = connected(url), time.perf_counter() + seconds, list[float]()
    while time.perf_counter() < until:
        took.append(register(connection))
    connection.close()
    return took


def main() -> None:
    """One process of clients."""
    url, clients, seconds = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
    print("ready", flush=True)
    sys.stdin.readline()
    with ThreadPoolExecutor(clients) as threads:
        each = threads.map(lambda _: client(url, seconds), range(clients))
        print(json.dumps([second for took in each for second in took]))


if __name__ == "__main__":
    main()
