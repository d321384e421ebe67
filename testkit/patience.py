"""Waiting for what real processes do, and the one deadline for all of it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

Answer = TypeVar("Answer")

PATIENCE_S = 300.0
"""how long anything is waited for: only what hangs takes so long, on however busy a machine"""


class NeverTrue(AssertionError):
    """What was waited for has not come."""

    def __init__(self, what: str, story: str) -> None:
        super().__init__(f"still not true: {what}" + (f"\n{story}" if story else ""))


def until(
    condition: Callable[[], Answer],
    what: str = "it happens",
    story: Callable[[], str] = str,
    look_s: float = 0.005,
) -> Answer:
    """Look until `condition` holds; what it answered. Only real processes make this necessary.

    Args:
        condition: what is waited for.
        what: the same in words, for a failure.
        story: what helps to understand a failure.
        look_s: the pause between two looks.

    Raises:
        NeverTrue: it does not hold.
    """
    deadline_s = time.monotonic() + PATIENCE_S
    while not (answer := condition()):
        if time.monotonic() > deadline_s:
            raise NeverTrue(what, story())
        time.sleep(look_s)
    return answer
