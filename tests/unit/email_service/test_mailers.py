"""Emails: how they look on the wire, and that each mailer hands them over or raises."""

from __future__ import annotations

import io
import os
import pty
import re
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from email import message_from_bytes
from email.message import EmailMessage
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.events import UserRegistered
from email_service.errors import MailError, UnknownMailer
from email_service.mail import WIRE, Mail, compose, welcome
from email_service.mailers import ConsoleMailer, FileMailer, SmtpMailer, mailer
from tests.servers.mailbox import Mailbox

SENDER = "welcome@example.com"


def mail_to(name: str, email: str = "x@example.com") -> Mail:
    """The welcome email for somebody of that name."""
    return welcome(UserRegistered("42", name, email, datetime.now(UTC), "event-1"))


def parsed(content: bytes) -> EmailMessage:
    """What a mail reader makes of it."""
    return message_from_bytes(content, policy=WIRE)


@pytest.fixture
def mailbox() -> Iterator[Mailbox]:
    """A running mail server."""
    with Mailbox() as running:
        yield running


@given(name=st.text(st.characters(exclude_categories=["Cs"]), min_size=1))
def test_no_name_becomes_a_header_or_another_recipient(name: str) -> None:
    """Whatever somebody calls himself, the email has its six headers and one recipient."""
    message = parsed(compose(mail_to(name), SENDER).as_bytes())
    assert message["To"].addresses[0].addr_spec == "x@example.com"
    assert len(message["To"].addresses) == 1
    assert message.keys()[:5] == ["Message-ID", "Date", "From", "To", "Subject"]
    assert set(message.keys()[5:]) <= {"Content-Type", "Content-Transfer-Encoding", "MIME-Version"}
    assert not message.defects


@pytest.mark.parametrize("name", ["学院君", "Zoë 🎉 O'Brien", '"a", <b@example.com>', "नमस्ते दुनिया " * 12 + "!"])
def test_names_in_any_script_arrive(name: str) -> None:
    """Recipient, subject and text say the name as the user wrote it."""
    message = parsed(compose(mail_to(name), SENDER).as_bytes())
    assert message["To"].addresses[0].display_name == name
    assert message["Subject"] == f"Welcome, {name}!"
    assert f"Dear {name},\n" in message.get_content().replace("\r\n", "\n")


def test_an_address_in_another_script_is_written_as_it_is(mailbox: Mailbox) -> None:
    """RFC 6532; a mail server that cannot take it refuses it."""
    assert "To: n <用户@例子.广告>\r\n".encode() in compose(mail_to("n", "用户@例子.广告"), SENDER).as_bytes()
    with pytest.raises(MailError, match="SMTPUTF8"):
        mailer(mailbox.url, SENDER, io.StringIO()).send(mail_to("n", "用户@例子.广告"))


def test_an_event_has_one_message_id() -> None:
    """A second email for the same event can be told by its Message-ID."""
    first, second = (compose(mail_to("学院君"), SENDER) for _ in range(2))
    assert first["Message-ID"] == second["Message-ID"] == "<event-1@email-service.example.com>"


def test_the_console_mailer_prints_the_tutorials_line() -> None:
    """Exactly as the tutorial prints it, and no terminal obeys a name."""
    out = io.StringIO()
    ConsoleMailer(out).send(mail_to("学院君"))
    ConsoleMailer(out).send(mail_to("a\x1b[2J\r\nb"))
    assert out.getvalue() == "[SENDING A EMAIL TO 学院君...]\n[SENDING A EMAIL TO a [2J  b...]\n"


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


def test_the_smtp_mailer_hands_the_email_to_the_server(mailbox: Mailbox) -> None:
    """As it was written, and once."""
    mailer(mailbox.url, SENDER, io.StringIO()).send(mail_to("学院君", "xueyuanjun@example.com"))
    (email,) = mailbox.emails
    assert email["To"].addresses[0].addr_spec == "xueyuanjun@example.com"
    assert email["Subject"] == "Welcome, 学院君!"


@pytest.mark.parametrize("refusal", ["450 try again later", "550 no such mailbox"])
def test_a_refusal_raises_and_says_why(mailbox: Mailbox, refusal: str) -> None:
    """The broker tries again, and the dead letter's reason is the server's."""
    mailbox.refusal = refusal
    with pytest.raises(MailError, match=refusal[4:]):
        mailer(mailbox.url, SENDER, io.StringIO()).send(mail_to("学院君"))
    assert mailbox.emails == []


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
