"""Every key of the settings file: all optional, validated whole."""

from __future__ import annotations

import difflib
import re
from collections import Counter
from typing import Annotated, Any

import msgspec

from state.records import Asked, Rank, Run
from state.renames import today
from supervisor.core.events import TOLD_ELSEWHERE, Event
from supervisor.core.facts import StabilityLimits
from supervisor.core.recovery import RecoveryLimits, Seconds
from supervisor.core.slots import Sharing
from trainers.contract import NAME, Name, Positive, Target

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

OLD_FORMS = {"target_steps": "steps", "target_episodes": "episodes"}
"""keys that older settings have in place of `target`, and what each counts"""
GPU_NAME = r"\A(GPU|MIG)-[0-9A-Za-z/-]{4,100}\Z"
"""how CUDA names a GPU, or a part of one, in every boot alike"""
PLACES_MAX = 4
"""further tables with an old key that its notice names; of the others it tells the number"""


class Policy(StabilityLimits, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """[policy]: when to climb, when to fall back, how often to look."""

    tick_s: Seconds = 300.0
    """longest time between two looks; events wake the supervisor sooner"""


# What is unset in these two is not written down either: an older version reads the settings that
# are kept over a reboot as long as they use nothing that is newer.


class Campaign(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True
):
    """[campaign]: what to train, in which order, how far."""

    runs: tuple[Name, ...] = CAMPAIGN
    """labels of the runs, first come first served; what a run trains is called so, too, unless its
    own table says otherwise; none: this is a place for what is submitted, and never done"""
    trainer: Name = "atari"
    """the trainer of each, unless its own table says otherwise"""
    target: dict[Name, Positive] | None = None
    """how far each is to go: one unit, and how many of it; empty: its trainer says when it is
    done; None: it is not set"""
    target_steps: Positive | None = None
    """old form of a target in steps"""
    target_episodes: Positive | None = None
    """old form of a target in episodes"""
    seed: Annotated[int, msgspec.Meta(ge=0, lt=2**31)] = 1
    options: dict[str, Any] = {}
    """settings of the trainer, validated by it"""
    rank: Rank = "low"
    """the class of priority of each; a run of a higher one takes the slot of a lower one, saved"""
    slots_min: Annotated[int, msgspec.Meta(ge=0, le=1000)] = 0
    """slots that the campaign has whatever else is submitted, as long as it has runs for them"""
    min_run_s: Annotated[float, msgspec.Meta(ge=0, le=31_536_000)] = 0.0
    """how long one of its trainers is safe from a higher class after its start"""


class OneRun(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True
):
    """[run.LABEL]: what is different for one run of the campaign."""

    name: Name | None = None
    """what is trained, where that is not the label: the same name twice is two runs"""
    trainer: Name | None = None
    target: dict[Name, Positive] | None = None
    target_steps: Positive | None = None
    target_episodes: Positive | None = None
    seed: Annotated[int, msgspec.Meta(ge=0, lt=2**31)] | None = None
    options: dict[str, Any] = {}
    rank: Rank | None = None
    silent_max_s: Seconds | None = None
    """how long its step may stand still, whatever [recovery] says and the run itself shows"""


class Jobs(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """[jobs]: runs that were submitted, and are in no campaign."""

    min_run_s: Annotated[float, msgspec.Meta(ge=0, le=31_536_000)] = 600.0
    """how long a trainer of one is safe from a higher class after its start"""


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
        Event.CAMPAIGN_DONE,
        Event.MODE_CHANGED,
        Event.RUN_DONE,
        Event.RUN_FAILED,
        Event.RUN_QUARANTINED,
        Event.RUN_BLOCKED,
        Event.STATE_DAMAGED,
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
            if not re.fullmatch(r"https?://[^/?#\s]+\S*", url) or not url.isprintable():
                # An address may hold a password: it is not repeated.
                raise ValueError(
                    f"notify.urls: number {number} is no address that begins with https://"
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
    run: dict[str, OneRun] = {}
    jobs: Jobs = Jobs()
    checkpoints: Checkpoints = Checkpoints()
    warm: Warm = Warm()
    logs: Logs = Logs()
    notify: Notify = Notify()
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
        labels = self.campaign.runs
        twice = sorted(label for label, count in Counter(labels).items() if count > 1)
        if twice:
            first = twice[0]
            raise ValueError(
                f"campaign.runs names {', '.join(twice)} more than once; to train {first} in two "
                f'runs, list a second label, such as {first}-2, and set name = "{first}" in '
                f"[run.{first}-2]"
            )
        if self.gpus is not None and len(set(self.gpus)) < len(self.gpus):
            raise ValueError("gpus names one of them more than once")
        strangers = sorted(set(self.run) - set(labels))
        if strangers:
            raise ValueError(f"[run.{strangers[0]}] is not in campaign.runs")
        for where, table in self._tables().items():
            wrong = _wrong_target(table)
            if wrong is not None:
                raise ValueError(f"[{where}] {wrong}")
        for label in labels:
            run_id = self._run(label).id
            if not NAME.fullmatch(run_id):
                raise ValueError(
                    f"{run_id!r} is too long; trainer and label take at most 63 letters"
                )

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
        return tuple(self._run(label) for label in self.campaign.runs)

    def dated(self) -> tuple[str, ...]:
        """What is written in an old form, which is read all the same: one notice for each key."""
        notices = []
        for key, unit in OLD_FORMS.items():
            counts = {
                where: getattr(table, key)
                for where, table in self._tables().items()
                if getattr(table, key) is not None
            }
            if not counts:
                continue
            first, *others = counts
            notice = f"{key} in [{first}] is the old form of target: write "
            notice += f"target = {{ {unit} = {counts[first]} }}"
            if others:
                few = ", ".join(f"[{where}]" for where in others[:PLACES_MAX])
                more = len(others) - PLACES_MAX
                notice += f"; likewise in {few}" + (f" and {more} more" if more > 0 else "")
            notices.append(notice)
        notices += self.recovery.dated()
        notices += [
            f"{event!r} in notify.events is the old name of {today('event', event)!r}"
            for event in self.notify.events
            if today("event", event) != event
        ]
        return tuple(notices)

    def _tables(self) -> dict[str, Campaign | OneRun]:
        """All tables that may set a target, by their headings."""
        runs = {f"run.{label}": table for label, table in self.run.items()}
        return {"campaign": self.campaign, **runs}

    def _run(self, label: str) -> Run:
        common, own = self.campaign, self.run.get(label, OneRun())
        trainer = own.trainer or common.trainer
        target = _target(own)
        if target is None:
            target = _target(common)
        if target is None:
            target = {"steps": TARGET_STEPS}
        counted = next((Target(unit=unit, count=count) for unit, count in target.items()), None)
        asked = Asked(
            id=f"{trainer}-{label}",
            trainer=trainer,
            name=own.name or label,
            seed=common.seed if own.seed is None else own.seed,
            target=counted,
            # As they will stand in the spec: a date or a nan of TOML becomes what JSON has for it.
            options=msgspec.json.decode(msgspec.json.encode({**common.options, **own.options})),
            rank=own.rank or common.rank,
            silent_max_s=own.silent_max_s,
        )
        return Run(asked=asked)


def _target(table: Campaign | OneRun) -> dict[str, int] | None:
    """The target that a table sets, in whichever form; None: it sets none."""
    return table.target if table.target is not None else _old_target(table) or None


def _old_target(table: Campaign | OneRun) -> dict[str, int]:
    """What stands in the old form; nothing, if nothing does."""
    old = {unit: getattr(table, key) for key, unit in OLD_FORMS.items()}
    return {unit: count for unit, count in old.items() if count is not None}


def _wrong_target(table: Campaign | OneRun) -> str | None:
    """What is wrong with the target that a table sets, to follow its heading; None: nothing."""
    target, old = table.target, _old_target(table)
    possible = "write target = { steps = N }, or another unit of the trainer"
    if target is not None and old:
        keys = " and ".join(f"target_{unit}" for unit in old)
        return f"sets target and, in its old form, {keys}: keep target alone"
    if len(old) > 1:
        return f"sets target_steps and target_episodes, not both of which can hold: {possible}"
    if target is None:
        return None
    if len(target) > 1:
        return f"has a target in {' and in '.join(target)}, and a run has one: {possible}"
    return None
