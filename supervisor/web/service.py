"""What every answer is made from: the store, the settings, the home, and threads to ask them in."""

from __future__ import annotations

import functools
import os
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import NamedTuple, ParamSpec, TypeVar

import anyio
import anyio.to_thread
from anyio import CapacityLimiter

from state.jobs.store import JobStore
from supervisor.access import Access
from supervisor.core.fairness import Quota
from supervisor.core.settings import Settings
from supervisor.host.clock import Clock
from supervisor.host.home import Home
from supervisor.jobs.errors import Busy
from supervisor.jobs.line import Line
from supervisor.jobs.remembered import Remembered
from supervisor.jobs.rows import LOOK_MAX_S, Look, Unread
from supervisor.jobs.settings import Tokens, quotas_of, tenant_of, tenants_of
from supervisor.jobs.tenants import Tenant
from supervisor.web.seats import Seat, Seats
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
        self.access = Access(home, clock, settings)
        """who may ask for all tenants"""
        self.remembered = Remembered(home)
        self.line = Line(store, lambda: self.settings, self.remembered, clock)
        self._here = here or home.path
        self._environment = os.environ if environment is None else environment
        tenants_of(settings.jobs, home.path, self._here)
        self._in_force = self._asked_by(settings)
        self._threads = CapacityLimiter(THREADS)
        self._judges = CapacityLimiter(JUDGES)
        self._judged = Seats(
            "judged", "Whoever judges requests", JUDGES + JUDGED_WAITING_MAX, AGAIN_S
        )
        self._looking = CapacityLimiter(LOOKS)
        self._looks = Seats("looks", "Whoever looks at rows", LOOKS, AGAIN_S, LOOK_MAX_S)
        self._streams = Seats("streams", "Whoever follows jobs", STREAMS_MAX, AGAIN_S)

    @property
    def settings(self) -> Settings:
        """Those in force."""
        return self._in_force.settings

    @property
    def tokens(self) -> Tokens:
        """Who bears which token."""
        return self._in_force.tokens

    @property
    def guarded(self) -> bool:
        """Whether each request has to bear a token: a tenant's, or the operator's."""
        return self.access.guarded

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
        self.access.heed(settings)
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

    async def judge(self, tenant: Name | None, act: Callable[[], T]) -> T:
        """Have a trainer look at a request of a tenant, in a thread.

        Raises:
            QuotaExceeded: as many of this tenant wait for that as may.
            Busy: too many wait for that.
        """
        with self._judged.take(tenant, shared=self._is_shared):
            return await anyio.to_thread.run_sync(act, limiter=self._judges)

    async def look(
        self, tenant: Name | None, spec: Spec, gone: Callable[[], Awaitable[None]]
    ) -> Rows | Unfit | Unread:
        """Have a trainer look at the rows of a spec, in a process of its own.

        Args:
            tenant: who asks for it; None: the operator.
            spec: what it is asked for.
            gone: waits until nobody wants to know any more; the look ends then.

        Raises:
            QuotaExceeded: as many are looked at for this tenant as may be.
            Busy: as many are looked at as may be.
        """
        seat = self._looks.take(tenant, shared=self._is_shared)
        with seat, Look(spec, self.home.path) as look:
            async with anyio.create_task_group() as group:

                async def leave() -> None:
                    await gone()
                    look.end()

                group.start_soon(leave)
                found = await anyio.to_thread.run_sync(
                    look.wait, limiter=self._looking, abandon_on_cancel=True
                )
                group.cancel_scope.cancel()
        return found

    def streaming(self, tenant: Name | None) -> Seat:
        """Have room for one more answer that goes on and on, until that is left.

        Raises:
            QuotaExceeded: this tenant has as many as it may have.
            Busy: there are too many.
        """
        return self._streams.take(tenant, shared=self._is_shared)

    @property
    def _is_shared(self) -> bool:
        return len(self.tokens) > 1
