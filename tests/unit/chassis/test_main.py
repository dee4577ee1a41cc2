"""A service as a process: how it ends."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

PROGRAM = """
import sys, threading
from contextlib import contextmanager
from chassis.main import run
from chassis.settings import ServiceSettings

class Expected(Exception): pass

@contextmanager
def service(settings):
    {start}
    print("started", flush=True)
    yield
    print("stopping", flush=True)
    {stop}
    print("drained", flush=True)

sys.exit(run("some-service", ServiceSettings, service, expected=[Expected]))
"""


@contextmanager
def program(start: str = "", stop: str = "", **environ: str) -> Iterator[subprocess.Popen[str]]:
    """A process that runs a service; killed at the end if need be."""
    text = PROGRAM.format(start=start or "pass", stop=stop or "pass")
    process = subprocess.Popen(
        [sys.executable, "-c", text],
        env={"PYTHONPATH": ".", **environ},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_drains_and_exits_with_0(number: signal.Signals) -> None:
    """What follows the `yield` of the service runs."""
    with program() as process:
        assert process.stdout
        assert process.stdout.readline() == "started\n"
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
        assert (out, process.returncode) == ("stopping\ndrained\n", 0)
        assert "Traceback" not in err


def test_a_signal_that_another_thread_got_drains_too() -> None:
    """The system chooses the thread; the main one waits meanwhile."""
    got_by_another = """
    def get_it():
        import signal
        while not sys._current_frames()[main].f_code.co_filename.endswith("main.py"):
            threading.Event().wait(0.01)  # until the main thread waits
        signal.pthread_kill(threading.get_ident(), signal.SIGTERM)

    main = threading.get_ident()
    threading.Thread(target=get_it).start()
    """
    with program(start=got_by_another) as process:
        out, _ = process.communicate(timeout=30)
        assert (out, process.returncode) == ("started\nstopping\ndrained\n", 0)


def test_a_second_interrupt_ends_it_at_once() -> None:
    """A drain that hangs can be left by Ctrl-C."""
    with program(stop="threading.Event().wait()") as process:
        assert process.stdout
        assert process.stdout.readline() == "started\n"
        process.send_signal(signal.SIGINT)
        assert process.stdout.readline() == "stopping\n"
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=60) == -signal.SIGINT


@pytest.mark.parametrize(
    ("start", "environ", "line"),
    [
        ("raise Expected('no broker')", {}, "some-service: no broker\n"),
        ("", {"PORT": "abc"}, "some-service: PORT='abc' is not possible"),
    ],
)
def test_what_may_go_wrong_is_one_line_and_status_2(start: str, environ: dict[str, str], line: str) -> None:
    """No traceback: there is no bug."""
    with program(start, **environ) as process:
        _, err = process.communicate(timeout=60)
        assert process.returncode == 2
        assert err.startswith(line)
        assert err.count("\n") == 1
