"""Two machines on the http broker: the user service on 127.0.0.2, the email service on 127.0.0.3, over TLS.

Each has a data folder, certificates and settings of its own; they share the secret and a registry, and nothing else.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from broker.http.certificates import make_certificates
from tests.end_to_end.processes import Application, run
from tests.servers.etcd import EtcdServer
from tests.servers.process import reserved_port

USERS, EMAILS = "127.0.0.2", "127.0.0.3"
SECRET = "known to both machines"


def _is_ours(address: str) -> bool:
    try:
        socket.create_server((address, 0)).close()
    except OSError:
        return False
    return True


pytestmark = pytest.mark.skipif(
    not (_is_ours(USERS) and _is_ours(EMAILS)),
    reason=f"this machine has no {USERS} and {EMAILS}; on macOS: sudo ifconfig lo0 alias {USERS}, and {EMAILS}",
)


@pytest.fixture(params=["etcd", "mdns"])
def registry(request: pytest.FixtureRequest) -> str:
    """Its URL; multicast goes no further than this machine."""
    if request.param == "mdns":
        return "mdns://127.0.0.1"
    server: EtcdServer = request.getfixturevalue("etcd")
    return server.url


@pytest.fixture
def app(registry: str, tmp_path: Path) -> Iterator[Application]:
    """Both services, each as on a machine of its own."""
    application = Application(tmp_path)
    for service, address in ((application.users, USERS), (application.emails, EMAILS)):
        service.set(**machine(address, registry, tmp_path))
    yield application
    application.close()


def machine(address: str, registry: str, folder: Path) -> dict[str, str]:
    """The settings of a machine, all that it needs in a folder of its own."""
    [certificates] = make_certificates(folder / "authority", [address], days=1)
    mine = folder / address
    mine.mkdir()
    return {
        "DATA_DIR": str(mine),
        "HOST": address,
        "BROKER": f"https://{address}?certificates={certificates.rename(mine / 'certificates')}",
        "REGISTRY": registry,
        "BROKER_SECRET": SECRET,
    }


def test_the_story_of_each_user_crosses_from_one_machine_to_the_other(app: Application, tmp_path: Path) -> None:
    """Also when the other one dies, and comes back."""
    app.start()
    users = app.register("学院君", "Ada Lovelace")
    app.wait_for_emails(users)
    app.emails.kill()
    users += app.register("Zoë 🦊")
    app.emails.start()
    app.wait_for_emails(users)
    assert [app.times_sent(user) for user in users] == [1, 1, 1]
    assert not (tmp_path / USERS / "emails.db").exists()
    assert not (tmp_path / EMAILS / "users.db").exists()
    assert app.emails.stop() == app.users.stop() == 0


def test_what_waits_at_one_machine_outlives_the_restart_of_both(
    app: Application, registry: str, tmp_path: Path
) -> None:
    """And the ledger, on the machine of the publisher, knows of it."""
    app.start()
    app.emails.stop()
    users = app.register("Patient")
    app.users.stop()
    app.users.start()
    app.emails.start()
    app.wait_for_emails(users)
    settings = {
        "DATA_DIR": str(tmp_path / USERS),
        "EMAILS_DATABASE_URL": f"sqlite:///{tmp_path / EMAILS / 'emails.db'}",
        "REGISTRY": registry,
        "BROKER_SECRET": SECRET,
    }
    ledger = run("ledger.py", settings=settings)
    assert ledger.stdout.splitlines()[-1].startswith("LEDGER  users 1 · emailed 1 · on its way 0"), ledger


@pytest.mark.parametrize("service", ["user_service", "email_service"])
@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"REGISTRY": "mdns"}, "REGISTRY=mdns needs BROKER_SECRET, the same on every machine"),
        ({"REGISTRY": "carrier-pigeon"}, "unknown registry 'carrier-pigeon'; known: file"),
        ({"BROKER": "https://127.0.0.1"}, "https needs ?certificates=DIR"),
        ({"BROKER": "https://127.0.0.1?certificates=/nowhere"}, "/nowhere/ca.pem cannot be used: [Errno 2]"),
    ],
)
def test_a_machine_that_is_set_up_wrongly_does_not_start(
    service: str, settings: dict[str, str], says: str, tmp_path: Path
) -> None:
    """One line that says what is missing, and exit status 2."""
    _refuses(service, says, {"DATA_DIR": str(tmp_path), "PORT": "0", **settings})


@pytest.mark.parametrize("service", ["user_service", "email_service"])
def test_an_etcd_that_is_down_stops_the_start(service: str, tmp_path: Path) -> None:
    """Nobody would ever find that machine; once started, it is another matter (`test_etcd.py`)."""
    with reserved_port() as port:
        url = f"etcd://127.0.0.1:{port}"
        settings = {"DATA_DIR": str(tmp_path), "PORT": "0", "REGISTRY": url, "BROKER_SECRET": SECRET}
        _refuses(service, f"the registry {url} cannot be used", settings)


def _refuses(service: str, says: str, settings: dict[str, str]) -> None:
    ended = run("-m", service, settings=settings)
    [line] = ended.stderr.splitlines()
    assert line.startswith(f"{service.replace('_', '-')}: ")
    assert says in line
    assert SECRET not in line
    assert (ended.returncode, ended.stdout) == (2, "")
