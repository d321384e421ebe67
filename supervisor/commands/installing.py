"""Starting at boot, and no longer."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator

from supervisor.commands import Adding
from supervisor.config import Config
from supervisor.context import Context, Refused
from supervisor.host.home import Home
from supervisor.host.install.steps import Beside

PLACE = 20


def add(command: Adding) -> None:
    """Add these commands."""
    for name, act, text, more in (
        ("install", _install, "start it at boot", "Says what it does and how to undo it."),
        ("uninstall", _uninstall, "no longer start it at boot", "Runs and settings are kept."),
    ):
        sub = command(name, act, text, more=more)
        kinds = sub.add_mutually_exclusive_group()
        for kind, what in (
            ("system", "a service of the machine, with an account of its own"),
            ("user", "a service of this user"),
            ("cron", "lines in this user's crontab"),
            ("profile", "a line in this user's login profile"),
        ):
            kinds.add_argument(
                f"--{kind}", dest="kind", action="store_const", const=kind, help=what
            )
        sub.add_argument("--dry-run", action="store_true", help="only show what would be done")
        if name == "install":
            for word, dest, what in (
                ("with", "added", "with timers that learn usage, or with the API of jobs"),
                ("without", "dropped", "without these; by default they stay as they are"),
            ):
                sub.add_argument(
                    f"--{word}",
                    dest=dest,
                    action="append",
                    default=[],
                    choices=("usage", "api"),
                    help=what,
                )
            for flag, what in (
                ("bind", "have the service see this, although it lies in a home"),
                ("writable", "have it see this and write to it"),
            ):
                sub.add_argument(
                    f"--{flag}", metavar="PATH", action="append", default=[], help=what
                )


def _install(context: Context) -> int:
    from supervisor import doctor  # noqa: PLC0415 - reading commands stay quick
    from supervisor.host import install  # noqa: PLC0415 - as above

    options, beside = context.options, _beside(context.options)
    if context.config_named:
        raise Refused(
            "an installed supervisor reads its own supervisor.toml: put your settings there, and "
            "leave --config and $SUPERVISOR_CONFIG out"
        )
    kind, why = (options.kind, "as asked") if options.kind else install.best_kind()
    asked = install.Asked(tuple(options.bind), tuple(options.writable))
    if any(asked) and kind != "system":
        raise Refused(
            "--bind and --writable are for --system: the other kinds see all that you see"
        )
    plan = install.plan(kind, context.named_home, asked, beside)
    others = [one.kind for one in install.installed(context.named_home) if one.kind != kind]
    if others:
        raise Refused(
            f"it is installed already, as {others[0]}: supervisor uninstall --{others[0]}"
        )
    steps = plan.steps()
    # A person looks on: what is wrong is better said now. Those of the service are root's file.
    config = Config(plan.settings or Home(plan.home).settings)
    print(f"kind: {kind} ({why})")
    if kind == "system":
        os.umask(0o022)  # the account of the service reads what root writes here
        lacking = (one.text for one in doctor.unseen_by(install.seeing(asked), config))
        for line in (*lacking, *install.unwritable(asked)):
            print(f"supervisor: {line}", file=sys.stderr)
    for remark in _idle(config, beside):
        print(f"supervisor: {remark}", file=sys.stderr)
    for line in install.carry_out(steps, dry_run=options.dry_run):
        print(line)
    if not options.dry_run:
        where = f"--home {context.named_home} " if context.named_home else ""
        if any(asked):
            print("a run that has failed for want of these: supervisor retry RUN")
        print(f"{plan.after}\nto undo: supervisor {where}uninstall")
    return 0


def _beside(options: argparse.Namespace) -> Beside:
    """What is to stand beside the supervisor.

    Raises:
        Refused: something is to stand there, and not to.
    """
    if both := {*options.added} & {*options.dropped}:
        raise Refused(f"--with and --without {both.pop()}: say one of the two")
    return Beside(**dict.fromkeys(options.added, True), **dict.fromkeys(options.dropped, False))


def _idle(config: Config, beside: Beside) -> Iterator[str]:
    """What will find nothing to do of that which is asked for."""
    settings = config.settings
    if beside.api and not (settings.jobs.enabled or settings.web.enabled):
        yield "[web] and [jobs] have enabled = false: while both have, `serve` ends at once"
    if not beside.usage:
        return
    if settings.quiet_hours is None:
        yield "the settings have no [quiet_hours]: until they have, the timers do nothing"
    elif not any(source.kind == "online" for source in settings.quiet_hours.sources.values()):
        yield 'no source has kind = "online": until one has, sample-usage does nothing'


def _uninstall(context: Context) -> int:
    from supervisor.host import install  # noqa: PLC0415 - reading commands stay quick

    options = context.options
    plans = install.installed(context.named_home)
    plans = tuple(plan for plan in plans if options.kind in (None, plan.kind))
    for plan in plans:
        print(f"kind: {plan.kind}")
        for line in install.carry_out(plan.undo(), dry_run=options.dry_run):
            print(line)
        print(plan.kept)
    if not plans:
        print("nothing is installed")
    return 0
