"""Both services as processes of this machine, for the demo: started, followed, and none left behind.

A service process ends when its standard input does. The pipe's other end is the demo's, and the operating system
closes it however the demo ends: by itself, by Ctrl-C, by an exception, by `kill -9`.
"""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from importlib import import_module
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil
import requests

from broker import BrokerError
from chassis.main import run
from chassis.settings import ServiceSettings, read
from demo.service import run_service, with_faults

HOST = "127.0.0.1"
START_SECONDS = 60.0  #: until both must be ready
STOP_SECONDS = 15.0  #: a service drains for ten; then it is killed
LOOK_SECONDS = 0.05  #: between two looks at whether they are ready
QUIET_PORTS = range(10_000, 30_000)  #: those that the system gives to others are higher
TOGETHER = "services"  #: what several in one process are called

Settings = Mapping[str, str]


class StageError(Exception):
    """The services did not start; the text says which, and what it said last is in the story."""


class Stage:
    """Both services, running while the `with` statement does. `say(who, line)` gets every line they print.

    `services` maps each to its settings, on top of this process's own; with `one_process` they share one.
    Where somebody else is quicker to listen on a port, the service is started again on another one; `settings` has it.
    """

    def __init__(self, services: Mapping[str, Settings], one_process: bool, say: Callable[[str, str], None]) -> None:
        self.settings = {name: dict(settings) for name, settings in services.items()}
        self._groups = [list(services)] if one_process else [[name] for name in services]
        self._say = say
        self._processes: dict[str, psutil.Popen] = {}
        self._followers: list[threading.Thread] = []

    def __enter__(self) -> Self:
        try:
            for group in self._groups:
                self._start(group)
            self._wait_until_ready()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let the services drain, and kill what is left of them."""
        processes = set(self._processes.values())
        for process in processes:
            _close_input(process)
        _, alive = psutil.wait_procs(processes, timeout=STOP_SECONDS)
        for stubborn in alive:
            stubborn.kill()
        psutil.wait_procs(alive)
        for follower in self._followers:
            follower.join()

    def url(self, service: str) -> str:
        """Where it listens."""
        return f"http://{HOST}:{self._port(service)}"

    def pid(self, service: str) -> int:
        """The process that it runs in."""
        return int(self._processes[service].pid)

    def dead(self) -> list[str]:
        """The services whose process has ended."""
        return [service for service, process in self._processes.items() if process.poll() is not None]

    def _start(self, group: Sequence[str]) -> None:
        process = psutil.Popen(
            [sys.executable, "-m", "demo.processes", *group],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=Path(__file__).parents[1],
            process_group=0,  # Ctrl-C is for the demo, which then ends them in order
            encoding="utf-8",
            errors="replace",
        )
        self._processes.update(dict.fromkeys(group, process))
        follower = threading.Thread(target=self._follow, args=(process, group[0] if len(group) == 1 else TOGETHER))
        follower.start()
        self._followers.append(follower)
        process.stdin.write(json.dumps({service: self.settings[service] for service in group}) + "\n")
        process.stdin.flush()

    def _follow(self, process: psutil.Popen, who: str) -> None:
        with process.stdout:
            for line in process.stdout:
                self._say(who, line.rstrip("\n"))

    def _wait_until_ready(self) -> None:
        with requests.Session() as session:
            session.trust_env = False  # no proxy stands between us and this machine
            deadline = time.monotonic() + START_SECONDS
            while not all(self._is_ready(session, service) for service in self.settings):
                for group in self._groups:
                    if self._processes[group[0]].poll() is not None:
                        self._start_elsewhere(group)
                if time.monotonic() > deadline:
                    raise StageError(f"the services were not ready after {START_SECONDS:.0f} s")
                time.sleep(LOOK_SECONDS)

    def _start_elsewhere(self, group: Sequence[str]) -> None:
        """Start them again on other ports than those that somebody else took; `StageError` when that was not it."""
        taken = [service for service in group if not _is_free(self._port(service))]
        if not taken:
            raise StageError(f"{' and '.join(group)} did not start")
        for service, port in zip(taken, free_ports(*(0 for _ in taken)), strict=True):
            self._say("demo", f"somebody else was quicker on port {self._port(service)}: {service} goes to {port}")
            self.settings[service]["PORT"] = str(port)
        _close_input(self._processes[group[0]])
        self._start(group)

    def _port(self, service: str) -> int:
        return int(self.settings[service]["PORT"])

    def _is_ready(self, session: requests.Session, service: str) -> bool:
        try:
            if not self._listens(service):  # somebody else may have been quicker, and would answer
                return False
            return session.get(f"{self.url(service)}/health/ready", timeout=1).ok
        except requests.RequestException:
            return False

    def _listens(self, service: str) -> bool:
        port = self._port(service)
        try:
            connections = self._processes[service].net_connections()
        except psutil.Error:  # it has ended
            return False
        return any(each.status == psutil.CONN_LISTEN and each.laddr.port == port for each in connections)


def _close_input(process: psutil.Popen) -> None:
    """Let it end, if it has not."""
    with suppress(BrokenPipeError):
        process.stdin.close()


def free_ports(*preferred: int) -> list[int]:
    """Those ports of this machine, each replaced by another one when it is taken; 0 is any."""
    with ExitStack() as probes:
        return [_free_port(port, probes) for port in preferred]


def _free_port(preferred: int, probes: ExitStack) -> int:
    probe = probes.enter_context(socket.socket())
    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    while True:
        port, preferred = preferred or random.choice(QUIET_PORTS), 0  # noqa: S311  # no secret
        with suppress(OSError):
            probe.bind((HOST, port))
            return port


def _is_free(port: int) -> bool:
    with ExitStack() as probe:
        return _free_port(port, probe) == port


# --- in the processes ----------------------------------------------------------------------------------------


def serve(standard_input: int = 0) -> int:
    """Run the services that the first line of standard input names, with their settings, until it ends."""
    with open(standard_input, "rb", buffering=0, closefd=False) as pipe:
        services: dict[str, dict[str, str]] = json.loads(pipe.readline())
    threading.Thread(target=_end_with, args=(standard_input,), daemon=True).start()
    if len(services) > 1:
        return _serve_together(services)
    for service, settings in services.items():
        os.environ.update(settings)
        return run_service(service)
    return 0


def _serve_together(services: Mapping[str, Settings]) -> int:
    """Several services in this one process, as the memory broker needs it."""

    @contextmanager
    def together(_: ServiceSettings) -> Iterator[None]:
        with ExitStack() as running:
            for service, settings in services.items():
                module, environ = import_module(f"{service}.__main__"), {**os.environ, **settings}
                running.enter_context(with_faults(module, environ)(read(module.Settings, environ)))
            yield

    return run(TOGETHER, ServiceSettings, together, expected=[BrokerError])


def _end_with(pipe: int) -> None:
    os.read(pipe, 1)  # not sys.stdin: its lock would be held for ever, and Python waits for it when it ends
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(STOP_SECONDS)
    os._exit(1)


if __name__ == "__main__":
    sys.exit(serve())
