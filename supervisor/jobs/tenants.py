"""What a tenant may ask for: its own tables, and programs only where it is trusted with all.

Who may have a program started may do whatever this account may. So may who can have code imported,
or a place opened that somebody else has named. `programs` is that trust, and nothing is between.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from supervisor.jobs.errors import ConfigValidationError, Forbidden
from supervisor.jobs.reading import problem
from trainers.contract import Name

TABLE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*(?:/[A-Za-z0-9_][A-Za-z0-9_.-]*)*")
"""how a table in a tenant's folder is named: no part of it leads out"""
DATA = "data"
"""option of trainers of tables: where the table lies"""
TABLE_LABEL = "table"
"""label of a run: the table that it learns from, as its tenant calls it"""
TABLE_MAX_CHARS = 200
SUFFIXES = ("", ".parquet", ".csv")
"""with which a table may lie there, as the trainers look for it"""
ENTRIES_MAX = 10_000
"""of a folder that is one table"""
URL_WITH_PASSWORD = re.compile(
    r"://[^:/]*:[^@]*@|[?&;][^=&;]*(?:password|passwd|pwd)[^=&;]*=", re.IGNORECASE
)
"""as SQLAlchemy reads a URL: between a name and an @, or as one of its parameters"""
TOLD_TO_ALL = (
    "Must have no password in it, since whoever sees the job would see that: ~/.pgpass of the "
    "account that trains is read instead"
)
NO_PLACES = frozenset({"zone", "time", "target", "labels", "features", "allow_leakage"})
"""options whose slashes lead nowhere: a zone, and names of columns"""
PLACES = frozenset({"featurePath", "metaPath", "zoo"})
"""options, at any depth, that name a place by any word: one in the home, such as `tables`"""
RUN_CODE = frozenset({"preprocess"})
"""options that name a function"""


class Database(msgspec.Struct, frozen=True, kw_only=True):
    """Where tables lie whose rows are of several tenants."""

    url: str
    """without a password"""
    column: str
    """of each table: whose the row is, by the tenant's id"""


class Tenant(msgspec.Struct, frozen=True, kw_only=True):
    """Somebody for whom is trained."""

    id: Name
    tables: Path
    """the folder that its tables lie in; no other tenant's lies within"""
    database: Database | None = None
    """where those lie that are no files in that folder; None: nowhere"""
    programs: bool = False
    """whether it has all rights of this account"""

    def source(self, name: str, field: str) -> dict[str, Any]:
        """The options that tell a trainer where a table lies; it tells whether it is there.

        A file in the tenant's folder goes before a table of the database that is called so.

        Args:
            name: within the tenant's folder; with `programs` a whole path or a URL, too.
            field: where that name stands in the request.

        Raises:
            Forbidden: it is a place that this tenant may not name.
            ConfigValidationError: it is no name of a table, or leads out by a link.
        """
        if "://" in name or name.startswith("/"):
            if not self.programs:
                raise Forbidden(field, "names a place outside of the tenant's folder", self.id)
            if URL_WITH_PASSWORD.search(name):
                raise ConfigValidationError([problem(field, TOLD_TO_ALL)])
            return {DATA: name}
        if not TABLE.fullmatch(name) or ".." in name or len(name) > TABLE_MAX_CHARS:
            what = "Must be the name of a table in the tenant's folder, such as sales/load_2024"
            raise ConfigValidationError([problem(field, what)])
        place = self.tables
        files: list[Path] = []
        for part in name.split("/"):
            place = place / part
            files = [place.with_name(place.name + suffix) for suffix in SUFFIXES]
            if any(_is_link(file) for file in files):
                what = f"Must be no link, and {part} is one"
                raise ConfigValidationError([problem(field, what)])
        if _has_links(place):
            raise ConfigValidationError([problem(field, "Must have no links in it")])
        if self.database is None or "/" in name or any(os.path.lexists(file) for file in files):
            return {DATA: str(place)}
        only = {self.database.column: self.id}
        return {DATA: self.database.url, "table": name, "only": only}

    def allow(self, trainer: str, options: Mapping[str, Any], *, ours: bool) -> None:
        """See that a tenant may ask for this.

        Args:
            trainer: by its name.
            options: as they came, without the table.
            ours: it is one of the supervisor's own, whose options are known here.

        Raises:
            Forbidden: it may not.
        """
        if self.programs:
            return
        if trainer == "command":
            raise Forbidden("trainer", "starts a program", self.id)
        if not ours:
            raise Forbidden("trainer", "has options that nobody here knows", self.id)
        for option, value in options.items():
            if option in RUN_CODE:
                raise Forbidden(f"options.{option}", "calls a function", self.id)
            if option in NO_PLACES:
                continue
            for path, text in _texts(f"options.{option}", value):
                named = path.rpartition(".")[2] in PLACES
                if named or "/" in text or "\\" in text or text.startswith(("~", "..")):
                    raise Forbidden(path, "names a place", self.id)
                if option == "env" and ":" in text:
                    raise Forbidden(path, "imports a package", self.id)


def _texts(path: str, value: Any) -> Iterator[tuple[str, str]]:
    """All texts in a value, keys too, and where they stand."""
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, dict):
        for key, one in value.items():
            yield path, key
            yield from _texts(f"{path}.{key}", one)
    elif isinstance(value, list | tuple):
        for place, one in enumerate(value):
            yield from _texts(f"{path}[{place}]", one)


def _is_link(path: Path) -> bool:
    try:
        return stat.S_ISLNK(path.lstat().st_mode)
    except OSError:
        return False  # not there: the trainer says so


def _has_links(folder: Path) -> bool:
    """Whether an entry of a folder leads elsewhere; nothing is looked at within."""
    try:
        with os.scandir(folder) as entries:
            return any(
                entry.is_symlink() or place >= ENTRIES_MAX for place, entry in enumerate(entries)
            )
    except OSError:
        return False  # a file, or not there
