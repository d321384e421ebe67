"""Being the supervisor, ending it, and watching it."""

from __future__ import annotations

import contextlib
import faulthandler
import os
import sys

from modes.toml_file import InvalidFile
from supervisor.beside import served
from supervisor.commands import Adding
from supervisor.commands.jobs import NoStore
from supervisor.commands.serving import NoPage, see_packages
from supervisor.config import usual_rules
from supervisor.context import Context, Refused
from supervisor.errors import SupervisorError
from supervisor.host import init
from supervisor.host.clock import SystemClock

PLACE = 10


def add(command: Adding) -> None:
    """Add these commands."""
    sub = command(
        "run",
        _run,
        "be the supervisor, in the foreground, until Ctrl-C",
        more="With --serve the page is shown, and jobs are taken in, by `supervisor serve`, a "
        "process of its own that is begun again where it dies; `enabled = false` in [web] or "
        "[jobs] keeps it from either.",
    )
    sub.add_argument("--plain", action="store_true", help="lines instead of the live view")
    sub.add_argument(
        "--until-done", action="store_true", help="end with the campaign; 1 if a run has failed"
    )
    sub.add_argument("--serve", action="store_true", help="show the page, and take jobs in, beside")
    command(
        "stop",
        _stop,
        "save and stop every run and the supervisor; nobody is left",
        more="To stop training and keep the supervisor, use `pause`.",
    )
    command("live", _live, "watch a running supervisor; leaving the view changes nothing")


def _run(context: Context) -> int:
    if os.getpid() == 1:
        ended = init.stay_behind()
        if ended is not None:
            return ended
    options = context.options
    if not options.plain and sys.stdout.isatty():
        _ = context.config  # whoever looks on can mend the settings at once
        try:
            from supervisor import live  # noqa: PLC0415 - an extra, for the view alone
        except ImportError:
            pass  # the extra `live` is not installed: plain lines do
        else:
            more = ["--until-done"] if options.until_done else []
            daemon = context.command("run", "--plain", *more)
            with _served(context, on_screen=False):
                return live.run_with_view(context.home, daemon, context.report)
    from supervisor.assembly import supervise  # noqa: PLC0415 - other commands stay quick

    faulthandler.enable()  # systemd's watchdog aborts a daemon that hangs: show where it did
    with _served(context, on_screen=True):
        return supervise(context.home, context.config_on_trial, until_done=options.until_done)


def _served(context: Context, *, on_screen: bool) -> contextlib.AbstractContextManager[None]:
    """The page and the API beside us, where they are asked for and can be."""
    home = context.home
    if not context.options.serve or home.holder() is not None:
        return contextlib.nullcontext()
    settings = context.kept_config.settings
    if not (settings.web.enabled or settings.jobs.enabled):
        return contextlib.nullcontext()
    try:
        see_packages(settings)
    except (NoPage, NoStore) as error:
        print(f"supervisor: nothing is served beside: {error}", file=sys.stderr)
        return contextlib.nullcontext()
    home.make()
    return served(home, context.command("serve", "--beside"), on_screen=on_screen)


def _stop(context: Context) -> int:
    from supervisor.stop import stop  # noqa: PLC0415 - reading commands stay quick

    try:
        rules = context.kept_config.rules
    except (InvalidFile, SupervisorError):
        rules = usual_rules()
    print(stop(context.home, SystemClock(), rules))
    return 0


def _live(context: Context) -> int:
    if not sys.stdout.isatty():
        raise Refused("live needs a terminal; in a pipe: `show-state`, or `decisions -f`")
    try:
        from supervisor import live  # noqa: PLC0415 - an extra, for the view alone
    except ImportError as error:
        raise SupervisorError(
            "live needs the extra: pip install 'training-supervisor[live]'"
        ) from error
    return live.view(context.home, context.report)
