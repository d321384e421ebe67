"""The API of jobs as one thing: opened with its store, heeding changed settings, closed."""

from __future__ import annotations

import os
from typing import Self

from starlette.types import ASGIApp

from state.jobs.store import JobStore
from supervisor.config import Config
from supervisor.core.settings import Settings
from supervisor.host.clock import SystemClock
from supervisor.host.home import Home
from supervisor.jobs.opened import told
from supervisor.jobs.settings import store_url
from supervisor.web.app import application
from supervisor.web.jobs import BASE
from supervisor.web.on_page import JobsOnPage
from supervisor.web.service import Service


class Api:
    """The API, as a context manager that closes its store.

    Args:
        home: whose.
        config: its settings, for the folder that their paths begin at.
        asked: its settings as they are to be here.

    Raises:
        Unusable: the job store does not serve.
        NoSecret: a token or a password is not where the settings say.
        SharedTables: two tenants could read each other's tables.
    """

    def __init__(self, home: Home, config: Config, asked: Settings) -> None:
        with told():
            self._store = JobStore(store_url(asked.jobs, home.path, config.here, os.environ))
        try:
            self.service = Service(self._store, asked, home, SystemClock(), here=config.here)
        except BaseException:
            self._store.close()
            raise
        self.app: ASGIApp = application(self.service)
        self.on_page = JobsOnPage(self.service)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._store.close()

    @property
    def base(self) -> str:
        """How the paths of all its jobs begin."""
        return BASE

    @property
    def shown(self) -> str:
        """Where the store is, without a password."""
        return self._store.shown

    def heed(self, settings: Settings) -> bool:
        """Have these settings in force; whether they ask for something else of jobs.

        Raises:
            NoSecret: a token is not where they say; nothing has changed.
            SharedTables: two tenants could read each other's tables; nothing has changed.
        """
        return self.service.heed(settings)

    def answers(self, path: str) -> bool:
        """Whether a path is one of the API, or of nothing, as of who wants a tunnel."""
        ours = path in OWN or path == BASE or path.startswith(f"{BASE}/")
        return ours or not path.startswith("/")


OWN = ("/health", "/openapi.json")
"""paths of the API that do not begin like all others"""
