"""A mail server that takes its time over each email.

    python -m benchmarks.slow_mail SECONDS

It prints its URL, and ends when its standard input does.
"""

from __future__ import annotations

import asyncio
import sys

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session

from demo.processes import free_ports


class Slow:
    """Takes every email, after a while."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    async def handle_DATA(self, _: SMTP, __: Session, ___: Envelope) -> str:  # noqa: N802  # aiosmtpd calls it so
        """Keep nothing."""
        await asyncio.sleep(self._seconds)
        return "250 accepted"


def main() -> None:
    """Serve."""
    controller = Controller(Slow(float(sys.argv[1])), hostname="127.0.0.1", port=free_ports(0)[0])
    controller.start()
    print(f"smtp://{controller.hostname}:{controller.port}", flush=True)
    sys.stdin.read()
    controller.stop()


if __name__ == "__main__":
    main()
