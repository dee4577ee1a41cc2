"""Sends records and waits until each is confirmed: one idempotent producer for all threads of a process.

Who waits hears the confirms, its own and those of others.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError
from functools import partial

import confluent_kafka as kafka
from confluent_kafka import KafkaError, KafkaException

from broker.kafka.wire import QUEUE_FULL, TIMED_OUT, UNKNOWN_TOPIC, Errors, Record, Settings
from broker.turns import Answer, Loop, Turns

HEAR_SECONDS = 0.1  #: so soon is a deadline noticed, and the thread ended that hears confirms
FULL_SECONDS = 0.01  #: pause when librdkafka's queue is full
PURGED_SECONDS = 1.0

Settle = Callable[[KafkaError | None, kafka.Message | None], None]  # librdkafka's `on_delivery`


class Sending:
    """What became of the records of one `send`, by their index."""

    def __init__(self, count: int, errors: Errors, deadline: float) -> None:
        self.deadline = deadline  # in `time.monotonic()` seconds
        self.over: Answer[None] = Answer()
        self._errors = errors
        self._lock = threading.Lock()
        self._unsettled = set(range(count))
        self._failed: dict[int, KafkaError] = {}

    def settle(self, index: int, error: KafkaError | None, _: kafka.Message | None) -> None:
        """It was stored, or not."""
        with self._lock:
            self._unsettled.discard(index)
            if error is not None:
                self._failed[index] = error
            if not self._unsettled:
                self.over.set_result(None)

    def give_up(self) -> None:
        """What is not settled by now has failed."""
        with self._lock:
            self.over.set_result(None)

    @property
    def failed(self) -> list[int]:
        """The indexes of those that are not confirmed."""
        with self._lock:
            return sorted({*self._unsettled, *self._failed})

    @property
    def cause(self) -> str:
        """Why not, of the first of them."""
        with self._lock:
            error = next((self._failed[index] for index in sorted(self._failed)), KafkaError(TIMED_OUT))
            return self._errors.cause(error)

    @property
    def fatal(self) -> bool:
        """Whether the producer is of no more use."""
        with self._lock:
            return any(error.fatal() for error in self._failed.values())

    @property
    def topic_unknown(self) -> bool:
        """Whether the topic has gone."""
        with self._lock:
            return any(error.code() in UNKNOWN_TOPIC for error in self._failed.values())


class Sender:
    """Connects when made. Its thread runs once something was sent."""

    def __init__(self, settings: Settings, errors: Errors, timeout_seconds: float) -> None:
        self._settings = settings
        self._errors = errors
        self._timeout_seconds = timeout_seconds
        self._lock = threading.Lock()
        self._sendings: set[Sending] = set()
        self._turns = Turns(Loop(self._hear, self._stop_hearing, lambda function: function()), "kafka-confirms")
        self._hearing = False
        self._started = False
        self._broken = False
        self._producer = self._made()

    def _made(self) -> kafka.Producer:
        with self._errors.translated():
            return kafka.Producer(
                {
                    "enable.idempotence": True,
                    "acks": "all",
                    "linger.ms": 0,
                    "message.timeout.ms": max(1, int(self._timeout_seconds * 1000)),
                    "message.max.bytes": 1_048_588,  # what a server takes unless told otherwise
                    "partitioner": "murmur2_random",  # as clients in Java do
                    **self._settings,
                }
            )

    def look_up(self, topic: str | None = None) -> None:
        """Return when the cluster answers; it may make the topic that it is asked about."""
        with self._errors.translated(self._producer):
            self._producer.list_topics(topic, timeout=self._timeout_seconds)

    def send(self, topic: str, records: Sequence[Record]) -> Sending:
        """Return once each is stored by all replicas in sync, or was given up: see `Sending.failed`."""
        self._make_ready()
        sending = Sending(len(records), self._errors, time.monotonic() + self._timeout_seconds)
        for index, record in enumerate(records):
            self._produce(topic, record, partial(sending.settle, index), sending.deadline)
        self._sendings.add(sending)
        try:
            self._turns.ask(lambda: None, sending.over)
        except CancelledError:  # disconnected meanwhile
            sending.give_up()
        finally:
            self._sendings.discard(sending)
        self._broken = self._broken or sending.fatal
        return sending

    def _produce(self, topic: str, record: Record, settle: Settle, deadline: float) -> None:
        try:
            while True:
                try:
                    return self._producer.produce(
                        topic, record.value, record.key, headers=record.headers, on_delivery=settle
                    )
                except BufferError:
                    if time.monotonic() > deadline:
                        return settle(KafkaError(QUEUE_FULL), None)
                    time.sleep(FULL_SECONDS)
        except KafkaException as error:
            settle(error.args[0], None)

    def _make_ready(self) -> None:
        with self._lock:
            if self._broken:  # by a fatal error, after which librdkafka's producer sends nothing any more
                self._producer, self._broken = self._made(), False
            if not self._started:
                self._started = True
                self._turns.start()

    def _hear(self) -> None:
        self._hearing = True
        while self._hearing:
            if not self._producer.poll(HEAR_SECONDS):
                for sending in list(self._sendings):
                    if time.monotonic() > sending.deadline:
                        sending.give_up()

    def _stop_hearing(self) -> None:
        self._hearing = False

    def close(self) -> None:
        """What is not confirmed by now may or may not be stored."""
        if self._started:
            self._turns.end()
        self._producer.purge()
        self._producer.flush(PURGED_SECONDS)
        self._producer.close()
