"""TLS between publishers and members, from a folder as `python -m broker certificates` makes it.

    ca.pem                      whom publishers believe, and nobody else
    certificate.pem, key.pem    what a member shows; a process that only publishes does without

Waitress speaks no TLS, so the channel in which it reads and writes does.
"""

from __future__ import annotations

import socket
import ssl
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from broker.channel import Channel
from broker.errors import BrokerError

CA, CERTIFICATE, KEY = "ca.pem", "certificate.pem", "key.pem"
RECORD_BYTES = 16_384  #: of data, in one record of TLS at most; nothing stays unread where poll() does not see it
NOT_YET = (ssl.SSLWantReadError, ssl.SSLWantWriteError)  #: a part of a record, or of the handshake


def ca_file(folder: Path) -> Path:
    """The file of whom publishers believe; `BrokerError` when it cannot be used."""
    _trust(folder)
    return folder / CA


def member_context(folder: Path, name: str) -> ssl.SSLContext:
    """What a member called `name` serves with; `BrokerError` when its own publishers would not believe it."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(folder / CERTIFICATE, folder / KEY)
    except OSError as error:
        raise BrokerError(f"{folder / CERTIFICATE} and {KEY} beside it cannot be used: {error}") from error
    try:
        _shake_hands(context, _trust(folder), name)
    except ssl.SSLError as error:
        reason = getattr(error, "verify_message", "") or error
        raise BrokerError(f"publishers would refuse {folder / CERTIFICATE} of {name}: {reason}") from error
    return context


def _trust(folder: Path) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=folder / CA)
    except OSError as error:
        raise BrokerError(f"{folder / CA} cannot be used: {error}") from error


def _shake_hands(member: ssl.SSLContext, publisher: ssl.SSLContext, name: str) -> None:
    """The handshake of the two, in memory; `ssl.SSLError` when it fails."""
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = (publisher.wrap_bio(back, there, server_hostname=name), member.wrap_bio(there, back, server_side=True))
    for end in ends * 2:  # hello; hello and certificate; finished; finished
        with suppress(ssl.SSLWantReadError):
            end.do_handshake()


def open_channel(context: ssl.SSLContext, server: Any, sock: socket.socket, *rest: Any, **named: Any) -> None:
    """In place of waitress's own, for each connection that it accepts."""
    try:
        sock.getpeername()  # raises when it has gone already; to wrap it raises, too, and leaves it open
        TlsChannel(context, server, sock, *rest, **named)
    except OSError:  # waitress would take that for an error of the listening socket
        sock.close()


class TlsChannel(Channel):
    """A channel of waitress, over TLS. Its loop reads while its other threads write: so they take turns."""

    def __init__(self, context: ssl.SSLContext, server: Any, sock: socket.socket, *rest: Any, **named: Any) -> None:
        self._turn = threading.Lock()
        sock.setblocking(False)
        self._secure = context.wrap_socket(sock, server_side=True, do_handshake_on_connect=False)
        try:
            super().__init__(server, self._secure, *rest, **named)
        except OSError:
            self._secure.close()
            raise

    def handle_read(self) -> None:
        """What has arrived, if that is a whole record; the end of the connection, if it is no TLS."""
        try:
            with self._turn:
                data = self._secure.recv(RECORD_BYTES)
        except NOT_YET:
            return
        except OSError:
            data = b""
        if data:
            self.last_activity = time.time()
            self.received(data)
        else:
            self.handle_close()

    def send(self, data: bytes, do_close: bool = True) -> int:
        """How much of it was sent."""
        try:
            with self._turn:
                sent: int = super().send(data, do_close)
        except NOT_YET:
            sent = 0
        return sent

    def hang_up(self) -> None:
        """As any channel does; not while another thread writes, which would go on in the clear."""
        with self._turn:
            super().hang_up()
