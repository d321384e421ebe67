"""The commands that ask the policy: why, what it has learnt, whether again, and what if."""

from __future__ import annotations

import contextlib
import difflib
import itertools
import operator
import re
import sys
import tomllib
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from supervisor import screen
from supervisor.commands import Adding
from supervisor.context import Context, Refused, print_json, whole_number
from supervisor.core.facts import StabilityLimits
from supervisor.core.policy import RULES
from supervisor.core.settings import Policy
from supervisor.host.cgroup import cores
from trainers import durable

if TYPE_CHECKING:
    from supervisor.simulation.worlds import World

PLACE = 50
LIVES = 10
"""of a log, when it is lived again"""
WORLDS = 10
"""of each kind, when policies are tried on made-up machines"""
PROCESSES_MAX = 256
SEQ_MAX = 10**15
"""no log has as many lines"""


def add(command: Adding) -> None:
    """Add these commands to the command line."""
    sub = command(
        "why",
        _why,
        "why it decided so: every input, and why each other rule did not apply",
        "json",
        more="Without N: the newest decision. Where there is none yet: what the present asks for.",
    )
    which = sub.add_mutually_exclusive_group()
    which.add_argument(
        "number",
        metavar="N",
        nargs="?",
        type=lambda text: whole_number(text, most=SEQ_MAX),
        help="the number that its line in `decisions` begins with",
    )
    which.add_argument(
        "--now", action="store_true", help="what would be decided now, and why nothing else"
    )
    command("ledger", _ledger, "what this machine has taught: crashes, speed, prices", "json")
    sub = command(
        "replay",
        _replay,
        "decide a whole log again, and tell the first difference",
        "json",
        more="In health there is none. Exit code 1: there is one. With `turns = true` in [logs], "
        "every whole turn of thinking is made again, too.",
    )
    sub.add_argument("log", metavar="LOG", nargs="?", help="default: the log of the home")
    sub.add_argument(
        "--policy",
        choices=tuple(RULES),
        help="estimate what that policy would have made of the same machine",
    )
    sub.add_argument(
        "--set",
        metavar="KEY=VALUE",
        action="append",
        default=[],
        help="the same with another value of a key of [policy]; may be repeated",
    )
    sub.add_argument(
        "--lives",
        metavar="N",
        type=whole_number,
        default=LIVES,
        help="how often it is lived again (10)",
    )

    sub = command(
        "simulate",
        _simulate,
        "try the policies on made-up machines, with your settings of [policy]",
        "json",
        more="Nothing here touches the training.",
    )
    sub.add_argument(
        "--worlds", metavar="N", type=whole_number, help=f"machines of each kind ({WORLDS})"
    )
    sub.add_argument("--policies", metavar="NAME", nargs="+", help="which to compare (all)")
    sub.add_argument("--days", metavar="N", type=whole_number, help="length of a life (30)")
    sub.add_argument("--seed", metavar="N", type=whole_number, default=1, help="of all chance (1)")
    sub.add_argument("--jobs", metavar="N", type=whole_number, help="processes (one for each core)")
    sub.add_argument("--picture", metavar="FILE", help="draw the first life as SVG")
    kinds = sub.add_mutually_exclusive_group()
    kinds.add_argument(
        "--families", metavar="NAME", nargs="+", help="kinds of machines (all but the hard)"
    )
    kinds.add_argument(
        "--trace", metavar="FILE", nargs="+", help="machines of real failures, from CSV or JSON"
    )
    kinds.add_argument(
        "--my-machine", action="store_true", help="machines like this one, by its own ledger"
    )


def _why(context: Context) -> int:
    from supervisor import decision_log, report  # noqa: PLC0415 - other commands stay quick
    from supervisor.core import explain  # noqa: PLC0415 - as above

    path, seq, found = context.home.decisions, context.options.number, None
    if not context.options.now:
        found = decision_log.newest(path) if seq is None else decision_log.numbered(path, seq)
    if found is not None:
        with decision_log.sensible(path):
            answer = explain.explained(*found)
    else:
        config, moment = context.kept_config, context.now()
        answer = explain.explained_now(report.facts(context.home, config, moment))
        comes = report.comes_again(context.home, config, moment)
        if comes is not None:
            words = explain.Input(name="again", value=comes.words)
            answer = msgspec.structs.replace(answer, inputs=(*answer.inputs, words))
    print_json(answer) if context.options.json else print(screen.explanation(answer))
    return 0


