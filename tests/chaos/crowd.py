"""Those who sign up: each with an id of their own choice, trying again until somebody answers, as real clients do."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from random import Random
from typing import Self

from demo.api_client import ClientError, NewUser, NotYet, Services
from tests.end_to_end.processes import Service

CLIENTS = 6
BETWEEN_SECONDS = 0.2  #: at most, from one person to the next of a client
AGAIN_SECONDS = 0.3  #: at most, from one try to the next
PATIENCE_SECONDS = 120  #: then a client gives up on somebody, and the run has failed
NAMES = ("学院君", "Ada", "Zoë 🦊", "Ольга", "नमस्ते")


class Client(threading.Thread):
    """Registers one person after the other, at any of the user services."""

    def __init__(self, number: int, users: Sequence[Service], seed: int) -> None:
        super().__init__(name=f"client {number}")
        self._users = users
        self._random = Random(f"{seed} client {number}")
        self._stopping = threading.Event()
        self.registered: list[NewUser] = []
        self.retries = 0
        self.error: ClientError | None = None

    def run(self) -> None:
        try:
            while not self._stopping.wait(self._random.uniform(0, BETWEEN_SECONDS)):
                user = NewUser(self._random.choice(NAMES))
                self._register(user)
                self.registered.append(user)
        except ClientError as error:
            self.error = error

    def stop(self) -> Self:
        """Nobody new; the thread ends when the last one is registered."""
        self._stopping.set()
        return self

    def _register(self, user: NewUser) -> None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            with closing(Services(self._random.choice(self._users).url, "", patience_seconds=0)) as services:
                try:
                    services.register(user)
                except NotYet:
                    if time.monotonic() > deadline:
                        raise
                else:
                    return
            self.retries += 1
            threading.Event().wait(self._random.uniform(0, AGAIN_SECONDS))


@contextmanager
def crowd(users: Sequence[Service], seed: int) -> Iterator[list[Client]]:
    """At work while the `with` statement lasts; afterwards everybody who began is registered."""
    clients = [Client(number, users, seed) for number in range(CLIENTS)]
    for client in clients:
        client.start()
    try:
        yield clients
    finally:
        for client in [client.stop() for client in clients]:
            client.join()
