"""Each mailer hands an email over, or raises what says whether to try again; nothing undoes what is done."""

from __future__ import annotations

import io
import logging
import os
import pty
import re
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path

import pytest

from email_service.errors import MailError, RecipientRefused, UnknownMailer
from email_service.mailers import ConsoleMailer, FileMailer, mailer
from email_service.smtp import LONGEST_WORDS, SmtpMailer
from tests.servers.answers import HANG_UP, AnsweringServer
from tests.servers.mailbox import Mailbox
from tests.unit.email_service.test_mail import SENDER, mail_to

IN_ANOTHER_SCRIPT = "用户@例子.广告"


def parsed(content: bytes) -> EmailMessage:
    """What a mail reader makes of it."""
    return message_from_bytes(content, policy=policy.SMTP)


def send(url: str, email: str = "x@example.com") -> None:
    """Send the welcome email by that mailer."""
    mailer(url, SENDER, io.StringIO()).send(mail_to("学院君", email))


@pytest.fixture
def mailbox() -> Iterator[Mailbox]:
    """A running mail server."""
    with Mailbox() as running:
        yield running


def test_the_console_mailer_prints_the_tutorials_line() -> None:
    """Exactly as the tutorial prints it, and no terminal obeys a name."""
    out = io.StringIO()
    ConsoleMailer(out).send(mail_to("学院君"))
    ConsoleMailer(out).send(mail_to("a\x1b[2J\r\nb"))
    ConsoleMailer(out).send(mail_to("a\u2028\u202eb"))
    assert out.getvalue().splitlines() == [
        "[SENDING A EMAIL TO 学院君...]",
        "[SENDING A EMAIL TO a [2J  b...]",
        "[SENDING A EMAIL TO a\\u2028\\u202eb...]",
    ]


def test_a_terminal_that_is_gone_makes_no_dead_letter() -> None:
    """The line was all that there was to do."""
    reads, writes = os.pipe()
    os.close(reads)
    with os.fdopen(writes, "wb", buffering=0) as gone, io.TextIOWrapper(gone, write_through=True) as terminal:
        ConsoleMailer(terminal).send(mail_to("学院君"))
    closed = io.StringIO()
    closed.close()
    ConsoleMailer(closed).send(mail_to("学院君"))


def test_the_file_mailer_writes_one_file_an_email(tmp_path: Path) -> None:
    """Named by the Message-ID, readable by any mail reader, no draft left."""
    files = mailer(f"file:{tmp_path}/mail", SENDER, io.StringIO())
    files.send(mail_to("学院君"))
    files.send(mail_to("学院君"))
    (file,) = (tmp_path / "mail").iterdir()
    assert file.name == "event-1@email-service.example.com.eml"
    assert parsed(file.read_bytes())["To"].addresses[0].display_name == "学院君"


def test_an_email_file_is_replaced_as_a_whole(tmp_path: Path) -> None:
    """Who reads it while it is written again has the old one or the new one, never half of one."""
    files = FileMailer(tmp_path, SENDER)
    files.send(mail_to("学院君"))
    (file,) = tmp_path.iterdir()
    before = file.stat().st_ino
    files.send(mail_to("学院君"))
    assert file.stat().st_ino != before


@pytest.mark.parametrize("blocked", [".", "event-1@email-service.example.com.eml"])
def test_what_cannot_be_written_raises_and_leaves_nothing(tmp_path: Path, blocked: str) -> None:
    """The broker has to try again: the email is nowhere, and no draft of it."""
    folder = tmp_path / "mail"
    if blocked == ".":
        folder.write_text("a file where the folder should be")
    else:
        (folder / blocked).mkdir(parents=True)
    with pytest.raises(MailError, match="cannot write"):
        FileMailer(folder, SENDER).send(mail_to("学院君"))
    assert [path.name for path in tmp_path.rglob(".*")] == []


