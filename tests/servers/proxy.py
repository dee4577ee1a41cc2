"""A TCP proxy between a client and a server, so that a test can cut every connection at once."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from types import TracebackType
from typing import Self


class Proxy:
    """Listens on a free port of 127.0.0.1 and passes everything on to another one."""

    def __init__(self, target_port: int) -> None:
        self._target = ("127.0.0.1", target_port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._lock = threading.Lock()
        self._pairs: set[tuple[socket.socket, socket.socket]] = set()
        self._thread = threading.Thread(target=self._accept, daemon=True)

    def cut(self) -> None:
        """Reset every connection; new ones are accepted."""
        with self._lock:
            pairs, self._pairs = self._pairs, set()
        for pair in pairs:
            for end in pair:
                with suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()
        self.cut()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self._connect(client)

    def _connect(self, client: socket.socket) -> None:
        try:
            server = socket.create_connection(self._target)
        except OSError:
            client.close()
            return
        pair = (client, server)
        with self._lock:
            self._pairs.add(pair)
        done = threading.Semaphore(0)
        for source, sink in (pair, pair[::-1]):
            threading.Thread(target=self._pass_on, args=(source, sink, done), daemon=True).start()
        threading.Thread(target=self._close_when_done, args=(pair, done), daemon=True).start()

    def _pass_on(self, source: socket.socket, sink: socket.socket, done: threading.Semaphore) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)
        for end in (source, sink):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        done.release()

    def _close_when_done(self, pair: tuple[socket.socket, socket.socket], done: threading.Semaphore) -> None:
        for _ in range(2):
            done.acquire()
        with self._lock:
            self._pairs.discard(pair)
        for end in pair:
            end.close()
