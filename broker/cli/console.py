"""What the commands of `python -m broker` share: reaching the broker, and showing what strangers have written."""

from __future__ import annotations

import argparse

import broker
from broker.base import Broker, Group
from broker.errors import BrokerError


class NotThere(Exception):
    """What was asked for is not there; the text says what is."""


def reach(options: argparse.Namespace, *, observer: bool = False) -> Broker:
    """The broker that was chosen, not yet connected; `BrokerError` for one that no other process can reach."""
    chosen = broker.new(options.broker, observer=observer)
    if not chosen.promises.many_processes:
        raise BrokerError(
            f"the {chosen.name} broker lives in one process, and this command is another: choose one more"
        )
    return chosen


def groups(b: Broker, options: argparse.Namespace) -> list[Group]:
    """Those that `--topic` and `--group` leave; `NotThere` when they leave none. None is made by asking."""
    there = b.groups()
    chosen = [g for g in there if options.topic in (None, g.topic) and options.group in (None, g.name)]
    if not chosen and (options.topic is not None or options.group is not None):
        wanted = f"{options.topic or 'any topic'} → {options.group or 'any group'}"
        raise NotThere(f"no group {shown(wanted)}; {those(there)}")
    return chosen


def those(there: list[Group]) -> str:
    """The groups in one line."""
    return f"there are: {', '.join(named(group) for group in there)}" if there else "no group has ever subscribed"


def named(group: Group) -> str:
    """The group in a line."""
    return shown(f"{group.topic} → {group.name}")


def shown(text: str) -> str:
    r"""The text in one line, with `\x1b` and the like for what a terminal would obey, or nobody could see."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def shown_body(body: bytes) -> str:
    """A body: as text when it is UTF-8, else as Python writes bytes."""
    try:
        return shown(body.decode())
    except UnicodeDecodeError:
        return repr(body)
