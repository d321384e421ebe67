"""A line to a server that can be cut, as a tunnel or a restart does it, and be mended."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from urllib.parse import urlsplit

CHUNK_BYTES = 65_536


class Line:
    """Carries connections to a server on this machine, at an address of its own that stays.

    Args:
        address: of the server.
    """

    def __init__(self, address: str) -> None:
        self._server = ("127.0.0.1", urlsplit(address).port or 80)
        self._ends: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._door: socket.socket | None = None
        self._port = 0
        self.mend()
        self.address = f"http://localhost:{self._port}"

    def cut(self) -> None:
        """End every connection; whoever comes meanwhile is refused."""
        with self._lock:
            door, self._door = self._door, None
            ends, self._ends = self._ends, set()
        for one in (*ends, *([door] if door else [])):
            _end(one)

    def mend(self) -> None:
        """Carry connections again."""
        door = socket.create_server(("127.0.0.1", self._port))
        self._port = door.getsockname()[1]
        self._door = door
        threading.Thread(target=self._answer, args=[door], daemon=True).start()

    def _answer(self, door: socket.socket) -> None:
        with contextlib.suppress(OSError):  # it was cut
            while True:
                near, _ = door.accept()
                far = socket.create_connection(self._server)
                with self._lock:
                    if self._door is not door:
                        _end(near)
                        _end(far)
                        return
                    self._ends |= {near, far}
                for one, other in ((near, far), (far, near)):
                    threading.Thread(target=self._carry, args=[one, other], daemon=True).start()

    def _carry(self, one: socket.socket, other: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while said := one.recv(CHUNK_BYTES):
                other.sendall(said)
        _end(one)
        _end(other)
        with self._lock:
            self._ends -= {one, other}


def _end(one: socket.socket) -> None:
    with contextlib.suppress(OSError):
        one.shutdown(socket.SHUT_RDWR)  # wakes whoever waits in it
    one.close()


@contextlib.contextmanager
def line_to(address: str) -> Iterator[Line]:
    """A line to that server, for a while."""
    line = Line(address)
    try:
        yield line
    finally:
        line.cut()
