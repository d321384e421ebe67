"""The command `supervisor`.

Every command but `run` works whether or not the daemon is up: what is read is
read from the home, what is asked is left in the inbox.
"""

from __future__ import annotations

import argparse
import errno
import faulthandler
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path

from modes import UnknownMode
from modes.toml_file import InvalidFile
from state.records import Run
from state.store import NewerState, Store
from supervisor import follow, init, policy_commands, screen
from supervisor.clock import SystemClock, since
from supervisor.config import Config, usual_rules
from supervisor.context import (
    EXIT_REFUSED,
    OF_THE_MACHINE,
    Context,
    Refused,
    print_json,
    whole_number,
)
from supervisor.core.sought import Sought, chosen
from supervisor.errors import SupervisorError
from supervisor.home import Home, HomeUnusable
from supervisor.owner import BeyondTheOwner
from supervisor.programs import program, with_trainers
from supervisor.report import Report, goodput
from supervisor.terminal import drawn, escaped
from supervisor.terminal import screen as screen_of
from trainers.contract import EXIT_AGAIN, NAME, NewerFile

QUIET_LOOK_S = 0.2
"""how soon to look again whether runs that are paused have saved"""
RECORDING_MAX_S = 600
"""of play in one recording"""

AT_ANY_HOME = frozenset((*OF_THE_MACHINE, "simulate"))
"""commands that ask nothing of the home that is meant where none is named"""
BEGINNINGS = frozenset(("run", "tune", "trainers", "check-config", "doctor"))
"""commands that a home may begin with"""

DESCRIPTION = """\
Trains what is in the queue on a machine that falls over: climbs to heavier
modes while the machine is stable, falls back when it reboots too often, and
resumes every run from its last checkpoint.
"""

EPILOG = """\
examples:
  supervisor run                     train the default campaign, in the foreground
  supervisor show-state              what it does, and what comes next
  supervisor decisions -f            why it does so, as it happens
  supervisor why                     the newest decision, with all that it was made from
  supervisor force-scale-up          the next mode, now
  supervisor logs Pong -f            what one trainer prints
  supervisor record Pong             how it plays by now, as a GIF

the home (state, runs, logs) is --home, else $SUPERVISOR_HOME, else that of the
installed service (/var/lib/training-supervisor) where you may read it, else
~/.local/share/training-supervisor; settings are --config, else
$SUPERVISOR_CONFIG, else supervisor.toml in the home, all keys optional.

exit codes: 0 well, 1 failed, 2 refused or misused, 73 the home cannot be used,
75 try again later, 78 the settings are wrong.
"""


class NotStarted(SupervisorError):
    """A run that has learnt nothing yet."""

    exit_code = EXIT_AGAIN

    def __init__(self, called: str) -> None:
        super().__init__(
            f"the run {called} has not started yet; try again when `supervisor runs` shows its "
            "first checkpoint"
        )


class NoAnswer(SupervisorError):
    """The daemon is up and has not answered a wish in time."""

    exit_code = 75  # EX_TEMPFAIL

    def __init__(self, wait_s: float) -> None:
        super().__init__(
            f"the supervisor has not answered within {wait_s:.0f} s; the wish waits in the "
            "inbox; look with `supervisor decisions`"
        )


class TooManyProcesses(SupervisorError):
    """The system starts no process, or no thread, for us."""

    exit_code = 75  # EX_TEMPFAIL

    def __init__(self) -> None:
        super().__init__(
            "no process or thread can be started: a limit on them is reached (look at `ulimit -u` "
            "and at pids.max of the control group); `show-state` and `stop` need none"
        )


def main(arguments: list[str] | None = None) -> int:
    """Run one command; its exit code."""
    for stream in (0, 1, 2):  # closed by whoever started us; a file of ours must not get its number
        _ensure_open(stream)
    os.umask(os.umask(0) | 0o022)  # whatever is made, by us or by a trainer, nobody else writes to
    os.environ["PYTHON_COLORS"] = "0"  # newer versions of Python colour help and tracebacks
    with redirect_stdout(screen_of(sys.stdout)), redirect_stderr(screen_of(sys.stderr)):
        return _answer(arguments)


