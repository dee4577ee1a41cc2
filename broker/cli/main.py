"""The broker from the command line: `python -m broker --help`.

    python -m broker publish user.registered '{"id": "1"}' --header ce-type=test
    python -m broker subscribe user.registered --group audit
    python -m broker dead list | show ID | replay ID | replay --all | discard ID --reason "…"
    python -m broker groups list | forget TOPIC GROUP
    python -m broker promises
    python -m broker certificates DIR NAME…

Which broker: `--broker`, else `BROKER`, else `http`; not `memory`, which no other process can reach. The http broker is
looked for in `DATA_DIR`. Exit status 0; 1 when there is no such dead letter or group, 2 when something is wrong, each
with one line on standard error.
"""

from __future__ import annotations

import argparse
import io
import logging
import os
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from broker.cli.console import NotThere, named, reach, shown, shown_body, those
from broker.cli.dead import dead_discard, dead_list, dead_replay, dead_show
from broker.cli.table import promises_table, with_table
from broker.errors import BrokerError
from broker.extras import install_line
from broker.message import Event, Message
from broker.numbers import Number
from broker.plugins import BUILT_IN, find

COUNT = Number(0, 10**9, whole=True)  #: of messages; 0: without end
DAYS = Number(0.01, 3650)  #: that a certificate holds

Command = Callable[[argparse.Namespace], int]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; its exit status."""
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    logging.getLogger("pika").setLevel(logging.CRITICAL)  # we say each of its errors in one line
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # names are in any script, whatever the locale says
    options = _parser().parse_args(arguments)
    command: Command = options.command
    try:
        return command(options)
    except NotThere as absence:
        print(f"broker: {absence}", file=sys.stderr)
        return 1
    except BrokerError as error:
        print(f"broker: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


def publish(options: argparse.Namespace) -> int:
    """Publish one message and say its id."""
    header = dict(pair.partition("=")[::2] for pair in options.header)
    body = sys.stdin.buffer.read() if options.body == "-" else os.fsencode(options.body)
    message = Message(body, header)
    with reach(options) as b:
        b.publish(options.topic, message, mandatory=options.mandatory)
    print(message.id)
    return 0


def subscribe(options: argparse.Namespace) -> int:
    """Print each message as it comes, until there were `--count` of them."""
    subscribed, enough = threading.Event(), threading.Event()
    left = options.count

    def show(event: Event) -> None:
        nonlocal left
        print(f"{shown(event.message.id)}  attempt {event.attempt}  {shown_body(event.message.body)}", flush=True)
        left -= 1
        if left == 0:
            subscribed.wait()
            subscription.stop()  # now, so that the next message goes back untouched
            enough.set()

    with reach(options) as b:
        subscription = b.subscribe(options.topic, show, group=options.group)
        subscribed.set()
        print(f"subscribed to {options.topic}; Ctrl-C ends it", file=sys.stderr, flush=True)
        enough.wait()
    return 0


def groups_list(options: argparse.Namespace) -> int:
    """Each group, with what waits for it and its dead letters."""
    with reach(options, observer=True) as b:
        for group in b.groups():
            print(f"{named(group)}  backlog {group.backlog()}  dead {len(group.dead_letters())}")
    return 0


def groups_forget(options: argparse.Namespace) -> int:
    """End a group; what waits for it is dropped, and so are its dead letters."""
    with reach(options) as b:
        there = b.groups()
        if (options.topic, options.group) not in [(group.topic, group.name) for group in there]:
            raise NotThere(f"no group {shown(f'{options.topic} → {options.group}')}; {those(there)}")
        b.group(options.topic, options.group).forget()
    return 0


def promises(options: argparse.Namespace) -> int:
    """The table of what each installed broker promises, as Markdown."""
    brokers, missing = {}, []
    for name in BUILT_IN:
        try:
            brokers[name] = find(name)[0]
        except BrokerError as error:
            missing.append(str(error))
    for line in missing:
        print(line, file=sys.stderr)
    if options.into is None:
        print(promises_table(brokers))
    elif not missing:
        options.into.write_text(with_table(options.into.read_text("utf-8"), promises_table(brokers)), "utf-8")
    return 2 if missing and options.into else 0


def certificates(options: argparse.Namespace) -> int:
    """Make an authority for a demo, and a certificate for the member on each of these machines."""
    try:
        from broker.http.certificates import make_certificates  # noqa: PLC0415  # an extra that nothing else needs
    except ModuleNotFoundError as error:
        raise BrokerError(f"it needs the package {error.name!r}: {install_line('certificates')}") from error
    for folder in make_certificates(options.folder, options.names, options.days):
        print(folder)
    return 0


def _reason(text: str) -> str:
    if not text.strip():
        raise argparse.ArgumentTypeError("say why")
    return text


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m broker", description="Look into a broker, and mend things.")
    parser.add_argument("--broker", metavar="NAME|URL", help="default: $BROKER, else http")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    command = _add(commands, "publish", publish)
    command.add_argument("topic")
    command.add_argument("body", help="the text; - reads standard input")
    command.add_argument("--header", action="append", default=[], metavar="NAME=VALUE")
    command.add_argument("--mandatory", action="store_true", help="refuse when no group has ever subscribed")

    command = _add(commands, "subscribe", subscribe)
    command.add_argument("topic")
    command.add_argument("--group", help="join this group; without it, listen")
    command.add_argument("--count", type=COUNT.parse, default=0, metavar="N", help="end after N messages")

    _add_dead(commands.add_parser("dead", help="dead letters").add_subparsers(required=True, metavar="COMMAND"))
    groups = commands.add_parser("groups", help="consumer groups").add_subparsers(required=True, metavar="COMMAND")
    _add(groups, "list", groups_list)
    command = _add(groups, "forget", groups_forget)
    command.add_argument("topic")
    command.add_argument("group")
    command = _add(commands, "promises", promises)
    command.add_argument("--into", type=Path, metavar="FILE", help="write it between the marks in this document")

    command = _add(commands, "certificates", certificates)
    command.add_argument("folder", type=Path, metavar="DIR")
    command.add_argument("names", nargs="+", metavar="NAME", help="of a machine, as others call it; or its address")
    command.add_argument("--days", type=DAYS.parse, default=90, help="how long they hold (default: %(default)g)")
    return parser


def _add_dead(dead: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    for name, function in (
        ("list", dead_list),
        ("show", dead_show),
        ("replay", dead_replay),
        ("discard", dead_discard),
    ):
        command = _add(dead, name, function)
        command.add_argument("--topic", help="of this topic only")
        command.add_argument("--group", help="of this group only")
        if name == "replay":
            which = command.add_mutually_exclusive_group(required=True)
            which.add_argument("id", nargs="?", help="as `list` shows it")
            which.add_argument("--all", action="store_true")
        elif name == "list":
            command.set_defaults(id=None)
        else:
            command.add_argument("id")
        if name == "discard":
            command.add_argument("--reason", required=True, type=_reason, help="why; it is part of what is printed")


def _add(
    commands: argparse._SubParsersAction[argparse.ArgumentParser], name: str, function: Command
) -> argparse.ArgumentParser:
    command = commands.add_parser(name, help=function.__doc__, description=function.__doc__)
    command.set_defaults(command=function)
    return command
