"""What a decision is made from, and what it is: two frozen values.

Everything that can change the mode stands in `Facts`. They are written into the
decision log with the decision, so that any line can be decided again.
"""

from __future__ import annotations

from typing import Annotated, Literal, NamedTuple

import msgspec

from state.records import Booking, Goal, Ledger, ModeLedger
from state.requests import AboutTheMode
from supervisor.core.guard import Guard, Verdict
from supervisor.core.quiet_hours import Quiet
from supervisor.core.readings import Readings

Minutes = Annotated[float, msgspec.Meta(gt=0, le=525_600)]
"""a duration of at most a year"""
Hours = Annotated[float, msgspec.Meta(gt=0, le=8_760)]
"""a duration of at most a year"""


class StabilityLimits(msgspec.Struct, frozen=True, kw_only=True):
    """When a mode has proved itself, and when it has failed. Of `ledger` alone from `strict` on."""

    name: Literal["ledger", "fixed"] = "ledger"
    """the policy: `ledger` learns what this machine bears, `fixed` goes by the clock alone"""
    stable_min: Minutes = 60.0
    """running minutes without a crash before the next rung is tried"""
    crashes_max: Annotated[int, msgspec.Meta(ge=0, le=99)] = 3
    """crashes within the window that a mode is forgiven; one more falls back"""
    window_min: Minutes = 60.0
    """how far back crashes count"""
    cool_down_min: Minutes = 60.0
    """how long a mode that failed is not tried again; with `ledger`, after its first failure"""
    idle_after: Annotated[int, msgspec.Meta(ge=1, le=99)] = 4
    """short boots in a row, in the lowest mode, after which nothing trains for a while"""
    short_boot_min: Minutes = 5.0
    """a boot that crashed after less training than this was short"""
    idle_first_min: Minutes = 10.0
    """how long nothing trains at first; doubles with each further short boot"""
    idle_max_min: Minutes = 60.0
    """the longest such time"""
    strict: bool = False
    """fall back on every reboot storm, even in a mode that is worth its crashes"""
    crash_price_floor_min: Annotated[float, msgspec.Meta(ge=0, le=10_000)] = 0.0
    """minutes of work that a crash costs at least, whatever is measured: for who hates reboots"""
    crash_price_min: Minutes = 20.0
    """what a crash is taken to cost before one has been measured"""
    crash_half_life_h: Hours = 24.0
    """how fast crashes and the running between them are forgotten"""
    work_hours_max: Hours = 48.0
    """running hours of a mode from which its speed is known; older ones make room for newer"""
    budget_max: Annotated[float, msgspec.Meta(gt=0, le=99)] = 3.0
    """crashes that a mode may cost on credit: its budget, full at first"""
    probation_h: Annotated[float, msgspec.Meta(ge=0, le=99)] = 0.15
    """hours of work, but one crash at least, that a mode that has failed may cost in its first
    `stable_min`"""
    long_trial_h: Annotated[float, msgspec.Meta(ge=0, le=99)] = 1.0
    """the same after 3, 9, 27 ... failures in a row: whether it grows calm after some crashes"""
    refill_min_per_h: Annotated[float, msgspec.Meta(ge=0, le=99)] = 0.1
    """crashes that an hour of running earns at least"""
    refill_max_per_h: Annotated[float, msgspec.Meta(gt=0, le=999)] = 12.0
    """and at most; between them it is the break-even rate"""
    trial_h: Hours = 0.9
    """running hours after which a mode that is no faster is left"""
    retrial_h: Hours = 0.15
    """the same where its speed is known already"""
    worse_factor: Annotated[float, msgspec.Meta(ge=1, le=99)] = 1.2
    """a mode that is known to crash this many times as often as it is worth is left at once"""
    worthless_per_h: Annotated[float, msgspec.Meta(ge=0, le=99)] = 0.02
    """it is no faster if fewer crashes than this an hour would make it a loss"""
    worthless_cool_down_h: Hours = 6.0
    """how long it is left alone then, at least"""
    cool_down_max_h: Hours = 24.0
    """every mode is tried again after this; after running for so long no calm is waited for"""
    exonerated_after: Annotated[int, msgspec.Meta(ge=1, le=99)] = 2
    """crashes of a mode after which waiting in it for calm makes no sense"""
    exonerated_factor: Annotated[float, msgspec.Meta(ge=1, le=99)] = 1.1
    """then the one above is tried if it should keep this many times the work"""
    heavier_factor: Annotated[float, msgspec.Meta(ge=1, le=99)] = 1.5
    """how many times as often a mode that was never tried is taken to crash as the one below"""
    out_of_memory_min: Minutes = 10.0
    """a trainer that runs out of memory this soon after a climb shows that the mode does not fit"""
    gpu_memory_max: Annotated[float, msgspec.Meta(gt=0, le=1)] = 0.92
    """share of a GPU's memory in use above which no heavier mode is tried"""
    gpu_margin_c: Annotated[float, msgspec.Meta(ge=0, le=100)] = 5.0
    """degrees below its own limit within which a GPU is too hot for that"""


