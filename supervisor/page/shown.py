"""The page as one thing: made from a home and its settings, heeding changed ones."""

from __future__ import annotations

import hashlib

from starlette.types import ASGIApp

from supervisor.access import Access
from supervisor.core.settings import Settings
from supervisor.host.clock import SystemClock
from supervisor.host.home import Home
from supervisor.page import static
from supervisor.page.app import Application
from supervisor.page.asking import Asking
from supervisor.page.look import ConfigOrWhy, Looks
from supervisor.page.pages import Pages
from supervisor.page.queue import Jobs
from supervisor.page.rendering import Rendering
from supervisor.page.stream import Stream

COOKIE_DIGITS = 8


class Page:
    """The page of a home.

    Args:
        home: which.
        read: its settings and modes as they are, or why they cannot be read.
        asked: its settings as they are to be here.
        jobs: whoever takes jobs in; None: nobody does.
    """

    def __init__(self, home: Home, read: ConfigOrWhy, asked: Settings, jobs: Jobs | None) -> None:
        clock = SystemClock()
        self._access = Access(home, clock, asked)
        rendering = Rendering(static.addresses().__getitem__)
        looks = Looks(home, read, clock, jobs)
        cookie = hashlib.sha256(str(home.path).encode()).hexdigest()[:COOKIE_DIGITS]
        self.app: ASGIApp = Application(
            Pages(home, rendering, clock, looks.series, jobs),
            Stream(looks, rendering),
            Asking(home, clock, jobs),
            self._access,
            f"supervisor_{cookie}",
        )

    @property
    def how_to_enter(self) -> str:
        """What whoever would look has to know beside the address."""
        if not self._access.guarded:
            return ""
        return ", for whoever has a link: `supervisor serve --link` prints one"

    def heed(self, settings: Settings) -> None:
        """Have these settings in force from the next request on."""
        self._access.heed(settings)
