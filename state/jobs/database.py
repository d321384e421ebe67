"""How a job store is reached: its URL, its transactions, and what can be wrong with it.

SQLite in WAL mode, each writer with the lock from its first statement on; or PostgreSQL through
psycopg. What a driver raises is told in one line that holds no password.
"""

from __future__ import annotations

import contextlib
import select
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus

import sqlalchemy as sa

from state.jobs.tables import REVISION, REVISION_TABLE, Unstorable, store

FILE = "jobs.db"
"""the name of the store in a home, where no URL names another"""
BUSY_S = 10.0
"""how long a transaction waits for another one"""
CONNECT_S = 10
AWAY_S = 30
"""a connection on which nothing has come back for so long is given up, on both sides"""
SESSION = {
    # A machine that loses its power in a transaction must not lock the others out for hours.
    "idle_in_transaction_session_timeout": f"{BUSY_S:.0f}s",
    "lock_timeout": f"{BUSY_S:.0f}s",
    "statement_timeout": f"{AWAY_S}s",
    # Nothing here runs for so long that compiling it pays; PostgreSQL believes so of a look at who
    # waits, and takes 60 ms for each.
    "jit": "off",
}
CONNECTING = {
    "application_name": "training-supervisor",
    "connect_timeout": CONNECT_S,
    "keepalives_idle": CONNECT_S,
    "keepalives_interval": CONNECT_S,
    "keepalives_count": 2,
    "tcp_user_timeout": 1000 * AWAY_S,
}
CACHE_KIB = 512
"""pages that a connection to SQLite keeps; a fourth of what it takes itself"""
DAMAGE = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
TROUBLE = (
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_PERM,
)
DAMAGED_STATES = ("XX001", "XX002")
"""data_corrupted, index_corrupted"""
READ_ONLY_STATE = "25006"
TEXT_MAX = 300
HIDDEN = "***"


class StoreError(Exception):
    """The job store cannot be used; the message says which one, why, and what helps."""

    exit_code = 78  # EX_CONFIG
    http_status = 503


class BadUrl(StoreError):
    """The URL names no store."""

    def __init__(self, why: str) -> None:
        super().__init__(f"database_url: {why}")


class StoreTrouble(StoreError):
    """The store is there, or may be, and does not serve now: it is worth another try."""

    exit_code = 75  # EX_TEMPFAIL

    def __init__(self, shown: str, why: str) -> None:
        super().__init__(f"the job store {shown} does not serve: {why}")


class DamagedStore(StoreError):
    """Something is there that is not what was written; it is kept."""

    def __init__(self, shown: str, why: str) -> None:
        super().__init__(
            f"the job store {shown} is damaged ({why}); it is left as it is: move it away, and "
            "restore the newest backup with `supervisor jobs restore`"
        )


class NewerStore(StoreError):
    """A newer version has written it: this one must not touch it."""

    def __init__(self, shown: str, revision: str) -> None:
        super().__init__(
            f"the job store {shown} has revision {revision}, this version knows up to {REVISION}: "
            "install the newer version again; it is left as it is"
        )


class NotMigrated(StoreError):
    """There is no store yet, or one of an older version."""

    def __init__(self, shown: str, revision: str | None) -> None:
        has = "is not there yet" if revision is None else f"has the old revision {revision}"
        super().__init__(f"the job store {shown} {has}: `supervisor jobs migrate`")
        self.shown, self.revision = shown, revision


class ForeignStore(StoreError):
    """The database has tables of these names, and they are none of ours."""

    def __init__(self, shown: str, table: str) -> None:
        super().__init__(
            f"{shown} has a table {table} of another program: give the job store a database, or a "
            "schema, of its own"
        )


def url_of_home(home: Path) -> str:
    """The store that a home has where no URL names another."""
    return sa.URL.create("sqlite", database=str(home / FILE)).render_as_string()


