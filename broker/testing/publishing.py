"""Publishing: confirmed, complete, refused when it cannot be (promises 1, 5, 14, 15)."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from broker.base import Broker
from broker.errors import BrokerError, InvalidName, MessageTooLarge, NoSubscriber, PublishError
from broker.message import MAX_BODY_BYTES, MAX_HEADER_BYTES, Event, Message
from broker.testing.case import Case, numbered, texts
from broker.testing.harness import Harness
from broker.testing.recorder import Recorder, eventually, surely


class Publishing(Case):
    """What `publish` promises."""

    @pytest.mark.promise(15)
    @pytest.mark.parametrize("body", [b"", bytes(range(256)), b"x" * MAX_BODY_BYTES], ids=["empty", "any", "largest"])
    def test_any_bytes_and_headers_arrive_as_they_were(self, b: Broker, topic: str, body: bytes) -> None:
        """Nothing is added to a body, and Unicode header names and values survive."""
        seen = Recorder()
        b.subscribe(topic, seen, group="g")
        message = Message(body, {"subject": "学院君 🎉", "名字": "x", "Case-Kept": " spaces ", "empty": ""})
        b.publish(topic, message)
        [received] = seen.wait(1)
        assert received.message.body == body
        assert dict(received.message.header) == dict(message.header)

    @pytest.mark.promise(15)
    def test_what_is_too_large_is_refused_before_anything_is_sent(self, b: Broker, topic: str) -> None:
        """One message over a limit refuses the whole call."""
        seen = Recorder()
        b.subscribe(topic, seen, group="g")
        for large in (Message(b"x" * (MAX_BODY_BYTES + 1)), Message(b"", {"h": "学" * (MAX_HEADER_BYTES // 3)})):
            with pytest.raises(MessageTooLarge, match=large.id):
                b.publish(topic, Message(b"fine"), large)
        b.publish(topic, *texts("last"))
        assert [received.text for received in seen.wait(1)] == ["last"]

    @pytest.mark.promise(1)
    def test_publish_returns_only_after_the_confirm(self, harness: Harness, b: Broker, topic: str) -> None:
        """While the broker confirms nothing, `publish` has not returned; afterwards the message is there."""
        b.subscribe(topic, Recorder(), group="g").unsubscribe()
        returned = threading.Event()

        def publish() -> None:
            b.publish(topic, *texts("x"))
            returned.set()

        publisher = threading.Thread(target=publish)
        with harness.paused():
            publisher.start()
            assert not returned.wait(0.3)
        publisher.join()
        assert returned.is_set()
        eventually(lambda: b.backlog(topic, "g") == 1, "it is there")

    @pytest.mark.promise(1)
    def test_eight_publishing_threads_lose_nothing(self, b: Broker, topic: str) -> None:
        """One broker may be used from many threads at once."""
        seen = Recorder()
        b.subscribe(topic, seen, group="g")

        def publish(prefix: int) -> None:
            for message in numbered(20, f"{prefix}/"):
                b.publish(topic, message)

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(publish, range(8)))
        seen.wait(160)
        assert sorted(seen.texts) == sorted(f"{t}/{n}" for t in range(8) for n in range(20))

    @pytest.mark.promise(1, 12)
    def test_a_failed_batch_says_which_were_not_confirmed(self, harness: Harness, topic: str) -> None:
        """Publishing again just what the error names, whenever it fails, loses nothing."""
        b, publisher, seen = harness.connect(), harness.connect(publish_timeout_seconds=2), Recorder()
        b.subscribe(topic, seen, group="g")
        failures: list[PublishError] = []

        def publish_surely(batch: tuple[Message, ...]) -> None:
            while batch:
                batch = publish_once(batch)

        def publish_once(batch: tuple[Message, ...]) -> tuple[Message, ...]:
            try:
                publisher.publish(topic, *batch)
            except PublishError as error:
                failures.append(error)
                return error.unconfirmed
            return ()

        batches = [tuple(numbered(10, f"{n}/")) for n in range(30)]

        def publish_all() -> None:
            for batch in batches:
                publish_surely(batch)

        with ThreadPoolExecutor(1) as pool:
            publishing = pool.submit(publish_all)
            if b.promises.server:
                seen.wait(20)
                with harness.outage():
                    eventually(lambda: failures or publishing.done(), "a publish fails during the outage")
            publishing.result()
        assert all(0 < len(error.unconfirmed) <= 10 for error in failures)
        eventually(lambda: len(set(seen.texts)) == 300, "every message has arrived")

    @pytest.mark.promise(12)
    def test_publishing_while_the_broker_is_down_raises_within_its_timeout(self, harness: Harness, topic: str) -> None:
        """The error names broker and message. Without a server there is nothing that could be down."""
        b = harness.connect(publish_timeout_seconds=1)
        surely(lambda: b.subscribe(topic, Recorder(), group="g").unsubscribe())
        message = Message(b"x")
        if not b.promises.server:
            b.publish(topic, message)
            assert b.backlog(topic, "g") == 1
            return
        with harness.outage(), pytest.raises(PublishError, match=b.name) as caught:
            b.publish(topic, message)
        assert caught.value.unconfirmed == (message,)

    @pytest.mark.promise(5)
    def test_nothing_vanishes_for_want_of_a_first_subscriber(self, b: Broker, topic: str) -> None:
        """Without a group a mandatory publish is refused, or the first member gets what came before it."""
        seen = Recorder()
        if b.promises.replays:
            b.publish(topic, *texts("early"), mandatory=True)
        else:
            with pytest.raises(NoSubscriber, match=topic):
                b.publish(topic, *texts("early"), mandatory=True)
        b.subscribe(topic, seen, group="g")
        b.publish(topic, *texts("late"), mandatory=True)
        seen.wait_for("late")
        assert seen.texts == (["early", "late"] if b.promises.replays else ["late"])

    @pytest.mark.promise(5)
    def test_a_broadcast_subscription_is_no_group(self, b: Broker, topic: str) -> None:
        """Listeners keep nothing, so they do not satisfy a mandatory publish."""
        b.subscribe(topic, Recorder())
        if b.promises.replays or not b.promises.mandatory_sees_only_groups:
            b.publish(topic, *texts("x"), mandatory=True)
        else:
            with pytest.raises(NoSubscriber):
                b.publish(topic, *texts("x"), mandatory=True)

    @pytest.mark.promise(14)
    def test_publishing_inside_a_handler_works(self, b: Broker, topic: str) -> None:
        """A handler may publish, also to its own topic, without a deadlock."""

        def echo(event: Event) -> None:
            if event.message.body == b"ping":
                b.publish(topic, *texts("pong"))

        seen = Recorder(echo)
        b.subscribe(topic, seen, group="g")
        b.publish(topic, *texts("ping"))
        seen.wait_for("pong")

    def test_names_of_any_script_are_kept_apart(self, b: Broker, topic: str) -> None:
        """A name that a server forbids is mapped; no two names become one."""
        names = [topic + suffix for suffix in (".a", "_a", "*", ">", " a", ".A", "学院", "/", "_2e")]
        seen = {name: Recorder() for name in names}
        for name in names:
            b.subscribe(name, seen[name], group="~组 *.>/")
        for name in names:
            b.publish(name, *texts(name))
        for name in names:
            assert [received.text for received in seen[name].wait(1)] == [name]

    @pytest.mark.parametrize("name", ["", " x", "a\x00b", "a\nb", "x" * 300, "\ud800"])
    def test_an_impossible_name_is_refused(self, b: Broker, topic: str, name: str) -> None:
        """For topics and queues alike, before anything happens."""
        with pytest.raises(InvalidName):
            b.publish(name, *texts("x"))
        with pytest.raises(InvalidName):
            b.subscribe(topic, Recorder(), group=name)

    def test_verbs_in_the_wrong_order_are_refused(self, harness: Harness, topic: str) -> None:
        """Options change before connecting only; nothing else works before it."""
        b = harness.new()
        with pytest.raises(BrokerError, match="not connected"):
            b.publish(topic, *texts("x"))
        b.init(publish_timeout_seconds=3)
        with pytest.raises(BrokerError, match="no option 'colour'"):
            b.init(colour="red")  # type: ignore[call-arg]  # that is the mistake
        b.connect()
        b.connect()
        assert b.options.publish_timeout_seconds == 3
        with pytest.raises(BrokerError, match="before connect"):
            b.init(publish_timeout_seconds=4)
