"""Messages to systemd: ready, alive, stopping; without systemd they do nothing."""

from __future__ import annotations

import os
import socket
from contextlib import suppress


def notify(state: str) -> None:
    """Send a state such as ``READY=1`` to the service manager that started this process, if there is one."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if address[:1] in ("/", "@"):
        # A service manager that has ended or does not listen must not harm the stream.
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.settimeout(1.0)
            sender.sendto(state.encode(), b"\0" + address[1:].encode() if address[0] == "@" else address)


def watchdog_s() -> float | None:
    """Return the interval in seconds at which the service manager expects ``WATCHDOG=1``; None if it does not."""
    for_us = os.environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
    microseconds = os.environ.get("WATCHDOG_USEC", "")
    return int(microseconds) / 1e6 if for_us and microseconds.isdecimal() else None
