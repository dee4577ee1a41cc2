"""TLS between publishers and members: who is believed, and what becomes of messages for those who are not."""

from __future__ import annotations

import shutil
import socket
import socketserver
import ssl
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import requests

import broker
from broker.base import Broker
from broker.http.certificates import make_certificates
from broker.http.registry import FileRegistry, Member
from broker.http.tls import member_context, open_channel
from broker.http.wire import Parcel, Request, Signer, encode_request
from broker.message import MAX_BODY_BYTES, Message
from broker.testing import Recorder, eventually

SECRET = "a secret for tests"
HERE = "127.0.0.1"


@pytest.fixture
def certificates(tmp_path: Path) -> Path:
    """Those of this machine, from an authority of this test's own."""
    return certified(tmp_path / "authority", HERE)


@pytest.fixture
def publisher(tmp_path: Path, certificates: Path) -> Iterator[Broker]:
    """One that believes that authority."""
    with connect(tmp_path, certificates) as b:
        yield b


def certified(authority: Path, name: str, days: float = 1.0) -> Path:
    """The folder of a member of that name."""
    [folder] = make_certificates(authority, [name], days)
    return folder


def connect(data_dir: Path, certificates: Path, more: str = "") -> Broker:
    """A broker over TLS."""
    return broker.connect(f"https://{HERE}?certificates={certificates}{more}", data_dir=data_dir, secret=SECRET)


def test_any_size_travels_over_tls(publisher: Broker, tmp_path: Path, certificates: Path) -> None:
    """In records of 16 KiB, many at a time, in both directions."""
    seen = Recorder()
    with connect(tmp_path, certificates) as consumer:
        consumer.subscribe("t", seen, group="g")
        bodies = [bytes([n]) * (MAX_BODY_BYTES - n) for n in range(10)]
        publisher.publish("t", *map(Message, [b"", *bodies]))
        assert [received.message.body for received in seen.wait(11)] == [b"", *bodies]
        eventually(lambda: publisher.backlog("t", "g") == 0, "all are acked")


def test_a_member_is_found_under_the_name_that_it_advertises(publisher: Broker, tmp_path: Path) -> None:
    """Which is the one in its certificate."""
    seen = Recorder()
    with connect(tmp_path, certified(tmp_path / "authority", "localhost"), "&advertise=localhost") as consumer:
        consumer.subscribe("t", seen, group="g")
        assert the_member(publisher).url.startswith("https://localhost:")
        publisher.publish("t", Message(b"x"))
        seen.wait_for("x")


def test_nothing_travels_in_the_clear(publisher: Broker, certificates: Path) -> None:
    """A member over TLS understands nothing else, and its address says so."""
    publisher.subscribe("t", Recorder(), group="g")
    member = the_member(publisher)
    assert member.url.startswith("https://")
    with pytest.raises(requests.ConnectionError):
        requests.get(member.url.replace("https", "http"), timeout=60)
    assert requests.get(member.url, timeout=60, verify=str(certificates / "ca.pem")).status_code == 404


