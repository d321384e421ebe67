"""The wall clock is wrong, and is set while the machine runs and while it is off."""

from __future__ import annotations

import json

from testkit.boot_lab import SETTINGS, Machine
from testkit.false_clock import FalseClock

HOURS, WEEKS = 3600, 7 * 24 * 3600


def years(machine: Machine) -> list[str]:
    """The year in which the log has each boot."""
    return [line["time"][:4] for line in machine.events("boot.recorded")]


def test_a_clock_without_a_battery(machine: Machine, clock: FalseClock) -> None:
    """Boots in 1970 are counted and told right, before and after the time has been fetched."""
    clock.forget()
    machine.boot()
    machine.until_steps("drill-A")
    clock.set(0)  # NTP
    machine.until_steps("drill-A", machine.heartbeat("drill-A")["step"] + 50)
    machine.power_cut()
    clock.forget()
    machine.boot()
    machine.until_steps("drill-A")
    machine.shut_down("poweroff")
    machine.boot()
    machine.until_steps("drill-A")

    assert years(machine) == ["1970"] * 3
    assert [line["evidence"]["crash"] for line in machine.events("boot.recorded")] == [
        False,
        True,
        False,
    ]
    state = machine.state()
    assert (state["mode"], state["boots_total"]) == ("light", 3)
    assert (state["crashes_total"], state["crashes_last_hour"]) == (1, 1)
    assert machine.events("mode.changed") == machine.events("goal.changed") == []
    assert machine.events("run.hung") == machine.events("run.died") == []


def until_seen(machine: Machine) -> None:
    """Wait for looks at the clock as it is set now."""
    seen = len(looks(machine))
    machine.until(lambda: len(looks(machine)) > seen + 2, "it has looked")


def looks(machine: Machine) -> list[str]:
    """When the supervisor believes to have looked."""
    lines = (machine.home / "monitor.jsonl").read_text().splitlines()
    return [json.loads(line)["time"] for line in lines]


def test_hours_that_nobody_lived_prove_nothing(machine: Machine, clock: FalseClock) -> None:
    """A clock that jumps by hours and by weeks is no stable time, no hang, and no crash."""
    machine.boot()
    machine.until_steps("drill-A")
    machine.until_steps("drill-B")
    before = machine.mains()
    for seconds in (5 * HOURS, -2 * WEEKS, 0, 90 * HOURS):
        clock.set(seconds)
        until_seen(machine)
        machine.until_steps("drill-A", machine.heartbeat("drill-A")["step"] + 20)
    assert looks(machine) != sorted(looks(machine))  # it has seen these clocks
    assert machine.mains() == before
    state = machine.state()
    assert (state["mode"], state["boots_total"], state["crashes_total"]) == ("light", 1, 0)
    assert state["stable_s"] < machine.uptime_s
    told = {line["event"] for line in machine.events()}
    assert told == {"boot.recorded", "supervisor.started", "slots.assigned", "run.started"}


def test_the_fourth_crash_counts_whatever_the_clock_says(
    machine: Machine, clock: FalseClock
) -> None:
    """With the clock set between all crashes, the fourth falls back, and no earlier one does."""
    machine.configure(f"{SETTINGS}\n[policy]\nname = 'fixed'\ntick_s = 0.2\n")
    machine.boot()
    machine.until_steps("drill-A")
    machine.supervisor("force-scale-up")
    for crashes, running_s, off_s in (
        (1, 6 * HOURS, 6 * HOURS),
        (2, -2 * WEEKS, -2 * WEEKS),
        (3, 3 * HOURS, -4 * WEEKS),
        (4, 0, None),
    ):
        machine.until(lambda: len(machine.mains()) == 4, "four train")
        assert machine.state()["mode"] == "medium"
        clock.set(running_s)
        until_seen(machine)
        machine.power_cut()
        if off_s is None:
            clock.forget()
        else:
            clock.set(off_s)
        machine.boot()
        assert machine.state()["crashes_total"] == crashes
    machine.until(lambda: len(machine.mains()) == 2, "two train")
    (fallback,) = [line for line in machine.events("mode.changed") if line["new"] == "light"]
    assert (fallback["rule"], fallback["evidence"]["crashes"]) == ("reboot_storm", 4)
