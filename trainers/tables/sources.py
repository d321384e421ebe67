"""Where rows come from: Parquet and CSV files, folders of them, and tables of databases by URL."""

from __future__ import annotations

import difflib
import re
import sqlite3
from abc import abstractmethod
from collections.abc import Callable, Iterable
from datetime import date, datetime
from decimal import Decimal
from itertools import islice
from pathlib import Path
from typing import Any, Literal, Protocol, TypeVar
from urllib.parse import quote

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from trainers.contract import RowRemark
from trainers.tables.config import Config
from trainers.tables.errors import ConfigValidationError, DataLoadError, SourceAway
from trainers.tables.times import instants, zone_of

_CSV_COLUMN = re.compile(r"In CSV column #([0-9]+)")
"""as Arrow tells where a value is none of its column's kind, counted from 0"""

SUFFIXES = (".parquet", ".csv")
BETWEEN = {";": "semicolons", "\t": "tabs", "|": "bars"}
"""what others write between columns"""
UTF_16 = (b"\xff\xfe", b"\xfe\xff")
ROWS_AT_ONCE = 50_000
"""that are fetched from a database"""
CSV_ROW_MIN_BYTES = 2
POSTGRESQL = {
    "connect_timeout": 10,
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 60_000,
}
"""what its driver is told where the URL says nothing: by seconds, the last by milliseconds, after
which a server that is silent or gone is given up"""
SECRET = re.compile(r"pass(?!file)", re.IGNORECASE)
"""in the name of a part of a URL that is never told; where a password lies is no secret"""
TO_THE_LETTER = {"postgresql": "C", "sqlite": "BINARY"}
"""databases, and their collation by which texts are equal that have the same letters, and no
others; a column's own may take `Acme` for `acme`"""

T = TypeVar("T")
Kind = Literal["time", "number", "text", "other"]


class Source(Protocol):
    """A table that can be looked at before it is read."""

    where: str
    """where it lies, for people; without a password"""

    @abstractmethod
    def remarks(self) -> list[RowRemark]:
        """What a person should know of how it lies there."""

    @abstractmethod
    def kinds(self) -> dict[str, Kind]:
        """Its columns, and what is in them."""

    @abstractmethod
    def rows(self) -> int:
        """About how many it has."""

    @abstractmethod
    def read(self, columns: list[str], time: str, working: Callable[[], None]) -> pa.Table:
        """These columns, in order of time where the source has no order of its own."""


def find(config: Config, home: Path | None) -> Source:
    """The source that is asked for.

    Raises:
        DataLoadError: it is not there, or nothing that can be read.
        SourceAway: a database does not answer.
    """
    named = config.data or config.source
    if "://" in named:
        return _Database(named, config.table or config.source, config.only, home)
    for field in ("table", "only"):
        if getattr(config, field):
            raise ConfigValidationError(field, "Only for a database, and `data` is no URL")
    path = (home or Path.cwd()) / named
    for there in (path, *(path.with_name(path.name + suffix) for suffix in SUFFIXES)):
        if there.exists():
            return _Files(there, named)
    raise DataLoadError(f"Table not found: {named}", table=named)


def missing(name: str, known: Iterable[str], why: str = "") -> DataLoadError:
    """That a column is not there, and which are."""
    there = list(known)
    close = difflib.get_close_matches(name, there, n=1)
    hint = f"did you mean {close[0]!r}?" if close else f"there are: {', '.join(there[:20])}"
    return DataLoadError(f"Column not found: {name}{why}; {hint}", column=name)


