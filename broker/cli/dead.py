"""Dead letters for people: `python -m broker dead list | show | replay | discard`.

    ID  user.registered → email-service  first time … last time  attempts 1  unknown type 'user.deleted.v1'; …

An id is written as `list` shows it. `--topic` and `--group` narrow each of them down to one group; without them an id
that is dead in several groups is shown, replayed or discarded in each.
"""

from __future__ import annotations

import argparse
import json
import sys
from datetime import UTC, datetime

from broker.base import Broker, DeadLetter, Group
from broker.cli.console import NotThere, groups, named, reach, shown, shown_body, those

LISTED_REASON = 200  #: characters of a reason in the list; `show` has it whole

Letters = dict[Group, list[DeadLetter]]


def dead_list(options: argparse.Namespace) -> int:
    """One line for each dead letter, oldest first in each group."""
    with reach(options, observer=True) as b:
        found = _asked_for(b, options)
    for group, letter in _each(found):
        times = f"{letter.published_at:%Y-%m-%d %H:%M:%S} … {letter.failed_at:%Y-%m-%d %H:%M:%S} UTC"
        print(f"{_id(letter)}  {named(group)}  {times}  attempts {letter.attempts}  {_brief(letter.reason)}")
    return _say_if_none(found)


def dead_show(options: argparse.Namespace) -> int:
    """Everything about one dead letter."""
    with reach(options, observer=True) as b:
        found = _asked_for(b, options)
    for group, letter in _each(found):
        print(f"id            {_id(letter)}\ntopic         {shown(group.topic)}\ngroup         {shown(group.name)}")
        print(f"reason        {shown(letter.reason)}\nattempts      {letter.attempts}")
        print(f"published at  {letter.published_at:%Y-%m-%d %H:%M:%S.%f} UTC")
        print(f"given up at   {letter.failed_at:%Y-%m-%d %H:%M:%S.%f} UTC")
        for name, value in sorted(letter.message.header.items()):
            print(f"header        {shown(name)}: {shown(value)}")
        print(f"body          {shown_body(letter.message.body)}")
    return 0


def dead_replay(options: argparse.Namespace) -> int:
    """Deliver one dead letter again, or all, each to its group alone: when the cause is mended."""
    with reach(options) as b:
        found = _asked_for(b, options)
        for group, letters in found.items():
            if letters:
                replayed = group.replay(*dict.fromkeys(letter.message.id for letter in letters))
                print(f"replayed {replayed}  {named(group)}", flush=True)
    return _say_if_none(found)


def dead_discard(options: argparse.Namespace) -> int:
    """Remove one dead letter for good. The line of JSON that it prints is all that stays: keep it with the logs."""
    with reach(options) as b:
        for group, letters in _asked_for(b, options).items():
            discarded = sum(group.discard(message_id) for message_id in {letter.message.id for letter in letters})
            for letter in letters if discarded else ():
                print(_record(group, letter, options.reason), flush=True)
    return 0


def _asked_for(b: Broker, options: argparse.Namespace) -> Letters:
    """Of each group all dead letters, or with an id those that have it; `NotThere` when none has."""
    wanted = options.id
    found = {group: group.dead_letters() for group in groups(b, options)}
    if wanted is None:
        return found
    found = {g: [x for x in letters if wanted in (x.message.id, _id(x))] for g, letters in found.items()}
    if not any(found.values()):
        raise NotThere(f"no dead letter {shown(wanted)}; see `python -m broker dead list`")
    return found


def _each(found: Letters) -> list[tuple[Group, DeadLetter]]:
    return [(group, letter) for group, letters in found.items() for letter in letters]


def _id(letter: DeadLetter) -> str:
    return shown(letter.message.id)


def _brief(reason: str) -> str:
    return shown(reason if len(reason) <= LISTED_REASON else reason[:LISTED_REASON] + "…")


def _say_if_none(found: Letters) -> int:
    if not any(found.values()):
        print(f"no dead letters; {those(list(found))}", file=sys.stderr)
    return 0


def _record(group: Group, letter: DeadLetter, why: str) -> str:
    """As the services write their log lines, so that a grep for the event's id finds it among them."""
    fields = {
        "service": "broker",
        "event": f"dead letter discarded: {why}",
        "event_id": letter.message.id,
        "topic": group.topic,
        "group": group.name,
        "reason": letter.reason,
        "attempts": letter.attempts,
        "published_at": letter.published_at.isoformat(),
        "failed_at": letter.failed_at.isoformat(),
        "level": "warning",
        "timestamp": datetime.now(UTC).isoformat(),
    }
    return json.dumps(fields, ensure_ascii=False)
