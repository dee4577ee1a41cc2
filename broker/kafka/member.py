"""A member of a group.

One thread owns the consumer: it polls, commits, and answers when the group shares out its partitions anew. What it
reads ahead lies in the Progress of each partition that is this member's; `fetch` counts the attempts, has that
committed, and gives it to the engine; `ack`, `retry` and `bury` change the Progress again.

No other thread calls the consumer: confluent-kafka lets in one at a time, and one that polls would starve the others.
"""

from __future__ import annotations

import heapq
import logging
import math
import threading
import time
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count

import confluent_kafka as kafka
from confluent_kafka import KafkaError, KafkaException, TopicPartition

from broker.engine.source import Delivery, Source
from broker.errors import BrokerError
from broker.kafka.cluster import Cluster, Lookout
from broker.kafka.group import DeadBox
from broker.kafka.progress import Letter, Progress
from broker.kafka.wire import FATAL, decode_message, published_at

log = logging.getLogger(__name__)

SESSION_SECONDS = (6.0, 1800.0)  #: what servers allow unless told otherwise (`group.min.session.timeout.ms`, `…max…`)
HEARTBEAT_SECONDS = 1.0  #: so soon does a member hear that the group shares out anew
REVOKE_SECONDS = 240.0  #: how long a partition that goes to another member waits for what runs here
POLL_SECONDS = 0.02  #: how long a poll waits, and thus a commit for it, when nothing has happened lately
BUSY_POLL_SECONDS = 0.001
BUSY_SECONDS = 0.1  #: what is lately
BATCH = 500  #: messages taken from librdkafka at a time
TROUBLE_SECONDS = 0.05  #: pause of the consumer's thread after an error
REJOIN_SECONDS = 0.5  #: pause before a member that has failed joins again
WISH_SECONDS = 5.0  #: how long a commit may take beyond the timeout, when the consumer's thread is busy
LEAVE_SECONDS = 10.0  #: how long a member that leaves tries to commit

#: a commit is refused while the group shares out its partitions; it can be made afterwards
SHARING_OUT = frozenset(
    {KafkaError.REBALANCE_IN_PROGRESS, KafkaError.ILLEGAL_GENERATION, KafkaError.COORDINATOR_LOAD_IN_PROGRESS}
)


class NotNow(BrokerError):
    """The group is sharing out its partitions."""


@dataclass(frozen=True, eq=False)
class Wish:
    """That a commit be made for these; `deadline` is in `time.monotonic()` seconds."""

    progresses: Collection[Progress]
    deadline: float
    of_fetch: bool  #: given up when nothing is fetched any more
    done: Future[None] = field(default_factory=Future)


