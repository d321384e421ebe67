"""What every answer is made from: the store, the settings, the home, and threads to ask them in."""

from __future__ import annotations

import functools
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple, ParamSpec, TypeVar

import anyio
import anyio.to_thread
from anyio import CapacityLimiter

from state.jobs.store import JobStore
from supervisor.core.fairness import Quota
from supervisor.core.settings import Settings
from supervisor.host.clock import Clock
from supervisor.host.home import Home
from supervisor.jobs.errors import Busy
from supervisor.jobs.remembered import Remembered
from supervisor.jobs.rows import Look, Unread
from supervisor.jobs.settings import Tokens, quotas_of, tenant_of, tenants_of
from supervisor.jobs.tenants import Tenant
from trainers.contract import Name, Rows, Spec, Unfit

THREADS = 4
"""that ask the store and files at once; whoever comes then waits"""
WAITING_MAX = 200
"""requests that wait for these; a further one is refused, as where the store does not answer"""
JUDGES = 2
"""requests that trainers look at at once: each may take a process, and 20 seconds"""
JUDGED_WAITING_MAX = 32
"""requests that wait for these; a further one is refused"""
LOOKS = 2
"""trainers that look at rows at once: each may take a processor, and as long as a look may last"""
STREAMS_MAX = 200
"""answers that go on and on"""
AGAIN_S = 5.0
"""after which whoever was refused for these may come again"""

P = ParamSpec("P")
T = TypeVar("T")


class _InForce(NamedTuple):
    """What the settings ask for, exchanged as a whole."""

    settings: Settings
    tokens: Tokens
    quotas: dict[Name, Quota]


class Service:
    """What the handlers share.

    Args:
        store: the job store.
        settings: of the home.
        home: where runs and their outputs lie.
        clock: of this machine.
        here: the folder that a relative path of the settings begins at; None: the home.
        environment: which may hold tokens; None: that of this process.

    Raises:
        NoSecret: a token is not where the settings say.
        SharedTables: two tenants could read each other's tables.
    """

    def __init__(
        self,
        store: JobStore,
        settings: Settings,
        home: Home,
        clock: Clock,
        *,
        here: Path | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.store, self.home, self.clock = store, home, clock
        self.remembered = Remembered(home)
        self._here = here or home.path
        self._environment = os.environ if environment is None else environment
        tenants_of(settings.jobs, home.path, self._here)
        self._in_force = self._asked_by(settings)
        self._threads = CapacityLimiter(THREADS)
        self._judges = CapacityLimiter(JUDGES)
        self._looks: list[Look] = []
        self._looking = CapacityLimiter(LOOKS)
        self._streams = 0

    @property
    def settings(self) -> Settings:
        """Those in force."""
        return self._in_force.settings

    @property
    def tokens(self) -> Tokens:
        """Who bears which token."""
        return self._in_force.tokens

    @property
    def quotas(self) -> dict[Name, Quota]:
        """What the tenants may have that the settings name."""
        return self._in_force.quotas

    def heed(self, settings: Settings) -> bool:
        """Have these settings in force from the next request on, with tokens read anew.

        Returns whether they ask for something else of jobs than those before.

        Raises:
            NoSecret: a token is not where they say; nothing has changed.
            SharedTables: two tenants could read each other's tables; nothing has changed.
        """
        if settings.jobs != self.settings.jobs:
            tenants_of(settings.jobs, self.home.path, self._here)
        before, self._in_force = self._in_force, self._asked_by(settings)
        now = self._in_force
        return (before.settings.jobs, before.tokens) != (now.settings.jobs, now.tokens)

    def _asked_by(self, settings: Settings) -> _InForce:
        tokens = Tokens(settings.jobs, self._here, self._environment)
        return _InForce(settings, tokens, quotas_of(settings.jobs))

    @property
    def now_at(self) -> float:
        """Wall time."""
        return self.clock.read().wall

    def tenant(self, name: str) -> Tenant:
        """A tenant, whether the settings name it or not."""
        return tenant_of(self.settings.jobs, name, self.home.path, self._here)

    async def call(self, act: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Do in a thread what may block.

        Raises:
            Busy: too many wait for that.
        """
        if self._threads.statistics().tasks_waiting >= WAITING_MAX:
            raise Busy("The store", AGAIN_S)
        asked = functools.partial(act, *args, **kwargs)
        return await anyio.to_thread.run_sync(asked, limiter=self._threads)

    async def judge(self, act: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Have a trainer look at a request, in a thread.

        Raises:
            Busy: too many wait for that.
        """
        if self._judges.statistics().tasks_waiting >= JUDGED_WAITING_MAX:
            raise Busy("Whoever judges requests", AGAIN_S)
        asked = functools.partial(act, *args, **kwargs)
        return await anyio.to_thread.run_sync(asked, limiter=self._judges)

    async def look(self, spec: Spec, gone: Callable[[], Awaitable[None]]) -> Rows | Unfit | Unread:
        """Have a trainer look at the rows of a spec, in a process of its own.

        Args:
            spec: what it is asked for.
            gone: waits until nobody wants to know any more; the look ends then.

        Raises:
            Busy: as many are looked at as may be.
        """
        if len(self._looks) >= LOOKS:
            over_s = min(look.until_s for look in self._looks) - time.monotonic()
            raise Busy("Whoever looks at rows", over_s)
        with Look(spec, self.home.path) as look:
            self._looks.append(look)
            try:
                async with anyio.create_task_group() as group:

                    async def leave() -> None:
                        await gone()
                        look.end()

                    group.start_soon(leave)
                    found = await anyio.to_thread.run_sync(
                        look.wait, limiter=self._looking, abandon_on_cancel=True
                    )
                    group.cancel_scope.cancel()
            finally:
                self._looks.remove(look)
        return found

    @asynccontextmanager
    async def streaming(self) -> AsyncIterator[None]:
        """One more answer that goes on and on."""
        self._streams += 1
        try:
            yield
        finally:
            self._streams -= 1

    def see_streams(self) -> None:
        """See that there may be one more answer that goes on and on.

        Raises:
            Busy: there are too many.
        """
        if self._streams >= STREAMS_MAX:
            raise Busy("Whoever follows jobs", AGAIN_S)
