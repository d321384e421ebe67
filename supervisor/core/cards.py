"""Which GPUs a run trains on: for itself, shared with all that share, or none.

A mode says how many each run has for itself (`gpus` of its file), and a run that was submitted may
ask for its own. All others share what is left. GPUs are called what CUDA calls them in
`CUDA_VISIBLE_DEVICES`: by UUID, since their numbers may change with every boot.

What lives keeps what it has for as long as that is possible: a driver that cannot name a card for a
while stops no training.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from modes import Mode
from state.records import Run
from supervisor.core.readings import Readings

Cards = tuple[str, ...]
"""the names of GPUs; none: training sees none"""


class Hand(NamedTuple):
    """The GPUs of one run."""

    cards: Cards | None = None
    """None: all that its environment names"""
    own: bool = False
    """no other run has them"""


def inherited(variable: str | None) -> Cards | None:
    """What `CUDA_VISIBLE_DEVICES` lets a program see, as CUDA reads it; None: it is not set.

    What stands behind the first word that names no GPU is not seen, and none is seen twice.
    """
    if variable is None:
        return None
    words = [word.strip() for word in variable.split(",")]
    good = itertools.takewhile(lambda word: word.isdigit() or _is_uuid(word), words)
    return tuple(dict.fromkeys(good))


def known(
    named: Cards | None,
    given: Cards | None,
    readings: Readings,
    runs: Iterable[Run],
    before: Cards | None,
    boot_id: str,
) -> Cards | None:
    """The GPUs of a home; None: there are none, or which there are is not known.

    Args:
        named: those that the settings give it, or how their UUIDs begin; None: all.
        given: those that the supervisor itself was given; None: all.
        readings: what NVML tells.
        runs: those that may live.
        before: what was known at the look before, in the same boot.
        boot_id: this boot.
    """
    seen = tuple(gpu.uuid for gpu in readings.gpus if gpu.uuid is not None) or before or ()
    bounds = named if named is not None else given
    if bounds is not None:
        return _whole(bounds, seen)
    used = [
        card
        for run in runs
        if run.status in ("running", "stopping", "blocked")
        and run.attempt.process is not None
        and run.attempt.process.boot_id == boot_id
        for card in _whole(run.attempt.gpus or (), seen)
        if _is_uuid(card)
    ]
    return tuple(dict.fromkeys((*seen, *sorted(used)))) or None


def _is_uuid(card: str) -> bool:
    return card.startswith(("GPU-", "MIG-"))


def _whole(words: Cards, cards: Cards) -> Cards:
    """The same GPUs, each by its whole name where that is among `cards`, and once."""

    def whole(word: str) -> str:
        if word in cards or not _is_uuid(word):
            return word
        return next((card for card in cards if card.startswith(word)), word)

    return tuple(dict.fromkeys(map(whole, words)))


def needed(run: Run, mode: Mode) -> int | None:
    """How many a run has for itself in that mode; None: it shares."""
    return run.asked.gpus or mode.gpus


def room(mode: Mode, cards: Cards | None) -> int:
    """How many runs that ask for no GPU themselves can train in that mode at once."""
    if not mode.gpus:
        return mode.slots
    return min(mode.slots, len(cards or ()) // mode.gpus)


def fitting(order: Sequence[Run], mode: Mode, cards: Cards | None) -> list[Run]:
    """As many of `order` as there are slots and GPUs for, the first of them first.

    A run that needs more than there are left is passed over. Whoever shares needs one of those that
    nobody has for itself, if there are any GPUs at all.
    """
    if mode.gpus is None and not any(run.asked.gpus for run in order):
        return list(order[: mode.slots])
    left, shared = len(cards or ()), False
    chosen: list[Run] = []
    for run in order:
        if len(chosen) == mode.slots:
            break
        need = needed(run, mode)
        if need is None and not shared:
            if cards and not left:
                continue
            shared = True
        elif need:
            if left - need < int(shared):
                continue
            left -= need
        chosen.append(run)
    return chosen


def dealt(runs: Sequence[Run], mode: Mode, cards: Cards | None, *, named: bool) -> dict[str, Hand]:
    """Run id -> its GPUs.

    Args:
        runs: those that have a slot, as `fitting` has chosen them.
        mode: whose slots.
        cards: the GPUs of this home.
        named: the settings say which these are: a trainer on any other has to leave it.
    """
    given: dict[str, Hand] = {}
    taken: set[str] = set()
    owners = [(run, need) for run in runs if (need := needed(run, mode))]
    there = cards or ()
    for run, need in owners:
        has = _whole(run.attempt.gpus or (), there)
        fits = _lives_in(run, mode) and len(has) == need and taken.isdisjoint(has)
        if fits and _may_stay(has, there, named=named):
            given[run.id] = Hand(run.attempt.gpus, own=True)
            taken.update(has)
    for run, need in owners:
        free = [card for card in there if card not in taken][:need]
        if run.id not in given and len(free) == need:
            given[run.id] = Hand(tuple(free), own=True)
            taken.update(free)
    rest = None if cards is None else tuple(card for card in cards if card not in taken)
    for run in runs:
        need = needed(run, mode)
        if need is None:
            keeps = _lives_in(run, mode) and _may_keep(run.attempt.gpus, taken, rest, named=named)
            given[run.id] = Hand(run.attempt.gpus if keeps else rest)
        elif need == 0:
            given[run.id] = Hand(())
    return given


def _lives_in(run: Run, mode: Mode) -> bool:
    return run.status == "running" and run.attempt.mode == mode.name and not run.attempt.stale


def _may_keep(has: Cards | None, taken: set[str], rest: Cards | None, *, named: bool) -> bool:
    """Whether a trainer that shares may stay on what it has."""
    if has is None:
        return not taken and not named
    there = _whole(has, (*(rest or ()), *taken))
    return bool(has) and taken.isdisjoint(there) and _may_stay(there, rest or (), named=named)


def _may_stay(has: Cards, cards: Cards, *, named: bool) -> bool:
    """Whether nobody can be on these GPUs by another name, nor forbids them.

    One that NVML cannot name for a while is still known by its UUID.
    """
    return all(card in cards or (_is_uuid(card) and not named) for card in has)
