"""Who keeps training from going on, in words, and what lifts it: each lifts its own pause."""

from __future__ import annotations

from state.records import Goal, PauseOwner

OWNERS: dict[PauseOwner, str] = {
    "person": "a person",
    "guard": "the guard, since the machine is needed",
    "quiet_hours": "the quiet hours",
}
"""owner of a pause: how it is told"""
LIFTED: dict[PauseOwner, str] = {
    "person": "`supervisor resume` lifts what a person has paused",
    "guard": "the guard ends its pause by itself",
    "quiet_hours": "`supervisor train-now` lifts the quiet hours",
}
"""owner of a pause: what ends it"""


def who(owners: tuple[PauseOwner, ...]) -> str:
    """Whose these pauses are."""
    return " and ".join(OWNERS[owner] for owner in owners)


def lifted(owners: tuple[PauseOwner, ...]) -> str:
    """What ends these pauses."""
    return ", ".join(LIFTED[owner] for owner in owners)


def holding(goal: Goal) -> tuple[PauseOwner, ...]:
    """Everybody who keeps training from going on or from starting; a freeze is the guard's, too."""
    by_guard: tuple[PauseOwner, ...] = ("guard",) if goal.still else ()
    return tuple(dict.fromkeys((*goal.pauses, *by_guard)))


def nothing_trains(goal: Goal) -> str:
    """Why nothing trains while the goal is that nothing does."""
    why = f"paused by {who(goal.pauses)}" if goal.paused else "the machine is left idle"
    return f"nothing trains now: {why}"
