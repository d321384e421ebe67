"""Who waits for something to happen to a job hears of it: one look at the store for all of them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator

import anyio

from state.jobs.database import StoreError
from supervisor.jobs.errors import Busy
from supervisor.web.service import Service

LOOK_S = 0.25
AWAY_S = 2.0
"""until the next look at a store that did not serve"""
EVENTS_AT_ONCE = 1000


class Watch:
    """One who waits.

    Args:
        see: raises where they may be told no more.
    """

    def __init__(self, see: Callable[[], None]) -> None:
        self._see = see
        self._told = asyncio.Event()

    def tell(self) -> None:
        """Say that something may have happened."""
        self._told.set()

    async def wait(self, wait_s: float) -> bool:
        """Wait until something may have happened since the last time; False: it took too long.

        Raises:
            Unauthorized: whoever waits may be told no more, which they hear at once.
        """
        with anyio.move_on_after(wait_s):
            await self._told.wait()
            self._told.clear()
            self._see()
            return True
        return False


class Feed:
    """Looks at what happens while somebody waits for it.

    Args:
        service: whose store it is.
    """

    def __init__(self, service: Service) -> None:
        self._service = service
        self._watches: dict[str, set[Watch]] = {}
        self._looking: asyncio.Task[None] | None = None

    @contextlib.contextmanager
    def watching(self, job_id: str, see: Callable[[], None]) -> Iterator[Watch]:
        """Be told of a job: who reads it in here, and then waits, misses nothing.

        Args:
            job_id: which job.
            see: raises where whoever waits may be told no more; asked again with other tokens.
        """
        watch = Watch(see)
        self._watches.setdefault(job_id, set()).add(watch)
        if self._looking is None:
            self._looking = asyncio.create_task(self._look())
        try:
            yield watch
        finally:
            watches = self._watches[job_id]
            watches.discard(watch)
            if not watches:
                del self._watches[job_id]

    async def _look(self) -> None:
        try:
            seen: int | None = None
            tokens = self._service.tokens
            while self._watches:
                if self._service.tokens != tokens:
                    tokens = self._service.tokens
                    self._tell_all()
                try:
                    seen = await self._news(seen)
                except (StoreError, Busy):
                    await asyncio.sleep(AWAY_S)
                else:
                    await asyncio.sleep(LOOK_S)
        finally:
            self._looking = None

    async def _news(self, seen: int | None) -> int:
        """Tell what is new; the number of the newest event."""
        service = self._service
        if seen is None:
            newest = await service.call(service.store.newest)
            # Whoever has read before this look may have missed what came until now.
            self._tell_all()
            return newest
        while events := await service.call(service.store.events, seen, limit=EVENTS_AT_ONCE):
            seen = events[-1].sequence
            for job_id in {event.job_id for event in events}:
                for watch in self._watches.get(job_id, ()):
                    watch.tell()
            if len(events) < EVENTS_AT_ONCE:
                break
        return seen

    def _tell_all(self) -> None:
        for watches in self._watches.values():
            for watch in watches:
                watch.tell()
