"""A subscription in a process of its own: `python -m broker.testing.member ADDRESS TOPIC QUEUE OPTIONS_AS_JSON`.

It prints `ready`, then one JSON line for each call of its handler, *before* doing what the body says:

    die          kill this process, now          sleep:S      take S seconds
    fail         raise                           anything     return

It drains and ends when its standard input is closed.
"""

import json
import os
import signal
import sys
import threading
import time

import broker


def main() -> None:
    """Subscribe until told to end."""
    address, topic, group, options = sys.argv[1:]
    writing = threading.Lock()

    def handler(event: broker.Event) -> None:
        text = event.message.body.decode()
        line = {"text": text, "attempt": event.attempt, "group": event.group, "header": dict(event.message.header)}
        with writing:
            print(json.dumps(line), flush=True)
        command, _, argument = text.partition(":")
        if command == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        if command == "sleep":
            time.sleep(float(argument))
        if command == "fail":
            raise RuntimeError("told to fail")

    with broker.connect(address) as b:
        b.subscribe(topic, handler, group=group or None, **json.loads(options))
        with writing:
            print("ready", flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()
