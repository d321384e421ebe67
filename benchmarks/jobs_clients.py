"""Clients of the API of jobs, for `benchmarks/jobs.py`: a program of its own, with Python alone.

    python jobs_clients.py PORT WARM_S FOR_S < what.json

Twenty clients, each with a connection of its own and five requests a second, which are due at
moments that no answer moves. What an answer took is counted from when its request was *due*: a
server that stands still for a second has made a hundred requests wait, and not twenty.
"""

from __future__ import annotations

import asyncio
import gc
import json
import random
import sys
import time
from collections.abc import Callable
from typing import Any, NamedTuple

CLIENTS = 20
REQUESTS_PER_S = 5.0
"""of each client"""
BASE = "/ai/training"
MIXTURE = {
    "get": 38,
    "list, next page": 10,
    "list, page number": 6,
    "metrics": 10,
    "history": 5,
    "why": 10,
    "stats": 6,
    "health": 6,
    "usage": 4,
    "create": 5,
}
"""of a hundred requests"""
PAGES = 20
"""pages of a list are asked for by number up to this one"""


class Took(NamedTuple):
    """One request."""

    kind: str
    ms: float
    """from when it was due to the last byte of its answer"""
    sent_late_ms: float
    """how much of that had gone before it was sent: what the clients cost, and answers before"""
    status: int


class Client:
    """One client.

    Args:
        port: of the API.
        chance: what it asks for, and when.
        what: jobs that there are, and a body.
    """

    def __init__(self, port: int, chance: random.Random, what: dict[str, Any]) -> None:
        self._port, self._chance, self._what = port, chance, what
        self._after: str | None = None
        self.took: list[Took] = []

    async def ask_until(self, begin_at: float, warm_at: float, end_at: float) -> None:
        """Ask; what is due before `warm_at` is not counted."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        kinds, weights = list(MIXTURE), list(MIXTURE.values())
        due_at = begin_at
        while (due_at := due_at + self._chance.expovariate(REQUESTS_PER_S)) < end_at:
            await asyncio.sleep(due_at - time.monotonic())
            kind = self._chance.choices(kinds, weights)[0]
            sent_at = time.monotonic()
            writer.write(self._request(kind))
            status, body = await _answer(reader)
            now_at = time.monotonic()
            if kind == "list, next page" and status == 200:
                self._after = json.loads(body)["next"]
            if due_at >= warm_at:
                late_ms = 1000 * (sent_at - due_at)
                self.took.append(Took(kind, 1000 * (now_at - due_at), late_ms, status))
        writer.close()

    def _request(self, kind: str) -> bytes:
        waiting = self._chance.choice(self._what["waiting"])
        ended = self._chance.choice(self._what["ended"])
        after = "" if self._after is None else f"&after={self._after}"
        paths: dict[str, Callable[[], str]] = {
            "get": lambda: f"/jobs/{self._chance.choice([waiting, ended])}",
            "list, next page": lambda: f"/jobs?limit=50{after}",
            "list, page number": lambda: (
                f"/jobs?page_size=50&page={self._chance.randint(1, PAGES)}"
            ),
            "metrics": lambda: f"/jobs/{ended}/metrics",
            "history": lambda: f"/jobs/{ended}/metrics/history",
            "why": lambda: f"/jobs/{waiting}/why",
            "stats": lambda: "/stats",
            "health": lambda: "/health",
            "usage": lambda: f"/tenants/{self._what['tenant']}/usage",
            "create": lambda: "/jobs",
        }
        head = f"{BASE}{paths[kind]()} HTTP/1.1\r\nHost: localhost\r\n"
        if kind != "create":
            return f"GET {head}\r\n".encode()
        body = json.dumps(self._what["body"]).encode()
        more = f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        return f"POST {head}{more}".encode() + body


async def _answer(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    """The status and the body of an answer."""
    head = await reader.readuntil(b"\r\n\r\n")
    first, *lines = head.decode("ascii").lower().split("\r\n")
    fields = dict(line.split(": ", 1) for line in lines if line)
    return int(first.split()[1]), await reader.readexactly(int(fields["content-length"]))


async def _ask(port: int, warm_s: float, for_s: float, what: dict[str, Any]) -> dict[str, Any]:
    clients = [Client(port, random.Random(number), what) for number in range(CLIENTS)]  # noqa: S311 - to be asked again, not to be secret
    begin_at = time.monotonic()
    warm_at = begin_at + warm_s
    await asyncio.gather(*(one.ask_until(begin_at, warm_at, warm_at + for_s) for one in clients))
    took = [one for client in clients for one in client.took]
    return {"took": took, "processor": time.process_time() / (time.monotonic() - begin_at)}


def main() -> None:
    """Ask, and print what it took as JSON."""
    what = json.load(sys.stdin)
    gc.freeze()  # a collection of what was read is no part of an answer
    print(json.dumps(asyncio.run(_ask(int(sys.argv[1]), *map(float, sys.argv[2:]), what))))


if __name__ == "__main__":
    main()
