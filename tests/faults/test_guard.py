"""Whatever is killed while training pauses for others, it goes on, and nobody else is touched."""

from __future__ import annotations

from testkit.guarded import Guarded
from testkit.machine import Machine
from testkit.series import sample_of_a_series

BLOWS, SEED = sample_of_a_series(4)


def test_whatever_is_killed_around_a_pause_all_goes_on(machine: Machine) -> None:
    """Before and after each save, note and signal of a freeze, a thaw and an eviction.

    Whoever comes next thaws, be it a daemon, one without a guard, `stop`, `reset` or `uninstall`.
    """
    home = Guarded(machine, SEED)
    with home.among_strangers() as strangers:
        for _ in range(BLOWS):
            home.blow()
            strangers.check()
        home.finish()
        strangers.check()