def _answer(arguments: list[str] | None) -> int:
    parser = build_parser()
    options = parser.parse_args(arguments)
    if options.command is None:
        parser.print_help()
        return EXIT_REFUSED
    context: Context | None = None
    try:
        with _limits_told():
            context = Context(options)
            if options.command not in AT_ANY_HOME:
                context.greet_stranger(begins=options.command in BEGINNINGS)
            code = options.act(context)
            sys.stdout.flush()
            return int(code)
    except (SupervisorError, InvalidFile, NewerState, NewerFile, UnknownMode) as error:
        for line in str(error).split("\n"):
            print(f"supervisor: {line}", file=sys.stderr)
        return int(getattr(error, "exit_code", 1))
    except UnicodeEncodeError as error:  # a word that was given to us, in whatever bytes
        wrong = error.object[error.start : error.end]
        print(f"supervisor: {wrong!a} cannot be written as {error.encoding}", file=sys.stderr)
        return EXIT_REFUSED
    except BrokenPipeError:
        # Whoever read our output has had enough, as `head` does.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        return 130
    except OSError as error:
        where = os.fsdecode(error.filename or "")
        told = f"{where}: {error.strerror}" if where else f"{error.strerror or error}"
        print(f"supervisor: {told}", file=sys.stderr)
        home = context.home if context is not None else None
        # What lies in a run's folder is that run's alone.
        unusable = home and Path(where).is_relative_to(home.path)
        unusable = unusable and home and not Path(where).is_relative_to(home.runs)
        return HomeUnusable.exit_code if unusable else 1


@contextmanager
def _limits_told() -> Iterator[None]:
    """Say what Python and the system say in their own words.

    Raises:
        TooManyProcesses: there was no room for one more.
    """
    try:
        yield
    except RuntimeError as error:  # as the module threading has it
        if "can't start new thread" not in str(error):
            raise
        raise TooManyProcesses from error
    except BlockingIOError as error:  # of a fork; that of a stream has words of its own
        if error.strerror != os.strerror(errno.EAGAIN):
            raise
        raise TooManyProcesses from error


# Commands


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
    return supervise(context.home, context.kept_config, until_done=until_done)


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


def _install(context: Context) -> int:
    from supervisor import install  # noqa: PLC0415 - reading commands stay quick

    options = context.options
    if context.config_named:
        raise Refused(
            "an installed supervisor reads its own supervisor.toml: put your settings there, and "
            "leave --config and $SUPERVISOR_CONFIG out"
        )
    kind, why = (options.kind, "as asked") if options.kind else install.best_kind()
    plan = install.plan(kind, context.named_home)
    others = [one.kind for one in install.installed(context.named_home) if one.kind != kind]
    if others:
        raise Refused(
            f"it is installed already, as {others[0]}: supervisor uninstall --{others[0]}"
        )
    steps = plan.steps()
    # A person looks on: what is wrong is better said now. Those of the service are root's file.
    Config(install.SETTINGS if kind == "system" else Home(plan.home).settings)
    if kind == "system":
        os.umask(0o022)  # the account of the service reads what root writes here
    print(f"kind: {kind} ({why})")
    for line in install.carry_out(steps, dry_run=options.dry_run):
        print(line)
    if not options.dry_run:
        where = f"--home {context.named_home} " if context.named_home else ""
        print(f"{plan.after}\nto undo: supervisor {where}uninstall")
    return 0


def _uninstall(context: Context) -> int:
    from supervisor import install  # noqa: PLC0415 - reading commands stay quick

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


def _show_state(context: Context) -> int:
    state = context.report()
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