@pytest.mark.parametrize(
    ("case", "says"),
    [
        ("expired", "certificate has expired"),
        ("foreign", "self-signed|unable to get"),
        ("another name", "IP address mismatch"),
    ],
)
def test_who_is_not_believed_gets_nothing_and_costs_no_attempt(
    case: str, says: str, publisher: Broker, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The message waits for one who is; the log says why."""
    shutil.copytree(tmp_path / "authority", tmp_path / "the same authority")
    folder = {
        "expired": lambda: certified(tmp_path / "the same authority", HERE, days=-1),
        "foreign": lambda: certified(tmp_path / "another authority", HERE),
        "another name": lambda: certified(tmp_path / "authority", "127.0.0.2"),
    }[case]()
    seen = Recorder()
    with impostor(folder) as (port, heard):
        announce(tmp_path, f"https://{HERE}:{port}")
        publisher.publish("t", Message(b"x"), mandatory=True)
        eventually(lambda: caplog.text.count("1 messages to be delivered again") == 1, "it has tried")
        publisher.subscribe("t", seen, group="g")
        [received] = seen.wait(1)
    assert (received.attempt, heard) == (1, [])
    assert any(reason in caplog.text for reason in says.split("|"))


@pytest.mark.parametrize(
    ("case", "says"),
    [
        ("expired", "publishers would refuse .*certificate has expired"),
        ("foreign", "publishers would refuse .*(self-signed|unable to get|signature failure)"),
        ("another name", "publishers would refuse .*IP address mismatch"),
        ("no certificate", r"certificate\.pem and key\.pem beside it cannot be used: .*No such file"),
        ("another's key", "cannot be used: .*key values mismatch"),
    ],
)
def test_a_member_that_publishers_would_refuse_says_so_itself(
    case: str, says: str, certificates: Path, tmp_path: Path
) -> None:
    """It cannot subscribe, in one line; it can publish."""
    if case == "expired":
        certified(tmp_path / "authority", HERE, days=-1)
    elif case == "foreign":
        (certificates / "ca.pem").write_bytes((certified(tmp_path / "another", HERE) / "ca.pem").read_bytes())
    elif case == "another name":
        certificates = certified(tmp_path / "authority", "127.0.0.2")
    elif case == "no certificate":
        (certificates / "certificate.pem").unlink()
    else:
        (certificates / "key.pem").write_bytes((certified(tmp_path / "another", HERE) / "key.pem").read_bytes())
    with connect(tmp_path, certificates) as b:
        with pytest.raises(broker.BrokerError, match=says) as caught:
            b.subscribe("t", Recorder(), group="g")
        b.publish("t", Message(b"x"))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [None, "nonsense"])
def test_publishers_do_not_start_without_an_authority(content: str | None, certificates: Path) -> None:
    """They would have to believe everybody, or nobody."""
    (certificates / "ca.pem").unlink()
    if content:
        (certificates / "ca.pem").write_text(content)
    with pytest.raises(broker.BrokerError, match=r"ca\.pem cannot be used"):
        broker.new(f"https://{HERE}?certificates={certificates}")


def test_members_of_the_other_scheme_are_passed_over(
    publisher: Broker, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """By both: nothing in the clear where TLS was asked for, and no TLS without an authority. The log says so."""
    plain, secure = Recorder(), Recorder()
    with broker.connect("http", data_dir=tmp_path, secret=SECRET) as other:
        other.subscribe("t", plain, group="g")
        publisher.subscribe("t", secure, group="g")
        publisher.publish("t", Message(b"a"))
        other.publish("t", Message(b"b"))
        assert [received.text for received in secure.wait(1)] == ["a"]
        assert [received.text for received in plain.wait(1)] == ["b"]
    assert "is passed over: we post to https alone" in caplog.text
    assert "is passed over: we post to http alone" in caplog.text


def test_an_address_that_accepts_and_says_nothing_costs_no_attempt(publisher: Broker, tmp_path: Path) -> None:
    """A handshake that never ends: another member gets what was meant for it."""
    seen = Recorder()
    with socket.create_server((HERE, 0)) as silent:
        announce(tmp_path, f"https://{HERE}:{silent.getsockname()[1]}")
        publisher.publish("t", Message(b"x"), mandatory=True)
        for _ in range(2):  # it tries again
            silent.accept()[0].close()
        publisher.subscribe("t", seen, group="g")
        [received] = seen.wait(1)
    assert received.attempt == 1


@pytest.mark.parametrize("nonsense", [b"", b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x02\x00", bytes(20_000)])
def test_who_speaks_no_tls_holds_up_nobody(publisher: Broker, nonsense: bytes) -> None:
    """Whether he stays or goes."""
    seen = Recorder()
    publisher.subscribe("t", seen, group="g")
    port = int(the_member(publisher).url.rpartition(":")[2])
    with socket.create_connection((HERE, port)) as stays, socket.create_connection((HERE, port)) as goes:
        stays.sendall(nonsense)
        goes.sendall(nonsense)
        goes.close()
        publisher.publish("t", Message(b"x"))
        seen.wait_for("x")


def test_a_connection_that_was_reset_before_its_handshake_is_let_go(certificates: Path) -> None:
    """An error would end the listening."""
    with socket.create_server((HERE, 0)) as listening:
        client = socket.create_connection(listening.getsockname())
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # its close is a reset
        client.close()
        gone, _ = listening.accept()
    open_channel(member_context(certificates, HERE), None, gone)
    assert gone.fileno() == -1


def test_a_request_in_pieces_is_understood(publisher: Broker, certificates: Path) -> None:
    """As a slow network brings it: a record at a time, and parts of records."""
    seen = Recorder()
    publisher.subscribe("t", seen, group="g")
    member = the_member(publisher)
    body = encode_request(Request(member.id, "t", "g", [Parcel(1, Message(b"x"), 1, False)]))
    headers = {"host": HERE, "content-length": str(len(body)), **Signer(SECRET).sign(body)}
    head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    request = f"POST /deliver HTTP/1.1\r\n{head}\r\n{body}".encode()
    with secure_line(member, certificates) as line:
        for start in range(0, len(request), 100):
            line.send(request[start : start + 100])
        while not seen.received:
            line.receive()
    assert seen.texts == ["x"]


def the_member(b: Broker) -> Member:
    """What the registry has of its one subscription."""
    [member] = FileRegistry(b.options.data_dir / "broker" / "registry").members_of("t")
    return member


def announce(data_dir: Path, url: str) -> None:
    """An entry of a member at that address."""
    registry = FileRegistry(data_dir / "broker" / "registry")
    registry.add_group("t", "g")
    registry.renew(Member("m", "t", "g", url, prefetch=10, requests=4, lease_seconds=30))


class Line:
    """A TLS connection that sends what it has to send byte by byte."""

    def __init__(self, plain: socket.socket, context: ssl.SSLContext) -> None:
        self._plain = plain
        self._arrived, self._leaving = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._secure = context.wrap_bio(self._arrived, self._leaving, server_hostname=HERE)
        while not self._shaken():
            self.receive()

    def send(self, data: bytes) -> None:
        """All of it, in a record of its own."""
        self._secure.write(data)
        self._flush()

    def receive(self) -> None:
        """Wait for something to arrive."""
        self._arrived.write(self._plain.recv(65536))

    def _shaken(self) -> bool:
        try:
            self._secure.do_handshake()
        except ssl.SSLWantReadError:
            return False
        finally:
            self._flush()
        return True

    def _flush(self) -> None:
        for byte in self._leaving.read():
            self._plain.sendall(bytes([byte]))


@contextmanager
def secure_line(member: Member, certificates: Path) -> Iterator[Line]:
    """A line to that member."""
    port = int(member.url.rpartition(":")[2])
    with socket.create_connection((HERE, port)) as plain:
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        yield Line(plain, ssl.create_default_context(cafile=certificates / "ca.pem"))


@contextmanager
def impostor(certificates: Path) -> Iterator[tuple[int, list[bytes]]]:
    """Shows that certificate to everybody, and keeps what it is told."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificates / "certificate.pem", certificates / "key.pem")
    heard: list[bytes] = []

    class Ear(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            with suppress(OSError), context.wrap_socket(self.request, server_side=True) as connection:
                while data := connection.recv(65536):
                    heard.append(data)

    with socketserver.ThreadingTCPServer((HERE, 0), Ear) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield server.server_address[1], heard
        server.shutdown()
        thread.join()
