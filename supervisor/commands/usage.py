"""How busy the machine is over the week, and when it is quiet."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from state.windows import SourceReport, Windows, known
from supervisor.commands import Adding
from supervisor.context import Context, print_json
from supervisor.core.moments import span, stamp, when
from supervisor.core.quiet_hours import Quiet, QuietHours, quiet
from supervisor.errors import SupervisorError
from supervisor.terminal import printable

if TYPE_CHECKING:
    from state.records import Memory
    from supervisor.core.guard import Guard
    from supervisor.usage.analysis import Analysis
    from supervisor.usage.refresh import Where

PLACE = 65
GPUS_MAX_S = 10.0
"""how long the GPUs may take to tell what others hold of them"""
UNKNOWN = 75
"""the exit code of an analysis that can claim nothing, and of samples that were not taken"""
UNTRIED = 1
"""that of the timer's analysis, where nobody but the timer will try again"""
YOUNG_S = 43_200.0
"""how old an analysis is at most that the timer does not repeat"""


class NoQuietHours(SupervisorError):
    """The settings ask for none."""

    exit_code = 78  # EX_CONFIG

    def __init__(self) -> None:
        super().__init__(
            "the settings have no [quiet_hours]: say there whom to ask, as "
            "docs/how-to/train-in-quiet-hours.md shows"
        )


class NobodyToAsk(SupervisorError):
    """The settings ask for quiet hours, and name nobody who knows them."""

    exit_code = 78  # EX_CONFIG

    def __init__(self) -> None:
        super().__init__("[quiet_hours] has no sources: there is nobody to ask")


class NobodyOnline(SupervisorError):
    """No source counts who is online."""

    exit_code = 78  # EX_CONFIG

    def __init__(self) -> None:
        super().__init__(
            'no source in [quiet_hours.sources] has kind = "online": there is nothing to sample'
        )


def add(command: Adding) -> None:
    """Add these commands."""
    sub = command(
        "analyze-usage",
        _analyze,
        "find the windows of the week in which training disturbs nobody",
        "json",
        more="Asks the sources of [quiet_hours], writes windows.json into the home, and shows what "
        "the windows promise and how they did in weeks held out. Ends with 75 where too little is "
        "known to claim anything: then the windows found before stay.",
    )
    sub.add_argument("--picture", metavar="FILE.png", type=Path, help="draw the week, too")
    sub.add_argument(
        "--dry-run",
        action="store_true",
        help="write nothing; the last line says whether training would start now",
    )
    sub.add_argument(
        "--timer",
        action="store_true",
        help="as a timer does it: in one line, and not where one is younger than 12 hours; ends "
        "with 1 where that fails and no supervisor runs that would try again",
    )
    sub = command(
        "sample-usage",
        _sample,
        "ask once how many are online, and keep the number",
        "json",
        more="For a timer, every 5 minutes: so there is a history where the game's tables have "
        "none. Asks each source of kind `online` one read-only query. Ends with 75 where one did "
        "not answer, or somebody else samples at this moment.",
    )
    sub.add_argument(
        "--timer",
        action="store_true",
        help="as a timer does it: without a word where the settings want no samples",
    )


class _Told(msgspec.Struct, kw_only=True):
    """What `--json` tells beside the content of windows.json."""

    windows: Windows | None
    sources: tuple[SourceReport, ...]
    trouble: str | None
    notes: tuple[str, ...]
    week: tuple[float | None, ...]
    compared: dict[str, object]
    written: bool
    now: Quiet
    """whether quiet hours would let training start at this moment"""
    would_start: bool | None
    """whether training would start now; None: that is asked with `--dry-run` alone"""
    conditions: tuple[str, ...]
    """of each how it stands, with its number"""


