"""The API for a test, served on a free port as `supervisor serve` does it."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator

from supervisor.web.server import server
from testkit.patience import until

TOKENS = {"ACME": "a" * 32, "OTHER": "b" * 32}
"""in the environment of a server"""


@contextlib.contextmanager
def served(app) -> Iterator[str]:
    """The address at which it answers."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        port = listening.getsockname()[1]
        one = server(app)
        thread = threading.Thread(target=one.run, kwargs={"sockets": [listening]}, daemon=True)
        thread.start()
        try:
            until(lambda: one.started, "the server has started")
            yield f"http://localhost:{port}"
        finally:
            one.should_exit = True
            thread.join()


class Doors:
    """Servers that stay, each with whatever application is behind its door now.

    To start one takes longer than most tests.
    """

    def __init__(self) -> None:
        self._open = contextlib.ExitStack()
        self._free: list[tuple[str, list]] = []

    @contextlib.contextmanager
    def behind(self, app) -> Iterator[str]:
        """The address at which it answers."""
        if not self._free:
            current: list = []

            async def door(scope, receive, send):
                await current[0](scope, receive, send)

            self._free.append((self._open.enter_context(served(door)), current))
        address, current = self._free.pop()
        current[:] = [app]
        try:
            yield address
        finally:
            self._free.append((address, current))

    def close(self) -> None:
        """Stop them all."""
        self._open.close()
