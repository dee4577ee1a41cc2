"""Sends records and waits until each is confirmed: one idempotent producer for all threads of a process.

    send → produce → librdkafka … its confirms → the thread of the LiveProducer → Sending → the thread that waits

An idempotent producer meets errors that it cannot get over, for example when its numbers and the server's have come
apart. It then sends nothing any more. What it had not confirmed is given up, and the next `send` makes another one.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial

import confluent_kafka as kafka
from confluent_kafka import KafkaError, KafkaException

from broker.kafka.wire import FATAL, QUEUE_FULL, TIMED_OUT, UNKNOWN_TOPIC, Errors, Record, Settings

log = logging.getLogger(__name__)

POLL_SECONDS = 0.1  #: so soon does the thread that receives confirms notice that it should end
FULL_SECONDS = 0.01  #: pause when librdkafka's queue is full
PURGED_SECONDS = 1.0  #: how long the last confirms of a producer are waited for

Settle = Callable[[KafkaError | None, kafka.Message | None], None]  # librdkafka's `on_delivery`


class Sending:
    """What became of the records of one `send`, by their index."""

    def __init__(self, count: int, errors: Errors, deadline: float) -> None:
        self.deadline = deadline  # in `time.monotonic()` seconds
        self._errors = errors
        self._over = threading.Event()
        self._lock = threading.Lock()
        self._unsettled = set(range(count))
        self._failed: dict[int, KafkaError] = {}
        self._blamed: KafkaError | None = None

    def settle(self, index: int, error: KafkaError | None, _: kafka.Message | None = None) -> None:
        """It was stored, or not."""
        with self._lock:
            self._unsettled.discard(index)
            if error is not None:
                self._failed[index] = error
            if not self._unsettled:
                self._over.set()

    def blame(self, error: KafkaError) -> None:
        """The producer has failed; whatever is not confirmed has failed because of this error."""
        with self._lock:
            self._blamed = error

    def give_up(self) -> None:
        """What is not settled by now has failed."""
        self._over.set()

    def wait(self) -> None:
        """Return when all is settled or given up, at the latest at the deadline."""
        self._over.wait(max(0.0, self.deadline - time.monotonic()))

    @property
    def failed(self) -> list[int]:
        """The indexes of those that are not confirmed."""
        with self._lock:
            return sorted({*self._unsettled, *self._failed})

    @property
    def cause(self) -> str:
        """Why not, of the first of them."""
        with self._lock:
            first = next((self._failed[index] for index in sorted(self._failed)), KafkaError(TIMED_OUT))
            return self._errors.cause(self._blamed or first)

    @property
    def topic_unknown(self) -> bool:
        """Whether the topic has gone."""
        with self._lock:
            return any(error.code() in UNKNOWN_TOPIC for error in self._failed.values())


class LiveProducer:
    """A producer of librdkafka with the thread that receives its confirms; both end together.

    It is never closed explicitly, since that would pull it from under a thread that is just using it: librdkafka frees
    it when nobody holds it any more.
    """

    def __init__(self, settings: Settings, errors: Errors) -> None:
        self._errors = errors
        self._lock = threading.Lock()
        self._sendings: set[Sending] = set()
        self._ending = threading.Event()
        with errors.translated():
            self._client = kafka.Producer(settings)
        self._thread = threading.Thread(target=self._receive, name="kafka-confirms", daemon=True)
        self._thread.start()

    @property
    def usable(self) -> bool:
        """Whether it still sends and receives."""
        return not self._ending.is_set() and self._thread.is_alive()

    def look_up(self, topic: str | None, timeout_seconds: float) -> None:
        """Return when the cluster answers."""
        with self._errors.translated(self._client):
            self._client.list_topics(topic, timeout=timeout_seconds)

    def send(self, topic: str, records: Sequence[Record], sending: Sending) -> None:
        """Return when all are settled or given up."""
        with self._lock:
            if not self.usable:
                return  # it has failed just now; nothing was sent
            self._sendings.add(sending)
        try:
            for index, record in enumerate(records):
                self._produce(topic, record, partial(sending.settle, index), sending.deadline)
            sending.wait()
        finally:
            with self._lock:
                self._sendings.discard(sending)

    def _produce(self, topic: str, record: Record, settle: Settle, deadline: float) -> None:
        try:
            while True:
                try:
                    return self._client.produce(
                        topic, record.value, record.key, headers=record.headers, on_delivery=settle
                    )
                except BufferError:
                    if time.monotonic() > deadline or not self.usable:
                        return settle(KafkaError(QUEUE_FULL), None)
                    time.sleep(FULL_SECONDS)
        except KafkaException as error:
            if error.args[0].code() == FATAL:
                self._ending.set()
            settle(error.args[0], None)

    def _receive(self) -> None:
        try:
            while not self._ending.is_set():
                self._client.poll(POLL_SECONDS)
        except KafkaException as error:  # a fatal error is raised here; all others are reported to `error_cb`
            self._fail(error.args[0])
        except BaseException:  # whatever it is, nobody must wait for a thread that has ended
            log.exception("the thread that receives Kafka's confirms has failed")
        finally:
            self._give_up()

    def _fail(self, error: KafkaError) -> None:
        log.error("%s", self._errors.saying(f"the producer has failed, another one is made: {error.str()}"))
        with self._lock:
            for sending in self._sendings:
                sending.blame(error)

    def _give_up(self) -> None:
        """What is not confirmed by now may or may not be stored."""
        with self._lock:
            self._ending.set()
            sendings = list(self._sendings)
        try:
            with suppress(KafkaException):  # a fatal one that comes only now
                self._client.purge()
                self._client.flush(PURGED_SECONDS)
        finally:
            for sending in sendings:
                sending.give_up()

    def end(self) -> None:
        """Return when nothing is received any more; what is not confirmed by then may or may not be stored."""
        self._ending.set()
        self._thread.join()


class Sender:
    """Connects when made. It keeps one usable producer until it is closed."""

    def __init__(self, settings: Settings, errors: Errors, timeout_seconds: float) -> None:
        self._settings: Settings = {
            "enable.idempotence": True,
            "acks": "all",
            "linger.ms": 0,
            "message.timeout.ms": max(1, int(timeout_seconds * 1000)),
            "message.max.bytes": 1_048_588,  # what a server takes unless told otherwise
            "partitioner": "murmur2_random",  # as clients in Java do
            **settings,
        }
        self._errors = errors
        self._timeout_seconds = timeout_seconds
        self._lock = threading.Lock()
        self._live: LiveProducer | None = LiveProducer(self._settings, errors)

    def look_up(self, topic: str | None = None) -> None:
        """Return when the cluster answers; it may make the topic that it is asked about."""
        self._usable().look_up(topic, self._timeout_seconds)

    def send(self, topic: str, records: Sequence[Record]) -> Sending:
        """Return once each is stored by all replicas in sync, or was given up: see `Sending.failed`."""
        sending = Sending(len(records), self._errors, time.monotonic() + self._timeout_seconds)
        self._usable().send(topic, records, sending)
        return sending

    def _usable(self) -> LiveProducer:
        with self._lock:
            if self._live is None:
                raise self._errors.saying("it was disconnected meanwhile")
            if not self._live.usable:
                self._live = LiveProducer(self._settings, self._errors)
            return self._live

    def close(self) -> None:
        """Let go of the producer; what is not confirmed by now may or may not be stored."""
        with self._lock:
            live, self._live = self._live, None
        if live:
            live.end()
