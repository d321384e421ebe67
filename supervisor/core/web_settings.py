"""[web]: what answers over HTTP, the page with the API beside it: where, and by which names; pure.

The daemon heeds nothing of it.
"""

from __future__ import annotations

import re
from typing import Annotated

import msgspec

LISTEN = re.compile(r"(?P<host>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9.-]+):(?P<port>\d{1,5})")
HOST = re.compile(r"(?!-)[A-Za-z0-9-]{1,63}(?:\.[A-Za-z0-9-]{1,63})*")
"""the name of a machine, without a port"""
PORT_MAX = 65_535

Address = Annotated[str, msgspec.Meta(min_length=1, max_length=300)]


class Web(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """[web]: the page, and where it and the API of jobs answer."""

    enabled: bool = True
    """whether `supervisor serve` shows the page"""
    listen: Address = "127.0.0.1:8000"
    """where it answers, with the API; elsewhere than on loopback whoever asks needs a token"""
    hosts: Annotated[tuple[str, ...], msgspec.Meta(max_length=20)] = ()
    """names by which it is reached beside those of this machine, as through a proxy; whoever asks
    needs a token then, too"""

    def __post_init__(self) -> None:
        if not is_address(self.listen):
            raise ValueError(f"web.{NO_ADDRESS}")
        for number, name in enumerate(self.hosts, 1):
            if not HOST.fullmatch(name):
                raise ValueError(
                    f"web.hosts: number {number} is no name of a machine such as box.example.org"
                )


NO_ADDRESS = "listen is no address and port such as 127.0.0.1:8000 or [::1]:8000"


def is_address(listen: str) -> bool:
    """Whether that is a host and a port."""
    found = LISTEN.fullmatch(listen)
    return found is not None and int(found["port"]) <= PORT_MAX


def host_and_port(listen: str) -> tuple[str, int]:
    """Both parts of an address: the host without brackets, and the port."""
    host, _, port = listen.rpartition(":")
    return host.strip("[]"), int(port)
