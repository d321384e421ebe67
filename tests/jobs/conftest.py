"""A fresh job store for each test, of SQLite or of a PostgreSQL that all tests share."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from state.jobs.database import url_of_home
from state.jobs.migrations import migrate
from state.jobs.store import JobStore
from testkit.postgresql import Server, schema_of

KINDS = ("sqlite", "postgresql")


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    one = Server()
    yield one
    one.remove()


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
    return schema_of(request.getfixturevalue("server"))


@pytest.fixture
def url(empty: str) -> str:
    """The URL of a store that holds nothing."""
    migrate(empty)
    return empty


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
