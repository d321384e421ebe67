"""Every key of the settings file: all optional, validated whole."""

from __future__ import annotations

import difflib
import re
from typing import Annotated

import msgspec

from state.records import Run
from state.renames import today
from supervisor.core.campaign import Campaign, OneRun, check, dated_in, runs_of
from supervisor.core.events import TOLD_ELSEWHERE, Event
from supervisor.core.facts import StabilityLimits
from supervisor.core.guard import Guard
from supervisor.core.job_settings import Jobs
from supervisor.core.quiet_hours import QuietHours
from supervisor.core.recovery import RecoveryLimits, Seconds
from supervisor.core.slots import Sharing
from supervisor.core.web_settings import Web
from trainers.contract import Name

ADDRESS = re.compile(
    r"https?://(?:[^/?#\s]*@)?(?:\[[0-9a-f:.]+\]|[^/?#\s:@\[\]]+)(?::[0-9]{1,5})?(?:[/?#]\S*)?"
    r"|(?!https?:)[a-z][a-z0-9+.-]{0,31}://\S*",
    re.IGNORECASE,
)
"""the form of an address; of all kinds but the first only apprise knows more"""
GPU_NAME = r"\A(GPU|MIG)-[0-9A-Za-z/-]{4,100}\Z"
"""how CUDA names a GPU, or a part of one, in every boot alike"""