def _wish(kind: str) -> Callable[[Context], int]:
    def act(context: Context) -> int:
        from supervisor import wishes  # noqa: PLC0415 - reading commands stay quick

        mode = getattr(context.options, "mode", None)
        if mode is not None and not NAME.fullmatch(mode):  # no file of modes could be named so
            raise Refused(f"{mode!a} is no name of a mode")
        # A mistake in the settings must keep nobody from a pause.
        config = context.kept_config
        named = getattr(context.options, "run", None)
        answer = wishes.ask(
            context.home,
            config,
            context.now(),
            kind,
            mode=mode,
            run=None if named is None else context.run(named).id,
            by=context.login,
        )
        if answer.refused:
            raise Refused(answer.reason)
        if not answer.decided and answer.waited_s:
            raise NoAnswer(answer.waited_s)
        print(answer.reason)
        return 0

    return act


def _reset(context: Context) -> int:
    if not context.options.yes:
        if not sys.stdin.isatty():
            raise Refused("reset forgets all history; say --yes where nobody can be asked")
        question = (
            f"Forget mode, boots, holds and the queue's progress of {context.home.path}?\n"
            "Checkpoints stay, and a backup of the state is kept. [y/N] "
        )
        try:
            answer = input(question)
        except EOFError:
            answer = ""
        if answer.strip().lower() not in ("y", "yes"):
            raise Refused("nothing was changed")
    from supervisor import wishes  # noqa: PLC0415 - reading commands stay quick

    if context.home.holder() is None:
        print(wishes.reset_now(context.home, context.kept_config, context.now()))
        return 0
    return _wish("reset")(context)


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
    output = context.home.run(context.run(context.options.run).id).output
    terminal = sys.stdout.isatty()

    def show(raw: bytes) -> None:
        if terminal:
            print(drawn(raw))
        else:  # whoever reads on wants what was written
            sys.stdout.buffer.write(raw + b"\n")

    for raw in follow.last_lines(output, context.options.lines):
        show(raw)
    sys.stdout.flush()
    if context.options.follow:
        for raw in follow.follow(output):
            show(raw)
            sys.stdout.flush()
    return 0


def _runs(context: Context) -> int:
    state = context.report()
    print_json(state.runs) if context.options.json else print(screen.runs(state, waits=True))
    return 0


def _goodput(context: Context) -> int:
    measured = goodput(context.home, context.config_or_why, context.now())
    print_json(measured) if context.options.json else print(screen.goodput(measured))
    return 0


def _evaluate(context: Context) -> int:
    run = context.run(context.options.run)
    return _play(context, run, "--evaluate", str(context.options.episodes))


def _record(context: Context) -> int:
    options = context.options
    run = context.run(options.run)
    called = context.called(run)
    output = options.output or f"{called}.gif"
    if context.became and not os.access(Path(output).parent, os.W_OK | os.X_OK):
        raise BeyondTheOwner(Path(output))
    limits = ["--episodes", str(options.episodes), "--seconds", str(options.seconds)]
    if sys.stderr.isatty():  # it may take a minute on a busy machine
        print(f"recording {called} ...", file=sys.stderr)
    return _play(context, run, f"--record={output}", *limits)


def _play(context: Context, run: Run, *arguments: str) -> int:
    """Have a run's trainer play with a checkpoint, in a process of its own."""
    folder = context.home.run(run.id).path
    if not context.home.run(run.id).spec.exists():
        raise NotStarted(context.called(run))
    command = [*program("trainers.__main__"), run.asked.trainer, "--run", str(folder)]
    command += [*arguments, "--checkpoint", context.options.checkpoint]
    command += ["--json"] if context.options.json else []
    try:
        trainers_dir = context.kept_config.trainers_dir
    except (InvalidFile, SupervisorError):
        trainers_dir = None  # ours play whatever the settings say
    # What it prints goes through our screen, which it knows nothing of.
    return follow.passed_on(command, sys.stdout, sys.stderr, with_trainers(trainers_dir))


def _trainers(context: Context) -> int:
    """Have the trainers tell of themselves: of these the supervisor knows nothing but names."""
    options = context.options
    command = [*program("trainers.__main__"), "--list", *(["--json"] if options.json else [])]
    if options.trainer is not None:
        command += ["--", options.trainer]
    environment = with_trainers(context.kept_config.trainers_dir)
    return follow.passed_on(command, sys.stdout, sys.stderr, environment)


