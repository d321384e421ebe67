"""Asks databases how busy the machine was: read-only, with deadlines, and without inventing.

Each source is asked by a child of its own, which is killed when its time is up: whatever a driver
or a server hangs in, it costs one source. What went wrong is a line that holds no password.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import decimal
import math
import os
import select
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn
from zoneinfo import ZoneInfo

import msgspec

from supervisor.core.quiet_hours import METRICS, Metric, UsageSource
from supervisor.usage.grid import HOUR_S, Point, Series
from supervisor.usage.passwords import NoPassword, hidden, password

ROWS_MAX = 2_000_000
ROWS_AT_ONCE = 10_000
REPLY_BYTES_MAX = 256 * 1024 * 1024
DRIVERS = {
    "mariadb": "mariadb+pymysql",
    "mysql": "mysql+pymysql",
    "postgresql": "postgresql+psycopg",
}
PACKAGES = {"mariadb": "pymysql", "mysql": "pymysql", "postgresql": "psycopg"}
TEXT_MAX = 300


class SourceTrouble(Exception):
    """A source that is of no use now; the message says why in one line, without a secret."""


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """What a source has told."""

    series: tuple[Series, ...]
    rows: int
    """rows, or events where those are counted"""
    begin: float | None
    end: float | None


class _Said(msgspec.Struct, frozen=True, kw_only=True):
    """What a child says last."""

    told: Told | None = None
    trouble: str | None = None


class Asking(msgspec.Struct, frozen=True, kw_only=True):
    """What is the same for each source."""

    here: Path
    """the folder that relative paths of password files begin at"""
    zone: ZoneInfo
    """of times that name none, where a source names none either"""
    since: float
    until: float


def ask(source: UsageSource, asking: Asking, environment: Mapping[str, str]) -> Told:
    """What a source tells of a history.

    Raises:
        SourceTrouble: nothing, and why.
    """
    zone = ZoneInfo(source.zone) if source.zone else asking.zone

    def act(query: Query) -> Told:
        return _rows(source, asking, zone, query)

    return _in_a_child(source, asking.here, environment, zone.key, act)


def look(source: UsageSource, here: Path, environment: Mapping[str, str], at: float) -> Told:
    """What a source tells of this moment: one number.

    Raises:
        SourceTrouble: nothing, and why.
    """
    return _in_a_child(source, here, environment, None, lambda query: _number(query, at))


Query = Callable[[Mapping[str, object]], tuple[list[str], Iterator[tuple[Any, ...]]]]


def _rows(source: UsageSource, asking: Asking, zone: ZoneInfo, query: Query) -> Told:
    since = dt.datetime.fromtimestamp(asking.since // HOUR_S * HOUR_S, zone)
    aware = (source.url or "").startswith("postgresql")
    names, rows = query({"since": since if aware else since.replace(tzinfo=None)})
    names = [name.lower() for name in names]
    times = [name for name in ("at", "hour") if name in names]
    meant: dict[int, Metric] = {}
    for place, name in enumerate(names):
        if name in ("value", "count"):
            meant[place] = source.metric or "players"
        elif name in METRICS:
            meant[place] = name
    counted = "count" in names
    if len(times) != 1 or not meant or (counted and times[0] != "hour"):
        wanted = "`at, value` or `hour, count` are needed"
        raise SourceTrouble(f"its query returns `{', '.join(names)[:100]}`: {wanted}")
    when = names.index(times[0])
    points: dict[Metric, list[Point]] = {metric: [] for metric in meant.values()}
    found = 0
    events = 0.0
    for row in rows:
        moments = [at for at in _instants(row[when], zone) if at < asking.until]
        found += bool(moments)
        for place, metric in meant.items():
            value = _float(row[place])
            if value is not None and moments:
                events += value
                share = value / len(moments) if counted else value
                points[metric] += [Point(at, share) for at in moments]
    told = [at for column in points.values() for at, _ in column]
    return Told(
        series=tuple(
            Series(metric=metric, counted=counted, points=tuple(column))
            for metric, column in points.items()
        ),
        rows=round(events) if counted else found,
        begin=min(told, default=None),
        end=max(told, default=None),
    )


def _number(query: Query, at: float) -> Told:
    _, rows = query({})
    row = next(rows, None)
    value = None if row is None or len(row) != 1 else _float(row[0])
    if value is None:
        raise SourceTrouble("its query returns no single number")
    series = Series(metric="players", counted=False, points=(Point(at, value),))
    return Told(series=(series,), rows=1, begin=at, end=at)


def _instants(value: object, zone: ZoneInfo) -> list[float]:
    """The moments that a time of a database may mean: two in an hour that a night has twice."""
    if isinstance(value, str):
        try:
            value = dt.datetime.fromisoformat(value)
        except ValueError:
            raise SourceTrouble(f"{str(value)[:40]!r} is no time") from None
    if isinstance(value, dt.datetime):
        if value.tzinfo is not None:
            return [value.timestamp()]
        both = sorted({value.replace(tzinfo=zone, fold=fold).timestamp() for fold in (0, 1)})
        shown = [
            at for at in both if dt.datetime.fromtimestamp(at, zone).replace(tzinfo=None) == value
        ]
        return shown or both[-1:]
    if isinstance(value, dt.date):
        return [dt.datetime.combine(value, dt.time(), zone).timestamp()]
    if isinstance(value, int | float | decimal.Decimal) and not isinstance(value, bool):
        return [float(value)]
    if value is None:
        return []
    raise SourceTrouble(f"a {type(value).__name__} is no time")


def _float(value: object) -> float | None:
    """A number; None where there is none."""
    if value is None:
        return None
    try:
        number = float(value)  # type: ignore[arg-type]  # whatever a driver gives
    except (TypeError, ValueError):
        raise SourceTrouble(f"a {type(value).__name__} is no number") from None
    if number < 0:
        raise SourceTrouble(f"it tells {number:g}, which is less than nothing")
    return number if math.isfinite(number) else None


def _in_a_child(
    source: UsageSource,
    here: Path,
    environment: Mapping[str, str],
    zone: str | None,
    act: Callable[[Query], Told],
) -> Told:
    """Have a child connect and act; wait no longer than the settings say.

    Raises:
        SourceTrouble: it failed, or its time is up.
    """
    try:
        secret = password(source, here, environment)
    except NoPassword as error:
        raise SourceTrouble(str(error)) from None
    _load(source)
    ours, theirs = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(ours)
        _be_child(source, secret, zone, act, theirs)
    os.close(theirs)
    try:
        said = _heard(ours, source)
    finally:
        os.close(ours)
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    if said.told is None:
        raise SourceTrouble(said.trouble or "it ended without a word")
    return said.told


def _load(source: UsageSource) -> None:
    """Import what the child needs, once for all of them.

    Raises:
        SourceTrouble: something is missing.
    """
    scheme = (source.url or "").partition(":")[0]
    try:
        import sqlalchemy  # noqa: PLC0415, F401 - an extra, and only for this

        __import__(PACKAGES[scheme])
    except ImportError as error:
        wanted = "pip install 'training-supervisor[usage]'"
        raise SourceTrouble(f"{error.name or 'a driver'} is missing: {wanted}") from None


def _heard(pipe: int, source: UsageSource) -> _Said:
    """What a child says: a byte once it is connected, and its last word."""
    raw = bytearray()
    connect = f"it did not answer within connect_max_s = {source.connect_max_s:g}"
    query = f"its query took longer than query_max_s = {source.query_max_s:g}"
    poll = select.poll()
    poll.register(pipe, select.POLLIN)
    deadline_s = time.monotonic() + source.connect_max_s
    while True:
        left_s = deadline_s - time.monotonic()
        if left_s <= 0 or not poll.poll(1000 * left_s):
            raise SourceTrouble(query if raw else connect)
        chunk = os.read(pipe, 2**16)
        if not chunk:
            break
        if not raw:
            deadline_s = time.monotonic() + source.query_max_s
        raw += chunk
        if len(raw) > REPLY_BYTES_MAX:
            raise SourceTrouble("it tells without end: let the query count by hour")
    try:
        return msgspec.json.decode(bytes(raw[1:]), type=_Said)
    except msgspec.MsgspecError:
        raise SourceTrouble("the process that asked it has died") from None


def _be_child(
    source: UsageSource,
    secret: str | None,
    zone: str | None,
    act: Callable[[Query], Told],
    pipe: int,
) -> NoReturn:
    """Connect, act, and say what came of it; never returns to where it was forked."""
    try:
        # Nobody may be left to kill it: then the kernel does.
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.setitimer(signal.ITIMER_REAL, source.connect_max_s + source.query_max_s + 1)
        said = _said(source, secret, zone, act, pipe)
        content = memoryview(msgspec.json.encode(said))
        while content:
            content = content[os.write(pipe, content) :]
    finally:
        os._exit(0)


def _said(
    source: UsageSource,
    secret: str | None,
    zone: str | None,
    act: Callable[[Query], Told],
    pipe: int,
) -> _Said:
    connected = False
    try:
        with _connected(source, secret, zone) as query:
            os.write(pipe, b"+")
            connected = True
            return _Said(told=act(query))
    except SourceTrouble as error:
        trouble = str(error)
    except Exception as error:  # noqa: BLE001 - whatever a driver raises is one line
        trouble = _line(error)
    if not connected:
        os.write(pipe, b"-")
    return _Said(trouble=hidden(trouble, secret)[:TEXT_MAX])


def _line(error: Exception) -> str:
    """What a driver says, in its own words, without the statement that SQLAlchemy adds."""
    cause = getattr(error, "orig", None) or error
    arguments: tuple[object, ...] = getattr(cause, "args", ())
    if len(arguments) == 2 and isinstance(arguments[0], int):  # as PyMySQL has them
        return f"{arguments[1]} (error {arguments[0]})"
    said = getattr(getattr(cause, "diag", None), "message_primary", None)
    if said:  # by PostgreSQL, in answer to a statement
        return f"{said} (error {getattr(cause, 'sqlstate', None)})"
    return str(cause) or type(cause).__name__


@contextlib.contextmanager
def _connected(source: UsageSource, secret: str | None, zone: str | None) -> Iterator[Query]:
    """A read-only transaction at a source, in which no statement takes too long."""
    import sqlalchemy as sa  # noqa: PLC0415 - an extra, and only for this

    scheme, _, rest = (source.url or "").partition("://")
    url = sa.make_url(f"{DRIVERS[scheme]}://{rest}")
    arguments = _arguments(scheme, source)
    if secret is not None:
        # As bytes, since PyMySQL takes letters for Latin-1, and nobody types these.
        arguments["password"] = secret if scheme == "postgresql" else secret.encode()
    engine = sa.create_engine(url, poolclass=sa.NullPool, connect_args=arguments)
    statement = sa.text(source.asked or "")
    with engine.connect() as connection:
        for line in _preparations(scheme, source, zone, mariadb=_is_mariadb(engine)):
            connection.exec_driver_sql(line)
        connection.rollback()  # what is set holds from the next transaction on

        def query(values: Mapping[str, object]) -> tuple[list[str], Iterator[tuple[Any, ...]]]:
            named = {name: values[name] for name in statement.compile().params if name in values}
            streamed = connection.execution_options(stream_results=True, yield_per=ROWS_AT_ONCE)
            result = streamed.execute(statement, named)
            return list(result.keys()), _at_most(tuple(row) for row in result)

        yield query
        connection.rollback()


def _at_most(rows: Iterator[tuple[Any, ...]]) -> Iterator[tuple[Any, ...]]:
    for number, row in enumerate(rows):
        if number >= ROWS_MAX:
            raise SourceTrouble(f"it has more than {ROWS_MAX} rows: let the query count by hour")
        yield row


def _is_mariadb(engine: Any) -> bool:
    return bool(getattr(engine.dialect, "is_mariadb", False))


def _arguments(scheme: str, source: UsageSource) -> dict[str, object]:
    wait_s = max(1, math.ceil(source.connect_max_s))
    if scheme == "postgresql":
        limits = f"-c statement_timeout={math.ceil(1000 * source.query_max_s)}"
        return {
            "connect_timeout": wait_s,
            "options": f"{limits} -c default_transaction_read_only=on",
            "application_name": "training-supervisor",
        }
    return {
        "connect_timeout": wait_s,
        "read_timeout": math.ceil(source.query_max_s) + 1,
        "write_timeout": wait_s,
    }


def _preparations(
    scheme: str, source: UsageSource, zone: str | None, *, mariadb: bool
) -> tuple[str, ...]:
    if scheme == "postgresql":
        # In which the server reads what is compared with columns that know no zone.
        return () if zone is None else (f"SET TIME ZONE '{zone}'",)
    limit = (
        f"SET SESSION max_statement_time = {source.query_max_s:g}"
        if mariadb
        else f"SET SESSION max_execution_time = {math.ceil(1000 * source.query_max_s)}"
    )
    return (limit, "SET SESSION TRANSACTION READ ONLY")