def _ledger(context: Context) -> int:
    from supervisor import report  # noqa: PLC0415 - as above

    known = report.ledger(context.home, context.kept_config, context.now())
    print_json(known) if context.options.json else print(screen.ledger(known))
    return 0


def _replay(context: Context) -> int:
    from supervisor import decision_log, journal  # noqa: PLC0415 - as above
    from supervisor.core.recorded import MadeAgain, make_again  # noqa: PLC0415 - as above
    from supervisor.core.replay import replay  # noqa: PLC0415 - as above

    options = context.options
    path = Path(options.log) if options.log else context.home.decisions
    if options.policy or options.set:
        return _live_again(context, path)
    replayed = replay(decision_log.lines(path))
    beside = path.resolve().with_name(context.home.turns.name)
    turns = make_again(journal.read(beside)) if beside.exists() else MadeAgain()
    if options.json:
        print_json(msgspec.to_builtins(replayed) | {"turns": turns})
    else:
        print(screen.replayed(replayed, turns))
    return 0 if replayed.first is None and turns.first is None else 1


def _simulate(context: Context) -> int:
    from supervisor.simulation import picture, rivals, table  # noqa: PLC0415 - as above

    options, limits = context.options, context.config.settings.policy
    policies = _chosen(options.policies, rivals.POLICIES, "policy")
    worlds = _worlds(context)
    if options.days:
        longest = max(world.days for world in worlds)
        if not options.my_machine and options.days > longest:
            raise Refused(f"these machines are known for {longest:.3g} days and no longer")
        worlds = tuple(
            msgspec.structs.replace(
                world,
                days=options.days if options.my_machine else min(world.days, options.days),
            )
            for world in worlds
        )
    if options.picture:
        shown = rivals.LEDGER if rivals.LEDGER in policies else policies[0]
        drawn = picture.svg(worlds[0], shown, limits)
        try:
            durable.write(Path(options.picture), drawn.encode(), sync=False)
        except OSError as error:
            raise Refused(f"cannot write {options.picture}: {error.strerror}") from error
    with _progress("machines") as progress:
        compared = table.compare(
            worlds,
            policies=policies,
            limits=limits,
            processes=min(options.jobs or cores(), PROCESSES_MAX),
            progress=progress,
        )
    print_json(compared) if options.json else print(table.text(compared))
    return 0


def _worlds(context: Context) -> tuple[World, ...]:
    """The machines that are asked for."""
    from supervisor import report  # noqa: PLC0415 - as above
    from supervisor.simulation import families, table, traces, worlds  # noqa: PLC0415 - as above

    options = context.options
    count = options.worlds or WORLDS
    if options.trace:
        if options.worlds:
            raise Refused("a trace says how many machines there were: leave --worlds out")
        known = [trace for path in options.trace for trace in traces.read(Path(path))]
        return traces.worlds(known, options.seed)
    if options.my_machine:
        ledger = report.ledger(context.home, context.config, context.now())
        speeds = itertools.accumulate((one.speed_ratio or 1 for one in ledger.modes), operator.mul)
        return worlds.likely(
            [
                worlds.Measured(
                    mode=one.mode, crashes=one.crashes, hours=one.hours, work_per_h=speed
                )
                for one, speed in zip(ledger.modes, speeds, strict=True)
            ],
            crash_cost_h=ledger.crash_price_min / 60,
            seed=options.seed,
            count=count,
        )
    asked = options.families or tuple(families.FAMILIES)
    names = _chosen(asked, families.FAMILIES | families.HARD, "family")
    return table.families(options.seed, count, names)


def _chosen(asked: Sequence[str] | None, known: Iterable[str], what: str) -> tuple[str, ...]:
    """The names as the program spells them; all where none is asked for.

    Raises:
        Refused: there is no such name.
    """
    spelled = {_plain(name): name for name in known}
    if asked is None:
        return tuple(spelled.values())
    for name in asked:
        if _plain(name) not in spelled:
            all_of_them = ", ".join(name.replace(" ", "-") for name in spelled)
            raise Refused(f"there is no {what} {name!r}; there are: {all_of_them}")
    return tuple(dict.fromkeys(spelled[_plain(name)] for name in asked))


