"""Has usage analysed when that is due, by a process that may open connections; the daemon does not.

What is found is written by that process, and read by the next look. An analysis that fails is tried
again an hour later, and the windows that were found before stay in force until they are too old.
Where a timer or a person is at it already, nothing is done; if that fails, it is tried as well.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

from state.windows import Windows, known
from supervisor.core.events import Event
from supervisor.core.quiet_hours import DAY_S, QuietHours, is_late, refresh_at
from supervisor.helper import Helper, HelperFailed
from supervisor.host.clock import Clock, zone_name
from supervisor.host.home import Home, machine_id
from supervisor.programs import program

if TYPE_CHECKING:
    from supervisor.helpers.usage import Reply, Request

ANALYSIS_MAX_S = 1800.0
"""how long one may take: each source has deadlines of its own"""
LOOK_S = 300.0
"""how soon to see again whether one is due, at most"""


class Said(NamedTuple):
    """Something for the log about an analysis."""

    event: Event
    rule: str
    reason: str


class Analyst:
    """Starts an analysis when it is due, and ends what does not answer.

    Args:
        home: where its files lie.
        clock: tells the time.
        command: the process that analyses; None: ours.
    """

    def __init__(self, home: Home, clock: Clock, command: list[str] | None = None) -> None:
        self._home, self._clock = home, clock
        self._command = command or program("supervisor.helpers.usage")
        self._helper: Helper[Request, Reply] | None = None
        """the process, while an analysis is under way"""
        self._asked = False
        """whether it has been asked; it says first that it is there"""
        self._tried_at: float | None = None
        self._failed = False
        """whether the log was told that it fails"""
        self._late = False
        """whether it was told that the newest one that did not is old"""

    @property
    def handles(self) -> tuple[int, ...]:
        """What becomes readable when it has something to say."""
        return () if self._helper is None else self._helper.handles

    def due_s(self, asked: QuietHours | None) -> float:
        """When to tend again if it says nothing before."""
        if asked is None:
            return math.inf
        if self._helper is not None:
            return self._helper.due_s
        wait_s = refresh_at(asked, self._known(), self._tried_at) - self._clock.read().wall
        return min(max(0.1, wait_s), LOOK_S)

    def tend(self, asked: QuietHours | None) -> list[Said]:
        """Begin, go on, or see what came of it; what there is to say of it."""
        if asked is None or not asked.sources:
            self.close()
            return []
        try:
            return self._go_on(asked)
        except HelperFailed as error:
            return self._over(asked, str(error))

    def close(self) -> None:
        """End what is under way."""
        if self._helper is not None:
            self._helper.close()
            self._helper = None

    def _go_on(self, asked: QuietHours) -> list[Said]:
        now = self._clock.read().wall
        if self._helper is None:
            newest = self._known()
            if refresh_at(asked, newest, self._tried_at) > now:
                return self._well(newest)
            self._begin(now)
        assert self._helper is not None  # noqa: S101 - it was begun
        reply = self._helper.receive()
        if reply is None:
            if self._helper.due_s == 0:
                self._helper.give_up()
            return []
        if reply.busy:
            self.close()
            return []
        if self._asked:
            return self._over(asked, reply.trouble, reply.notes)
        from supervisor.helpers.usage import Request  # noqa: PLC0415 - only where it is wanted

        home = self._home
        self._helper.ask(
            Request(
                asked=asked,
                zone=asked.zone or zone_name(),
                now=now,
                windows=str(home.windows),
                samples=str(home.usage),
                machine=str(home.samples),
                machine_id=machine_id(),
                decisions=str(home.decisions),
                here=str(home.path),
            )
        )
        self._asked = True
        return []

    def _begin(self, now: float) -> None:
        from supervisor.helpers.usage import Reply  # noqa: PLC0415 - only where it is wanted

        self._tried_at, self._asked = now, False
        self._helper = Helper(
            self._command,
            reply=Reply,
            name="usage analysis",
            stuck_in="a database",
            timeout_s=ANALYSIS_MAX_S,
        )
        self._helper.start()

    def _well(self, newest: Windows | None) -> list[Said]:
        """Where ours has failed and nothing is due: whether somebody else has succeeded since."""
        tried_at = self._tried_at
        if not self._failed or newest is None or tried_at is None or newest.made_at <= tried_at:
            return []
        self._failed = self._late = False
        return [Said(Event.USAGE_ANALYSED, "elsewhere", "a timer or a person has analysed usage")]

    def _over(
        self, asked: QuietHours, trouble: str | None, notes: tuple[str, ...] = ()
    ) -> list[Said]:
        """It is over; that it fails is told once, and once more when it has for long."""
        self.close()
        beside = [note for note in notes if note not in (trouble or "")]
        more = f" ({'; '.join(beside)})" if beside else ""
        if trouble is None:
            self._failed = self._late = False
            reason = f"usage has been analysed{more}"
            return [Said(Event.USAGE_ANALYSED, "refresh", reason)]
        said = []
        if not self._failed:
            self._failed = True
            reason = f"usage could not be analysed, which is tried again each hour: {trouble}{more}"
            said.append(Said(Event.USAGE_UNKNOWN, "refresh", reason))
        known, at = self._known(), self._clock.read().wall
        if known is not None and not self._late and is_late(asked, known, at):
            self._late = True
            reason = (
                f"the newest analysis is {(at - known.made_at) / DAY_S:.1f} days old, and of use "
                f"for {asked.max_age_days:g}: {trouble}"
            )
            said.append(Said(Event.USAGE_LATE, "refresh", reason))
        return said

    def _known(self) -> Windows | None:
        return known(self._home.windows)[0]
