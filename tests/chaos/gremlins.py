"""Those who break things: one for each thing, each with a plan of its own that the seed decides.

A gremlin waits, breaks, waits, mends, and so on; when its time is up, what it broke is mended.
"""

from __future__ import annotations

import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from random import Random

from tests.chaos.town import Say, Town
from tests.end_to_end.processes import Service
from tests.servers.brokers import BrokerServer
from tests.servers.mailbox import Mailbox

QUIET_SECONDS = (1.0, 8.0)  #: between two attacks on one thing
BROKEN_SECONDS = (0.1, 6.0)  #: longer than a lease at times

Attack = Callable[[], Callable[[], None]]  #: breaks something; what it returns mends it


class Gremlin(threading.Thread):
    """Attacks one thing until told to stop; `done` counts its attacks, `error` is what went wrong in one."""

    def __init__(self, target: str, attacks: dict[str, Attack], seed: str, say: Say) -> None:
        super().__init__(name=f"gremlin of {target}")
        self._target = target
        self._attacks = attacks
        self._random = Random(f"{seed} {target}")
        self._say = say
        self._stopping = threading.Event()
        self.done: Counter[str] = Counter()
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            while not self._stopping.wait(self._random.uniform(*QUIET_SECONDS)):
                self._attack(self._random.choice(sorted(self._attacks)))
        except BaseException as error:  # noqa: BLE001  # the run tells of it
            self.error = error
            self._say(self._target, f"could not be attacked or mended: {error!r}")

    def stop(self) -> None:
        """No more attacks; the thread ends when what is broken is mended."""
        self._stopping.set()

    def _attack(self, what: str) -> None:
        mend = self._attacks[what]()
        self.done[what] += 1
        self._say(self._target, what)
        self._stopping.wait(self._random.uniform(*BROKEN_SECONDS))
        mend()
        self._say(self._target, "is back")


@contextmanager
def gremlins(town: Town, seed: int, say: Say) -> Iterator[list[Gremlin]]:
    """At work while the `with` statement lasts; afterwards everything runs again."""
    targets: dict[str, dict[str, Attack]] = {"mail server": _on_mailbox(town.mailbox)}
    if town.server:
        targets["broker"] = _on_server(town.server)
    for kind, services in (("users", town.users), ("emails", town.emails)):
        targets.update({f"{kind}-{n}": _on_service(service) for n, service in enumerate(services, 1)})
    all_of_them = [Gremlin(target, attacks, str(seed), say) for target, attacks in targets.items()]
    for gremlin in all_of_them:
        gremlin.start()
    try:
        yield all_of_them
    finally:
        for gremlin in all_of_them:
            gremlin.stop()
        for gremlin in all_of_them:
            gremlin.join()


def _on_service(service: Service) -> dict[str, Attack]:
    def kill() -> Callable[[], None]:
        service.kill()
        return service.start

    def stop() -> Callable[[], None]:
        status = service.stop()
        assert status == 0, f"SIGTERM ended it with status {status}: {service.output[-2000:]}"
        return service.start

    def pause() -> Callable[[], None]:
        service.process.send_signal(signal.SIGSTOP)
        return lambda: service.process.send_signal(signal.SIGCONT)

    return {"is killed": kill, "is stopped": stop, "is paused": pause}


def _on_server(server: BrokerServer) -> dict[str, Attack]:
    def kill() -> Callable[[], None]:
        server.kill()
        return server.start

    def pause() -> Callable[[], None]:
        pausing = ExitStack()
        pausing.enter_context(server.paused())
        return pausing.close

    return {"is killed": kill, "is paused": pause}


def _on_mailbox(mailbox: Mailbox) -> dict[str, Attack]:
    def refuse() -> Callable[[], None]:
        mailbox.refusal = "451 not now"

        def take() -> None:
            mailbox.refusal = ""

        return take

    return {"refuses": refuse}