class Database:
    """A database and its transactions; nothing is opened before the first of them.

    Args:
        url: `sqlite:///PATH` or `postgresql://...`.
        file: where the SQLite file lies for now, while it is being made.

    Raises:
        BadUrl: it is neither, or has no driver here.
    """

    def __init__(self, url: str, *, file: Path | None = None) -> None:
        parsed = _parsed(url)
        self._secrets = _secrets(parsed)
        self.path: Path | None = None
        """the file of SQLite; None: it is PostgreSQL"""
        if parsed.get_backend_name() == "sqlite":
            self.path = file or Path(parsed.database or "")
            self.shown = str(self.path)
            # Never made by looking: a store that is away must not be taken for an empty one.
            address = f"file:{quote(str(self.path))}?mode=rw"
            self._engine = sa.create_engine(
                "sqlite://",
                creator=lambda: sqlite3.connect(
                    address,
                    uri=True,
                    timeout=BUSY_S,
                    isolation_level=None,
                    check_same_thread=False,
                ),
                poolclass=sa.QueuePool,
                pool_timeout=BUSY_S,
                max_overflow=20,
                hide_parameters=True,
            )
            sa.event.listen(self._engine, "connect", _prepare_file(wal=file is None))
            sa.event.listen(self._engine, "begin", _begin)
        else:
            self.shown = parsed.set(query={}).render_as_string(hide_password=True)
            try:
                self._engine = sa.create_engine(
                    parsed.set(drivername="postgresql+psycopg"),
                    connect_args=CONNECTING,
                    pool_timeout=BUSY_S,
                    max_overflow=20,
                    hide_parameters=True,
                )
            except ImportError as error:
                raise BadUrl(
                    f"{error.name} is missing: pip install 'training-supervisor[jobs]'"
                ) from None
            sa.event.listen(self._engine, "connect", _prepare_session)
            sa.event.listen(self._engine, "checkout", _expect_open)

    @contextlib.contextmanager
    def asking(self) -> Iterator[sa.Connection]:
        """For one statement, which sees one moment by itself, and waits for no writer.

        PostgreSQL answers it at once, and not between the answers to BEGIN and COMMIT.

        Raises:
            StoreError: it does not serve, or is damaged.
        """
        with self._told(), self._engine.connect() as connection:
            if self.path is None:
                yield connection.execution_options(isolation_level="AUTOCOMMIT")
            else:
                yield connection.execution_options(begin=None)

    @contextlib.contextmanager
    def reading(self, *, long: bool = False) -> Iterator[sa.Connection]:
        """A transaction that sees one moment, and waits for no writer.

        Args:
            long: a statement of it may take longer than `AWAY_S`.

        Raises:
            StoreError: it does not serve, or is damaged.
        """
        with self._told(), self._engine.connect() as connection:
            if self.path is None:
                isolated = connection.execution_options(isolation_level="REPEATABLE READ")
            else:
                isolated = connection.execution_options(begin="BEGIN")
            with isolated.begin():
                self._take_time(isolated, long=long)
                yield isolated

    @contextlib.contextmanager
    def writing(self, *, long: bool = False) -> Iterator[sa.Connection]:
        """A transaction that is durable when it has ended, or was never there.

        Args:
            long: a statement of it may take longer than `AWAY_S`.

        Raises:
            StoreError: it does not serve, or is damaged; nothing is known to be written.
            Unstorable: a text is none.
        """
        with self._told(), self._engine.begin() as connection:
            self._take_time(connection, long=long)
            yield connection

    def close(self) -> None:
        """Close what is open."""
        self._engine.dispose()

    def expect(self) -> None:
        """Make sure that it has the tables of this version.

        Raises:
            StoreError: it has not.
        """
        self.expect_file()
        with self.reading() as connection:
            found = self.revision(connection)
        if found != REVISION:
            raise NotMigrated(self.shown, found)

    def expect_file(self) -> None:
        """Make sure that there is a file, where there should be one.

        Raises:
            StoreError: there is none, or an empty one, which is what is left of a damaged one.
        """
        if self.path is None:
            return
        try:
            size = self.path.stat().st_size
        except (FileNotFoundError, NotADirectoryError):
            raise NotMigrated(self.shown, None) from None
        except OSError as error:
            raise StoreTrouble(self.shown, str(error.strerror)) from None
        if size == 0:
            raise DamagedStore(self.shown, "it is empty")

    def revision(self, connection: sa.Connection) -> str | None:
        """Of its tables; None: there are none of ours.

        Raises:
            NewerStore: this version must not touch it.
            ForeignStore: another program's are where ours would be.
        """
        there = set(sa.inspect(connection).get_table_names())
        found: str | None = None
        if REVISION_TABLE in there:
            found = connection.scalar(sa.text(f"SELECT version_num FROM {REVISION_TABLE}"))  # noqa: S608
        if found is None:
            for name in sorted(there & store.metadata.tables.keys()):
                raise ForeignStore(self.shown, name)
        elif found > REVISION:
            raise NewerStore(self.shown, found)
        return found

    def _take_time(self, connection: sa.Connection, *, long: bool) -> None:
        if long and self.path is None:
            connection.execute(sa.select(sa.func.set_config("statement_timeout", "0", True)))

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        """What a driver raises in here, as an error of ours where it is no bug."""
        try:
            yield
        except sa.exc.TimeoutError:
            raise StoreTrouble(self.shown, "all connections are in use") from None
        except sa.exc.StatementError as error:
            cause = error.orig
            if isinstance(cause, Unstorable):
                raise cause from None
            line = self._line(cause)
            if _is_damage(cause):
                raise DamagedStore(self.shown, line) from None
            if _is_trouble(error, cause):
                raise StoreTrouble(self.shown, line) from None
            raise
        except sqlite3.DatabaseError as error:  # from the preparation of a connection
            line = self._line(error)
            kind = DamagedStore if _is_damage(error) else StoreTrouble
            raise kind(self.shown, line) from None

    def _line(self, error: BaseException | None) -> str:
        line = " ".join(str(error).split())
        for secret in self._secrets:
            line = line.replace(secret, HIDDEN)
        return line[:TEXT_MAX]


