"""A Kafka cluster of one broker, in memory: librdkafka's own mock, in a process of its own, over real TCP.

Needs the extra `kafka` and nothing else. Run it, and it prints where it listens:

    python -m tests.servers.kafka_mock
    127.0.0.1:39127

It then does what it is told, a line at a time on standard input, and answers each with a line; it ends when the input
is closed. What it can be told are the public methods of `Mock`. They call the functions of librdkafka's
`src/rdkafka_mock.h`.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable
from pathlib import Path
from types import MappingProxyType
from typing import Any

import confluent_kafka

PRODUCER = 0  #: `RD_KAFKA_PRODUCER`
BROKER = 1  #: the id of the only broker
REQUESTS = MappingProxyType(
    {"produce": 0, "metadata": 3, "commit": 8, "join": 11, "heartbeat": 12, "number-producer": 22}
)  #: their numbers in Kafka's protocol
METADATA_DELAY_MS = 50  #: see `Mock._delay_leaders`
REBALANCE_DELAY_MS = 100  #: how long a new group waits for more members; a real broker's default is 3000


class Mock:
    """The cluster. It lives as long as this object's process."""

    def __init__(self) -> None:
        self._library = _librdkafka()
        reason = ctypes.create_string_buffer(512)
        conf = self._function("rd_kafka_conf_new", ctypes.c_void_p)()
        set_to = self._function("rd_kafka_conf_set", ctypes.c_int)
        set_to(ctypes.c_void_p(conf), b"log_level", b"0", reason, ctypes.c_size_t(len(reason)))
        client = self._function("rd_kafka_new", ctypes.c_void_p)(
            PRODUCER, ctypes.c_void_p(conf), reason, ctypes.c_size_t(len(reason))
        )
        assert client, reason.value
        new = self._function("rd_kafka_mock_cluster_new", ctypes.c_void_p)
        self._cluster = ctypes.c_void_p(new(ctypes.c_void_p(client), 1))
        self._function("rd_kafka_mock_set_controller_id", None)(
            self._cluster, BROKER
        )  # else `create_topics` waits for one
        self._call("rd_kafka_mock_group_initial_rebalance_delay_ms", REBALANCE_DELAY_MS)
        self._delay_leaders()

    @property
    def bootstrap(self) -> str:
        """Host and port of the broker."""
        address: bytes = self._function("rd_kafka_mock_cluster_bootstraps", ctypes.c_char_p)(self._cluster)
        return address.decode()

    def down(self) -> None:
        """Break every connection and take none; what is stored stays."""
        self._call("rd_kafka_mock_broker_set_down", BROKER)

    def up(self) -> None:
        """Take connections again, on the same port."""
        self._call("rd_kafka_mock_broker_set_up", BROKER)

    def delete(self, topic: str) -> None:
        """Delete a topic with its messages and what groups have committed about it."""
        self._call("rd_kafka_mock_topic_delete", topic.encode())

    def error(self, topic: str, code: str) -> None:
        """Answer requests about that topic with an error."""
        self._function("rd_kafka_mock_topic_set_error", None)(self._cluster, topic.encode(), int(code))

    def refuse(self, request: str, count: str, code: str) -> None:
        """Answer the next requests of that kind with an error."""
        codes = (ctypes.c_int * int(count))(*[int(code)] * int(count))
        push = self._function("rd_kafka_mock_push_request_errors_array", None)
        push(self._cluster, ctypes.c_int16(REQUESTS[request]), ctypes.c_size_t(int(count)), codes)

    def accept(self, request: str) -> None:
        """The opposite, whatever is left of it."""
        self._function("rd_kafka_mock_clear_request_errors", None)(self._cluster, ctypes.c_int16(REQUESTS[request]))

    def dropped(self, topic: str, partition: str, offset: str) -> None:
        """Forget the messages before that offset."""
        self._call(
            "rd_kafka_mock_partition_delete_records", topic.encode(), int(partition), ctypes.c_int64(int(offset))
        )

    def _delay_leaders(self) -> None:
        """Let the leader of a group share out after the others have asked for their share.

        The mock, unlike a real broker, refuses who asks later; that one joins again, and meanwhile no commit of what
        others have to let go of is taken. A leader asks for metadata first, so answers to that are delayed.
        """
        push: Any = self._function("rd_kafka_mock_broker_push_request_error_rtts", ctypes.c_int)
        push.argtypes = [ctypes.c_void_p, ctypes.c_int32, ctypes.c_int16, ctypes.c_size_t]  # the rest is variadic
        times = 400
        delays = [ctypes.c_int(number) for number in (0, METADATA_DELAY_MS) * times]  # 0: no error
        for _ in range(50):  # each is used once
            push(self._cluster, BROKER, REQUESTS["metadata"], times, *delays)

    def _call(self, name: str, *arguments: object) -> None:
        error = self._function(name, ctypes.c_int)(self._cluster, *arguments)
        assert error == 0 or name.endswith("_ms"), f"{name}{arguments} answered {error}"

    def _function(self, name: str, result: type | None) -> Callable[..., Any]:
        function: Any = getattr(self._library, name)
        function.restype = result
        found: Callable[..., Any] = function
        return found


def _librdkafka() -> ctypes.CDLL:
    """The library that the package `confluent-kafka` brings along: beside it in a wheel, in it elsewhere."""
    package = Path(confluent_kafka.__file__).parent
    found = [*package.with_name("confluent_kafka.libs").glob("librdkafka*"), *package.glob(".dylibs/librdkafka*")]
    assert found, f"no librdkafka beside {package}"
    return ctypes.CDLL(str(found[0]))


def main() -> None:
    """Serve until standard input is closed."""
    mock = Mock()
    print(mock.bootstrap, flush=True)
    for line in sys.stdin:
        command, *arguments = line.split()
        getattr(mock, command)(*arguments)
        print("done", flush=True)


if __name__ == "__main__":
    main()
