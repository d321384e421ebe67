"""Real databases for a test: a MariaDB and a PostgreSQL server, started here and thrown away."""

from __future__ import annotations

import contextlib
import copy
import os
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.parse import quote

import pytest

from testkit.accounts import STRANGER
from testkit.patience import until
from testkit.processes import PROC, stat

SECRET = "Marked-S3cret/äß%40"  # noqa: S105 - of servers that live for seconds
"""the password of whoever asks: looked for wherever it must not be"""
QUOTED = quote(SECRET, safe="")
"""the same in an address"""
USER = "reader"
OWNER = "owner"
"""of databases that a test makes for itself, in PostgreSQL"""
ZONE = "Europe/Berlin"
"""of the sessions of PostgreSQL, so that nobody takes its times for UTC"""
HERE = "127.0.0.1"
MEMORY = Path("/dev/shm")  # noqa: S108 - only its speed is used
MEMORY_BYTES = 2**30
"""free there, at least, or else a server lies on the disk"""
WAL_MAX = "128MB"
"""of PostgreSQL, which would keep a gigabyte"""


class Server:
    """A server that listens on a port of this machine.

    Args:
        kind: `mariadb` or `postgresql`.
        folder: where all of it lies.
        port: where it listens.
        words: the program that it is, with its arguments.
    """

    def __init__(self, kind: str, folder: Path, port: int, words: Sequence[str]) -> None:
        self.kind, self.folder, self.port = kind, folder, port
        self.database = "game"
        # Not even a test that is killed leaves it behind.
        self._words = _as_nobody(["setpriv", "--pdeathsig=KILL", *words])
        self.start()

    @property
    def url(self) -> str:
        """Its address, without a password."""
        return f"{self.kind}://{USER}@{HERE}:{self.port}/{self.database}"

    def another(self, database: str) -> Server:
        """The same server with a new database, which `USER` may read."""
        self.run(f"CREATE DATABASE {database}")
        if self.kind == "mariadb":
            self.run(f"GRANT SELECT ON {database}.* TO {USER}@'{HERE}'")
        other = copy.copy(self)
        other.database = database
        return other

    @property
    def url_with_password(self) -> str:
        """The same with the password, as addresses have one."""
        return self.url.replace("@", f":{QUOTED}@")

    def create_database(self, name: str, template: str = "template1") -> str:
        """The address of one more database, with the password: a copy of one that nobody uses."""
        self.run(f"CREATE DATABASE {name} TEMPLATE {template} OWNER {OWNER}")
        return f"{self.kind}://{OWNER}:{QUOTED}@{HERE}:{self.port}/{name}"

    def drop_database(self, name: str) -> None:
        """Remove one, whoever uses it."""
        self.run(f"DROP DATABASE {name} WITH (FORCE)")

    def create_schema(self, name: str) -> str:
        """The address of a schema of that name, which holds nothing yet, with the password."""
        self.run(f"CREATE SCHEMA {name} AUTHORIZATION {OWNER}")
        address = f"{self.kind}://{OWNER}:{QUOTED}@{HERE}:{self.port}/{self.database}"
        return f"{address}?options=-csearch_path%3D{name}"

    def start(self) -> None:
        """Start it, and wait until it answers."""
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                self._words,
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        try:
            until(self._answers, f"{self.kind} answers")
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stop it as a machine does that goes down: whoever is connected hears no farewell."""
        if self.kind == "postgresql":  # its children are sessions of their own, and it ends them
            self.process.send_signal(signal.SIGQUIT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(timeout=10)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def kill(self) -> None:
        """`kill -9` of it and of all its children, at the same moment."""
        self.process.send_signal(signal.SIGSTOP)  # it begins no further child
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        family = [self.process.pid, *map(int, children.read_text().split())]
        for pid in family:
            os.kill(pid, signal.SIGKILL)
        self.process.wait()
        # It would not start beside a child that still has its memory.
        until(lambda: not any(_lives(pid) for pid in family), "all of the server has ended")

    def run(self, *statements: str) -> None:
        """Have it do something, as its master."""
        with self.master() as cursor:
            for statement in statements:
                cursor.execute(statement)

    def fill(self, statement: str, rows: Sequence[Sequence[object]]) -> None:
        """Write many rows."""
        with self.master() as cursor:
            cursor.executemany(statement, rows)

    @contextlib.contextmanager
    def master(self):
        """A cursor of whoever may do everything, in its database where there is one."""
        if self.kind == "mariadb":
            import pymysql  # noqa: PLC0415 - an extra

            connection = pymysql.connect(
                unix_socket=f"{self.folder}/socket", user="root", autocommit=True
            )
            with contextlib.suppress(pymysql.err.OperationalError):
                connection.select_db(self.database)
        else:
            import psycopg  # noqa: PLC0415 - an extra

            words = {"host": str(self.folder), "port": self.port, "user": "postgres"}
            try:
                connection = psycopg.connect(**words, dbname=self.database, autocommit=True)
            except psycopg.OperationalError:
                connection = psycopg.connect(**words, dbname="postgres", autocommit=True)
        with contextlib.closing(connection), contextlib.closing(connection.cursor()) as cursor:
            yield cursor

    def _answers(self) -> bool:
        assert self.process.poll() is None, (self.folder / "log").read_text(errors="replace")
        try:
            self.run("SELECT 1")
        except Exception as error:
            if "OperationalError" in type(error).__name__:
                return False
            raise
        return True


@contextlib.contextmanager
def mariadb() -> Iterator[Server]:
    """A MariaDB with a database `game`, which `USER` may read."""
    server, install = _found("/usr/sbin/mariadbd"), _found("/usr/bin/mariadb-install-db")
    with _folder(durable=False) as folder:
        place = f"--datadir={folder}/data"
        _run(
            [install, "--no-defaults", place, "--auth-root-authentication-method=normal",
             "--skip-test-db", f"--tmpdir={folder}"],
            folder,
        )  # fmt: skip
        port = _free_port()
        words = [
            server, "--no-defaults", place, f"--port={port}", f"--bind-address={HERE}",
            f"--socket={folder}/socket", f"--pid-file={folder}/pid", f"--tmpdir={folder}",
            "--skip-name-resolve", "--innodb-buffer-pool-size=32M",
            "--innodb-flush-log-at-trx-commit=0",
        ]  # fmt: skip
        with _living(Server("mariadb", folder, port, words)) as there:
            there.run(
                "CREATE DATABASE game",
                f"CREATE USER {USER}@'{HERE}' IDENTIFIED BY '{SECRET}'",
                f"GRANT SELECT ON game.* TO {USER}@'{HERE}'",
            )
            yield there


@contextlib.contextmanager
def postgresql(*, durable: bool = False) -> Iterator[Server]:
    """A PostgreSQL with a database `game`, which `USER` may read.

    Args:
        durable: it lies on the disk, and what it has answered survives a power cut. No test needs
            that, and most of what a new database takes is the copy of its files.
    """
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    programs = found[-1] if found else Path("/nowhere")
    server, install = _found(f"{programs}/postgres"), _found(f"{programs}/initdb")
    with _folder(durable=durable) as folder:
        words = ["-D", f"{folder}/data", "--username=postgres", "--auth-host=scram-sha-256"]
        _run([install, *words, "--auth-local=trust", "--no-sync", "--encoding=UTF8"], folder)
        port = _free_port()
        words = ["-D", f"{folder}/data", "-p", str(port), "-k", str(folder), "-h", HERE]
        words = [server, *words, *([] if durable else ["-F"]), "-c", f"timezone={ZONE}"]
        words += [] if durable else ["-c", f"max_wal_size={WAL_MAX}"]
        with _living(Server("postgresql", folder, port, words)) as there:
            there.run(
                "CREATE DATABASE game",
                f"CREATE ROLE {USER} LOGIN PASSWORD '{SECRET}'",
                f"GRANT pg_read_all_data TO {USER}",
                f"CREATE ROLE {OWNER} LOGIN PASSWORD '{SECRET}'",
            )
            yield there


def _lives(pid: int) -> bool:
    return stat(PROC / str(pid))[:1] not in ([], ["Z"], ["X"])


def _found(program: str) -> str:
    if not Path(program).exists():
        pytest.skip(f"NOT TESTED: real databases; there is no {program} (`make test` as root)")
    return program


@contextlib.contextmanager
def _folder(*, durable: bool) -> Iterator[Path]:
    """A folder that the account of the server owns: in memory, where there is room for it."""
    there = MEMORY.is_dir() and shutil.disk_usage(MEMORY).free >= MEMORY_BYTES
    place = MEMORY if there and not durable else Path("/tmp")  # noqa: S108 - others may enter it
    with tempfile.TemporaryDirectory(dir=place, prefix="server-", ignore_cleanup_errors=True) as at:
        folder = Path(at)
        if os.geteuid() == 0:
            os.chown(folder, STRANGER, STRANGER)
        yield folder


def _as_nobody(words: Sequence[str]) -> list[str]:
    """No server runs as root."""
    if os.geteuid() != 0:
        return list(words)
    return ["setpriv", f"--reuid={STRANGER}", f"--regid={STRANGER}", "--clear-groups", *words]


def _run(words: Sequence[str], folder: Path) -> None:
    done = subprocess.run(
        _as_nobody(words), cwd=folder, capture_output=True, check=False, stdin=subprocess.DEVNULL
    )
    assert done.returncode == 0, (done.stdout + done.stderr).decode()


@contextlib.contextmanager
def _living(server: Server) -> Iterator[Server]:
    try:
        yield server
    finally:
        server.stop()


def _free_port() -> int:
    with socket.socket() as one:
        one.bind((HERE, 0))
        return int(one.getsockname()[1])