class _Files:
    """A file, or all files of a folder that have the suffix of one."""

    def __init__(self, path: Path, where: str) -> None:
        self.where = where
        try:
            self._paths = (
                sorted(p for p in path.iterdir() if p.suffix in SUFFIXES and p.name[0] not in "._")
                if path.is_dir()
                else [path]
            )
        except OSError as error:
            raise DataLoadError(f"{where}: {error.strerror}") from error
        if not self._paths:
            raise DataLoadError(f"{where} has no file that ends in .parquet or .csv")
        if self._paths[0].suffix not in SUFFIXES:
            raise DataLoadError(f"{where} must end in .parquet or .csv")

    def remarks(self) -> list[RowRemark]:
        cut = [
            path.name for path in self._paths if path.suffix == ".csv" and _ends_within_a_line(path)
        ]
        return [
            RowRemark(code="cut_off", line=f"{name} ends within a line, which may be cut off")
            for name in cut
        ]

    def kinds(self) -> dict[str, Kind]:
        path = self._paths[0]
        head = _guarded(path, _head)
        names = _guarded(path, lambda _: list(head.column_names))
        for name in names:
            if names.count(name) > 1:
                raise DataLoadError(f"{path.name} has two columns {name!r}", column=name)
        return {name: _kind(head[name]) for name in names}

    def rows(self) -> int:
        rows = 0
        for path in self._paths:
            if path.suffix == ".csv":
                rows += path.stat().st_size // _guarded(path, _csv_row_bytes)
            else:
                rows += _guarded(path, _parquet_rows)
        return rows

    def read(self, columns: list[str], time: str, working: Callable[[], None]) -> pa.Table:
        read: list[pa.Table] = []
        for path in self._paths:
            working()
            read.append(_guarded(path, lambda it: _file(it, columns)))
        read = [table for table in read if table.num_rows]
        if len(read) > 1:
            read.sort(key=lambda table: int(instants(table[time].slice(0, 1), time)[0][0]))
        return _joined(read, columns, self.where)


class _Database:
    """A table of a database that SQLAlchemy reaches, or those rows that have certain values."""

    def __init__(self, url: str, table: str, only: dict[str, str], home: Path | None) -> None:
        import sqlalchemy as sa  # noqa: PLC0415 - only databases need it
        from sqlalchemy import exc  # noqa: PLC0415

        self._sa = sa
        try:
            place = sa.make_url(url)
            if place.get_backend_name() == "sqlite" and place.database:
                file = (home or Path.cwd()) / place.database
                if not file.is_file():
                    raise DataLoadError(f"there is no database {place.database}")
                # Read, and never made or changed: by its name with a mark that says so.
                place = place.set(
                    database=f"file:{quote(str(file))}",
                    query={**place.query, "mode": "ro", "uri": "true"},
                )
            self.where = _told_of(url, sa.make_url(url))
            told: dict[str, Any] = {}
            if place.get_backend_name() == "postgresql":
                if place.drivername == "postgresql":
                    place = place.set(drivername="postgresql+psycopg")
                told = {key: it for key, it in POSTGRESQL.items() if key not in place.query}
            self._engine = sa.create_engine(place, poolclass=sa.NullPool, connect_args=told)
        except (exc.NoSuchModuleError, ImportError) as error:
            raise ConfigValidationError("data", f"Its driver is missing: {_line(error)}") from None
        except exc.ArgumentError:
            # It is told without what the library says, which may have a password in it.
            raise ConfigValidationError("data", "Must be a path, or the URL of a database") from (
                None
            )
        backend = place.get_backend_name()
        if only and backend not in TO_THE_LETTER:
            raise ConfigValidationError("only", "Only for PostgreSQL and SQLite")
        self._lite = backend == "sqlite"
        self._named = table
        self._table, self._columns = self._asked(self._look)
        self._only = [
            condition
            for column, value in only.items()
            for condition in self._equal(column, value, TO_THE_LETTER[backend])
        ]

    def remarks(self) -> list[RowRemark]:
        return []

    def kinds(self) -> dict[str, Kind]:
        query = self._select(*map(self._sa.column, self._columns)).limit(100)

        def sample() -> list[Any]:
            with self._engine.connect() as connection:
                return list(connection.execute(query))

        rows = self._asked(sample)
        found: dict[str, Kind] = {}
        for place, (name, declared) in enumerate(self._columns.items()):
            values = [row[place] for row in rows if row[place] is not None]
            found[name] = _kind_of_values(values) if values else _kind_of_type(declared)
        return found

    def rows(self) -> int:
        sa = self._sa

        def count() -> int:
            with self._engine.connect() as connection:
                query = self._select(sa.func.count())
                return int(connection.execute(query).scalar_one())

        return self._asked(count)

    def read(self, columns: list[str], time: str, working: Callable[[], None]) -> pa.Table:
        query = self._select(*map(self._sa.column, columns))

        def batches() -> list[pa.Table]:
            read = []
            options = {"stream_results": True, "yield_per": ROWS_AT_ONCE}
            with self._engine.connect().execution_options(**options) as connection:
                result = connection.execute(query)
                while rows := result.fetchmany(ROWS_AT_ONCE):
                    working()
                    values = zip(*rows, strict=True)
                    arrays = [
                        _array(name, column) for name, column in zip(columns, values, strict=True)
                    ]
                    read.append(pa.table(arrays, names=columns))
            return read

        table = _joined(self._asked(batches), columns, self._named)
        # A table of a database has no order; and as text, times sort otherwise than as times.
        order = np.argsort(instants(table[time], time)[0], kind="stable")
        return table.take(pa.array(order))

    def _look(self) -> tuple[Any, dict[str, Any]]:
        """The table, and its columns by name."""
        sa = self._sa
        looked = sa.inspect(self._engine)
        schema, _, name = self._named.rpartition(".")
        ways = [(name, schema or None), (self._named, None)]
        if self._lite:  # its schemas are files that are attached, and here none are
            ways = [(self._named, None), (name, None)] if schema in ("", "main") else ways[1:]
        for called, within in ways:
            if looked.has_table(called, schema=within) or called in looked.get_view_names(within):
                columns = {one["name"]: one["type"] for one in looked.get_columns(called, within)}
                listed = [sa.column(column) for column in columns]
                return sa.table(called, *listed, schema=within), columns
        raise DataLoadError(f"Table not found: {self._named}", table=self._named)

    def _equal(self, column: str, value: str, collation: str) -> list[Any]:
        """What holds for the rows with a value in a column, which is none of the table's then."""
        sa = self._sa
        # What else is there is not told: whoever asks may be meant to see rows of its own alone.
        declared = self._columns.pop(column, None)
        if declared is None:
            what = f"{self._named} has no column {column}, which says which rows count"
            raise DataLoadError(what, column=column)
        if not isinstance(declared, sa.String) or isinstance(declared, sa.Enum):
            what = f"column {column} of {self._named} says which rows count, and must be text"
            raise DataLoadError(what, column=column)
        exact = sa.collate(sa.cast(sa.column(column), sa.Text()), collation)
        # The first can use an index, and may say too much; the second says it to the letter.
        return [sa.column(column, sa.String()) == value, exact == value]

    def _select(self, *what: Any) -> Any:
        """A query for something of the rows that count."""
        return self._sa.select(*what).select_from(self._table).where(*self._only)

    def _asked(self, ask: Callable[[], T]) -> T:
        from sqlalchemy import exc  # noqa: PLC0415

        try:
            return ask()
        except exc.OperationalError as error:
            line = f"{self.where}: {_line(error.orig or error)}"
            if self._lite and not _is_busy(error.orig):
                raise DataLoadError(line) from error
            raise SourceAway(line) from error
        except exc.SQLAlchemyError as error:
            line = _line(getattr(error, "orig", None) or error)
            raise DataLoadError(f"{self.where}: {line}") from error


