"""A Kafka cluster for a test: librdkafka's mock in a process of its own, or the reader's own cluster.

The mock is in memory. It is taken down and up instead of killed, which is all that it can show of a restart: every
connection breaks, none is made meanwhile, and what was stored is still there.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Self

from confluent_kafka import KafkaException, TopicCollection
from confluent_kafka.admin import AdminClient

from broker.testing import eventually

#: The mock waits for members of a group until a second before its sessions end, and with a fetch as long as it may.
FOR_MOCK = "session.timeout.ms=6000&fetch.wait.max.ms=10"


class MockKafka:
    """`python -m tests.servers.kafka_mock`. As a context manager it is started, and in the end killed."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None
        self.bootstrap = ""

    @property
    def url(self) -> str:
        """Where it listens, with settings that it needs."""
        return f"kafka://{self.bootstrap}?{FOR_MOCK}"

    def tell(self, *words: object) -> None:
        """Have it done before this returns; see `kafka_mock.py`."""
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.write(" ".join(map(str, words)) + "\n")
        self._process.stdin.flush()
        assert self._answer() == "done"

    def delete(self, topic: str) -> None:
        """Delete a topic."""
        self.tell("delete", topic)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Meanwhile it does not run, but its connections stay."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        os.waitpid(self._process.pid, os.WUNTRACED)  # its threads may run on for a moment
        try:
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)

    def _answer(self) -> str:
        assert self._process is not None
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.servers.kafka_mock"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ,
        )
        self.bootstrap = self._answer()
        assert self.bootstrap, "the mock did not start"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.communicate()


class ReadersKafka:
    """A cluster that somebody else runs; it is not stopped or paused."""

    def __init__(self, bootstrap: str) -> None:
        self.bootstrap = bootstrap
        self.url = f"kafka://{bootstrap}"

    def delete(self, topic: str) -> None:
        """Delete a topic, and wait until it has gone."""
        admin = AdminClient({"bootstrap.servers": self.bootstrap})
        admin.delete_topics([topic])[topic].result()

        def gone() -> bool:
            try:
                admin.describe_topics(TopicCollection([topic]))[topic].result()
            except KafkaException:
                return True
            return False

        eventually(gone, f"the topic {topic} is deleted")