class Policy(StabilityLimits, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """[policy]: when to climb, when to fall back, how often to look."""

    tick_s: Seconds = 300.0
    """longest time between two looks; events wake the supervisor sooner"""


class Checkpoints(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """[checkpoints]: how often a trainer saves."""

    interval_s: Annotated[float, msgspec.Meta(gt=0, le=86_400)] = 90.0
    """longest time between two checkpoints of a run; shorter while crashes are near"""
    writes_gb_per_day: Annotated[float, msgspec.Meta(gt=0, le=1_000_000)] = 350.0
    """what all runs together may write for that; a disk made for 600 TB bears it for five years"""


class Warm(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """[warm]: processes that wait beside the training, to bring trainers back in a blink."""

    trainers: tuple[Name, ...] = ("atari",)
    """trainers that are kept warm while a run of theirs is wanted; none: all start cold"""
    memory_max_mib: Annotated[float, msgspec.Meta(gt=0, le=1_000_000)] = 1024.0
    """one that takes more is ended"""


class Logs(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """[logs]: how much disk the decision log and the others may take, each."""

    max_mib: Annotated[float, msgspec.Meta(gt=0, le=1_000_000)] = 16.0
    """size at which a log is rotated"""
    kept: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 3
    """older files that are kept of each log"""
    turns: bool = False
    """write down all that each turn of thinking depends on, for `replay`; a lot"""

    @property
    def max_bytes(self) -> int:
        """The size at which a log is rotated, in bytes."""
        return int(self.max_mib * 1024 * 1024)


class Samples(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """[samples]: what is written down of the machine between the looks."""

    enabled: bool = True
    """whether it is"""
    training_s: Annotated[float, msgspec.Meta(ge=10, le=30)] = 15.0
    """how often while anything trains"""
    idle_s: Annotated[float, msgspec.Meta(ge=30, le=3600)] = 60.0
    """how often while nothing does"""
    max_mib: Annotated[float, msgspec.Meta(ge=4, le=100_000)] = 128.0
    """what all of it may take; the oldest makes room"""

    @property
    def max_bytes(self) -> int:
        """What all of it may take, in bytes."""
        return int(self.max_mib * 1024 * 1024)


class Notify(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """[notify]: who is told elsewhere, and what is run when the campaign is done."""

    urls: Annotated[tuple[str, ...], msgspec.Meta(max_length=10)] = ()
    """where chosen lines of the decision log go: http and https take them as JSON, any other is an
    address of apprise, such as ntfy://ntfy.sh/topic"""
    events: tuple[str, ...] = (
        Event.CAMPAIGN_DONE,
        Event.MODE_CHANGED,
        Event.RUN_DONE,
        Event.RUN_FAILED,
        Event.RUN_QUARANTINED,
        Event.RUN_BLOCKED,
        Event.BOOT_RECORDED,
        Event.DISK_LOW,
        Event.GUARD_EVICTED,
        Event.JOBS_LATE,
        Event.STATE_DAMAGED,
        Event.USAGE_LATE,
    )
    """which lines those are"""
    when_done: tuple[str, ...] = ()
    """a command and its arguments, run once every run has ended"""
    when_done_max_s: Seconds = 3600.0
    """how long it may take before it is ended"""

    @property
    def chosen(self) -> frozenset[str]:
        """Which lines those are, in the words of today."""
        return frozenset(today("event", event) for event in self.events)

    def __post_init__(self) -> None:
        for number, url in enumerate(self.urls, 1):
            if not ADDRESS.fullmatch(url) or not url.isprintable():
                # An address may hold a password: it is not repeated.
                raise ValueError(
                    f"notify.urls: number {number} is no address, such as https://host/path or "
                    "ntfy://ntfy.sh/topic; where a name or password has a blank or one of / ? # @, "
                    "write %20 %2F %3F %23 %40"
                )
        for event in self.events:
            if today("event", event) not in TOLD_ELSEWHERE:
                close = difflib.get_close_matches(event, TOLD_ELSEWHERE, n=1)
                hint = f"; did you mean {close[0]!r}?" if close else ""
                raise ValueError(f"notify.events: there is no event {event!r}{hint}")
        if self.when_done and not self.when_done[0]:
            raise ValueError("notify.when_done: the name of the command is empty")


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole of `supervisor.toml`."""

    policy: Policy = Policy()
    recovery: RecoveryLimits = RecoveryLimits()
    campaign: Campaign = Campaign()
    run: dict[Name, OneRun] = {}
    jobs: Jobs = Jobs()
    checkpoints: Checkpoints = Checkpoints()
    warm: Warm = Warm()
    guard: Guard | None = None
    """None: there is one only with quiet hours"""
    logs: Logs = Logs()
    samples: Samples = Samples()
    notify: Notify = Notify()
    web: Web = Web()
    quiet_hours: QuietHours | None = None
    """None: training waits for no windows"""
    modes_dir: str | None = None
    """a folder of mode files that replaces the shipped one; relative to the settings file"""
    trainers_dir: str | None = None
    """a folder of trainers beside the shipped ones; relative to the settings file"""
    gpus: tuple[Annotated[str, msgspec.Meta(pattern=GPU_NAME)], ...] | None = None
    """UUIDs of the GPUs that this home may use, as `nvidia-smi -L` tells them, or how they begin;
    none: training sees none; None: all"""
    cost_per_hour: Annotated[float, msgspec.Meta(ge=0, le=1e6)] | None = None
    """what the machine costs an hour, in whatever currency"""

    def __post_init__(self) -> None:
        check(self.campaign, self.run)
        if self.gpus is not None and len(set(self.gpus)) < len(self.gpus):
            raise ValueError("gpus names one of them more than once")

    @property
    def guard_in_force(self) -> Guard | None:
        """What others may use before training makes way; with quiet hours, too. None: anything."""
        implied = Guard() if self.quiet_hours is not None and self.quiet_hours.enabled else None
        guard = self.guard or implied
        return guard if guard is not None and guard.enabled else None

    @property
    def listen(self) -> str:
        """Where the page and the API answer."""
        return self.jobs.listen or self.web.listen

    @property
    def sharing(self) -> Sharing:
        """How the campaign and what was submitted share the slots."""
        return Sharing(
            self.campaign.slots_min,
            self.campaign.min_run_s,
            self.jobs.min_run_s,
            gpus=self.gpus,
            gpus_named=self.gpus is not None,
        )

    def queue(self) -> tuple[Run, ...]:
        """The runs of the campaign, as they stand on the first day."""
        return runs_of(self.campaign, self.run)

    def dated(self) -> tuple[str, ...]:
        """What is written in an old form, which is read all the same: one notice for each key."""
        renamed = (
            f"{event!r} in notify.events is the old name of {today('event', event)!r}"
            for event in self.notify.events
            if today("event", event) != event
        )
        listen = (
            ()
            if self.jobs.listen is None
            else ("listen in [jobs] is the old form of listen in [web]",)
        )
        return (*dated_in(self.campaign, self.run), *self.recovery.dated(), *listen, *renamed)