def _tune(context: Context) -> int:
    from supervisor import tuning  # noqa: PLC0415 - reading commands stay quick
    from supervisor.cgroup import cores  # noqa: PLC0415 - as above
    from supervisor.core import queue  # noqa: PLC0415 - as above

    home, config = context.home, context.config
    if context.options.once and (home.tuning.exists() or home.holder() is not None):
        return 0
    _await_quiet(context)
    home.make()
    if context.options.once:
        tuning.keep(home.tuning, {})  # whatever becomes of it, nobody waits for it again
    loads = queue.loads(config.ladder, cores())
    trainers = dict.fromkeys(run.asked.trainer for run in config.settings.queue())
    print("finding out what is quickest on this machine, for 20 s or so", file=sys.stderr)
    kept = {trainer: tuning.probe(trainer, loads, config.trainers_dir) for trainer in trainers}
    tuning.keep(home.tuning, kept)
    if context.options.json:
        print_json(kept)
    else:
        print("\n".join(tuning.described(kept)) or "no trainer has more than one way to calculate")
    return 0


def _await_quiet(context: Context) -> None:
    """Wait until nothing trains, if somebody has asked for that.

    Raises:
        Refused: training goes on.
    """
    from supervisor.clock import pause  # noqa: PLC0415 - only here

    patience_s = context.config.settings.recovery.grace_s
    while context.home.holder() is not None:
        memory, _ = Store(context.home.state).peek()
        if memory is None or not memory.running:
            return
        if not memory.goal.paused or patience_s <= 0:
            raise Refused("training would disturb the trials: `supervisor pause` first")
        pause(QUIET_LOOK_S)
        patience_s -= QUIET_LOOK_S


def _check_config(context: Context) -> int:
    from supervisor import doctor  # noqa: PLC0415 - reading commands stay quick

    config = context.config
    problems = doctor.check_options(config)
    if problems:
        raise InvalidFile(problems)
    names = ", ".join(config.ladder.names)
    print(f"well: {len(config.settings.campaign.runs)} runs, modes {names}")
    for notice in config.dated:
        print(f"note: {notice}")
    return 0


def _doctor(context: Context) -> int:
    from supervisor import doctor  # noqa: PLC0415 - reading commands stay quick

    findings = doctor.examine(context.home, context.config_or_why, context.now())
    if context.options.json:
        print_json(findings)
    else:
        print(screen.findings(findings))
    return 1 if any(finding.verdict == "bad" for finding in findings) else 0


def _completion(context: Context) -> int:
    from supervisor import completion  # noqa: PLC0415 - an extra, and only for this

    print(completion.script(build_parser(), context.options.shell))
    return 0


# The command line


