"""The values that survive a reboot, all frozen.

Two kinds of time stand in them. A field `..._at` is wall time, seconds since
1970, for people to read. A field `..._s` that names a moment is a place on the
*timeline*: seconds of supervised time that only ever grow, whatever is done to
the clock (see `supervisor.core.history`). Rules compare places on the timeline
alone.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec

from state.renames import in_words_of_today
from trainers.contract import EPISODES, Mark, Name, Rewind, Target

SCHEMA_VERSION = 5
"""raised whenever an older program could misread a newer memory; see `state.migrations`"""
LOG_VERSION = 3
"""raised whenever an older program could misread a line of the decision log"""
LEDGER_VERSION = 2
"""raised whenever equal entries come to another ledger, or the rules make other decisions from it;
one of another version is begun anew"""


class Process(msgspec.Struct, frozen=True, kw_only=True):
    """The identity of a process: a pid alone names a stranger after a reboot."""

    boot_id: str
    pid: int
    start_ticks: int
    """field 22 of /proc/PID/stat: clock ticks between the boot and the start"""


RunStatus = Literal[
    "queued",
    "running",
    "stopping",
    "waiting",
    "quarantined",
    "blocked",
    "done",
    "failed",
    "cancelled",
]
"""the states of `supervisor.core.machine.LIFE`, which says what each means"""


class Retry(msgspec.Struct, frozen=True, kw_only=True):
    """How often a run is tried again after it has failed."""

    retries: Annotated[int, msgspec.Meta(ge=0)] = 3
    first_s: Annotated[float, msgspec.Meta(gt=0, le=31_536_000)] = 60.0
    """wait before the first of them"""
    factor: Annotated[float, msgspec.Meta(ge=1, le=100)] = 2.0
    """how many times as long each further wait is"""


Rank = Literal["critical", "high", "normal", "low"]
"""the class of priority, first come first served within each"""

Origin = Literal["campaign", "job"]
"""who asks for a run, and alone may replace or withdraw it: the settings, or a request"""

LOCAL = "local"
"""the place of a run whose training loads this machine"""


class Asked(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What somebody asked for: one thing to train.

    It is replaced as a whole, by its own origin; what became of it is in `Run` and never edits it.
    """

    id: str
    trainer: str
    name: str
    seed: int
    target: Target | None = None
    """None: the trainer says when it is done"""
    options: dict[str, Any] = {}
    silent_max_s: float | None = None
    """how long its step may stand still; None: as is learnt from the run itself"""
    place: Name = LOCAL
    """where it runs"""
    gpus: Annotated[int, msgspec.Meta(ge=0)] = 0
    rank: Rank = "low"
    origin: Origin = "campaign"
    revision: int = 0
    """how often it was replaced"""
    retry: Retry | None = None
    """None: for ever, with rests"""
    suspended: bool = False
    """its origin wants it to wait, saved"""
    not_before_at: float | None = None
    """wall time before which it does not train"""
    deadline_at: float | None = None
    """wall time from which on it is given up"""
    max_s: Annotated[float, msgspec.Meta(gt=0)] | None = None
    """the longest time that it may train in all"""
    tenant: Name | None = None
    """for whom"""
    token: str | None = None
    """by which its origin knows it again"""
    labels: dict[str, str] = {}
    generation: int = 1
    """of the campaign that it belongs to; each has runs of its own"""
    begin_from: str | None = None
    """id of the run with whose best checkpoint it begins; None: it begins with nothing"""


