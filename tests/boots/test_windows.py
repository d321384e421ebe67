"""The power goes and comes over windows of the week; nothing trains outside of them."""

from __future__ import annotations

import time
from typing import Any

import msgspec
import pytest

from state import windows
from testkit.boot_lab import SETTINGS, Machine
from testkit.false_clock import FalseClock
from testkit.histories import by_week, look

HOUR_S = 3600
WEEK_S = 7 * 24 * HOUR_S
TUESDAY_S = 5 * 24 * HOUR_S
"""when the Tuesday begins of weeks that begin as 1970 did, on a Thursday"""
FROM_FIVE_TO_ONE = look(by_week(range(29, 37)), top_n_windows=1).windows
"""on Tuesdays"""
QUIET = f"""{SETTINGS}
[quiet_hours]
zone = "UTC"
[guard]
enabled = false
[policy]
tick_s = 0.2
"""


class Week:
    """The clock of a machine, set to hours of one Tuesday and of the next; it never goes back."""

    def __init__(self, clock: FalseClock) -> None:
        now = int(time.time())  # noqa: TID251 - the false clock is the true one and seconds more
        self._clock = clock
        self._first_s = (TUESDAY_S - now) % WEEK_S + now

    def set(self, hour: float, *, weeks: int = 0) -> float:
        """It is that hour of the Tuesday now; the moment."""
        moment = self._first_s + weeks * WEEK_S + int(hour * HOUR_S)
        self._clock.set(moment - int(time.time()))  # noqa: TID251 - as above
        return moment


@pytest.fixture
def week(machine: Machine, clock: FalseClock) -> Week:
    """The clock of a machine that has learnt that Tuesdays are quiet from five to one."""
    machine.configure(QUIET)
    week = Week(clock)
    found = msgspec.structs.replace(FROM_FIVE_TO_ONE, made_at=week.set(3))
    windows.write(machine.home / "windows.json", found)
    return week


def waits(machine: Machine) -> dict[str, Any]:
    """What the machine tells once it waits for a window; nothing trains in this boot."""
    machine.until(lambda: machine.state()["goal"]["pauses"] == ["quiet_hours"], "it waits")
    state = machine.state()
    assert machine.trainers() == {}
    boot = [line["event"] for line in machine.events() if line["boot"] == state["boot_id"]]
    assert "run.started" not in boot
    return state


def of_light(state: dict[str, Any]) -> tuple[float, float]:
    """What light is blamed for, and how long it has trained."""
    (light,) = [one for one in state["ledger"]["modes"] if one["mode"] == "light"]
    return light["crashes"], light["hours"]


def test_powered_off_before_a_window_and_booted_within_it_trains(
    machine: Machine, week: Week
) -> None:
    """What waited before the power went trains as soon as there is power."""
    week.set(4)
    machine.boot()
    waits(machine)
    machine.shut_down("poweroff")
    week.set(6)
    machine.boot()
    machine.until_steps("drill-A")
    machine.until_steps("drill-B")


def test_powered_off_in_a_window_and_booted_outside_waits_for_the_next(
    machine: Machine, week: Week
) -> None:
    """What was saved goes on then; time without training proves nothing, and blames no mode."""
    week.set(6)
    machine.boot()
    machine.until(lambda: machine.heartbeat("drill-A").get("checkpoint_step"), "a checkpoint")
    machine.power_cut()
    saved = machine.heartbeat("drill-A")["checkpoint_step"]
    week.set(14)
    machine.boot()
    before = waits(machine)
    up_s = machine.uptime_s
    machine.until(lambda: machine.uptime_s > up_s + 1, "a while of waiting")
    machine.power_cut()
    week.set(20)
    machine.boot()
    after = waits(machine)
    assert (before["crashes_total"], after["crashes_total"]) == (1, 2)
    assert (before["mode"], after["mode"]) == ("light", "light")
    assert after["stable_s"] <= before["stable_s"]
    assert after["mode_running_s"] == before["mode_running_s"]
    for now, then in zip(of_light(after), of_light(before), strict=True):
        assert now <= then  # what is old counts less, and nothing was added
    week.set(5.2, weeks=1)
    machine.until_steps("drill-A", saved + 1)
    again = [one for one in machine.events("run.started") if one["run"] == "drill-A"][-1]
    assert again["evidence"]["step"] >= saved
    assert again["boot"] == after["boot_id"]
