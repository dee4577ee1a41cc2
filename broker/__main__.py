"""The broker from the command line: `python -m broker --help`.

    python -m broker publish user.registered '{"id": "1"}' --header ce-type=test
    python -m broker subscribe user.registered --queue audit
    python -m broker dead list | show ID | replay ID | replay --all | discard ID --reason "…"
    python -m broker groups list | forget TOPIC QUEUE
    python -m broker promises
    python -m broker certificates DIR NAME…

Which broker: `--broker`, else `BROKER`, else `http`. Exit status 0; 1 when there is no such dead letter; 2 with one
line on standard error when something is wrong.
"""

from __future__ import annotations

import argparse
import logging
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import broker
from broker.base import Broker, DeadLetter, Group
from broker.errors import BrokerError
from broker.message import Event, Message
from broker.plugins import BUILT_IN, find
from broker.table import promises_table, with_table

Command = Callable[[argparse.Namespace], int]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; its exit status."""
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    options = _parser().parse_args(arguments)
    command: Command = options.command
    try:
        return command(options)
    except BrokerError as error:
        print(f"broker: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


def publish(options: argparse.Namespace) -> int:
    """Publish one message and say its id."""
    header = dict(pair.partition("=")[::2] for pair in options.header)
    body = sys.stdin.buffer.read() if options.body == "-" else options.body.encode()
    message = Message(body, header)
    with _connect(options) as b:
        b.publish(options.topic, message, mandatory=options.mandatory)
    print(message.id)
    return 0


def subscribe(options: argparse.Namespace) -> int:
    """Print each message as it comes, until there were `--count` of them."""
    subscribed, enough = threading.Event(), threading.Event()
    left = options.count

    def show(event: Event) -> None:
        nonlocal left
        print(f"{event.message.id}  attempt {event.attempt}  {_text(event.message.body)}", flush=True)
        left -= 1
        if left == 0:
            subscribed.wait()
            subscription.stop()  # now, so that the next message goes back untouched
            enough.set()

    with _connect(options) as b:
        subscription = b.subscribe(options.topic, show, queue=options.queue)
        subscribed.set()
        print(f"subscribed to {options.topic}; Ctrl-C ends it", file=sys.stderr, flush=True)
        enough.wait()
    return 0


def dead_list(options: argparse.Namespace) -> int:
    """One line for each dead letter, oldest first in each group."""
    with _connect(options, observer=True) as b:
        for group, letter in _letters(b, options):
            print(
                f"{letter.message.id}  {group.topic} → {group.queue}  {letter.failed_at:%Y-%m-%d %H:%M:%S} UTC"
                f"  attempts {letter.attempts}  {letter.reason}"
            )
    return 0


def dead_show(options: argparse.Namespace) -> int:
    """Everything about one dead letter."""
    with _connect(options, observer=True) as b:
        found = [(group, letter) for group, letter in _letters(b, options) if letter.message.id == options.id]
    for group, letter in found:
        print(f"topic         {group.topic}\ngroup         {group.queue}\nreason        {letter.reason}")
        print(f"attempts      {letter.attempts}\npublished at  {letter.published_at:%Y-%m-%d %H:%M:%S.%f} UTC")
        print(f"given up at   {letter.failed_at:%Y-%m-%d %H:%M:%S.%f} UTC")
        for name, value in sorted(letter.message.header.items()):
            print(f"header        {name}: {value}")
        print(f"body          {_text(letter.message.body)}")
    return _found(len(found), options.id)


def dead_replay(options: argparse.Namespace) -> int:
    """Deliver dead letters again, each to its group alone."""
    with _connect(options) as b:
        chosen = {
            (g, letter.message.id) for g, letter in _letters(b, options) if options.id in (None, letter.message.id)
        }
        replayed = sum(group.replay(message_id) for group, message_id in chosen)
    print(f"replayed {replayed}")
    return _found(replayed, options.id)


def dead_discard(options: argparse.Namespace) -> int:
    """Remove one dead letter for good; the reason goes to the log."""
    with _connect(options) as b:
        groups = {group for group, letter in _letters(b, options) if letter.message.id == options.id}
        discarded = sum(group.discard(options.id) for group in groups)
    if discarded:
        logging.getLogger("broker").warning("discarded dead letter %s: %s", options.id, options.reason)
    return _found(discarded, options.id)


def groups_list(options: argparse.Namespace) -> int:
    """Each group, with what waits for it and its dead letters."""
    with _connect(options, observer=True) as b:
        for group in b.groups():
            print(f"{group.topic} → {group.queue}  backlog {group.backlog()}  dead {len(group.dead_letters())}")
    return 0


def groups_forget(options: argparse.Namespace) -> int:
    """End a group; what waits for it is dropped."""
    with _connect(options) as b:
        b.group(options.topic, options.queue).forget()
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
        raise BrokerError(f"it needs the package {error.name!r}: pip install '.[certificates]'") from error
    for folder in make_certificates(options.folder, options.names, options.days):
        print(folder)
    return 0


def _connect(options: argparse.Namespace, *, observer: bool = False) -> Broker:
    chosen = broker.new(options.broker, observer=observer)
    if not chosen.promises.many_processes:
        print(f"note: the {chosen.name} broker lives in one process, and this command is another", file=sys.stderr)
    return chosen


def _letters(b: Broker, options: argparse.Namespace) -> Iterator[tuple[Group, DeadLetter]]:
    for group in b.groups():
        if options.topic in (None, group.topic) and options.queue in (None, group.queue):
            for letter in group.dead_letters():
                yield group, letter


def _found(count: int, wanted: str | None) -> int:
    if count == 0 and wanted is not None:
        print(f"broker: no dead letter {wanted}; see `python -m broker dead list`", file=sys.stderr)
        return 1
    return 0


def _text(body: bytes) -> str:
    try:
        return body.decode()
    except UnicodeDecodeError:
        return repr(body)


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
    command.add_argument("--queue", help="join this group; without it, listen")
    command.add_argument("--count", type=int, default=0, metavar="N", help="end after N messages")

    _add_dead(commands.add_parser("dead", help="dead letters").add_subparsers(required=True, metavar="COMMAND"))
    groups = commands.add_parser("groups", help="consumer groups").add_subparsers(required=True, metavar="COMMAND")
    _add(groups, "list", groups_list)
    command = _add(groups, "forget", groups_forget)
    command.add_argument("topic")
    command.add_argument("queue")
    command = _add(commands, "promises", promises)
    command.add_argument("--into", type=Path, metavar="FILE", help="write it between the marks in this document")

    command = _add(commands, "certificates", certificates)
    command.add_argument("folder", type=Path, metavar="DIR")
    command.add_argument("names", nargs="+", metavar="NAME", help="of a machine, as others call it; or its address")
    command.add_argument("--days", type=float, default=90, help="how long they hold (default: %(default)g)")
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
        command.add_argument("--queue", help="of this group only")
        if name == "replay":
            which = command.add_mutually_exclusive_group(required=True)
            which.add_argument("id", nargs="?")
            which.add_argument("--all", action="store_true")
        elif name != "list":
            command.add_argument("id")
        if name == "discard":
            command.add_argument("--reason", required=True, help="why; it goes to the log")


def _add(
    commands: argparse._SubParsersAction[argparse.ArgumentParser], name: str, function: Command
) -> argparse.ArgumentParser:
    command = commands.add_parser(name, help=function.__doc__, description=function.__doc__)
    command.set_defaults(command=function)
    return command


if __name__ == "__main__":
    sys.exit(main())