def _analyze(context: Context) -> int:
    from supervisor.usage import picture, refresh, told  # noqa: PLC0415 - other commands stay quick

    asked, zone, where = _asked(context)
    now, dry = context.now().wall, context.options.dry_run
    if dry:
        analysis, written = refresh.examine(asked, zone, where, now), False
    else:
        context.home.make()
        try:
            with refresh.alone(where):
                if context.options.timer and _is_young(where, now):
                    return 0
                analysis = refresh.examine(asked, zone, where, now)
                written = refresh.keep(where, analysis)
        except BlockingIOError:
            print("supervisor: somebody else analyses at this moment", file=sys.stderr)
            return UNKNOWN
    if context.options.timer:
        return _renewed(context, asked, analysis, now)
    force = analysis.windows or known(where.windows)[0]
    found = quiet(asked, force, now, trouble=analysis.trouble if force is None else None)
    stays = force is not analysis.windows
    conditions = _conditions(context, found, zone, force, stays=stays) if dry else []
    if context.options.json:
        print_json(
            _Told(
                windows=analysis.windows,
                sources=analysis.sources,
                trouble=analysis.trouble,
                notes=analysis.notes,
                week=analysis.week,
                compared=dict(analysis.compared),
                written=written,
                now=found,
                would_start=all(well for well, _ in conditions) if dry else None,
                conditions=tuple(text for _, text in conditions),
            )
        )
    else:
        print(told.text(asked, analysis, zone))
        if dry:
            print(f"\n{_would_start(conditions)}")
        elif written:
            print(f"\nwritten: {where.windows}")
    if context.options.picture is not None:
        if analysis.week:
            picture.draw(analysis, context.options.picture, zone)
        else:
            print("supervisor: there is no week to draw", file=sys.stderr)
    return 0 if analysis.windows is not None else UNKNOWN


def _is_young(where: Where, now: float) -> bool:
    """Whether the supervisor, a person or the timer itself has analysed not long ago; it is said.

    Half a day moves the analysis to the hour of the timer, however early that comes by chance.
    """
    newest, _ = known(where.windows)
    if newest is None or not 0 <= now - newest.made_at <= YOUNG_S:
        return False
    print(f"usage was analysed {span(now - newest.made_at)} ago: there is nothing to do")
    return True


def _renewed(context: Context, asked: QuietHours, analysis: Analysis, now: float) -> int:
    """What came of an analysis, for the journal; who tries again where nothing did."""
    if not asked.sources:
        raise NobodyToAsk
    if analysis.windows is not None:
        found = quiet(asked, analysis.windows, now)
        words = found.words if found.why != "off" else "which training does not wait for"
        print(f"usage has been analysed: {len(analysis.windows.windows)} windows, {words}")
        return 0
    again = context.home.holder() is not None
    who = "the supervisor tries again each hour" if again else "no supervisor runs to try again"
    trouble = printable(analysis.trouble or "")
    print(f"supervisor: usage could not be analysed: {trouble}; {who}", file=sys.stderr)
    return UNKNOWN if again else UNTRIED


def _conditions(
    context: Context, found: Quiet, zone: str, windows: Windows | None, *, stays: bool
) -> list[tuple[bool, str]]:
    """Everything that training waits for: whether it lets it start now, and how it stands.

    The quiet hours are those of this analysis, or where it has found none those that stay in force.
    The rest is as the supervisor would find it.

    Args:
        context: of the command.
        found: what the quiet hours say.
        zone: of the clock on the wall.
        windows: by which they say so.
        stays: whether those were found before, and this analysis has found none.
    """
    from supervisor.core.queue import ENDED  # noqa: PLC0415 - other commands stay quick
    from supervisor.report import present, report  # noqa: PLC0415 - as above
    from supervisor.usage import told  # noqa: PLC0415 - as above

    moment = context.now()
    memory = present(context.home, context.config, moment)
    until_at = memory.goal.any_hour_until_at
    if until_at is not None and moment.wall < until_at and found.why != "off":
        lifted = f"quiet_hours: a person trains in any hour until {when(stamp(until_at))}"
        conditions = [(True, lifted)]
    else:
        made_at = windows.made_at if windows is not None and stays else None
        conditions = [(found.open, told.now_line(found, zone, made_at))]
    conditions.append(_calm(memory, context.config.settings.guard_in_force))
    person = "person" in memory.goal.pauses
    conditions.append((not person, f"person: {'paused by one' if person else 'no pause'}"))
    left_s = (memory.goal.idle_until_s or 0.0) - memory.timeline.now_s
    if left_s > 0:
        conditions.append((False, f"boots: after too short ones it rests for {span(left_s)}"))
    whole = report(context.home, context.config, moment, foretell=True, by=windows)
    left = sum(run.status not in ENDED for run in whole.runs)
    ends = whole.campaign.ends if windows is not None else None
    told_ends = "" if ends is None or ends.at is None else f", which end {ends.words}"
    return [*conditions, (left > 0, f"runs: {left} of {len(whole.runs)} left{told_ends}")]


