"""What a decision is made from, and what it is: two frozen values.

Everything that can change the mode stands in `Facts`. They are written into the
decision log with the decision, so that any line can be decided again.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from state.records import Goal, Wish
from supervisor.core.readings import Readings

Minutes = Annotated[float, msgspec.Meta(gt=0, le=525_600)]
"""a duration of at most a year"""


class StabilityLimits(msgspec.Struct, frozen=True, kw_only=True):
    """When a mode has proved itself, and when it has failed."""

    stable_min: Minutes = 60.0
    """running minutes without a crash before the next rung is tried"""
    crashes_max: Annotated[int, msgspec.Meta(ge=0, le=99)] = 3
    """crashes within the window that a mode is forgiven; one more falls back"""
    window_min: Minutes = 60.0
    """how far back crashes count"""
    cool_down_min: Minutes = 60.0
    """how long a mode that failed is not tried again"""
    idle_after: Annotated[int, msgspec.Meta(ge=1, le=99)] = 4
    """short boots in a row, in the lowest mode, after which nothing trains for a while"""
    short_boot_min: Minutes = 5.0
    """a boot that crashed after less training than this was short"""
    idle_first_min: Minutes = 10.0
    """how long nothing trains at first; doubles with each further short boot"""
    idle_max_min: Minutes = 60.0
    """the longest such time"""


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """All that one decision about the goal may depend on."""

    now_s: float
    """the present, on the timeline"""
    at: float
    """the present, in wall time: for people, no rule reads it"""
    boot_id: str
    ladder: tuple[str, ...]
    """the names of the modes, safest first"""
    goal: Goal
    stable_s: float
    """running time since the later of entering the mode and its last crash"""
    crashes_s: tuple[float, ...]
    """crashes since the mode was entered, on the timeline, oldest first"""
    cool_downs: dict[str, float]
    """mode: until when, on the timeline, it is not tried again"""
    limits: StabilityLimits
    work_left: bool
    """some run is not at its end"""
    booted_s: float = 0.0
    """when this boot was written down, on the timeline"""
    short_boots: int = 0
    """boots in a row before this one that crashed at once, with the lowest mode or without any"""
    wish: Wish | None = None
    """what a person asks, if this decision answers one"""
    readings: Readings | None = None
    """the machine at this moment; None where nobody looked"""

    @property
    def rung(self) -> int:
        """The index of the goal's mode on the ladder."""
        return self.ladder.index(self.goal.mode)

    @property
    def recent_crashes_s(self) -> tuple[float, ...]:
        """The crashes of this visit that lie within the window."""
        since_s = self.now_s - self.limits.window_min * 60
        return tuple(crash for crash in self.crashes_s if crash > since_s)

    @property
    def idle_until_s(self) -> float | None:
        """Until when nothing shall train, because the machine dies of it at once; None: train."""
        again = self.short_boots - self.limits.idle_after
        if again < 0 or self.rung > 0 or not self.work_left:
            return None
        idle_min = self.limits.idle_first_min * 2 ** min(again, 60)
        until_s = self.booted_s + 60 * min(idle_min, self.limits.idle_max_min)
        return until_s if until_s > self.now_s else None

    def cool_down_left_s(self, mode: str) -> float:
        """How long `mode` is not yet to be tried, in seconds; 0 when it may."""
        return max(0.0, self.cool_downs.get(mode, 0.0) - self.now_s)


Evidence = dict[str, float | int | str | None]
"""the numbers that a reason speaks of"""


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """What shall be wanted from now on, by which rule, and why."""

    goal: Goal
    rule: str
    reason: str
    """one sentence for a person"""
    evidence: Evidence = {}
    cool_down_s: float | None = None
    """how long the mode that is left is not tried again"""
    refused: bool = False
    """a wish was not granted; the goal is as it was"""


class Forecast(msgspec.Struct, frozen=True, kw_only=True):
    """What will happen next if nothing happens in between."""

    action: Literal["climb", "stay", "rest"]
    in_s: float | None
    """None: not by itself"""
    why: str
