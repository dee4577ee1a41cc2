"""The same story on every broker and database with a server of its own; and what a `kill -9` of that server costs.

Nothing is said here of how a broker works: one word is swapped, and the application does not notice.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from broker.testing import eventually
from tests.end_to_end.processes import Application, Program, run
from tests.end_to_end.story import assert_one_grep_tells_the_story
from tests.servers.brokers import WITH_SERVER, BrokerServer, broker_server
from tests.servers.mariadb import Operator as MariaDb

REGISTRATIONS = 500
MIDDLE = 200  #: users registered when the server is killed


@pytest.fixture(params=WITH_SERVER)
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[BrokerServer]:
    """A private server."""
    with broker_server(request.param, tmp_path / "server") as started:
        yield started


def demo(broker: str, database: str | None, folder: Path) -> None:
    """Run the demo, and see the whole story."""
    on = ["--database", database] if database else []
    ended = run("-m", "demo", "--free-ports", "--broker", broker, *on, settings={"TMPDIR": str(folder)})
    assert (ended.returncode, ended.stderr) == (0, ""), ended.stdout
    for name in ("学院君", "Ada Lovelace", "Zoë 🦊"):
        assert ended.stdout.count(f"[SENDING A EMAIL TO {name}...]") == 1
    assert "users 3 · emailed 3 · on its way 0 · dead-lettered 0 · LOST 0" in ended.stdout.splitlines()[-1]


def test_the_demo_is_the_same_on_each_server(server: BrokerServer, mariadb: MariaDb, tmp_path: Path) -> None:
    """On SQLite, and on MariaDB."""
    demo(server.url, None, tmp_path)
    demo(server.url, mariadb.url(f"demo_{os.urandom(4).hex()}"), tmp_path)


@pytest.mark.parametrize("broker", ["http", "memory"])
def test_the_demo_is_the_same_without_a_server_on_mariadb(broker: str, mariadb: MariaDb, tmp_path: Path) -> None:
    """SQLite is in `test_demo.py`."""
    demo(broker, mariadb.url(f"demo_{os.urandom(4).hex()}"), tmp_path)


def test_one_grep_tells_the_story_of_an_event_on_each_server(server: BrokerServer, tmp_path: Path) -> None:
    """The logs of both processes, one id."""
    app = Application(tmp_path)
    with ExitStack() as ending:
        ending.callback(app.close)
        for service in (app.users, app.emails):
            service.set(BROKER=server.url)
        assert_one_grep_tells_the_story(app)


def test_a_kill_of_the_server_amid_500_registrations_costs_no_email(server: BrokerServer, tmp_path: Path) -> None:
    """Registrations go on meanwhile; after the restart 500 emails are sent, and none twice."""
    app = Application(tmp_path)
    for service in (app.users, app.emails):
        service.set(BROKER=server.url)
    with ExitStack() as ending:
        ending.callback(app.close)
        app.start()
        client = Program(many(app), tmp_path / "client.log", {})
        ending.callback(client.close)
        client.start()
        eventually(lambda: users_registered(app) >= MIDDLE, "it is the middle of it")
        server.kill()
        before = users_registered(app)
        eventually(lambda: users_registered(app) >= before + 50, "registrations go on without the server")
        server.start()
        assert client.process.wait(180) == 0, client.output
    assert sent(app) == REGISTRATIONS


def many(app: Application) -> list[str]:
    """The client, to register them all and wait for each email."""
    return f"""client.py --url {app.users.url} --emails-url {app.emails.url} --timeout 150
        --count {REGISTRATIONS} --concurrency 4""".split()


def sent(app: Application) -> int:
    """How many emails the simulated mailer has sent, those sent twice counted twice."""
    return app.emails.output.count("[SENDING A EMAIL TO ")


def users_registered(app: Application) -> int:
    """How many users the user service says it has stored."""
    return len(re.findall(r'"user \S+ registered"', app.users.output))