def build_parser() -> argparse.ArgumentParser:
    """The whole command line."""
    parser = argparse.ArgumentParser(
        prog="supervisor",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--home", metavar="DIR", help="where state, runs and logs lie")
    parser.add_argument("--config", metavar="FILE", help="the settings file")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", dest="command")

    def command(
        name: str, act: Callable[[Context], int], text: str, *flags: str, more: str = ""
    ) -> argparse.ArgumentParser:
        sub = commands.add_parser(
            name,
            help=text,
            description=f"{text[0].upper()}{text[1:]}. {more}".strip(),
        )
        sub.set_defaults(act=act)
        if "json" in flags:
            sub.add_argument("--json", action="store_true", help="for machines")
        if "run" in flags:
            sub.add_argument("run", metavar="RUN", help="a run's name or id; `runs` lists them")
        if "lines" in flags:
            sub.add_argument(
                "-n", "--lines", metavar="N", type=whole_number, default=20, help="how many (20)"
            )
            sub.add_argument("-f", "--follow", action="store_true", help="go on as it grows")
        return sub

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
    command("live", _live, "watch a running supervisor; leaving the view changes nothing")
    command("show-state", _show_state, "what it does, and what comes next, when and why", "json")
    _add_values(command)
    wishes: tuple[tuple[str, str, str], ...] = (
        ("force-scale-up", "scale_up", "go one mode up, now"),
        ("force-scale-down", "scale_down", "go one mode down, now"),
        ("pin", "pin", "go to a mode and stay there until `unpin`"),
        ("unpin", "unpin", "let the policy choose the mode again"),
        ("forbid", "forbid", "neither that mode nor a heavier one, until `allow`"),
        ("allow", "allow", "take back `forbid`"),
        ("pause", "pause", "save and stop every run until `resume`"),
        ("resume", "resume", "train again after `pause`, or at once while idle"),
    )
    for name, kind, text in wishes:
        sub = command(name, _wish(kind), text)
        if kind in ("pin", "forbid", "allow"):
            sub.add_argument("mode", metavar="MODE")
    command(
        "retry",
        _wish("retry"),
        "try a run again that has failed, is held, or waits after a death",
        "run",
        more="Its deaths are forgotten; it goes on from its newest checkpoint.",
    )
    _add_decisions(command)
    policy_commands.add(command)
    command("logs", _logs, "what the trainer of a run prints", "run", "lines")
    command("runs", _runs, "the queue", "json")
    command(
        "goodput", _goodput, "how much of the time became training, and where the rest went", "json"
    )
    for name, act, text, episodes, more in (
        ("evaluate", _evaluate, "play greedily with a run's checkpoint", 10, ""),
        ("record", _record, "write a GIF of greedy play", 1, "The run trains on meanwhile."),
    ):
        sub = command(name, act, text, "run", "json", more=more)
        sub.add_argument(
            "-e",
            "--episodes",
            metavar="N",
            type=whole_number,
            default=episodes,
            help=f"games to play ({episodes})",
        )
        sub.add_argument(
            "--checkpoint", choices=("best", "newest"), default="best", help="which (best)"
        )
    sub.add_argument("-o", "--output", metavar="FILE", help="default: NAME.gif, here")
    sub.add_argument(
        "-s",
        "--seconds",
        metavar="S",
        type=lambda text: whole_number(text, most=RECORDING_MAX_S),
        default=60,
        help="of play, at most (60)",
    )
    sub = command(
        "reset",
        _reset,
        "forget all history and holds",
        more="Checkpoints and a backup of the state are kept.",
    )
    sub.add_argument("--yes", action="store_true", help="do not ask")
    _add_checks(command)
    sub = command(
        "completion",
        _completion,
        "print the completion script of a shell",
        more='For bash: eval "$(supervisor completion bash)"',
    )
    sub.add_argument("shell", choices=("bash", "zsh", "tcsh"))
    return parser


def _add_checks(command: policy_commands.Adding) -> None:
    """Add the commands that tell what this machine can do, and with what."""
    sub = command(
        "tune",
        _tune,
        "find out which way of calculating is quickest on this machine",
        "json",
        more="Takes effect when a trainer starts next.",
    )
    sub.add_argument("--once", action="store_true", help="only where that was never tried")
    sub = command(
        "trainers", _trainers, "which trainers there are, or what one can be told", "json"
    )
    sub.add_argument(
        "trainer", metavar="NAME", nargs="?", help="with its options; by default all are listed"
    )
    command("check-config", _check_config, "check settings, modes and the trainers' options")
    command("doctor", _doctor, "check this machine: disk, rights, GPU, games, leftovers", "json")


def _add_decisions(command: policy_commands.Adding) -> None:
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


def _add_values(command: policy_commands.Adding) -> None:
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


def _print_bare(context: Context, state: Report, value: Callable[[Report], str | int]) -> int:
    """One bare value for scripts; what is wrong with the state goes to stderr."""
    for text in state.trouble:
        print(f"supervisor: {text}", file=sys.stderr)
    print_json(value(state)) if context.options.json else print(value(state))
    return 1 if state.trouble else 0


def _ensure_open(stream: int) -> None:
    try:
        os.fstat(stream)
    except OSError:
        # The lowest free number, which is this one: those below it are open.
        os.open(os.devnull, os.O_RDWR)
        name = ("stdin", "stdout", "stderr")[stream]
        setattr(sys, name, open(stream, "w" if stream else "r", closefd=False))  # noqa: SIM115
