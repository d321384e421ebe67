"""A real run over several quiet windows comes to what it would have come to at one go."""

from __future__ import annotations

from pathlib import Path

import pytest

from testkit.false_clock import FalseClock, build, compiler
from testkit.in_windows import InWindows
from testkit.machine import Machine


def test_over_several_windows_a_run_comes_to_the_same_to_the_bit(
    machine: Machine, tmp_path: Path
) -> None:
    """Nothing lives outside of them, all has left before each closes, and no mode is blamed."""
    if compiler() is None:
        pytest.skip("NOT TESTED: a clock of its own; there is no C compiler")
    clock = FalseClock(build(tmp_path / "clock.so"), tmp_path / "offset")
    home = InWindows(machine, clock, links=400, window_s=4.0)
    lived = home.live()
    assert len(lived) >= 2
    home.check(lived)
