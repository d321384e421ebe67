"""The tables [campaign] and [run.LABEL] of the settings, and the runs that they name."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import msgspec

from state.records import Asked, Rank, Run
from supervisor.core.recovery import Seconds
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
"""the ten games that are trained where the settings name no run, in the order of the queue"""

TARGETS = {"atari": {"steps": 10_000_000}}
"""how far the runs of a trainer go where nobody says it: of games the published budget of PPO, 40
million frames. Runs of others have a target only where one is set"""

OLD_FORMS = {"target_steps": "steps", "target_episodes": "episodes"}
"""keys that older settings have in place of `target`, and what each counts"""
GENERATION = re.compile(r"-g[0-9]+\Z")
"""how the ids of runs end that belong to a later generation"""
GENERATION_MAX_LETTERS = 7
"""of that, as long as nobody has seen a hundred thousand of them"""
PLACES_MAX = 4
"""further tables with an old key that its notice names; of the others it tells the number"""


# What is unset in these two is not written down either: an older version reads the settings that
# are kept over a reboot as long as they use nothing that is newer.


class Campaign(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True
):
    """[campaign]: what to train, in which order, how far."""

    runs: tuple[Name, ...] | None = None
    """labels of the runs, first come first served; what a run trains is called so, too, unless its
    own table says otherwise. Those that have a table alone come behind them. Unset, and no run has
    a table: the ten games; empty: this is a place for what is submitted, and never done"""
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
    again: str | None = None
    """when the whole of it is due again, as a new generation: `Sun 03:00`, or the five fields of
    cron, perhaps with a zone behind it; None: once is enough"""
    again_from: Literal["scratch", "best"] = "scratch"
    """what the runs of a new generation begin with: nothing, or what the best checkpoints of the
    one before have learnt"""
    kept_generations: Annotated[int, msgspec.Meta(ge=1, le=100)] = 2
    """how many earlier generations are kept beside the present one"""


class OneRun(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True
):
    """[run.LABEL]: what is different for one run of the campaign."""

    name: Name | None = None
    """what is trained, where that is not the label: the same name twice is two runs"""
    was: Name | None = None
    """the label that it had at first: a run that is renamed keeps its folder, and what it has
    learnt"""
    trainer: Name | None = None
    target: dict[Name, Positive] | None = None
    target_steps: Positive | None = None
    target_episodes: Positive | None = None
    seed: Annotated[int, msgspec.Meta(ge=0, lt=2**31)] | None = None
    options: dict[str, Any] = {}
    rank: Rank | None = None
    silent_max_s: Seconds | None = None
    """how long its step may stand still, whatever [recovery] says and the run itself shows"""


def runs_of(campaign: Campaign, own: Mapping[str, OneRun]) -> tuple[Run, ...]:
    """The runs of a campaign, as they stand on the first day.

    Args:
        campaign: what they have in common.
        own: what is different for some, by their labels.
    """
    return tuple(_run(label, campaign, own.get(label, OneRun())) for label in labels(campaign, own))


def labels(campaign: Campaign, own: Mapping[str, OneRun]) -> tuple[str, ...]:
    """The runs of a campaign by their labels: those that it lists, then those with a table alone.

    Both are in the order of the file. The games are there only where nobody names any run.
    """
    listed = campaign.runs
    if listed is None:
        listed = () if own else CAMPAIGN
    return (*listed, *(label for label in own if label not in set(listed)))


def check(campaign: Campaign, own: Mapping[str, OneRun]) -> None:
    """See that they name runs that can be.

    Raises:
        ValueError: they do not; the message says what to write.
    """
    twice = sorted(label for label, count in Counter(campaign.runs or ()).items() if count > 1)
    if twice:
        first = twice[0]
        raise ValueError(
            f"campaign.runs names {', '.join(twice)} more than once; to train {first} in two "
            f'runs, list a second label, such as {first}-2, and set name = "{first}" in '
            f"[run.{first}-2]"
        )
    for where, table in _tables(campaign, own).items():
        wrong = _wrong_target(table)
        if wrong is not None:
            raise ValueError(f"[{where}] {wrong}")
    runs = runs_of(campaign, own)
    same = [run_id for run_id, count in Counter(run.id for run in runs).items() if count > 1]
    if same:
        both = " and ".join(run.name for run in runs if run.id == same[0])
        raise ValueError(f"{both} would both be the run {same[0]}: give one of them another label")
    for run in runs:
        if not NAME.fullmatch(run.id):
            raise ValueError(f"{run.id!r} is too long; trainer and label take at most 63 letters")
    if campaign.again is not None:
        _check_again(campaign.again, runs)


def _check_again(text: str, runs: tuple[Run, ...]) -> None:
    """See that a campaign can be due again by that calendar.

    Raises:
        ValueError: it cannot.
    """
    from supervisor.core import calendar  # noqa: PLC0415 - loads zones, and only where they matter

    try:
        calendar.Calendar(text)
    except calendar.BadCalendar as error:
        raise ValueError(f"campaign.again: {error}") from None
    if not runs:
        raise ValueError("campaign.again: there is no run that could be due again")
    for run in runs:
        if GENERATION.search(run.id):
            ending = GENERATION.findall(run.id)[0]
            raise ValueError(
                f"campaign.again: {run.id} ends with {ending}, as the runs of a later generation "
                "do: give it another label"
            )
        if not NAME.fullmatch(run.id + "-" * GENERATION_MAX_LETTERS):
            raise ValueError(
                f"campaign.again: {run.id!r} is too long to be followed by the number of its "
                f"generation; trainer and label take at most {63 - GENERATION_MAX_LETTERS} letters"
            )


def dated_in(campaign: Campaign, own: Mapping[str, OneRun]) -> tuple[str, ...]:
    """What of them is written in an old form, which is read all the same: a notice for each key."""
    notices = []
    for key, unit in OLD_FORMS.items():
        counts = {
            where: getattr(table, key)
            for where, table in _tables(campaign, own).items()
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
    return tuple(notices)


def _tables(campaign: Campaign, own: Mapping[str, OneRun]) -> dict[str, Campaign | OneRun]:
    """All tables that may set a target, by their headings."""
    return {"campaign": campaign, **{f"run.{label}": table for label, table in own.items()}}


def _run(label: str, common: Campaign, own: OneRun) -> Run:
    trainer = own.trainer or common.trainer
    target = _target(own)
    if target is None:
        target = _target(common)
    if target is None:
        target = TARGETS.get(trainer, {})
    counted = next((Target(unit=unit, count=count) for unit, count in target.items()), None)
    asked = Asked(
        id=f"{trainer}-{own.was or label}",
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
