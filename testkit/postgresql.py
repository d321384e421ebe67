"""A PostgreSQL server of one's own, for as long as it is wanted."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path

import pytest

ACCOUNT = "postgres"
"""as which root starts one, since no server runs as root"""
OPTIONS = "-c listen_addresses=127.0.0.1 -c timezone=Europe/Berlin"


class Server:
    """It listens on a port of this machine, trusts everybody, and has one database.

    The zone of its sessions is Europe/Berlin, so that nobody takes its times for UTC.

    Args:
        durable: what it has answered survives a power cut, which no test needs, and takes time.
    """

    def __init__(self, *, durable: bool = False) -> None:
        self._fsync = "on" if durable else "off"
        found = sorted(Path("/usr/lib/postgresql").glob("*/bin/pg_ctl"))
        if not found:
            pytest.skip("NOT TESTED: a real PostgreSQL; none is here (apt-get install postgresql)")
        self._programs = found[-1].parent
        self._folder = Path(tempfile.mkdtemp(prefix="postgresql-"))
        self._as = ["setpriv", f"--reuid={ACCOUNT}", f"--regid={ACCOUNT}", "--clear-groups"]
        if os.geteuid() == 0:
            shutil.chown(self._folder, ACCOUNT, ACCOUNT)
        else:
            self._as = []
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self._run("initdb", "--auth=trust", "--no-sync", "--username=me", "--encoding=UTF8")
        self.start()

    @property
    def url(self) -> str:
        """Its database, with a password that nobody asks for."""
        return f"postgresql://me:secret@127.0.0.1:{self.port}/postgres"

    def create_schema(self, name: str) -> str:
        """The URL of a schema of that name, which holds nothing yet."""
        self._execute(f"CREATE SCHEMA {name}")
        return f"{self.url}?options=-csearch_path%3D{name}"

    def create_database(self, name: str, template: str = "template1") -> str:
        """The URL of one more database, a copy of another that nobody uses."""
        self._execute(f"CREATE DATABASE {name} TEMPLATE {template}")
        return self.url.removesuffix("postgres") + name

    def start(self) -> None:
        """Start it, and wait until it answers."""
        options = f"{OPTIONS} -c fsync={self._fsync} -p {self.port} -k {self._folder}"
        log = str(self._folder / "log")
        self._run("pg_ctl", "-w", "-l", log, "-o", options, "start")

    def stop(self) -> None:
        """Stop it as a machine does that goes down: whoever is connected hears no farewell."""
        self._run("pg_ctl", "-w", "-m", "immediate", "stop")

    def remove(self) -> None:
        """Leave nothing of it."""
        if (self._folder / "data/postmaster.pid").exists():
            self.stop()
        shutil.rmtree(self._folder)

    def _execute(self, statement: str) -> None:
        import psycopg  # noqa: PLC0415 - an extra

        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(statement)

    def _run(self, program: str, *words: str) -> None:
        place = ["-D", str(self._folder / "data")]
        subprocess.run(
            [*self._as, self._programs / program, *place, *words],
            check=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            cwd=self._folder,
        )