def _calm(memory: Memory, limits: Guard | None) -> tuple[bool, str]:
    """Whether others leave the machine to training now, and what they use."""
    if limits is None:
        return True, "guard: off"
    from supervisor.core.guard import presses, start_words  # noqa: PLC0415 - as above
    from supervisor.host.gpu import Gpus  # noqa: PLC0415 - as above
    from supervisor.host.pressure import trainers  # noqa: PLC0415 - as above
    from supervisor.sentry import glance  # noqa: PLC0415 - as above

    reader = Gpus(timeout_s=GPUS_MAX_S)
    try:
        answer = reader.read_now()
    finally:
        reader.close()
    seen = glance(trainers(memory), answer.gpus, limits)
    words = f"guard: {start_words(seen, limits)}"
    if answer.trouble is not None:
        words += f"; GPUs are not known ({printable(answer.trouble)})"
    return not presses(seen, limits), words


def _would_start(conditions: Sequence[tuple[bool, str]]) -> str:
    """Whether training would start now, with each condition and its number.

    Args:
        conditions: of each whether it lets training start, and how it stands.
    """
    word = "yes" if all(well for well, _ in conditions) else "no"
    return f"would training start now: {word}. " + "; ".join(text for _, text in conditions)


def _sample(context: Context) -> int:
    from supervisor.usage import refresh  # noqa: PLC0415 - other commands stay quick

    wanted = context.config.settings.quiet_hours
    online = wanted is not None and any(one.kind == "online" for one in wanted.sources.values())
    if context.options.timer and not online:
        return NobodyOnline.exit_code
    asked, _, where = _asked(context)
    if not online:
        raise NobodyOnline
    context.home.make()
    try:
        found = refresh.sample_once(asked, where, context.now().wall)
    except BlockingIOError:
        print("supervisor: somebody else samples at this moment", file=sys.stderr)
        return UNKNOWN
    if context.options.json:
        print_json(found)
    for name, value in found.items():
        if isinstance(value, str):
            print(f"supervisor: {name}: {value}", file=sys.stderr)
        elif not context.options.json:
            print(f"{name}: {value:g}")
    return UNKNOWN if any(isinstance(value, str) for value in found.values()) else 0


def _asked(context: Context) -> tuple[QuietHours, str, Where]:
    """The settings of quiet hours, the zone, and where all lies.

    Raises:
        NoQuietHours: they are not asked for.
    """
    from supervisor.host.clock import zone_name  # noqa: PLC0415 - other commands stay quick
    from supervisor.host.home import machine_id  # noqa: PLC0415 - as above
    from supervisor.usage.refresh import Where  # noqa: PLC0415 - as above

    config, home = context.config, context.home
    asked = config.settings.quiet_hours
    if asked is None:
        raise NoQuietHours
    where = Where(
        windows=home.windows,
        samples=home.usage,
        machine=home.samples,
        machine_id=machine_id(),
        decisions=home.decisions,
        here=home.path,
    )
    return asked, asked.zone or zone_name(), where