class KafkaSource(Source[Letter]):
    """A member of a group. Kafka holds the lease of a whole partition, for as long as this process shows it lives."""

    def __init__(self, cluster: Cluster, topic: str, group: str, lease_seconds: float, dead: DeadBox) -> None:
        self._cluster = cluster
        self._topic = topic
        self._dead = dead
        self._lookout = Lookout(cluster, topic)
        self._changed = threading.Condition()
        self._progress: dict[int, Progress] = {}  # of the partitions that are ours
        self._unknown: set[int] = set()  # ours, and how far the group has come is not known yet
        self._out: set[Letter] = set()  # with the engine
        self._later: list[tuple[float, int, Letter]] = []  # a heap by due time, in seconds since 1970
        self._order = count()
        self._wishes: list[Wish] = []
        self._busy_until = 0.0
        self._trouble: BrokerError | None = None  # of the consumer's thread, for the engine to log
        self._interrupted = False
        self._left = False
        self._closing = threading.Event()
        self._group = group
        self._lease_seconds = lease_seconds
        self._ruined = False  # what we know of our partitions may be wrong
        self._consumer = self._join()
        self._thread = threading.Thread(target=self._attend, name=f"{group}-kafka", daemon=True)
        self._thread.start()

    def _join(self) -> kafka.Consumer:
        """A consumer that is a member of the group as soon as it is polled."""
        shortest, longest = SESSION_SECONDS
        session_seconds = min(max(shortest, self._lease_seconds), longest)
        consumer = self._cluster.consumer(
            self._group,
            partition_assignment_strategy="cooperative-sticky",
            session_timeout_ms=int(session_seconds * 1000),
            heartbeat_interval_ms=int(HEARTBEAT_SECONDS * 1000),
            max_poll_interval_ms=int((REVOKE_SECONDS + session_seconds) * 1000),
        )
        with self._cluster.errors.translated():
            consumer.subscribe([self._topic], on_assign=self._assigned, on_revoke=self._revoked, on_lost=self._lost)
        return consumer

    # --- the engine's verbs --------------------------------------------------------------------------------------

    def fetch(self, limit: int, timeout_seconds: float) -> Sequence[Delivery[Letter]]:
        letters = self._take(limit, timeout_seconds)
        if self._trouble and not letters:
            trouble, self._trouble = self._trouble, None
            raise trouble
        try:
            self._commit_soon({letter.progress for letter in letters}, of_fetch=True)
        except BrokerError:
            self._untake(letters)
            raise
        return [
            Delivery(letter.message, letter.attempt, letter, letter.last_started)
            for letter in letters
            if self._is_mine(letter.progress)
        ]

    def interrupt(self) -> None:
        with self._changed:
            self._interrupted = True
            self._changed.notify_all()

    def close(self) -> None:
        self._closing.set()
        self.interrupt()
        self._thread.join()

    def ack(self, deliveries: Sequence[Delivery[Letter]]) -> None:
        self._commit_soon(self._settle(deliveries, lambda letter: letter.progress.finish(letter)))

    def retry(self, delivery: Delivery[Letter], delay_seconds: float) -> None:
        def wait(letter: Letter) -> None:
            due = time.time() + delay_seconds
            letter.due = math.ceil(due)
            heapq.heappush(self._later, (due, next(self._order), letter))

        self._settle([delivery], wait)

    def bury(self, delivery: Delivery[Letter], reason: str) -> None:
        if self._is_mine(delivery.receipt.progress):
            self._dead.put(delivery.receipt, reason)
            self.ack([delivery])

    def release(self, deliveries: Sequence[Delivery[Letter]]) -> None:
        self._settle(deliveries, _uncount)

    def begin_last(self, delivery: Delivery[Letter]) -> None:
        letter = delivery.receipt
        with self._changed:
            letter.last_started = True
        try:
            self._commit_soon({letter.progress})
        except BrokerError:
            with self._changed:
                letter.last_started = False
            raise

    def _take(self, limit: int, timeout_seconds: float) -> list[Letter]:
        deadline = time.monotonic() + timeout_seconds
        letters: list[Letter] = []
        with self._changed:
            while not self._must_return() and not (letters := self._next(limit)) and time.monotonic() < deadline:
                due_seconds = self._later[0][0] - time.time() if self._later else timeout_seconds
                self._changed.wait(max(0.0, min(deadline - time.monotonic(), due_seconds)))
            for letter in letters:
                letter.attempt += 1
                letter.due = 0
            self._out.update(letters)
        return letters

    def _must_return(self) -> bool:
        """Whether there is something to say before anything is delivered; or nothing any more."""
        return self._interrupted or self._trouble is not None

    def _next(self, limit: int) -> list[Letter]:
        """What may be delivered now: what is due again, then of each partition in turn. Called with the lock held."""
        letters: list[Letter] = []
        while self._later and self._later[0][0] <= time.time() and len(letters) < limit and not self._interrupted:
            letter = heapq.heappop(self._later)[2]
            if self._is_open(letter):
                letters.append(letter)
        for number, progress in list(self._progress.items()):
            while len(letters) < limit and not self._interrupted and (taken := progress.take()):
                letters.append(taken)
            self._progress[number] = self._progress.pop(number)  # at the end: the others come first the next time
        return letters

    def _untake(self, letters: Collection[Letter]) -> None:
        with self._changed:
            for letter in reversed(list(letters)):
                _uncount(letter)
                letter.progress.put_back(letter)
            self._out.difference_update(letters)
            self._changed.notify_all()

    def _settle(self, deliveries: Sequence[Delivery[Letter]], settle: Callable[[Letter], None]) -> set[Progress]:
        """Do it with those that are still ours; what is to be committed then. What another member has by now is its."""
        with self._changed:
            letters = [delivery.receipt for delivery in deliveries if self._is_open(delivery.receipt)]
            for letter in letters:
                settle(letter)
            self._out.difference_update(delivery.receipt for delivery in deliveries)
            self._changed.notify_all()
        return {delivery.receipt.progress for delivery in deliveries}

    def _is_mine(self, progress: Progress) -> bool:
        return self._progress.get(progress.partition) is progress

    def _is_open(self, letter: Letter) -> bool:
        return self._is_mine(letter.progress) and letter.progress.is_open(letter)

    # --- committing ----------------------------------------------------------------------------------------------

    def _commit_soon(self, progresses: Collection[Progress], *, of_fetch: bool = False) -> None:
        """Return once it is stored how far the group has come in these."""
        if not progresses:
            return
        wish = Wish(progresses, time.monotonic() + self._cluster.timeout_seconds, of_fetch)
        with self._changed:
            if self._left:
                raise self._cluster.errors.saying("the subscription has ended")
            self._wishes.append(wish)
            self._changed.notify_all()
        try:
            wish.done.result(self._cluster.timeout_seconds + WISH_SECONDS)
        except TimeoutError as error:
            raise self._cluster.errors.saying("the offsets were not committed in time") from error

    def _fulfil(self) -> None:
        """Do what was wished, all in one commit. While the group shares out its partitions it has to wait."""
        with self._changed:
            wishes, self._wishes = self._wishes, []
        if not wishes:
            return
        self._busy_until = time.monotonic() + BUSY_SECONDS
        try:
            self._commit({progress for wish in wishes for progress in wish.progresses})
        except BrokerError as error:
            self._refuse(wishes, error)
        except BaseException as error:
            self._refuse(wishes, self._cluster.errors.saying(f"the offsets were not committed: {error!r}"))
            raise
        else:
            for wish in wishes:
                wish.done.set_result(None)

    def _refuse(self, wishes: Collection[Wish], error: BrokerError) -> None:
        for wish in wishes:
            if isinstance(error, NotNow) and self._is_wanted(wish):
                with self._changed:
                    self._wishes.append(wish)
            else:
                wish.done.set_exception(error)

    def _is_wanted(self, wish: Wish) -> bool:
        over = self._closing.is_set() or (wish.of_fetch and self._interrupted)
        return time.monotonic() < wish.deadline and not over

    def _commit(self, progresses: Collection[Progress]) -> None:
        """One commit, of those where something has changed."""
        with self._changed:
            changed = {p: state for p in progresses if self._is_mine(p) and (state := p.snapshot()) != p.stored}
        if not changed:
            return
        offsets = [TopicPartition(self._topic, p.partition, *state) for p, state in changed.items()]
        try:
            _raise_errors(self._consumer.commit(offsets=offsets, asynchronous=False))
        except KafkaException as error:
            translated = self._cluster.errors.of(error)
            raise (NotNow(str(translated)) if error.args[0].code() in SHARING_OUT else translated) from error
        for progress, state in changed.items():
            progress.stored = state

    # --- the consumer's thread -------------------------------------------------------------------------------------

    def _attend(self) -> None:
        try:
            while not self._closing.is_set():
                self._turn()
            self._leave()
        finally:
            with self._changed:
                self._left = True
            self._refuse(self._wishes, self._cluster.errors.saying("the subscription has ended"))

    def _turn(self) -> None:
        try:
            if self._ruined:
                self._begin_anew()
            self._receive()
            self._fulfil()
            self._balance()
            self._lookout.look()
        except (KafkaException, BrokerError) as error:
            self._ruined = self._ruined or (isinstance(error, KafkaException) and error.args[0].code() == FATAL)
            self._tell(error if isinstance(error, BrokerError) else self._cluster.errors.of(error))
            self._closing.wait(TROUBLE_SECONDS)
        except BaseException:  # whatever it is: the engine waits for this thread
            log.exception("%s is read again from what was committed", self._topic)
            self._ruined = True
            self._closing.wait(TROUBLE_SECONDS)

    def _receive(self) -> None:
        first = self._consumer.poll(self._patience())
        if first is None:
            return
        self._busy_until = time.monotonic() + BUSY_SECONDS
        for record in (first, *self._consumer.consume(BATCH, 0)):
            error = record.error()
            if error is None:
                self._arrived(record)
            else:
                self._ruined = self._ruined or error.code() == FATAL
                self._tell(self._cluster.errors.of(error))
        with self._changed:
            self._changed.notify_all()

    def _patience(self) -> float:
        """How long to wait for the server. Nothing ends a poll early; a wish that may come is waited for here."""
        with self._changed:
            may_come = any(progress.waits() for progress in self._progress.values())
            if may_come and not self._wishes:
                self._changed.wait(POLL_SECONDS)
            if may_come or self._wishes:
                return 0.0
        return BUSY_POLL_SECONDS if time.monotonic() < self._busy_until else POLL_SECONDS

    def _tell(self, trouble: BrokerError) -> None:
        """Let `fetch` raise it."""
        with self._changed:
            self._trouble = trouble
            self._changed.notify_all()

    def _begin_anew(self) -> None:
        """Join again with another consumer: librdkafka's has met a fatal error, or our own code a surprise."""
        self._closing.wait(REJOIN_SECONDS)
        with self._changed:
            self._progress.clear()
            self._unknown.clear()
            self._out.clear()
            self._later.clear()
        with suppress(KafkaException, RuntimeError):  # nothing more may be asked of it, or it is closed by now
            self._consumer.close()
        self._consumer = self._join()
        self._ruined = False

    def _arrived(self, record: kafka.Message) -> None:
        message = decode_message(record)
        with self._changed:
            progress = self._progress.get(record.partition() or 0)
            letter = progress and progress.arrived(record.offset() or 0, message, published_at(record))
            if not letter:
                return
            if letter.due > time.time():
                heapq.heappush(self._later, (letter.due, next(self._order), letter))
            else:
                letter.progress.put(letter)

    def _balance(self) -> None:
        """Learn how far the group has come in new partitions; read ahead in each as much as is reasonable."""
        if self._unknown:
            self._learn()
        with self._changed:
            turned = [progress for progress in self._progress.values() if progress.is_full() != progress.held]
        for progress in turned:
            progress.held = not progress.held
            (self._consumer.pause if progress.held else self._consumer.resume)(self._places([progress.partition]))

    def _learn(self) -> None:
        """Start in new partitions where the group has stopped."""
        found = self._consumer.committed(self._places(self._unknown), self._cluster.timeout_seconds)
        _raise_errors(found)
        progresses = [Progress(place.partition, place.offset, place.metadata) for place in found]
        with self._changed:
            self._progress.update((progress.partition, progress) for progress in progresses)
        self._unknown.clear()
        starts = [kafka.OFFSET_BEGINNING if place.offset < 0 else place.offset for place in found]
        self._consumer.incremental_assign(
            [TopicPartition(self._topic, place.partition, start) for place, start in zip(found, starts, strict=True)]
        )

    def _places(self, partitions: Collection[int]) -> list[TopicPartition]:
        return [TopicPartition(self._topic, partition) for partition in partitions]

    def _assigned(self, consumer: kafka.Consumer, places: list[TopicPartition]) -> None:
        self._unknown.update(place.partition for place in places)
        consumer.incremental_assign([])  # the group waits for an answer; `_learn` may have to be tried more than once

    def _revoked(self, consumer: kafka.Consumer, places: list[TopicPartition]) -> None:
        """Finish what runs of these, commit, and let them go: the next member continues behind it."""
        leaving = self._progresses(places)
        deadline = time.monotonic() + REVOKE_SECONDS
        with self._changed:
            for progress in leaving:
                progress.drop()
        while self._runs(leaving) and not self._closing.is_set() and time.monotonic() < deadline:
            self._fulfil()
            with self._changed:
                self._changed.wait(TROUBLE_SECONDS)
        try:
            self._commit(leaving)
        except BrokerError as error:
            log.warning("what was finished of %s may be delivered again: %s", self._topic, error)
        self._lost(consumer, places)

    def _lost(self, consumer: kafka.Consumer, places: list[TopicPartition]) -> None:
        """They may be another member's already: what we know is void, and must not be committed."""
        self._unknown.difference_update(place.partition for place in places)
        known = [place for place in places if place.partition in self._progress]
        with self._changed:
            for place in known:
                del self._progress[place.partition]
            self._out = {letter for letter in self._out if self._is_mine(letter.progress)}
        consumer.incremental_unassign(known)

    def _progresses(self, places: Collection[TopicPartition]) -> list[Progress]:
        return [self._progress[place.partition] for place in places if place.partition in self._progress]

    def _runs(self, progresses: Collection[Progress]) -> bool:
        with self._changed:
            return any(letter.progress in progresses for letter in self._out)

    def _leave(self) -> None:
        deadline = time.monotonic() + LEAVE_SECONDS
        try:
            while (trouble := self._save()) and time.monotonic() < deadline:
                self._consumer.poll(POLL_SECONDS)  # the group may have to share out first
            if trouble:
                log.warning("what was handed back of %s counts as tried: %s", self._topic, trouble)
        finally:
            self._consumer.close()

    def _save(self) -> BrokerError | None:
        """Commit what is not yet; why that was not possible."""
        try:
            self._commit(list(self._progress.values()))
        except BrokerError as error:
            return error
        return None


def _uncount(letter: Letter) -> None:
    letter.attempt -= 1


def _raise_errors(places: Collection[TopicPartition]) -> None:
    for place in places:
        if place.error:
            raise KafkaException(place.error)
