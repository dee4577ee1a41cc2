"""A service as a process: how it ends."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

PROGRAM = """
'Serves somebody: 学院君.'
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

sys.exit(run("some-service", ServiceSettings, service, expected=[Expected], arguments=sys.argv[1:]))
"""


@contextmanager
def program(start: str = "", stop: str = "", *arguments: str, **environ: str) -> Iterator[subprocess.Popen[str]]:
    """A process that runs a service; killed at the end if need be."""
    text = PROGRAM.format(start=start or "pass", stop=stop or "pass")
    process = subprocess.Popen(
        [sys.executable, "-c", text, *arguments],
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


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
@pytest.mark.parametrize("argument", ["-h", "--help"])
def test_help_says_what_it_is_and_which_settings_it_reads(argument: str, encoding: str) -> None:
    """The head of the file, and each variable with its default, never with the value that it has; nothing starts."""
    environ = {"PYTHONIOENCODING": encoding, "DATABASE_URL": "mysql://root:hush@127.0.0.1", "LOG_LEVEL": "not possible"}
    with program("", "", argument, **environ) as process:
        out, err = process.communicate(timeout=60)
    assert (err, process.returncode) == ("", 0)
    assert out.startswith("Serves somebody: 学院君.\n".encode(encoding, "backslashreplace").decode())
    assert {"  DATA_DIR=data", "  DATABASE_URL=", "  PORT=0", "  DRAIN_SECONDS=10"} < set(out.splitlines())
    assert "hush" not in out
    assert "started" not in out


@pytest.mark.parametrize(
    ("argument", "shown"),
    [("--broker=redis://:hush@x", "'--broker'"), ("mysql://root:hush@x", "'mysql'"), ("serve", "'serve'"), ("", "''")],
)
def test_an_unknown_argument_is_one_line_and_status_2(argument: str, shown: str) -> None:
    """It starts nothing; what may be a password is not shown."""
    with program("", "", argument, "--help") as process:
        out, err = process.communicate(timeout=60)
    assert (out, process.returncode) == ("", 2)
    assert err == f"some-service: unknown argument {shown}; settings come from the environment: --help lists them\n"