def _told_of(named: str, url: Any) -> str:
    """The URL of a database without anything that is secret; as it was given where nothing is."""
    query = {key: "***" if SECRET.search(key) else value for key, value in url.query.items()}
    if url.password is None and query == dict(url.query):
        return named
    return str(url.set(query=query).render_as_string(hide_password=True))


def _is_busy(error: object) -> bool:
    """Whether SQLite says that somebody else has locked the database."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    return code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def _head(path: Path) -> pa.Table:
    """Some rows of a file, with all its columns."""
    if path.suffix == ".csv":
        _look_at_header(path)
        with pa.csv.open_csv(path, convert_options=_csv_options()) as reader:
            rows = next(reader, None)
            return pa.Table.from_batches([rows] if rows else [], schema=reader.schema)
    with pq.ParquetFile(path) as file:
        rows = next(file.iter_batches(batch_size=100), None)
        return pa.Table.from_batches([rows] if rows else [], schema=file.schema_arrow)


def _file(path: Path, columns: list[str]) -> pa.Table:
    if path.suffix == ".csv":
        return _csv(path, columns)
    with path.open("rb") as file:
        whole = pq.ParquetFile(file)
        _check_there(path, whole.schema_arrow.names, columns)
        return whole.read(columns=columns)


def _csv(path: Path, columns: list[str]) -> pa.Table:
    """Columns of a CSV file, read in pieces: as a whole it would be there twice."""
    head = _head(path)
    _check_there(path, head.column_names, columns)
    kinds = {name: head[name].type for name in columns}
    for name, kind in kinds.items():
        if pa.types.is_integer(kind) or pa.types.is_null(kind):
            kinds[name] = pa.float64()  # what comes later may have a fraction
    while True:
        options = _csv_options(columns, kinds)
        try:
            with pa.csv.open_csv(path, convert_options=options) as reader:
                return pa.Table.from_batches(reader, schema=reader.schema)
        except pa.ArrowInvalid as error:
            # One that was something else in the first rows is text, and is looked at as such.
            place = _CSV_COLUMN.match(str(error))
            name = head.column_names[int(place[1])] if place else ""
            if kinds.get(name, pa.string()) == pa.string():
                raise
            kinds[name] = pa.string()


def _check_there(path: Path, there: list[str], columns: list[str]) -> None:
    for name in columns:
        if name not in there:
            raise missing(name, there, f" in {path.name}")


def _csv_options(columns: list[str] | None = None, kinds: dict[str, Any] | None = None) -> Any:
    return pa.csv.ConvertOptions(
        include_columns=columns, column_types=kinds, strings_can_be_null=True
    )


def _look_at_header(path: Path) -> None:
    with path.open("rb") as file:
        header = file.readline()
    if header.startswith(UTF_16):
        raise DataLoadError(f"{path.name} is in UTF-16: UTF-8 is wanted")
    for sign, name in BETWEEN.items():
        if b"," not in header and sign.encode() in header:
            raise DataLoadError(f"{path.name} has {name} between its columns: commas are wanted")


def _ends_within_a_line(path: Path) -> bool:
    with path.open("rb") as file:
        if not file.seek(0, 2):
            return False
        file.seek(-1, 2)
        return file.read(1) not in b"\r\n"


def _csv_row_bytes(path: Path) -> int:
    """How long a line is, by those at the beginning."""
    with path.open("rb") as file:
        lengths = [len(line) for line in islice(file, 1, 1001)]
    return max(CSV_ROW_MIN_BYTES, sum(lengths) // max(1, len(lengths)))


def _parquet_rows(path: Path) -> int:
    with pq.ParquetFile(path) as file:
        return int(file.metadata.num_rows)


def _guarded(path: Path, read: Callable[[Path], T]) -> T:
    try:
        return read(path)
    except pa.ArrowMemoryError:
        raise  # which is one of Arrow's errors, too, and says nothing of the file
    except UnicodeDecodeError as error:
        raise DataLoadError(f"{path.name} cannot be read: it is not in UTF-8") from error
    except (pa.ArrowException, OSError) as error:
        raise DataLoadError(f"{path.name} cannot be read: {_line(error)}") from error


def _joined(tables: list[pa.Table], columns: list[str], where: str) -> pa.Table:
    if not tables:
        raise DataLoadError(f"{where} has no rows")
    try:
        return pa.concat_tables(tables, promote_options="permissive")
    except pa.ArrowMemoryError:
        raise
    except pa.ArrowException as error:
        for name in columns:
            kinds = sorted({str(table[name].type) for table in tables} - {"null"})
            if len(kinds) > 1:
                what = f"column {name} is not of one kind throughout: {' and '.join(kinds)}"
                raise DataLoadError(what, column=name) from error
        raise DataLoadError(f"{where}: {_line(error)}") from error


def _array(name: str, values: tuple[Any, ...]) -> pa.Array:
    try:
        # As Arrow's, decimals of other batches may have other digits, and become no exact floats.
        return pa.array([float(it) if isinstance(it, Decimal) else it for it in values])
    except pa.ArrowMemoryError:
        raise
    except (pa.ArrowException, OverflowError) as error:
        raise DataLoadError(f"column {name}: {_line(error)}", column=name) from error


def is_text(kind: pa.DataType) -> bool:
    """Whether a column of that type holds text."""
    types = pa.types
    return bool(types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind))


def _kind(column: pa.ChunkedArray) -> Kind:
    kind = column.type
    types = pa.types
    if types.is_dictionary(kind):
        kind = kind.value_type
    if types.is_timestamp(kind) or types.is_date(kind):
        return "time"
    if types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind):
        return "number"
    if types.is_boolean(kind) or types.is_null(kind):
        return "number"
    if is_text(kind):
        return _kind_of_values([value for value in column[:100].to_pylist() if value is not None])
    return "other"


def _kind_of_values(values: list[Any]) -> Kind:
    if not values:
        return "text"
    if all(isinstance(value, date | datetime) for value in values):
        return "time"
    if all(isinstance(value, str) for value in values):
        try:
            zone_of(values)
        except ValueError:
            return "text"
        return "time"
    numeric = (int, float)
    plain = all(isinstance(value, numeric) or hasattr(value, "as_tuple") for value in values)
    return "number" if plain else "other"


def _kind_of_type(declared: Any) -> Kind:
    try:
        python = declared.python_type
    except NotImplementedError:
        return "other"
    if issubclass(python, date):
        return "time"
    return "text" if issubclass(python, str) else "number"


def _line(error: object) -> str:
    return " ".join(str(error).split())[:300]
