"""The job store of a home, for a command: whatever goes wrong with it is told in one line."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Self

from state.jobs import database
from state.jobs.database import NotMigrated, StoreError
from state.jobs.store import JobStore
from state.jobs.tables import Unstorable
from supervisor.core.job_settings import Jobs
from supervisor.errors import SupervisorError
from supervisor.host.home import Home
from supervisor.jobs.remembered import Remembered
from supervisor.jobs.settings import store_url


class Unusable(SupervisorError):
    """The store, or what is to be written to it, as its own error says."""

    def __init__(self, error: StoreError | Unstorable) -> None:
        self.exit_code = error.exit_code
        super().__init__(str(error))


class NoJobs(SupervisorError):
    """Nobody has submitted anything here yet."""

    exit_code = 2

    def __init__(self, shown: str) -> None:
        super().__init__(
            f"there are no jobs yet: {shown} is made with the first one, by "
            "`supervisor jobs submit FILE`"
        )


class TakesNone(SupervisorError):
    """The settings want no jobs here."""

    exit_code = 78  # EX_CONFIG

    def __init__(self) -> None:
        super().__init__("no jobs are taken in here: [jobs] has enabled = false")


@contextlib.contextmanager
def told() -> Iterator[None]:
    """What the store raises in here, as what ends a command in one line."""
    try:
        yield
    except (StoreError, Unstorable) as error:
        raise Unusable(error) from error


class Opened:
    """The job store of a place, as a context manager; it is opened by who needs it first.

    Args:
        jobs: the settings.
        home: the folder of the home.
        here: the folder that a relative path of the settings begins at.
        environment: of this process, which may hold the password of the store.

    Raises:
        NoSecret: the password of the store is not where the settings say.
        Unusable: the address of the store is none.
    """

    def __init__(self, jobs: Jobs, home: Path, here: Path, environment: dict[str, str]) -> None:
        self._jobs, self._home, self._here = jobs, home, here
        self._remembered = Remembered(Home(home))
        with told():
            self._url = store_url(jobs, home, here, environment)
        self._opened: JobStore | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._opened is not None:
            self._opened.close()

    def migrate(self) -> str | None:
        """Make the store, or bring it up to this version; which revision it had before."""
        from state.jobs import migrations  # noqa: PLC0415 - alembic is heavy, and rarely needed

        with told():
            before = migrations.revision(self._url)
            migrations.migrate(self._url)
        return before

    @property
    def shown(self) -> str:
        """Where the store is, without a password."""
        with told(), contextlib.closing(database.Database(self._url)) as one:
            return one.shown

    @property
    def _is_made(self) -> bool:
        """Whether there is a store, as far as a look at the home tells."""
        return self._jobs.database_url is not None or (self._home / database.FILE).exists()

    @property
    def _store(self) -> JobStore:
        if self._opened is None:
            with told():
                try:
                    self._opened = JobStore(self._url)
                except NotMigrated as error:
                    if error.revision is None:
                        raise NoJobs(error.shown) from None
                    raise
        return self._opened
