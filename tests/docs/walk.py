"""Walks through a page as a reader does, in a copy of the project that is thrown away afterwards.

The copy differs from the project in its two ports: in its programs, as in what the page says, 8000 and 8001 are
replaced by free ones (and 6399 in what the page says), so that many walks go on at a time. So are the usual addresses
of servers, where a walk has private ones. Its `.venv` is the Python that runs the tests.
"""

from __future__ import annotations

import os
import random
import re
import shutil
import socket
import stat
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from tests.docs.expected import ANYTHING, Examples
from tests.docs.pages import ROOT, Page, Press, See, Step, Type
from tests.docs.terminal import Terminal

PORTS = ("8000", "8001", "6399")  #: of the user service, of the email service, of a Redis that a page starts
#: as long as the two, so that columns stay; and never given to connections that go out
FREE_PORTS = range(3000, 8000)
NOT_COPIED = shutil.ignore_patterns(".git", ".venv", "data", "__pycache__", ".*_cache", ".hypothesis", "*.egg-info")


def walk(page: Page, folder: Path, known: Mapping[str, str] | None = None) -> None:
    """Do each step of the page; a failure says which one did not go as the page says.

    `known` has the page's own words for what is different here, such as the address of a server: so it is in what is
    typed, and in the brokers' defaults.
    """
    with _ports() as ports, ExitStack() as terminals:
        scratch = copy(folder / "project", ports, known or {})
        examples = Examples({**(known or {}), **ports})
        opened: dict[int, Terminal] = {}
        for step in page.steps:
            for number in step.terminals:
                if number not in opened:
                    opened[number] = terminals.enter_context(Terminal(scratch, _environment(folder)))
                with _blamed_on(page, step, number, opened[number]):
                    take(step, opened[number], examples)
        for number, terminal in opened.items():
            with _blamed_on(page, page.steps[-1], number, terminal):
                terminal.wait()


def take(step: Step, terminal: Terminal, examples: Examples) -> None:
    """One step."""
    match step:
        case Type():
            terminal.wait()
            terminal.enter(examples.in_place(step.text))
        case See():
            rest_is_open = step.text.rstrip().endswith(f"\n{ANYTHING}")
            terminal.look(lambda printed, is_all: examples.find(step.text, printed, is_all), rest_is_open=rest_is_open)
        case Press():
            terminal.press_ctrl_c()


def copy(to: Path, ports: Mapping[str, str], addresses: Mapping[str, str]) -> Path:
    """The project, its programs on these ports, its brokers at these addresses."""
    shutil.copytree(ROOT, to, ignore=NOT_COPIED)
    for path in [*to.glob("*.py"), *to.glob("*_service/*.py"), *to.glob("demo/*.py"), *to.glob("docs/**/*.py")]:
        text = path.read_text(encoding="utf-8")
        path.write_text(re.sub(r"\b800[01]\b", lambda port: ports[port[0]], text), encoding="utf-8")
    for path in to.glob("broker/*/broker.py"):
        path.write_text(Examples(dict(addresses)).in_place(path.read_text(encoding="utf-8")), encoding="utf-8")
    programs = to / ".venv" / "bin"
    programs.mkdir(parents=True)
    (programs / "activate").write_text(f'PATH="{programs}:$PATH"\n', encoding="utf-8")
    python = programs / "python"
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n', encoding="utf-8")
    python.chmod(python.stat().st_mode | stat.S_IXUSR)
    (to / ".venv" / ".installed").touch()
    return to


def _environment(folder: Path) -> dict[str, str]:
    """What a terminal has from the beginning: nothing of this machine but where its programs are."""
    temporary = folder / "tmp"
    temporary.mkdir(exist_ok=True)
    path = f"{os.environ['PATH']}:/usr/sbin:/usr/local/sbin"
    return {"PATH": path, "HOME": str(folder), "TMPDIR": str(temporary), "LANG": "C.UTF-8", "TERM": "dumb"}


@contextmanager
def _ports() -> Iterator[dict[str, str]]:
    """Ports on which nobody listens, for the time of the walk: another walk on this machine does not take them."""
    with ExitStack() as held:
        yield dict(zip(PORTS, (str(_free_port(held)) for _ in PORTS), strict=True))


def _free_port(held: ExitStack) -> int:
    while True:
        port = random.choice(FREE_PORTS)
        mark, probe = socket.socket(socket.AF_INET, socket.SOCK_DGRAM), socket.socket()
        with suppress(OSError), probe:
            mark.bind(("127.0.0.1", port))  # UDP has ports of its own: bound there, it is taken among walks alone
            held.enter_context(mark)
            probe.bind(("127.0.0.1", port))
            return port
        mark.close()


@contextmanager
def _blamed_on(page: Page, step: Step, number: int, terminal: Terminal) -> Iterator[None]:
    try:
        yield
    except AssertionError as error:
        error.add_note(
            f"{page}, line {step.line}, terminal {number}:\n--- the page\n{step.text}"
            f"--- what the terminal shows besides what was seen before\n{terminal.unseen}---"
        )
        raise
