"""What is known of groups besides their offsets: which there are, and their dead letters. Both in compacted topics."""

from __future__ import annotations

import json
import time
from collections.abc import Container

from broker.base import DeadLetter, Group
from broker.kafka.cluster import Cluster
from broker.kafka.progress import Letter
from broker.kafka.wire import (
    Record,
    dead_name,
    decode_message,
    encode_message,
    group_name,
    topic_name,
    utc,
)
from broker.message import GROUP, PARTITION_KEY, Message

GROUPS = "broker__groups"  #: the topic that lists them: key `["topic", "queue"]`, value as in `Groups`
DEAD = "broker-dead"  #: the last header of a dead letter: why, how often, when, as JSON

Name = tuple[str, str]  #: topic and queue


class Groups:
    """Every group that has ever subscribed, and how often it was forgotten: `{"alive": true, "forgotten": 0}`.

    A group that comes back after it was forgotten is another one to Kafka, and so starts anew.
    """

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster

    def alive(self) -> dict[Name, str]:
        """Kafka's name for each."""
        return {name: _numbered(name, times) for name, (alive, times) in self._read().items() if alive}

    def enter(self, topic: str, queue: str) -> str:
        """Kafka's name for the group, which exists from now on."""
        alive, times = self._read().get((topic, queue), (False, 0))
        if not alive:
            self._write(topic, queue, alive=True, forgotten=times)
        return _numbered((topic, queue), times)

    def end(self, topic: str, queue: str) -> None:
        """It exists no more."""
        alive, times = self._read().get((topic, queue), (False, 0))
        if alive:
            self._write(topic, queue, alive=False, forgotten=times + 1)

    def _read(self) -> dict[Name, tuple[bool, int]]:
        found = {}
        for record in self._cluster.read(GROUPS):
            topic, queue = json.loads(record.key() or b"")
            fields = json.loads(record.value() or b"")
            found[topic, queue] = fields["alive"], fields["forgotten"]
        return found

    def _write(self, topic: str, queue: str, **fields: object) -> None:
        self._cluster.store(GROUPS, Record(json.dumps([topic, queue]).encode(), json.dumps(fields).encode(), []))


class DeadBox:
    """The dead letters of one group: a topic of their own, where a tombstone takes one out."""

    def __init__(self, cluster: Cluster, topic: str, queue: str) -> None:
        self._cluster = cluster
        self._of = topic, queue

    @property
    def _topic(self) -> str:
        return dead_name(*self._of)

    def put(self, letter: Letter, reason: str) -> None:
        """Return once it is stored. Twice is once: the key is the message's place in its topic."""
        about = {
            "reason": reason,
            "attempts": letter.attempt,
            "published_at": letter.published_at,
            "failed_at": time.time(),
        }
        key = f"{letter.published_at:.3f}-{letter.progress.partition}-{letter.offset}"
        record = encode_message(letter.message, key)
        record.headers.append((DEAD, json.dumps(about).encode()))
        self._cluster.store(self._topic, record)

    def letters(self) -> list[tuple[bytes, DeadLetter]]:
        """Each with its key, oldest first."""
        return [
            (record.key() or b"", _dead_letter(decode_message(record))) for record in self._cluster.read(self._topic)
        ]

    def remove(self, key: bytes) -> None:
        """It is gone for good."""
        self._cluster.store(self._topic, Record(key, None, []))


class KafkaGroup(Group):
    """A group, for operators."""

    def __init__(self, topic: str, name: str, cluster: Cluster) -> None:
        super().__init__(topic, name)
        self._cluster = cluster
        self._groups = Groups(cluster)
        self._dead = DeadBox(cluster, topic, name)

    def backlog(self) -> int:
        group = self._groups.alive().get((self.topic, self.name))
        return self._cluster.backlog(topic_name(self.topic), group) if group else 0

    def dead_letters(self) -> list[DeadLetter]:
        return [letter for _, letter in self._dead.letters()]

    def replay(self, *message_ids: str) -> int:
        found = self._find(message_ids)
        for key, letter in found:
            message = letter.message.with_header(**{GROUP: self.name})
            record = encode_message(message, message.header.get(PARTITION_KEY, message.id))
            sending = self._cluster.send(topic_name(self.topic), [record])
            if sending.failed:
                raise self._cluster.errors.saying(f"{message.id} is not replayed: {sending.cause}")
            self._dead.remove(key)
        return len(found)

    def discard(self, message_id: str) -> int:
        found = self._find({message_id})
        for key, _ in found:
            self._dead.remove(key)
        return len(found)

    def forget(self) -> None:
        self._groups.end(self.topic, self.name)
        for key, _ in self._dead.letters():
            self._dead.remove(key)

    def _find(self, message_ids: Container[str]) -> list[tuple[bytes, DeadLetter]]:
        return [(key, letter) for key, letter in self._dead.letters() if letter.message.id in message_ids]


def _numbered(name: Name, times: int) -> str:
    return f"{group_name(*name)}__{times}" if times else group_name(*name)


def _dead_letter(stored: Message) -> DeadLetter:
    header = dict(stored.header)
    about = json.loads(header.pop(DEAD))
    return DeadLetter(
        Message(stored.body, header),
        about["reason"],
        about["attempts"],
        utc(about["published_at"]),
        utc(about["failed_at"]),
    )
