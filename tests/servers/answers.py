"""A mail server that answers what a test wants, however rude: SMTP line by line."""

from __future__ import annotations

import io
import socket
import threading
from types import TracebackType
from typing import Self

HANG_UP = ""  #: instead of an answer

POLITE = {
    "greeting": "220 hello",
    "EHLO": "250 hello",
    "HELO": "250 hello",
    "MAIL": "250 ok",
    "RCPT": "250 ok",
    "DATA": "354 go on",
    "email": "250 taken",
    "QUIT": "221 bye",
}


class AnsweringServer:
    """As a context manager it listens, to one client at a time; the `answers` replace polite ones."""

    def __init__(self, **answers: str) -> None:
        self.answers = {**POLITE, **answers}
        self.said: list[str] = []  #: by the clients, without what is in their emails
        self.emails: list[bytes] = []  #: whatever the answer was
        self._socket = socket.create_server(("127.0.0.1", 0))
        self._thread = threading.Thread(target=self._serve)

    @property
    def url(self) -> str:
        """For MAIL_URL."""
        return f"smtp://127.0.0.1:{self._socket.getsockname()[1]}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)  # wakes up `accept`
        self._socket.close()
        self._thread.join()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._socket.accept()
            except OSError:  # the test is over
                return
            with client:
                try:
                    self._talk(client)
                except OSError:  # the client has hung up
                    continue

    def _talk(self, client: socket.socket) -> None:
        lines = client.makefile("rb")
        line, step = "", "greeting"
        with lines:
            while self._answer(client, step) and step != "QUIT":
                if step == "DATA" and self.answers["DATA"].startswith("354"):
                    self.emails.append(_email(lines))
                    step = "email"
                    continue
                line = lines.readline().decode().rstrip("\r\n")
                if not line:
                    return
                self.said.append(line)
                step = line[:4].upper()

    def _answer(self, client: socket.socket, step: str) -> bool:
        answer = self.answers[step]
        if answer != HANG_UP:
            client.sendall(answer.encode() + b"\r\n")
        return answer != HANG_UP


def _email(lines: io.BufferedReader) -> bytes:
    return b"".join(iter(lines.readline, b".\r\n"))
