"""What is true now, and what has been."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from pathlib import Path

from state import samples
from supervisor import follow, screen
from supervisor.commands import Adding
from supervisor.context import Context, Refused, print_json
from supervisor.core.moments import since
from supervisor.core.sought import Sought, chosen
from supervisor.host.clock import pause
from supervisor.host.home import machine_id
from supervisor.output import Choice, Line, Output
from supervisor.report import Report, goodput
from supervisor.terminal import drawn, escaped

PLACE = 30


def add(command: Adding) -> None:
    """Add these commands."""
    command("show-state", _show_state, "what it does, and what comes next, when and why", "json")
    _add_values(command)
    command("runs", _runs, "the queue", "json")
    command(
        "goodput", _goodput, "how much of the time became training, and where the rest went", "json"
    )
    _add_decisions(command)
    _add_samples(command)
    command(
        "logs",
        _logs,
        "what the trainer of a run prints",
        "run",
        "lines",
        "chosen",
        more="Over all its attempts, each of which begins with a line that says when, and in which "
        "boot. N counts the lines that are asked for alone.",
    )


def _add_values(command: Adding) -> None:
    """Add the commands that print one bare value."""
    command("get-mode", _get_mode, "the mode, as one bare word", "json")
    sub = command(
        "get-uptime", _get_uptime, "whole seconds for which the mode has been training", "json"
    )
    sub.add_argument("--machine", action="store_true", help="since the machine came up instead")
    sub = command(
        "get-reboots", _get_reboots, "crashes of the machine within the last hour", "json"
    )
    sub.add_argument("--total", action="store_true", help="since history began instead")


def _add_decisions(command: Adding) -> None:
    """Add the command that shows the decision log."""
    sub = command(
        "decisions",
        _decisions,
        "the decision log, newest last",
        "json",
        "lines",
        more="With several of --event, --run and --since: the lines that all of them mean. N "
        "counts those alone.",
    )
    sub.add_argument(
        "--event",
        metavar="NAME",
        action="append",
        help="only that event, such as mode.changed, or with `run` all that begin with `run.`; "
        "may be repeated",
    )
    sub.add_argument(
        "--run", metavar="RUN", help="only lines about that run, by name or id; `runs` lists them"
    )
    sub.add_argument(
        "--since",
        metavar="TIME",
        help="only lines from then on: an ISO time (local where it names no zone), or an age such "
        "as 90s, 15min, 6h, 2d",
    )


def _add_samples(command: Adding) -> None:
    """Add the command that shows what the machine was like."""
    sub = command(
        "samples",
        _samples,
        "what the machine was like, hour by hour: processor, memory, GPUs, what trained",
        "json",
        more="A mean and, after the slash, the highest value. `own` is what training and the "
        "supervisor took; the rest was others.",
    )
    sub.add_argument(
        "--since",
        metavar="TIME",
        default="24h",
        help="from then on: an ISO time (local where it names no zone), or an age such as 90s, "
        "15min, 6h, 2d; by default 24h",
    )
    sub.add_argument("--csv", action="store_true", help="every sample on a line of CSV instead")


def _show_state(context: Context) -> int:
    from supervisor.host.install import timers  # noqa: PLC0415 - other commands stay quick

    state = context.report(timers.look(context.home.path), foretell=True)
    print_json(state) if context.options.json else print(screen.state(state))
    return 1 if state.trouble else 0


def _get_mode(context: Context) -> int:
    return _print_bare(context, context.report(), lambda state: state.mode)


def _get_uptime(context: Context) -> int:
    machine = context.options.machine
    return _print_bare(
        context,
        context.report(),
        lambda state: int(state.uptime_s if machine else state.mode_running_s),
    )


def _get_reboots(context: Context) -> int:
    total = context.options.total
    return _print_bare(
        context,
        context.report(),
        lambda state: state.crashes_total if total else state.crashes_last_hour,
    )


def _print_bare(context: Context, state: Report, value: Callable[[Report], str | int]) -> int:
    """One bare value for scripts; what is wrong with the state goes to stderr."""
    for text in state.trouble:
        print(f"supervisor: {text}", file=sys.stderr)
    print_json(value(state)) if context.options.json else print(value(state))
    return 1 if state.trouble else 0


def _runs(context: Context) -> int:
    state = context.report(foretell=True)
    print_json(state.runs) if context.options.json else print(screen.runs(state, waits=True))
    return 0


def _goodput(context: Context) -> int:
    measured = goodput(context.home, context.config_or_why, context.now())
    print_json(measured) if context.options.json else print(screen.goodput(measured))
    return 0


def _decisions(context: Context) -> int:
    from supervisor import journal  # noqa: PLC0415 - loads the renderer

    options, path = context.options, context.home.decisions
    render = journal.renderer(sys.stdout)
    wanted = _sought(context)

    def show(line: journal.Line) -> None:
        print(escaped(journal.encode(line).decode()) if options.json else render(line))

    coming = follow.follow(path) if options.follow else iter(())
    there = journal.tail(path, options.lines, wanted.takes if wanted.narrows else None)
    for line in there:
        show(line)
    sys.stdout.flush()
    shown = {journal.encode(line) for line in there}  # what came meanwhile may be among them
    for raw in coming:
        for line in journal.parse([raw]):
            if wanted.takes(line) and journal.encode(line) not in shown:
                show(line)
                sys.stdout.flush()
    return 0


def _samples(context: Context) -> int:
    from supervisor.core import hours  # noqa: PLC0415 - the daemon does not need it

    options = context.options
    if options.csv and options.json:
        raise Refused("either --json or --csv")
    try:
        since_at = since(options.since, context.now().wall)
    except ValueError as error:
        raise Refused(str(error)) from error
    found = samples.read(context.home.samples, since_at, machine=machine_id())
    if options.csv:
        print(hours.CSV_HEAD)
        for one in found:
            print(escaped(hours.csv_line(one)))
        return 0
    known = hours.by_hour(found)
    print_json(known) if options.json else print(screen.samples(known))
    return 0


def _sought(context: Context) -> Sought:
    """The lines of the log that are asked for.

    Raises:
        Refused: there is no such event, or the time is none.
        NoSuchRun: there is no such run.
        AmbiguousRun: there are several.
    """
    options = context.options
    try:
        events = chosen(options.event) if options.event else None
        since_at = None if options.since is None else since(options.since, context.now().wall)
    except ValueError as error:
        raise Refused(str(error)) from error
    run = None if options.run is None else context.run(options.run).id
    return Sought(events=events, run=run, since_at=since_at)


def _logs(context: Context) -> int:
    print_output(context, context.home.run(context.run(context.options.run).id).output)
    return 0


def print_output(context: Context, path: Path, is_over: Callable[[], bool] | None = None) -> None:
    """Print the lines of an output that the options ask for.

    Args:
        context: with the options `lines` and `chosen`.
        path: of the output.
        is_over: whether nothing more will come: then following ends; None: never.

    Raises:
        Refused: the time is none.
    """
    options, terminal = context.options, sys.stdout.isatty()
    try:
        since_at = None if options.since is None else since(options.since, context.now().wall)
    except ValueError as error:
        raise Refused(str(error)) from error
    output, choice = Output(path), Choice(options.level, since_at)

    def show(lines: Iterable[Line]) -> None:
        for line in lines:
            if terminal:
                print(drawn(line.text))
            else:  # whoever reads on wants what was written
                sys.stdout.buffer.write(line.text + b"\n")
        sys.stdout.flush()

    there = output.tail(options.lines, choice).lines
    if not options.follow:
        show((*there, *choice.of(output.rest()))[-options.lines :])
        return
    show(there)
    while True:
        over = is_over is not None and is_over()  # before the look, which then sees all of it
        while lines := output.fresh():
            show(choice.of(lines))
        if over:
            show(choice.of(output.rest()))
            return
        pause(follow.LOOK_S)