def test_a_file_that_is_written_is_sent_whatever_comes_after(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is left to clean up then, so nothing is tried that may fail."""

    def fail(*_: object, **__: object) -> None:
        raise PermissionError

    monkeypatch.setattr(Path, "unlink", fail)
    send(f"file:{tmp_path}")
    assert len(list(tmp_path.iterdir())) == 1


def test_the_smtp_mailer_hands_the_email_to_the_server(mailbox: Mailbox) -> None:
    """As it was written, and once."""
    send(mailbox.url, "xueyuanjun@example.com")
    (email,) = mailbox.emails
    assert mailbox.recipients == ["xueyuanjun@example.com"]
    assert email["To"].addresses[0].addr_spec == "xueyuanjun@example.com"
    assert email["Subject"] == "Welcome, 学院君!"


@pytest.mark.parametrize("goodbye", ["421 too busy", "250 what?", "no number", "999 " + "x" * 10_000, HANG_UP])
def test_what_a_server_says_after_it_has_taken_the_email_changes_nothing(goodbye: str) -> None:
    """It has it: to try again would send it again."""
    with AnsweringServer(QUIT=goodbye) as server:
        send(server.url)
        send(server.url)
        assert len(server.emails) == 2


def test_a_connection_that_is_cut_or_silent_after_the_email_was_taken_changes_nothing() -> None:
    """Nobody waits for a goodbye."""
    with AnsweringServer(email="250 taken\r\n221 and now go away") as server:
        send(server.url)
    assert len(server.emails) == 1


@pytest.mark.parametrize("step", ["RCPT", "DATA", "email"])
@pytest.mark.parametrize("answer", ["550-no\x1b[2J such\r\n550 mailbox", "553 no such mailbox", "554 " + "no " * 900])
def test_a_refusal_of_this_recipient_is_final(step: str, answer: str) -> None:
    """The reason is the server's words: one line of some length, and no terminal obeys it."""
    with AnsweringServer(**{step: answer}) as server, pytest.raises(RecipientRefused, match=r": 55\d no") as refusal:
        send(server.url)
    assert str(refusal.value).isprintable()
    assert len(str(refusal.value)) < LONGEST_WORDS + 100


@pytest.mark.parametrize("step", ["greeting", "EHLO", "MAIL", "RCPT", "DATA", "email"])
@pytest.mark.parametrize("answer", ["421 not now", "451 try again later", "no number", HANG_UP])
def test_what_is_for_now_is_tried_again(step: str, answer: str) -> None:
    """4xx, nonsense, and a server that hangs up, at each step."""
    with AnsweringServer(**{step: answer}) as server, pytest.raises(MailError) as error:
        send(server.url)
    assert not isinstance(error.value, RecipientRefused)


@pytest.mark.parametrize("step", ["greeting", "EHLO", "MAIL"])
def test_a_refusal_of_us_is_tried_again_and_logged_as_an_error(step: str, caplog: pytest.LogCaptureFixture) -> None:
    """No recipient suffers for what somebody here has to mend."""
    with AnsweringServer(**{step: "554 go away"}) as server, pytest.raises(MailError, match="554 go away") as error:
        send(server.url)
    assert not isinstance(error.value, RecipientRefused)
    assert [(record.levelno, "554 go away" in record.getMessage()) for record in caplog.records] == [
        (logging.ERROR, True)
    ]


def test_a_server_that_knows_no_ehlo_is_greeted_the_old_way() -> None:
    """RFC 5321, 3.2."""
    with AnsweringServer(EHLO="502 what?") as server:
        send(server.url)
        assert len(server.emails) == 1


@pytest.mark.parametrize("takes_all", [True, False])
def test_an_address_in_another_script_needs_a_server_that_takes_it(takes_all: bool) -> None:
    """RFC 6532; without SMTPUTF8 the recipient is refused for good, and the reason says why."""
    with Mailbox(smtputf8=takes_all) as mailbox:
        if takes_all:
            send(mailbox.url, IN_ANOTHER_SCRIPT)
            assert mailbox.recipients == [IN_ANOTHER_SCRIPT]
            assert len(mailbox.emails) == 1
        else:
            with pytest.raises(RecipientRefused, match="SMTPUTF8"):
                send(mailbox.url, IN_ANOTHER_SCRIPT)


@pytest.mark.parametrize(
    ("email", "recipient"),
    [
        ("user@bücher.example", "user@xn--bcher-kva.example"),
        ("=?utf-8?q?x=0d=0a?=@example.com", "=?utf-8?q?x=0d=0a?=@example.com"),
        ("a'b..c@example.com", "a'b..c@example.com"),
    ],
)
def test_the_server_is_told_the_very_recipient(email: str, recipient: str) -> None:
    """An international domain in ASCII, which every server takes; and nothing else is read into an address."""
    with AnsweringServer() as server:
        send(server.url, email)
    assert [line for line in server.said if line.startswith("rcpt")] == [f"rcpt to:<{recipient}>"]


def test_a_sender_in_another_script_is_our_fault(mailbox: Mailbox) -> None:
    """Its server may learn it; no recipient is refused for it."""
    with pytest.raises(MailError, match="SMTPUTF8") as error:
        mailer(mailbox.url, IN_ANOTHER_SCRIPT, io.StringIO()).send(mail_to("n"))
    assert not isinstance(error.value, RecipientRefused)


def test_a_mail_server_that_is_down_or_silent_raises() -> None:
    """Neither holds up the service: the one is refused, the other runs into the timeout."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        with pytest.raises(MailError, match="timed out"):
            SmtpMailer("127.0.0.1", port, SENDER, timeout_seconds=0.05).send(mail_to("学院君"))
    with pytest.raises(MailError, match=re.escape(f"127.0.0.1:{port}")):
        SmtpMailer("127.0.0.1", port, SENDER).send(mail_to("学院君"))


@pytest.mark.parametrize(
    "url",
    [
        "",
        "file:",
        "smtp:",
        "smtp://",
        "smtp://host:port",
        "smtp://host:65536",
        "smtp://user:secret@host",
        "pigeon:loft",
    ],
)
def test_a_mail_url_that_names_no_mailer_is_refused(url: str) -> None:
    """A wrong setting stops the start instead of the first email."""
    with pytest.raises(UnknownMailer, match="smtp://HOST:PORT") as refusal:
        mailer(url, SENDER, io.StringIO())
    assert "secret" not in str(refusal.value)


PRINTER = """
import logging, sys
from email_service.mail import Mail
from email_service.mailers import mailer
logging.basicConfig(level="INFO", format="%(message)s")
for name in ("Ada", "Zoe"):
    mailer("console:", "me@example.com", sys.stdout).send(Mail("<1@x>", name, "x@example.com", "Hello", "Hello"))
"""


@pytest.mark.parametrize(("opened", "why"), [(os.pipe, "Broken pipe"), (pty.openpty, "Input/output error")])
def test_the_console_mailer_outlives_its_terminal(opened: Callable[[], tuple[int, int]], why: str) -> None:
    """The simulated email counts as sent; that nobody sees it is said once, and the exit status is that of success."""
    reader, writer = opened()
    os.close(reader)
    ended = subprocess.run(
        [sys.executable, "-c", PRINTER], stdout=writer, stderr=subprocess.PIPE, text=True, timeout=60, check=False
    )
    os.close(writer)
    assert ended.stderr == f"cannot print ({why}): from now on simulated emails are only in GET /emails\n"
    assert ended.returncode == 0
