"""The API of jobs, and the dispatcher that hands them over to the daemon."""

from __future__ import annotations

import argparse

import msgspec

from supervisor.commands import Adding
from supervisor.commands.jobs import NoStore
from supervisor.context import Context, Refused
from supervisor.host import api

PLACE = 61


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
    # As `run --serve` starts it.
    sub.add_argument("--beside", action="store_true", help=argparse.SUPPRESS)
    sub = command(
        "dispatch",
        _dispatch,
        "hand jobs of the job store over to the supervisor, without an API, until Ctrl-C",
        more="For further machines that share a PostgreSQL, and where `jobs submit` is enough.",
    )
    # As `serve` starts it.
    sub.add_argument("--beside", action="store_true", help=argparse.SUPPRESS)


def _serve(context: Context) -> int:
    look_for_packages()
    from supervisor import serving  # noqa: PLC0415 - the server and SQLAlchemy are heavy

    config = context.kept_config
    jobs = config.settings.jobs
    if context.options.listen is not None:
        try:
            jobs = msgspec.structs.replace(jobs, listen=context.options.listen)
        except ValueError as error:
            raise Refused(f"--listen: {error}") from error
    context.home.make()
    migrate = context.command("jobs", "migrate")
    dispatcher = context.command("dispatch", "--beside")
    beside = context.options.beside
    return serving.serve(context.home, config, jobs, migrate, dispatcher, _say, beside=beside)


def _dispatch(context: Context) -> int:
    look_for_packages()
    from supervisor import serving  # noqa: PLC0415 - SQLAlchemy is heavy

    config, beside = context.kept_config, context.options.beside
    if not beside:
        context.home.make()
    elif not context.home.path.exists():
        return 0  # it was moved or removed, and whoever has started this sees that as well
    migrate, prune = context.command("jobs", "migrate"), context.command("jobs", "prune", "--quiet")
    return serving.dispatch(context.home, config, migrate, prune, _say, beside=beside)


def look_for_packages() -> None:
    """See that the extra is installed.

    Raises:
        NoStore: a package of it is missing.
    """
    if (package := api.missing()) is not None:
        raise NoStore(package)


def _say(line: str) -> None:
    print(line, flush=True)
