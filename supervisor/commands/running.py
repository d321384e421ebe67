"""Being the supervisor, ending it, and watching it."""

from __future__ import annotations

import faulthandler
import os
import sys

from modes.toml_file import InvalidFile
from supervisor.commands import Adding
from supervisor.config import usual_rules
from supervisor.context import Context, Refused
from supervisor.errors import SupervisorError
from supervisor.host import init
from supervisor.host.clock import SystemClock
from supervisor.programs import program

PLACE = 10


def add(command: Adding) -> None:
    """Add these commands."""
    sub = command("run", _run, "be the supervisor, in the foreground, until Ctrl-C")
    sub.add_argument("--plain", action="store_true", help="lines instead of the live view")
    sub.add_argument(
        "--until-done", action="store_true", help="end with the campaign; 1 if a run has failed"
    )
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
    if not context.options.plain and sys.stdout.isatty():
        _ = context.config  # whoever looks on can mend the settings at once
        try:
            from supervisor import live  # noqa: PLC0415 - an extra, for the view alone
        except ImportError:
            pass  # the extra `live` is not installed: plain lines do
        else:
            return live.run_with_view(context.home, _daemon_command(context), context.report)
    from supervisor.assembly import supervise  # noqa: PLC0415 - other commands stay quick

    faulthandler.enable()  # systemd's watchdog aborts a daemon that hangs: show where it did
    until_done = context.options.until_done
    return supervise(context.home, context.config_on_trial, until_done=until_done)


def _daemon_command(context: Context) -> list[str]:
    command = [*program("supervisor.cli"), "--home", str(context.home.path)]
    if context.options.config:
        command += ["--config", str(context.options.config)]
    command += ["run", "--plain"]
    return [*command, "--until-done"] if context.options.until_done else command


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