def _plain(name: str) -> str:
    return re.sub(r"[\W_]+", " ", name.lower()).strip()


@contextlib.contextmanager
def _progress(what: str) -> Iterator[Callable[[int, int], None]]:
    """Something to tell how far it is; silent where nobody looks at a terminal."""
    if not sys.stderr.isatty():
        yield lambda done, total: None  # noqa: ARG005 - said to nobody
        return
    terminal = sys.__stderr__  # which draws over what stands there: it says nothing of anybody's
    try:
        from rich.console import Console  # noqa: PLC0415 - an extra, for the view alone
        from rich.progress import Progress  # noqa: PLC0415 - as above
    except ImportError:  # the extra `live` is not installed: a plain count does

        def count(done: int, total: int) -> None:
            print(f"\r{done} of {total} {what}", end="", file=terminal, flush=True)

        yield count
        print(file=terminal)
        return
    # Without a thread of its own: the processes that share the work are forks of this one.
    bar = Progress(console=Console(file=terminal), auto_refresh=False, transient=True)
    with bar:
        task = bar.add_task(what)
        yield lambda done, total: bar.update(task, completed=done, total=total, refresh=True)


def _live_again(context: Context, path: Path) -> int:
    """What another policy, or other settings, would have made of a log."""
    from supervisor import counterfactual, decision_log, report  # noqa: PLC0415 - as above
    from supervisor.core.replay import decided_otherwise  # noqa: PLC0415 - as above

    options = context.options
    changes = [f"name={options.policy}"] if options.policy else []
    changes += options.set
    known = list(decision_log.lines(path))
    logged = decision_log.limits(path)
    if not options.log and context.home.holder():  # what has passed since its newest line
        present = report.facts(context.home, context.kept_config, context.now())
        known.append({"now_s": present.now_s})
    others, first, instead = decided_otherwise(known, lambda limits: amended(limits, changes))
    what = "every logged decision would have been the same"
    if first is not None and instead is not None:
        what = (
            f"{others} of those logged would have been others, the first is {first.seq}: "
            f"{first.goal.mode} ({first.rule}); now {instead.goal.mode} ({instead.reason})"
        )
    with decision_log.sensible(path), _progress("lives") as progress:
        past = counterfactual.past(known)
        wanted = amended(logged, changes)
        lived = counterfactual.relived(past, logged, wanted, options.lives, progress)
    asked = ", ".join(changes).replace("name=", "policy ")
    if options.json:
        first_seq = first.seq if first is not None else None
        decided = {"decided_otherwise": others, "first": first_seq}
        print_json({"asked": asked, **decided, "estimate": lived})
    else:
        print(screen.counterfactual(lived, what, asked))
    return 0


def amended(limits: StabilityLimits, changes: Sequence[str]) -> StabilityLimits:
    """The limits with other values of some keys.

    Args:
        limits: as they are.
        changes: each `key=value`, the value as in the settings file.

    Raises:
        Refused: a key does not exist, or a value is not allowed.
    """
    table: dict[str, Any] = msgspec.structs.asdict(limits)
    for change in changes:
        key, equals, text = change.partition("=")
        if not equals:
            raise Refused(f"{change!r} sets nothing; say KEY=VALUE")
        key = key.strip().removeprefix("policy.")
        if key not in Policy.__struct_fields__:
            close = difflib.get_close_matches(key, Policy.__struct_fields__, n=1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            raise Refused(f"there is no key {key!r} in [policy]{hint}")
        try:
            value = tomllib.loads(f"value = {text}")["value"]
        except tomllib.TOMLDecodeError:
            value = text.strip()  # a word without quotes, as a shell leaves it
        try:
            msgspec.convert({key: value}, Policy)
        except msgspec.ValidationError as error:
            why = str(error).split(" - at `")[0].replace("`", "")
            raise Refused(f"{key} = {text.strip()}: {why[:1].lower()}{why[1:]}") from error
        table[key] = value
    table.pop("tick_s", None)  # how often to look is no part of any decision
    return msgspec.convert(table, StabilityLimits)
