"""The API of jobs, and the dispatcher that hands them over to the daemon."""

from __future__ import annotations

import argparse

import msgspec

from supervisor.commands import Adding
from supervisor.commands.jobs import PACKAGES, NoStore
from supervisor.context import Context, Refused
from supervisor.programs import program

PLACE = 61
SERVER = ("anyio", "h11", "starlette", "uvicorn")
"""packages of the extra that only the API needs"""


def add(command: Adding) -> None:
    """Add these commands."""
    sub = command(
        "serve",
        _serve,
        "take jobs in over HTTP, and hand them over to the supervisor, until Ctrl-C",
        more="Beside `supervisor run`, which trains them. Answers at `listen` of [jobs], which is "
        "127.0.0.1:8000 by default; where other machines reach it, tenants need tokens.",
    )
    sub.add_argument("--listen", metavar="HOST:PORT", help="somewhere else; port 0: any free one")
    sub = command(
        "dispatch",
        _dispatch,
        "hand jobs of the job store over to the supervisor, without an API, until Ctrl-C",
        more="For further machines that share a PostgreSQL, and where `jobs submit` is enough.",
    )
    # As `serve` starts it.
    sub.add_argument("--beside", action="store_true", help=argparse.SUPPRESS)


def _serve(context: Context) -> int:
    _look_for_packages()
    from supervisor import serving  # noqa: PLC0415 - the server and SQLAlchemy are heavy

    config = context.config
    jobs = config.settings.jobs
    if context.options.listen is not None:
        try:
            jobs = msgspec.structs.replace(jobs, listen=context.options.listen)
        except ValueError as error:
            raise Refused(f"--listen: {error}") from error
    context.home.make()
    migrate, beside = (
        _command(context, "jobs", "migrate"),
        _command(context, "dispatch", "--beside"),
    )
    return serving.serve(context.home, config, jobs, migrate, beside, _say)


def _dispatch(context: Context) -> int:
    _look_for_packages()
    from supervisor import serving  # noqa: PLC0415 - SQLAlchemy is heavy

    context.home.make()
    migrate = _command(context, "jobs", "migrate")
    prune = _command(context, "jobs", "prune", "--quiet")
    beside = context.options.beside
    return serving.dispatch(context.home, context.config, migrate, prune, _say, beside=beside)


def _look_for_packages() -> None:
    """See that the extra is installed.

    Raises:
        NoStore: a package of it is missing.
    """
    from importlib.util import find_spec  # noqa: PLC0415 - other commands stay quick

    for package in (*PACKAGES, *SERVER):
        if find_spec(package) is None:
            raise NoStore(package)


def _command(context: Context, *words: str) -> list[str]:
    """A command about the same home, by the same settings."""
    command = [*program("supervisor.cli"), "--home", str(context.home.path)]
    if context.options.config:
        command += ["--config", str(context.options.config)]
    return [*command, *words]


def _say(line: str) -> None:
    print(line, flush=True)