class Attempt(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The newest process of a run, whether it lives or not."""

    number: int = 0
    """0: there was none yet"""
    process: Process | None = None
    mode: str | None = None
    """the mode whose load it carries"""
    gpus: tuple[str, ...] | None = None
    """the GPUs that it may use, by UUID; None: all that its environment names"""
    gpus_own: bool = False
    """no other run may use them meanwhile"""
    started_s: float | None = None
    started_monotonic_s: float | None = None
    """CLOCK_MONOTONIC at that start; comparable within one boot"""
    started_step: int = 0
    notices_seen: int = 0
    """of its notices, those that are logged"""
    stale: bool = False
    """what it should train has changed since its start, or from where: it is stopped and started
    again"""
    hung: bool = False
    """it is being stopped because it stood still"""
    frozen_s: float | None = None
    """since when all its processes stand still, for the machine is needed; None: they do not"""
    stop_asked_s: float | None = None
    kill_asked_s: float | None = None
    memory_awaited_s: float | None = None
    """since when the dead `process` has been seen to hold memory of a GPU, and is waited for"""


class Progress(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How far a run is."""

    step: int = 0
    """the newest step seen"""
    episodes: int = 0
    booked: Mark | None = None
    """up to where its kept work stands in the ledger"""

    def of(self, unit: str) -> int:
        """The count of a unit."""
        return self.episodes if unit == EPISODES else self.step


class Faults(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What the deaths of a run's trainers have shown."""

    restarts: int = 0
    """starts after a death that was the trainer's own"""
    failures: int = 0
    """deaths in a row without lasting progress; they double the backoff"""
    own_failures: int = 0
    """the part of them by its own fault, against which its retries count"""
    deaths_per_h: float = 0.0
    """how often its trainers died of late on a machine that stayed up, of whatever cause"""
    deaths_s: float = 0.0
    """when that was so, on the timeline: it fades from then on"""
    died_step: int | None = None
    """the furthest step at a death"""
    died_there: int = 0
    """deaths in a row by its own fault that came no further than `died_step`"""
    failed_loads: int = 0
    """deaths in a row by its own fault before the first step from its newest checkpoint"""
    withheld: tuple[int, ...] = ()
    """steps of checkpoints that it died of so often that those before them are gone on from"""
    dies_everywhere: bool = False
    """it has died by its own fault in the lowest mode: its deaths tell nothing about a mode"""


class Run(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What became of something that was asked for, over all its attempts."""

    asked: Asked
    status: RunStatus = "queued"
    reason: str | None = None
    """why the run is not simply running: what ended the last attempt, what is waited for"""
    retry_s: float | None = None
    """when a waiting or quarantined run may start again"""
    withdrawn: bool = False
    """nobody asks for it any more: it leaves the queue once nothing of it lives"""
    rewind: Rewind | None = None
    """where a person wants it to go on from, until an attempt is known to have done so"""
    ending: Literal["cancel", "give_up"] | None = None
    """the event that ends it once nothing of it lives; `reason` says why"""
    failed_by: Literal["deadline", "max_s", "retries", "bad_spec"] | None = None
    """the rule by which it has failed, or is given up; None: it is not, or an older version has
    written it"""
    attempt: Attempt = Attempt()
    progress: Progress = Progress()
    faults: Faults = Faults()

    @property
    def id(self) -> str:
        """Its identity, and the name of its folder."""
        return self.asked.id

    @property
    def name(self) -> str:
        """What it is called."""
        return self.asked.name

    @property
    def is_job(self) -> bool:
        """Whether it was submitted: no settings name it."""
        return self.asked.origin == "job"

    @property
    def local(self) -> bool:
        """Whether its training loads this machine, which is then judged by it."""
        return self.asked.place == LOCAL

    def but(self, **changes: Any) -> Run:
        """The same run with these fields of its own, or of one of its parts, replaced.

        What was asked for is replaced as a whole alone, as `asked`.
        """
        own: dict[str, Any] = {}
        parts: dict[str, dict[str, Any]] = {}
        for field, value in changes.items():
            part = _PART_OF.get(field)
            if part is None:
                own[field] = value
            else:
                parts.setdefault(part, {})[field] = value
        for part, fields in parts.items():
            own[part] = msgspec.structs.replace(getattr(self, part), **fields)
        changed: Run = msgspec.structs.replace(self, **own)
        return changed


_PART_OF = {
    field: part
    for part, kind in (("attempt", Attempt), ("progress", Progress), ("faults", Faults))
    for field in kind.__struct_fields__
}
"""which part of a run a field belongs to"""


class Left(msgspec.Struct, frozen=True, kw_only=True):
    """A run that has left the queue, as it was then; see `state.archive`."""

    version: Literal[2] = 2
    run: Run
    at: float
    """wall time when it left, for people"""
    epoch: int
    """of the home: what an older one knew of its campaign is void"""
    said: dict[str, Any] = {}
    """the last heartbeat of its trainer, for people"""

    @staticmethod
    def of_before(old: dict[str, Any]) -> dict[str, Any]:
        """One of version 1 as one of this version."""
        return in_words_of_today(old) | {"version": 2}


class Ends(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How many runs came to which end."""

    reached: int = 0
    """their target, or they had none and said that they are done"""
    short: int = 0
    """done by their own word, before their target"""
    failed: int = 0
    cancelled: int = 0

    @property
    def total(self) -> int:
        """All of them."""
        return self.reached + self.short + self.failed + self.cancelled

    def and_(self, other: Ends) -> Ends:
        """Both together."""
        return Ends(
            reached=self.reached + other.reached,
            short=self.short + other.short,
            failed=self.failed + other.failed,
            cancelled=self.cancelled + other.cancelled,
        )


class Generation(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A generation of the campaign that is over: its runs, which lie in folders of their own."""

    number: int
    runs: tuple[str, ...]
    """ids of those that it had at its end"""
    ended_at: float
    """wall time when the next one began, for people"""
    done: int = 0
    """how many of them ended well"""
    dropped: bool = False
    """their folders are to be removed, and perhaps some are already"""
    stuck: str | None = None
    """why one of them cannot be, as the log was told"""


class Generations(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How often the whole campaign was begun, and when it is due again."""

    number: int = 1
    """of the present one"""
    best: bool = False
    """its runs begin with the best checkpoints of the one before"""
    due_at: float | None = None
    """wall time of the instant that it was due at; None: it was the first"""
    ended: bool = False
    """the log has been told of its end"""
    calendar: str | None = None
    """by which the next one is due, with its zone; None: by none"""
    since_at: float = 0.0
    """wall time up to which that calendar is heeded"""
    next_at: float | None = None
    """wall time of the instant at which the next one is due; None: never"""
    set_back: tuple[tuple[float, float | None], ...] = ()
    """the two before as they were each time that the clock was set back, the latest moment first:
    they hold again once it is past that"""
    late_at: float | None = None
    """the instant of which the log was told that the present one is not done by then"""
    fired_at: tuple[float, ...] = ()
    """the newest instants for which one has begun, in order: none ever does so again, whatever is
    done to the clock"""
    earlier: tuple[Generation, ...] = ()
    """those that are kept, and those whose folders are being removed, the oldest first"""


PauseOwner = Literal["person", "guard", "quiet_hours"]
"""a person; the machine's real work; the hours in which training would disturb"""


class Goal(msgspec.Struct, frozen=True, kw_only=True):
    """What the supervisor wants, saved before any step is taken towards it."""

    mode: str
    pinned: bool = False
    """a person wants this mode and no other"""
    pauses: tuple[PauseOwner, ...] = ()
    """who wants nothing to train; each lifts its own pause"""
    forbidden: str | None = None
    """a person wants neither this mode nor a heavier one"""
    idle_until_s: float | None = None
    """the machine dies as soon as it trains: nothing does until then"""
    still: Literal["starts", "frozen"] | None = None
    """others may need the machine: nothing new starts; what trains stands still, too, where it
    is"""
    any_hour_until_at: float | None = None
    """wall time until which a person wants training in any hour, quiet or not"""

    @property
    def frozen(self) -> bool:
        """Whether what trains shall stand still where it is."""
        return self.still == "frozen"

    @property
    def paused(self) -> bool:
        """Whether anybody wants nothing to train."""
        return bool(self.pauses)

    @property
    def trains(self) -> bool:
        """Whether anything shall train at all."""
        return not self.paused and self.idle_until_s is None


class Visit(msgspec.Struct, frozen=True, kw_only=True):
    """The present stay in the goal's mode."""

    entered_at: float
    entered_s: float
    """where on the timeline it began; no visit has run for longer than since then"""
    running_s: float = 0.0
    """time in which trainers of the mode made steps; neither the move nor a start-up counts"""
    stable_s: float = 0.0
    """the part of it since the last crash"""
    starting_s: float | None = None
    """since the move, or the boot: time in which a trainer lived, while nobody has heard of a
    step in this mode; None: steps are made"""
    crashes_s: tuple[float, ...] = ()
    """the first and the newest crashes of this visit, oldest first"""
    crashes_total: int = 0
    """all crashes of this visit; 0 beside some in `crashes_s`: an older version counted none"""
    forced: bool = False
    """a person has asked for the move: what comes of it is not held against the mode"""
    out_of_memory: bool = False
    """a trainer ran out of memory soon after the mode was entered"""
    proved: bool = False
    """it has lasted for as long as the mode had to prove itself"""
    away: bool = False
    """the machine has been down for a day or more, and nothing has trained since"""
    breather: bool = False
    """it lasts until the mode above, which has just crashed, goes on"""

    @property
    def crashes(self) -> int:
        """How many there were, listed or not."""
        return max(self.crashes_total, len(self.crashes_s))


class Kept(msgspec.Struct, frozen=True, kw_only=True):
    """Work that durable checkpoints hold, and the time it took."""

    steps: float = 0.0
    hours: float = 0.0
    """of training on these steps, with every slot of the mode at it: hours of one slot count for
    as many times less as there are slots"""


class Hazard(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """When a mode crashes; nothing: no crash was ever followed by a stretch of it.

    Each has a number for each age since the last crash (`supervisor.core.hazard.AGES_H`), or for
    each part of the day, and fades by half in a week.
    """

    crashes: tuple[float, ...] = ()
    hours: tuple[float, ...] = ()
    """of running"""
    day_crashes: tuple[float, ...] = ()
    day_hours: tuple[float, ...] = ()
    ahead: float = 0.0
    """how much better the age has foretold the crashes than the part of the day: the logarithm of
    the ratio of both likelihoods, fading by half in two weeks"""


class Exposure(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What an entry of the ledger adds to the hazard of its mode."""

    keep: float
    """the share of crashes and hours, of all modes, that has not faded since the last entry"""
    ahead_keep: float
    """the same of `Hazard.ahead`"""
    ahead: float
    """what it has gained"""
    hours: tuple[float, ...]
    """of running, by age"""
    day_hours: tuple[float, ...]
    """the same by part of the day"""
    age: int | None = None
    """of a crash"""
    part: int | None = None
    """in which it came"""


class ModeLedger(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What has been learnt about one mode. Crashes and running hours fade with time."""

    crashes: float = 0.0
    """fading by half in a day"""
    hours: float = 0.0
    """of running, fading likewise"""
    work: dict[str, Kept] = {}
    """kind: what was kept of it in this mode while every slot was wanted, in the newest hours"""
    aftershocks: float = 0.0
    """crashes soon after another one, fading by half in a day"""
    aftershock_hours: float = 0.0
    """of running soon after a crash, fading likewise"""
    level: int = 0
    """failed visits that no success has walked back"""
    in_row: int = 0
    """failed visits since one has lasted"""
    bad_since_s: float | None = None
    """when the bad spell that lasts began, on the timeline: at the first crash of a failed visit"""
    bad_hours: float = 0.0
    """of bad spells that are over"""
    recoveries: int = 0
    """how many these are"""
    failures: int = 0
    """failed visits that were short"""
    failure_hours: float = 0.0
    """what these have cost, in hours of the work of the mode below"""
    last_crashes: int = 0
    """of the last visit that is over"""
    last_hours: float = 0.0
    """of running in it"""
    hazard: Hazard = Hazard()


class Stretch(msgspec.Struct, frozen=True, kw_only=True):
    """What has happened since the ledger was last booked."""

    running_s: float = 0.0
    """in which trainers made steps"""
    shaken_s: float = 0.0
    """the part of it soon after a crash"""
    aged_s: tuple[float, ...] = ()
    """the same by the time since the last crash; nothing: there was none"""
    day_s: tuple[float, ...] = ()
    """and by the part of the day"""
    crash_age_s: float | None = None
    """of a crash at its end: the time since the one before; None: there was none"""
    crash_s: float = 0.0
    """when the machine was seen alive last before that, on the timeline"""
    work: dict[str, dict[str, Kept]] = {}
    """mode: kind of run: what was kept while every slot was wanted"""


class Outage(msgspec.Struct, frozen=True, kw_only=True):
    """A crash whose price is not known yet: no trainer has made a step since."""

    began_s: float
    """when a trainer was last seen alive before it"""
    lost_s: float = 0.0
    """training that no checkpoint held, averaged over the slots"""


class Booking(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One entry of the ledger: everything that it needs, so that it can be booked again."""

    at_s: float
    """up to where on the timeline the ledger is booked"""
    mode: str
    hours: float = 0.0
    """of running in that mode since the last entry, as far as they have not faded"""
    aftershock_hours: float = 0.0
    """the part of them soon after a crash"""
    aftershocks: int = 0
    """of the crashes, those soon after another one"""
    work: dict[str, dict[str, Kept]] = {}
    """mode: kind of run: what was kept in these while every slot was wanted"""
    crash_keep: float = 1.0
    """the share of crashes and hours that has not faded since the last entry"""
    work_hours_max: float = 0.0
    """hours of work that a mode remembers"""
    budget_max: float = 0.0
    """what the budget can hold"""
    refill: float = 0.0
    """crashes that it has gained"""
    spent: float = 0.0
    """crashes that it has lost"""
    crashes: int = 0
    """of the machine"""
    exposure: Exposure | None = None
    """to crashes, once there was one; None: there was none, or an older version wrote it"""
    cost_s: float | None = None
    """what a crash has cost, now that it is known"""
    fingerprint: dict[str, str] | None = None
    """what the machine is from now on: what failed on another one may work on it"""
    redefined: tuple[str, ...] = ()
    """modes that are others from now on: how fast they were tells nothing any more"""


class Ledger(msgspec.Struct, frozen=True, kw_only=True):
    """The whole memory of the policy `ledger`: a few kB, rebuilt from the decision log alone."""

    version: int = LEDGER_VERSION
    booked_s: float = 0.0
    """up to where on the timeline"""
    budget: float | None = None
    """crashes that the mode may still cost; None: as many as a fresh one"""
    costs_s: tuple[float, ...] = ()
    """what the newest crashes have cost: downtime and lost work"""
    modes: dict[str, ModeLedger] = {}
    fingerprint: dict[str, str] = {}
    """the machine that this was learnt on: kernel, cards, programs, modes"""


class Boot(msgspec.Struct, frozen=True, kw_only=True):
    """One boot of the machine, known by its `boot_id` and ordered by its `seq`."""

    seq: int
    boot_id: str
    recorded_at: float
    recorded_s: float
    crash: bool
    """the machine went down before it without a clean stop"""
    mode: str
    """the goal's mode when it went down"""
    lived_s: float | None = None
    """its uptime at the newest look, 0 if it never came to one; None: an older version knew it"""
    trained_s: float = 0.0
    """the part of it in which a trainer lived"""


class BootNote(msgspec.Struct, frozen=True, kw_only=True):
    """What a boot said of itself before any supervisor lived; see `state.boot_notes`."""

    boot_id: str
    event: Literal["up", "down"]
    """`down`: it went down orderly"""
    wall: float
    boottime_s: float


class Timeline(msgspec.Struct, frozen=True, kw_only=True):
    """Where supervised time stands, and the clocks when it was last advanced."""

    now_s: float = 0.0
    seen_at: float
    boot_id: str
    monotonic_s: float
    boottime_s: float


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """Where a home lies: a copy of it lies somewhere else."""

    machine_id: str | None
    """of /etc/machine-id; None: this machine has none"""
    device: int
    inode: int
    """of the folder"""


class HomeId(msgspec.Struct, frozen=True, kw_only=True):
    """Which home this is, for others who keep its answers: a copy is another one."""

    id: str
    place: Place
    """where it lay when it got that id"""


class PowerLimit(msgspec.Struct, frozen=True, kw_only=True):
    """A power limit of the GPUs that was asked for."""

    watts: float | None
    """None: that of the cards"""
    refused: str | None = None
    """why it is not in force"""


class Told(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What the log was told once; it is told again only after it has changed."""

    unsaved: str | None = None
    """why the disk does not take the state"""
    pressures: tuple[str, ...] = ()
    """kinds of pressure that keep the next mode from being tried"""
    strays: tuple[str, ...] = ()
    """runs in no queue of which something lives"""
    inbox: tuple[str, ...] = ()
    """what lies in the inbox and is no request"""
    power: PowerLimit | None = None
    disk_low: bool = False
    """that the disk is nearly full"""
    jobs_late: bool = False
    """that jobs wait for too long"""


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one request."""

    request: str
    """its id"""
    refused: bool
    reason: str
    """one sentence for a person"""
    mode: str | None = None
    """the mode of the goal from then on, where the request was about it"""
    line: int | None = None
    """the line of the decision log that tells it; None: an earlier one does"""


class Memory(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that the supervisor knows. Only the daemon writes it."""

    schema: int = SCHEMA_VERSION
    home: HomeId | None = None
    """None: nobody has seen yet where it lies"""
    epoch: int = 1
    """how often everything was forgotten, and once: what was known of an older one is void"""
    began_at: float
    """since when history is known"""
    timeline: Timeline
    goal: Goal
    visit: Visit
    interrupted: Visit | None = None
    """the one that goes on after a breather"""
    running: bool = False
    """a trainer lived at the last look"""
    clean_stop: bool = False
    """the supervisor stopped by request: the next boot is planned, not a crash"""
    asked_s: float = 0.0
    """when a person's request was last granted; boot loops from before are forgiven"""
    cool_downs: dict[str, float] = {}
    """mode: until when it is not tried again by itself"""
    boots: tuple[Boot, ...] = ()
    """the newest boots, oldest first"""
    boots_total: int = 0
    crashes_total: int = 0
    runs: tuple[Run, ...] = ()
    """the queue, in its order: the campaign, then what was submitted"""
    left: tuple[Left, ...] = ()
    """runs that have left it and perhaps are not in the archive yet"""
    ends: dict[Origin, Ends] = {}
    """of those that have left: how the campaign's have ended, and what was submitted since
    nothing was left to train"""
    campaign: int = 0
    """a checksum of the campaign that the queue follows"""
    generations: Generations | None = None
    """None: it was never to be due again"""
    resting: bool = False
    """every run of a campaign, and all that was submitted, has ended; the log has been told"""
    demanded: tuple[str, ...] = ()
    """the runs whose training is demanded now, as the log was told last"""
    requests_done: tuple[str, ...] = ()
    """ids of the newest requests answered, so that none is answered twice"""
    decisions: int = 0
    """how many lines the decision log has been given"""
    ledger: Ledger = Ledger()
    """what has been learnt, booked up to the newest entry"""
    stretch: Stretch = Stretch()
    """what is to be booked next"""
    full: bool = False
    """every slot of the mode is wanted: what is kept tells how fast it is"""
    unsaved_s: float = 0.0
    """training that no checkpoint held at the last word of the trainers, averaged over them"""
    gpus: tuple[str, ...] | None = None
    """those that this home may use, by UUID; None: there are none, or it is not known which"""
    gpu_error: str | None = None
    """what the driver of a GPU reported last"""
    gpu_error_s: float = 0.0
    """when, on the timeline"""
    outage: Outage | None = None
    """the newest crash, until its price is known"""
    pressed: dict[str, Any] | None = None
    """what the guard said when it last wanted something else than before, as `core.guard` has it,
    and the wall time of that as `since_at`"""
    told: Told = Told()
    bookings: tuple[Booking, ...] = ()
    """entries that the next line of the log will carry"""
    outbox: tuple[dict[str, Any], ...] = ()
    """lines decided together with this memory and perhaps not yet in the log"""
    answers: tuple[Answer, ...] = ()
    """given together with this memory and perhaps not yet where they are waited for"""
