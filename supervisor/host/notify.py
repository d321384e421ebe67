"""Telling systemd how we are: READY, STATUS, WATCHDOG, STOPPING."""

from __future__ import annotations

import os
import socket


class Notify:
    """The socket that systemd gave us; without one, every call does nothing."""

    def __init__(self) -> None:
        address = os.environ.pop("NOTIFY_SOCKET", "")
        microseconds = os.environ.pop("WATCHDOG_USEC", "")
        self.watchdog_s = int(microseconds) / 1e6 if microseconds.isdigit() else None
        """systemd restarts us when it has heard no WATCHDOG for so long; None: it does not"""
        # An abstract address begins with a NUL byte, which is written as '@'.
        self._address = f"\0{address[1:]}" if address.startswith("@") else address

    def __call__(self, *lines: str) -> None:
        """Send assignments such as `READY=1`. Never raises: nobody may be listening."""
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as wire:
                wire.setblocking(False)
                wire.sendto("\n".join(lines).encode(), self._address)
        except OSError:
            pass