class Terms(NamedTuple):
    """What an installation is: its ladder and its limits."""

    ladder: tuple[str, ...]
    """the names of the modes, safest first"""
    speeds: tuple[float, ...]
    """what each should bring, by its size, before anything is measured; see `modes.Ladder`"""
    limits: StabilityLimits


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """All that one decision about the goal may depend on."""

    now_s: float
    """the present, on the timeline"""
    at: float
    """the present, in wall time: for people, and for the hours of the week"""
    boot_id: str
    ladder: tuple[str, ...]
    """the names of the modes, safest first"""
    goal: Goal
    stable_s: float
    """running time since the later of entering the mode and its last crash"""
    crashes_s: tuple[float, ...]
    """crashes since the mode was entered, on the timeline: the first and the newest"""
    cool_downs: dict[str, float]
    """mode: until when, on the timeline, it is not tried again"""
    limits: StabilityLimits
    work_left: bool
    """some run is not at its end"""
    speeds: tuple[float, ...] = ()
    """what each mode should bring before anything is measured"""
    booking: Booking | None = None
    """the entry that brings the ledger up to now"""
    ledger: Ledger = Ledger()
    """what has been learnt, with that entry"""
    entered_s: float = 0.0
    """when the mode was entered, on the timeline"""
    running_s: float = 0.0
    """running time since then"""
    crashes_total: int = 0
    """crashes since then, listed or not; 0 beside some in `crashes_s`: not counted"""
    forced: bool = False
    """a person has asked for this visit: what comes of it is not held against the mode"""
    out_of_memory: bool = False
    """a trainer ran out of memory soon after that"""
    proved: bool = False
    """this visit has lasted for as long as the mode had to prove itself"""
    away: bool = False
    """the machine has been down for a day or more, and nothing has trained since"""
    breather: bool = False
    """this visit lasts until the mode above, which has just crashed, goes on"""
    booted_s: float = 0.0
    """when this boot was written down, on the timeline"""
    short_boots: int = 0
    """boots in a row before this one that crashed at once, with the lowest mode or without any"""
    request: AboutTheMode | None = None
    """what a person asks, if this decision answers one"""
    readings: Readings | None = None
    """the machine at this moment; None where nobody looked"""
    gpus: int | None = None
    """those of this home; None: there are none, or which there are is not known"""
    gpus_needed: dict[str, int] = {}
    """mode: how many GPUs each of its runs has for itself, where that is any"""
    gpu_error: str | None = None
    """what the driver of a GPU has reported within the stable time"""
    guard: Guard | None = None
    """the limits of the guard; None: it is off"""
    pressure: Verdict | None = None
    """what it wants; None: it is off"""
    quiet: Quiet | None = None
    """whether training disturbs nobody now; None: nobody has asked for quiet hours"""

    @property
    def rung(self) -> int:
        """The index of the goal's mode on the ladder."""
        return self.ladder.index(self.goal.mode)

    @property
    def known(self) -> ModeLedger:
        """What has been learnt of the goal's mode."""
        return self.ledger.modes.get(self.goal.mode, ModeLedger())

    @property
    def terms(self) -> Terms:
        """The ladder and the limits."""
        return Terms(self.ladder, self.speeds or (1.0,) * len(self.ladder), self.limits)

    @property
    def top(self) -> int:
        """The highest rung that is not forbidden."""
        forbidden = self.goal.forbidden
        if forbidden not in self.ladder:
            return len(self.ladder) - 1
        return max(0, self.ladder.index(forbidden) - 1)

    @property
    def crashes(self) -> int:
        """How many crashes this visit has seen."""
        return max(self.crashes_total, len(self.crashes_s))

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


Evidence = dict[str, float | int | bool | str | None]
"""the numbers that a reason speaks of"""


Outcome = Literal["failed", "proved", "exonerated", "vetoed", "breather", "breather_over"]


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """What shall be wanted from now on, by which rule, and why."""

    goal: Goal
    rule: str
    reason: str
    """one sentence for a person"""
    evidence: Evidence = {}
    outcome: Outcome | None = None
    """what it says of the mode above the lower of the two, beside the change of the goal"""
    cool_down_s: float | None = None
    """how long the mode that is left is not tried again"""
    ledger: Ledger | None = None
    """the ledger from now on; None leaves it as it is"""
    refused: bool = False
    """a request was not granted; the goal is as it was"""


class Forecast(msgspec.Struct, frozen=True, kw_only=True):
    """What will happen next if nothing happens in between."""

    action: Literal["climb", "stay", "rest"]
    in_s: float | None
    """None: not by itself"""
    why: str
