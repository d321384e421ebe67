"""In which windows work ends that waits for quiet hours, from what samples tell of its speed."""

from __future__ import annotations

import itertools
from collections.abc import Mapping

import msgspec

from state import samples, windows
from state.records import Memory
from state.windows import Windows
from supervisor.core import quiet_hours
from supervisor.core.moments import stamp
from supervisor.core.reconcile import grace_s
from supervisor.core.recovery import Observation
from supervisor.core.settings import Settings
from supervisor.host.home import Home, machine_id
from supervisor.runners.local import read_heartbeat
from trainers.contract import NewerFile

CAMPAIGN = ""
"""stands for all runs together, beside ids of runs"""


class Ends(msgspec.Struct, frozen=True, kw_only=True):
    """In which windows work ends: in nine of ten cases, as fast as it was, pauses included."""

    windows: tuple[str, ...] | None
    """when each opens, in UTC; none: it ends before the next opens; None: that is not known"""
    at: str | None
    """by when it ends, in UTC; None: that is not known"""
    words: str
    """the same for a person, by the clock on the wall of the windows; or why it is not known"""


def foretold(
    home: Home,
    memory: Memory,
    settings: Settings,
    left: Mapping[str, int],
    by: Windows | None = None,
) -> dict[str, Ends]:
    """When so many steps end; nothing where no quiet hours have to be waited for.

    Args:
        home: where samples and windows lie.
        memory: brought up to now.
        settings: those in force.
        left: id of a run, or `CAMPAIGN`: the steps that are left of it.
        by: the windows of an analysis that is to be supposed; None: those in force.
    """
    asked, at, trouble = settings.quiet_hours, memory.timeline.seen_at, None
    if not left or asked is None or not asked.enabled:
        return {}
    if by is None:
        by, trouble = windows.known(home.windows)
    trouble = trouble or quiet_hours.unusable(asked, by, at)
    if by is None or trouble is not None:
        return {} if asked.on_unknown == "train" else dict.fromkeys(left, _unknown(trouble))
    from supervisor.core import calendar, fit  # noqa: PLC0415 - loads zones, and only here

    week, zone = quiet_hours.stretches(by), calendar.zone_of(by.zone)
    since = at - fit.SEEN_S
    past = itertools.takewhile(lambda one: one.opens_at < at, fit.coming(week, zone, since))
    try:
        paces = fit.paces(samples.speeds(home.samples, since, machine_id()), tuple(past))
    except NewerFile as error:
        return dict.fromkeys(left, _unknown(str(error)))
    heartbeats = [read_heartbeat(home.run(run)) for run in left if run != CAMPAIGN]
    limits = settings.recovery
    graces = [grace_s(Observation(heartbeat=said), limits) for said in heartbeats]
    reserve_s = max(graces, default=limits.grace_s)
    until_at = memory.goal.any_hour_until_at

    def ends(run: str, steps: int) -> Ends:
        pace = paces.get(fit.ALL if run == CAMPAIGN else run)
        if pace is None:
            least = f"{fit.PARTS_MIN * fit.PART_S / 60:.0f} min of training"
            return _unknown(f"less than {least} was sampled in the last week")
        takes_s = fit.needed_s(steps, pace)
        if takes_s is None:
            return _unknown("its speed differs too much from time to time")
        found = fit.fit(takes_s, week, zone, at, reserve_s=reserve_s, any_hour_until_at=until_at)
        if found is None:
            return _unknown(f"it takes more than {fit.OPENINGS_MAX} windows")
        opens = tuple(stamp(one.opens_at) for one in found.openings)
        return Ends(windows=opens, at=stamp(found.ends_at), words=fit.in_words(found, zone))

    return {run: ends(run, steps) for run, steps in left.items()}


def _unknown(why: str | None) -> Ends:
    return Ends(windows=None, at=None, words=f"not known: {why}")
