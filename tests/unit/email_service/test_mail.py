"""The email on the wire: whoever reads it reads what was written, and nothing else."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import UTC, datetime
from email import message_from_bytes, policy
from email.header import decode_header, make_header
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.events import UserRegistered
from email_service.mail import Mail, compose, on_the_wire, welcome

SENDER = "welcome@example.com"
HEADERS = [
    "Message-ID",
    "Date",
    "From",
    "To",
    "Subject",
    "MIME-Version",
    "Content-Type",
    "Content-Transfer-Encoding",
]
LONGEST_LINE = 998  #: RFC 5322, 2.1.1

#: also the others that are found, whose `email` has other faults
PYTHONS = [Path(sys.executable), *Path("~/.pyenv/versions").expanduser().glob("3.1[1-9].*/bin/python")]

#: What each of them runs: it writes an email to a name and an address, and prints what it reads there.
PROGRAM = """
import sys
from email import message_from_bytes, policy
from email_service.mail import Mail, compose

name, address = sys.argv[1:]
mail = Mail("<1@example.com>", name, address, name, name)
message = message_from_bytes(compose(mail, name + " <w@example.com>"), policy=policy.SMTP)
to, sender = message["To"].addresses[0], message["From"].addresses[0]
found = [to.display_name, to.username, sender.display_name, message["Subject"], message.get_content()]
print(len(message), ascii(found))
"""

#: pieces that somebody may mean to be read as something else
hostile = st.sampled_from(
    ["=?utf-8?q?x=0d=0aReply-To:_evil@evil.example?=", "=?utf-8?b?eA0KDQpib2R5?=", "=?", "?=", "=?utf-8?q?a", "?= =?",
     "=0d=0a", "<", ">", '"', "\\", ",", ";", ":", "@", "(", ")", " ", "  ", ".", "\u2028", "\u202e", "\u200d", "🎉"]
)  # fmt: skip
names = (
    st.lists(hostile | st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=20), min_size=1)
    .map(lambda parts: "".join(parts)[:200])
    .filter(bool)
)
locals_ = st.lists(
    st.sampled_from(["=?utf-8?q?x=0d=0aBcc:?=", "=?", "?=", "a", "=", "?", "_", "!#$%&'*+-/^`{|}~", "."]), min_size=1
).map(lambda parts: "".join(parts)[:60])


def mail_to(name: str, email: str = "x@example.com") -> Mail:
    """The welcome email for somebody of that name."""
    return welcome(UserRegistered("42", name, email, datetime.now(UTC), "event-1"))


def decoded(text: str) -> str:
    """What RFC 2047 makes of a header."""
    return str(make_header(decode_header(text)))


def read(content: bytes) -> dict[str, str]:
    """What a reader makes of it that has nothing in common with our writer: each header, and the text."""
    message = message_from_bytes(content)
    assert message.keys() == HEADERS
    body = message.get_payload(decode=True)
    assert isinstance(body, bytes)
    return {"text": body.decode().replace("\r\n", "\n"), **{key: decoded(value) for key, value in message.items()}}


@given(name=names, local=locals_)
def test_a_name_is_read_as_it_was_written(name: str, local: str) -> None:
    """Header, subject, recipient and text say it, whatever it looks like; and no line is too long."""
    email = f"{local}@example.com"
    content = compose(mail_to(name, email), f"{name.strip() or 'n'} <{SENDER}>")
    found = read(content)
    shown, _, address = found["To"].rpartition(" <")
    assert (shown, address.replace("\\", "").replace('"', "")) == (name, f"{email}>")
    assert found["From"] == f"{name.strip() or 'n'} <{SENDER}>"
    assert found["Subject"] == f"Welcome, {name}!"
    assert found["text"] == f"Dear {name},\n\nyou have signed up with {email}. Welcome!\n"
    assert max(map(len, content.split(b"\r\n"))) <= LONGEST_LINE
    assert b"\n" not in content.replace(b"\r\n", b"")


@given(name=st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=200))
def test_no_control_of_another_publisher_becomes_a_header(name: str) -> None:
    """The user service takes none; here each is a space."""
    found = read(compose(mail_to(name), SENDER))
    assert found["From"] == f"User registration <{SENDER}>"
    assert not any(ord(character) < 32 for character in found["To"])


@pytest.mark.parametrize("name", ["学院君", "Zoë 🎉 O'Brien", '"a", <b@example.com>', "नमस्ते दुनिया " * 12 + "!", "Ada"])
def test_python_itself_reads_names_in_any_script(name: str) -> None:
    """Its newer reader leaves a space between two words of a name, so that a name has one."""
    message = message_from_bytes(compose(mail_to(name), SENDER), policy=policy.SMTP)
    assert message["To"].addresses[0].display_name == name
    assert message["Subject"] == f"Welcome, {name}!"
    assert not message["To"].defects


def test_two_hundred_emoji_are_read_without_a_space() -> None:
    """They do not fit into one line: whoever reads as RFC 2047 has it, 6.2, does not see where they were parted."""
    assert read(compose(mail_to("🎉" * 200), SENDER))["To"] == f"{'🎉' * 200} <x@example.com>"


def test_what_needs_no_encoding_has_none() -> None:
    """A learner reads the email in a pager."""
    content = compose(mail_to("Ada Lovelace"), SENDER)
    assert b"\r\nTo: Ada Lovelace <x@example.com>\r\nSubject: Welcome, Ada Lovelace!\r\n" in content
    assert b"\r\n\r\nDear Ada Lovelace,\r\n\r\n" in content


@pytest.mark.parametrize("python", PYTHONS, ids=lambda python: python.parts[-3])
@pytest.mark.parametrize(
    "name",
    [
        "=?utf-8?q?x=0d=0aReply-To:_evil@evil.example?=",
        "=?utf-8?b?eA0KDQpib2R5?=",
        "a =?utf-8?q?=0d=0a?= =?utf-8?q?b?=",
    ],
)
def test_no_python_reads_a_name_as_a_header(python: Path, name: str) -> None:
    """Each that is found writes the email with its own library, and reads it with its own library."""
    local = name.replace(" ", "").replace("@", "_").replace(":", "_")
    path = os.pathsep.join([".", *[folder for folder in sys.path if folder.endswith("site-packages")]])
    ended = subprocess.run(
        [python, "-c", PROGRAM, name, f"{local}@example.com"],
        env={"PYTHONPATH": path},
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert (ended.stdout, ended.stderr) == (f"{len(HEADERS)} {[name, local, name, name, name]}\n", "")


def test_an_event_has_one_message_id() -> None:
    """A second email for the same event can be told by its Message-ID."""
    first, second = (read(compose(mail_to("学院君"), SENDER)) for _ in range(2))
    assert first["Message-ID"] == second["Message-ID"] == "<event-1@email-service.example.com>"


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("user@bücher.example", "user@xn--bcher-kva.example"),
        ("user@straße.example", "user@xn--strae-oqa.example"),
        ("用户@例子.广告", "用户@例子.广告"),
        ("user@-ü-.example", "user@-ü-.example"),
        ("A@Example.com", "A@Example.com"),
    ],
)
def test_a_domain_goes_to_servers_in_ascii_where_that_helps(address: str, expected: str) -> None:
    """What no server could take in ASCII stays, and goes where all scripts are taken (RFC 6532)."""
    assert on_the_wire(address) == expected
    assert f"\r\nTo: n <{expected}>\r\n".encode() in compose(mail_to("n", address), SENDER)