def _parsed(url: str) -> sa.URL:
    try:
        parsed = sa.make_url(url)
        backend = parsed.get_backend_name()
        host = parsed.host or ""
    except (sa.exc.ArgumentError, ValueError):
        raise BadUrl("it is no URL") from None
    if backend == "sqlite":
        if parsed.database in (None, "", ":memory:") or parsed.query:
            raise BadUrl("sqlite:///PATH is meant, with a file that stays")
    elif backend != "postgresql":
        raise BadUrl(f"sqlite:///PATH or postgresql://... is meant, and not {backend[:40]}")
    elif "@" in host or "/" in host:
        raise BadUrl("the password has characters that must be written as %40, %2F or the like")
    return parsed


def _secrets(url: sa.URL) -> list[str]:
    """All forms of what must be in no message, the longest first."""
    plain = [str(url.password)] if url.password else []
    for word in ("password", "sslpassword", "passfile"):
        found = url.query.get(word, ())
        plain += [found] if isinstance(found, str) else found
    forms = {form for one in plain for form in (one, quote(one, safe=""), quote_plus(one))}
    return sorted(filter(None, forms), key=len, reverse=True)


def _prepare_file(*, wal: bool) -> Any:
    def prepare(connection: sqlite3.Connection, record: object) -> None:  # noqa: ARG001
        if wal:
            connection.execute("PRAGMA journal_mode = WAL")
        # In WAL mode anything less loses what was answered, at a power cut.
        connection.execute("PRAGMA synchronous = FULL")
        # Each thread has its own, beside the one of the kernel, which all share.
        connection.execute(f"PRAGMA cache_size = -{CACHE_KIB}")

    return prepare


def _begin(connection: sa.Connection) -> None:
    # Whoever begins by reading and writes later may find that another one has written meanwhile.
    begin = connection.get_execution_options().get("begin", "BEGIN IMMEDIATE")
    if begin is not None:
        connection.exec_driver_sql(begin)


def _prepare_session(connection: Any, record: object) -> None:  # noqa: ARG001
    with connection.cursor() as cursor:
        for name, value in SESSION.items():
            cursor.execute("SELECT set_config(%s, %s, false)", (name, value))
        # What is more durable than `on` stays.
        cursor.execute(
            "SELECT set_config('synchronous_commit', 'on', false)"
            " WHERE current_setting('synchronous_commit') IN ('off', 'local')"
        )
    connection.commit()


def _expect_open(connection: Any, record: object, fairy: object) -> None:  # noqa: ARG001
    """Have a connection replaced that the server has closed, or of which nothing comes back.

    The kernel knows, by what has come in while nothing was asked, and by the keepalives. To ask the
    server would take as long again as what is wanted of it.

    Raises:
        sqlalchemy.exc.DisconnectionError: it is not open any more.
    """
    if not connection.closed:
        heard = select.poll()
        heard.register(connection.fileno(), select.POLLIN)
        if not heard.poll(0):
            return
    raise sa.exc.DisconnectionError


def _is_damage(error: BaseException | None) -> bool:
    if isinstance(error, sqlite3.Error):
        return _code(error) in DAMAGE
    return getattr(error, "sqlstate", None) in DAMAGED_STATES


def _is_trouble(error: sa.exc.StatementError, cause: BaseException | None) -> bool:
    if isinstance(cause, sqlite3.Error):
        return _code(cause) in TROUBLE
    # Of PostgreSQL: away, full, going down, a lock or an answer that was waited for too long.
    read_only = getattr(cause, "sqlstate", None) == READ_ONLY_STATE
    return isinstance(error, sa.exc.OperationalError | sa.exc.InterfaceError) or read_only


def _code(error: sqlite3.Error) -> int | None:
    """The first byte of its number, which says what kind it is."""
    code = getattr(error, "sqlite_errorcode", None)
    return None if code is None else code & 0xFF
