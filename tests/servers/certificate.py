"""A certificate for `localhost` that nobody vouches for, for servers that speak TLS."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from tests.servers.process import missing


def make_certificate(certificate: Path, key: Path) -> None:
    """Both as PEM files; without openssl, the test is `missing` it."""
    if shutil.which("openssl") is None:
        missing("openssl is not installed; try: apt-get install openssl")
    subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    files = ["-keyout", str(key), "-out", str(certificate)]
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", *subject, *files]
    subprocess.run(command, check=True, capture_output=True)
