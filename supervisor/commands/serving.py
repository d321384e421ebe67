"""What answers over HTTP, and the dispatcher that hands jobs over to the daemon."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

import msgspec

from supervisor.commands import Adding
from supervisor.commands.jobs import NoStore
from supervisor.context import Context, Refused
from supervisor.core.moments import span
from supervisor.core.settings import Settings
from supervisor.core.web_settings import is_address
from supervisor.errors import SupervisorError
from supervisor.host import api

if TYPE_CHECKING:
    from supervisor.access import Right

PLACE = 61
RIGHTS = ("look", "act")


class NoPage(SupervisorError):
    """The extra of the page is not installed."""

    exit_code = 78  # EX_CONFIG

    def __init__(self, package: str) -> None:
        super().__init__(
            f"the page needs {package}: pip install 'training-supervisor[web]', or [jobs] for "
            "both, the page and jobs"
        )


class NotServed(SupervisorError):
    """Nobody serves the page that a link would lead to."""

    exit_code = 75  # EX_TEMPFAIL

    def __init__(self) -> None:
        super().__init__("nobody serves the page of this home: start `supervisor serve`")


def add(command: Adding) -> None:
    """Add these commands."""
    sub = command(
        "serve",
        _serve,
        "show the page, and take jobs in, over HTTP, until Ctrl-C",
        more="Beside `supervisor run`, which trains. Answers at `listen` of [web], which is "
        "127.0.0.1:8000 by default; where other machines reach it, whoever asks needs a token, "
        "or a link that --link prints. Without the packages of jobs it shows the page alone.",
    )
    sub.add_argument("--listen", metavar="HOST:PORT", help="somewhere else; port 0: any free one")
    sub.add_argument(
        "--link",
        nargs="?",
        const="look",
        choices=RIGHTS,
        metavar="RIGHT",
        help="print a link to the page that is served, and end: `look`, which may be shared, and "
        "lets nobody do anything, or `act`, which lets the first who opens it press buttons",
    )
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
    config, options = context.kept_config, context.options
    if options.link is not None:
        return _link(context, options.link)
    asked = config.settings
    if (lacks := see_packages(asked)) is not None:
        say(f"no jobs are taken in: {NoStore(lacks)}")
        jobs = msgspec.structs.replace(asked.jobs, enabled=False)
        asked = msgspec.structs.replace(asked, jobs=jobs)
    if options.listen is not None:
        if not is_address(options.listen):
            raise Refused("--listen: it is no address and port such as 127.0.0.1:8000")
        web = msgspec.structs.replace(asked.web, listen=options.listen)
        jobs = msgspec.structs.replace(asked.jobs, listen=None)
        asked = msgspec.structs.replace(asked, web=web, jobs=jobs)
    from supervisor import serving  # noqa: PLC0415 - the server is heavy

    context.home.make()
    commands = serving.Commands(
        migrate=context.command("jobs", "migrate"),
        dispatcher=context.command("dispatch", "--beside"),
    )
    read = lambda: context.config_or_why  # noqa: E731 - it is read anew each time
    return serving.serve(context.home, config, read, asked, commands, say, beside=options.beside)


def see_packages(settings: Settings) -> str | None:
    """See that what is wanted can be served; which package jobs lack where the page needs none.

    Raises:
        NoPage: a package is missing without which nothing can be served.
        NoStore: one that jobs need, where they alone are wanted.
    """
    lacks, store = api.page_lacks(), api.missing()
    if lacks is not None:
        raise NoPage(lacks)
    if not settings.jobs.enabled or store is None:
        return None
    if not settings.web.enabled:
        raise NoStore(store)
    return store


def _link(context: Context, right: Right) -> int:
    from supervisor.access import Access, lasts_s  # noqa: PLC0415 - it loads OpenSSL
    from supervisor.host.clock import SystemClock  # noqa: PLC0415 - for this alone

    served = api.served(context.home)
    if served is None or served.page is None:
        raise NotServed
    access = Access(context.home, SystemClock(), context.kept_config.settings)
    print(f"{served.page}enter?link={access.link(right)}")
    who = "whoever opens it may look" if right == "look" else "the first who opens it may act"
    say_beside(f"{who}, within {span(lasts_s(right))}")
    return 0


def _dispatch(context: Context) -> int:
    look_for_packages()
    from supervisor import dispatching  # noqa: PLC0415 - SQLAlchemy is heavy

    config, beside = context.kept_config, context.options.beside
    if not beside:
        context.home.make()
    elif not context.home.path.exists():
        return 0  # it was moved or removed, and whoever has started this sees that as well
    migrate, prune = context.command("jobs", "migrate"), context.command("jobs", "prune", "--quiet")
    return dispatching.dispatch(context.home, config, migrate, prune, say, beside=beside)


def look_for_packages() -> None:
    """See that the extra is installed.

    Raises:
        NoStore: a package of it is missing.
    """
    if (package := api.missing()) is not None:
        raise NoStore(package)


def say(line: str) -> None:
    """Tell a person something."""
    print(line, flush=True)


def say_beside(line: str) -> None:
    """Tell a person something that is no answer."""
    print(f"supervisor: {line}", file=sys.stderr)
