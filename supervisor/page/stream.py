"""What changes on the page while somebody watches, as one stream of events for each tab.

The page is parts; a part is text that is there to stay, and live texts in it. Every two seconds
one look is made for all who watch, and what has become different is told: the live texts
themselves, or the name of a part that is to be fetched anew. What was told stays known for a while
by its number, so whoever was away for a moment goes on where they were, and whoever was away for
longer fetches all.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from typing import NamedTuple

import anyio.to_thread
import msgspec

from supervisor.access import RIGHTS, Right
from supervisor.page.look import Look, Looks
from supervisor.page.rendering import PARTS, Part, Rendering

TICK_S = 2.0
"""between two looks while somebody watches"""
KEPT = 1000
"""messages that stay known"""
MESSAGE_MAX_BYTES = 2048
"""of live texts in one message"""
STILL_THERE_S = 15.0
"""after so long without news a stream says that it is still there"""
STILL_THERE = b": still there\n\n"
STREAMS_MAX = 50


class _Told(NamedTuple):
    number: int
    content: bytes


class _Channel:
    """What is told to all who may do the same.

    Args:
        right: what they may do.
        rendering: makes parts of a look.
    """

    def __init__(self, right: Right, rendering: Rendering) -> None:
        self._right, self._rendering = right, rendering
        self._lock = threading.Lock()
        self._look: Look | None = None
        self._told: deque[_Told] = deque(maxlen=KEPT)
        self.parts: Mapping[str, Part] = {}
        self.newest = 0
        self.watchers: set[asyncio.Event] = set()

    def bring(self, look: Look) -> tuple[Mapping[str, Part], int]:
        """Bring all up to a look; the parts, and the number of the newest message until then."""
        with self._lock:
            if look is self._look:
                return self.parts, self.newest
            parts = {name: self._rendering.part(name, look, self._right) for name in PARTS}
            self._look, before, self.parts = look, self.parts, parts
            if before:
                for content in _news(before, parts):
                    self.newest += 1
                    self._told.append(_Told(self.newest, content))
            return parts, self.newest

    def since(self, number: int) -> list[_Told] | None:
        """What was told after a message; None: that is not known any more."""
        with self._lock:
            oldest = self._told[0].number if self._told else self.newest + 1
            if not oldest - 1 <= number <= self.newest:
                return None
            return [one for one in self._told if one.number > number]


class Stream:
    """What changes, for all who watch.

    Args:
        looks: at the home.
        rendering: makes parts of a look.
    """

    def __init__(self, looks: Looks, rendering: Rendering) -> None:
        self._looks = looks
        self._channels = {right: _Channel(right, rendering) for right in RIGHTS}
        self._began = secrets.token_hex(4)
        """tells the numbers of this server from those of another one"""
        self._ticking: asyncio.Task[None] | None = None

    @property
    def is_full(self) -> bool:
        """Whether as many watch as may."""
        return sum(len(one.watchers) for one in self._channels.values()) >= STREAMS_MAX

    async def now(self, right: Right) -> tuple[Look, Mapping[str, Part], str]:
        """The present: a look, its parts, and by which name a stream goes on from here."""
        look, (parts, number) = await anyio.to_thread.run_sync(self._bring, right)
        self._wake(right)
        return look, parts, f"{self._began}.{number}"

    async def follow(
        self, right: Right, seen: str, may: Callable[[], bool]
    ) -> AsyncIterator[bytes]:
        """What changes from now on, until nobody listens or may listen any more.

        Args:
            right: what whoever watches may do.
            seen: what they have, as its name says; any other text: nothing that is known here.
            may: whether they still may.
        """
        channel = self._channels[right]
        began, _, text = seen.partition(".")
        known = began == self._began and text.isascii() and text.isdigit() and len(text) < 19
        number = int(text) if known else -1
        with self._watching(channel) as changed:
            yield b"retry: 2000\n\n"
            while may():
                told = channel.since(number)
                if told is None:
                    number = channel.newest
                    yield self._message(number, b"event: reload\ndata: 1\n")
                for one in told or ():
                    number = one.number
                    yield self._message(number, one.content)
                with anyio.move_on_after(STILL_THERE_S) as waited:
                    await changed.wait()
                    changed.clear()
                if waited.cancelled_caught:
                    yield STILL_THERE

    def _message(self, number: int, content: bytes) -> bytes:
        return b"id: %s.%d\n%s\n" % (self._began.encode(), number, content)

    @contextlib.contextmanager
    def _watching(self, channel: _Channel) -> Iterator[asyncio.Event]:
        changed = asyncio.Event()
        channel.watchers.add(changed)
        if self._ticking is None:
            self._ticking = asyncio.create_task(self._tick())
        try:
            yield changed
        finally:
            channel.watchers.discard(changed)

    async def _tick(self) -> None:
        """Look every two seconds for as long as somebody watches."""
        try:
            while watched := [one for one, its in self._channels.items() if its.watchers]:
                for right in watched:
                    # Whatever cannot be read now may be read in a moment, and is told to who asks.
                    with contextlib.suppress(Exception):
                        await self.now(right)
                await asyncio.sleep(TICK_S)
        finally:
            self._ticking = None

    def _bring(self, right: Right) -> tuple[Look, tuple[Mapping[str, Part], int]]:
        look = self._looks.look()
        return look, self._channels[right].bring(look)

    def _wake(self, right: Right) -> None:
        for changed in self._channels[right].watchers:
            changed.set()


def _news(before: Mapping[str, Part], now: Mapping[str, Part]) -> Iterator[bytes]:
    """What whoever has the parts from before needs to have those of now."""
    live: dict[str, str] = {}
    for name, part in now.items():
        if part.skeleton != before[name].skeleton:
            yield b"event: part\ndata: %s\n" % msgspec.json.encode(name)
            continue
        known = before[name].live
        live |= {key: text for key, text in part.live.items() if known.get(key) != text}
    piece: dict[str, str] = {}
    size_bytes = 2
    for key, text in live.items():
        more_bytes = len(msgspec.json.encode({key: text}))
        if piece and size_bytes + more_bytes > MESSAGE_MAX_BYTES:
            yield _values(piece)
            piece, size_bytes = {}, 2
        piece[key] = text
        size_bytes += more_bytes
    if piece:
        yield _values(piece)


def _values(live: dict[str, str]) -> bytes:
    return b"event: values\ndata: %s\n" % msgspec.json.encode(live)
