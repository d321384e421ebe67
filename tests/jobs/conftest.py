"""A fresh job store for each test, of SQLite or of a PostgreSQL that all tests share."""

from __future__ import annotations

import contextlib
import itertools
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from state.jobs.database import FILE, url_of_home
from state.jobs.migrations import migrate
from state.jobs.store import JobStore
from supervisor.core.job_settings import Jobs
from supervisor.core.settings import Settings
from supervisor.host.clock import SystemClock
from supervisor.host.home import Home
from supervisor.web.app import application
from supervisor.web.service import Service
from testkit import servers
from testkit.api import TOKENS, Doors
from testkit.servers import Server

KINDS = ("sqlite", "postgresql")
NUMBERS = itertools.count()


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    with servers.postgresql() as one:
        yield one


@pytest.fixture
def home() -> Iterator[Path]:
    """A folder in memory: a kill takes nothing from it, and power cuts are tested apart."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        yield Path(folder)


@pytest.fixture(params=KINDS)
def empty(request: pytest.FixtureRequest, home: Path) -> str:
    """The URL of a place where there is no store yet."""
    if request.param == "sqlite":
        return url_of_home(home)
    server: Server = request.getfixturevalue("server")
    return server.create_schema(f"of_test_{next(NUMBERS)}")


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a store of SQLite that holds nothing; a copy takes less than another one."""
    folder = tmp_path_factory.mktemp("made")
    migrate(url_of_home(folder))
    return folder


@pytest.fixture(scope="session")
def made_there(server: Server) -> str:
    """The name of a database that is a store which holds nothing."""
    migrate(server.create_database("made"))
    return "made"


@pytest.fixture(params=KINDS)
def url(request: pytest.FixtureRequest, home: Path) -> Iterator[str]:
    """The URL of a store that holds nothing."""
    if request.param == "sqlite":
        shutil.copy(request.getfixturevalue("made") / FILE, home)
        yield url_of_home(home)
        return
    template: str = request.getfixturevalue("made_there")
    server: Server = request.getfixturevalue("server")
    name = f"copy_{next(NUMBERS)}"
    yield server.create_database(name, template)
    server.drop_database(name)


@pytest.fixture
def reopened(url: str) -> Iterator[Callable[[], JobStore]]:
    """The same store, as one more process would open it."""
    opened: list[JobStore] = []

    def one_more() -> JobStore:
        opened.append(JobStore(url))
        return opened[-1]

    yield one_more
    for store in opened:
        store.close()


@pytest.fixture
def store(reopened: Callable[[], JobStore]) -> JobStore:
    return reopened()


@pytest.fixture
def place(home: Path) -> Iterator[Home]:
    """A home on which a supervisor runs."""
    place = Home(home)
    place.make()
    with place.taken(SystemClock().read()):
        yield place


@pytest.fixture(scope="session")
def doors() -> Iterator[Doors]:
    doors = Doors()
    yield doors
    doors.close()


@pytest.fixture
def opened(store: JobStore, place: Home, doors: Doors) -> Iterator[Callable[..., httpx.Client]]:
    """A client of the API with some settings."""
    with contextlib.ExitStack() as stack:

        def client(**settings):
            service = Service(
                store, Settings(jobs=Jobs(**settings)), place, SystemClock(), environment=TOKENS
            )
            app = application(service)
            address = stack.enter_context(doors.behind(app))
            return stack.enter_context(httpx.Client(base_url=address, timeout=30))

        yield client


@pytest.fixture
def api(opened: Callable[..., httpx.Client]) -> httpx.Client:
    return opened()
