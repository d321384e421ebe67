"""Every key of the settings file: all optional, validated whole."""

from __future__ import annotations

import difflib
import re
from collections import Counter
from typing import Annotated, Any

import msgspec

from state.records import Asked, Rank, Run, Target
from supervisor.core.facts import StabilityLimits
from supervisor.core.recovery import RecoveryLimits, Seconds
from trainers.contract import NAME, Name, Positive

CAMPAIGN = (
    "MsPacman",
    "Asteroids",
    "Seaquest",
    "BeamRider",
    "SpaceInvaders",
    "Enduro",
    "Breakout",
    "Boxing",
    "Freeway",
    "Pong",
)
"""the ten games of the default campaign, in the order of the queue"""

TARGET_STEPS = 10_000_000
"""the published budget of PPO on Atari: 40 million frames"""


EVENTS = (
    "boot.recorded", "boot.unreadable", "campaign.done", "climb.vetoed", "crash.priced",
    "gpu.awaited", "gpu.leaked", "hold.changed", "home.closed", "home.renewed", "ledger.begun",
    "machine.changed", "mode.changed", "mode.proved", "power.limited", "power.refused",
    "run.adopted", "run.blocked", "run.cleared", "run.died", "run.done", "run.failed",
    "run.held", "run.hung", "run.killed", "run.lost", "run.noticed", "run.retried",
    "run.started", "run.stopped", "settings.changed", "settings.refused", "settings.unkept",
    "slots.assigned",
    "state.damaged", "state.lagged", "state.saved", "state.unsaved", "supervisor.started",
    "supervisor.stopped", "supervisor.stopping", "warm.lost", "watch.lost", "wish.granted",
    "wish.refused", "wish.unreadable",
)  # fmt: skip
"""what the decision log tells, but for errands themselves"""

ERRAND_EVENTS = ("notify.ended", "notify.failed", "notify.started")
"""what it tells of errands: nobody can ask to be told of these elsewhere"""


class Policy(StabilityLimits, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """[policy]: when to climb, when to fall back, how often to look."""

    tick_s: Seconds = 300.0
    """longest time between two looks; events wake the supervisor sooner"""


class Campaign(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """[campaign]: what to train, in which order, how far."""

    runs: Annotated[tuple[Name, ...], msgspec.Meta(min_length=1)] = CAMPAIGN
    """names of the runs, first come first served"""
    trainer: Name = "atari"
    """the trainer of each, unless its own table says otherwise"""
    target_steps: Positive | None = None
    """environment steps of each"""
    target_episodes: Positive | None = None
    """or finished episodes of each"""
    seed: Annotated[int, msgspec.Meta(ge=0, lt=2**31)] = 1
    options: dict[str, Any] = {}
    """settings of the trainer, validated by it"""
    rank: Rank = "low"
    """the class of priority of each; a run of a higher one takes the slot of a lower one, saved"""


class OneRun(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """[run.NAME]: what is different for one run of the campaign."""

    trainer: Name | None = None
    target_steps: Positive | None = None
    target_episodes: Positive | None = None
    seed: Annotated[int, msgspec.Meta(ge=0, lt=2**31)] | None = None
    options: dict[str, Any] = {}
    rank: Rank | None = None
    silent_max_s: Seconds | None = None
    """how long its step may stand still, whatever [recovery] says and the run itself shows"""


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


class Notify(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """[notify]: who is told elsewhere, and what is run when the campaign is done."""

    urls: Annotated[tuple[str, ...], msgspec.Meta(max_length=10)] = ()
    """where chosen lines of the decision log are posted to, as JSON"""
    events: tuple[str, ...] = (
        "campaign.done",
        "mode.changed",
        "run.done",
        "run.failed",
        "run.held",
        "run.blocked",
        "state.damaged",
    )
    """which lines those are"""
    when_done: tuple[str, ...] = ()
    """a command and its arguments, run once every run has ended"""
    when_done_max_s: Seconds = 3600.0
    """how long it may take before it is ended"""

    def __post_init__(self) -> None:
        for number, url in enumerate(self.urls, 1):
            if not re.fullmatch(r"https?://[^/?#\s]+\S*", url) or not url.isprintable():
                # An address may hold a password: it is not repeated.
                raise ValueError(
                    f"notify.urls: number {number} is no address that begins with https://"
                )
        for event in self.events:
            if event not in EVENTS:
                close = difflib.get_close_matches(event, EVENTS, n=1)
                hint = f"; did you mean {close[0]!r}?" if close else ""
                raise ValueError(f"notify.events: there is no event {event!r}{hint}")
        if self.when_done and not self.when_done[0]:
            raise ValueError("notify.when_done: the name of the command is empty")


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole of `supervisor.toml`."""

    policy: Policy = Policy()
    recovery: RecoveryLimits = RecoveryLimits()
    campaign: Campaign = Campaign()
    run: dict[str, OneRun] = {}
    checkpoints: Checkpoints = Checkpoints()
    warm: Warm = Warm()
    logs: Logs = Logs()
    notify: Notify = Notify()
    modes_dir: str | None = None
    """a folder of mode files that replaces the shipped one; relative to the settings file"""
    cost_per_hour: Annotated[float, msgspec.Meta(ge=0, le=1e6)] | None = None
    """what the machine costs an hour, in whatever currency"""

    def __post_init__(self) -> None:
        names = self.campaign.runs
        twice = {name for name, count in Counter(names).items() if count > 1}
        if twice:
            raise ValueError(f"campaign.runs names {', '.join(sorted(twice))} more than once")
        strangers = sorted(set(self.run) - set(names))
        if strangers:
            raise ValueError(f"[run.{strangers[0]}] is not in campaign.runs")
        tables: dict[str, Campaign | OneRun] = {"campaign": self.campaign, **self.run}
        for name in names:
            run_id = self._run(name).id
            if not NAME.fullmatch(run_id):
                raise ValueError(
                    f"{run_id!r} is too long; trainer and name take at most 63 letters"
                )
        for name, one in tables.items():
            if one.target_steps is not None and one.target_episodes is not None:
                raise ValueError(f"{name}: set target_steps or target_episodes, not both")

    def queue(self) -> tuple[Run, ...]:
        """The runs of the campaign, as they stand on the first day."""
        return tuple(self._run(name) for name in self.campaign.runs)

    def _run(self, name: str) -> Run:
        common, own = self.campaign, self.run.get(name, OneRun())
        trainer = own.trainer or common.trainer
        target = own if own.target_steps or own.target_episodes else common
        steps = target.target_steps
        if steps is None and target.target_episodes is None:
            steps = TARGET_STEPS
        counted = Target(unit="steps", count=steps) if steps else None
        if target.target_episodes is not None:
            counted = Target(unit="episodes", count=target.target_episodes)
        asked = Asked(
            id=f"{trainer}-{name}",
            trainer=trainer,
            name=name,
            seed=common.seed if own.seed is None else own.seed,
            target=counted,
            # As they will stand in the spec: a date or a nan of TOML becomes what JSON has for it.
            options=msgspec.json.decode(msgspec.json.encode({**common.options, **own.options})),
            rank=own.rank or common.rank,
            silent_max_s=own.silent_max_s,
        )
        return Run(asked=asked)
