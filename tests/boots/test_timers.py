"""Timers that learn usage: put beside a service and taken away; what was missed is made up for."""

from __future__ import annotations

import os
import re
import time
from typing import Any

from testkit.boot_lab import COMMAND, HOME, SETTINGS, SETTINGS_FILE, Machine

NAMES = ("analyze-usage", "sample-usage")
STAMP = "/var/lib/systemd/timers/stamp-training-supervisor-analyze-usage.timer"
DROP_IN = "/etc/systemd/system/training-supervisor-analyze-usage.timer.d/override.conf"
NEVER = "[Timer]\nOnCalendar=\nOnCalendar=*-02-29 04:00:00\nRandomizedDelaySec=0\n"
"""a time that does not come while a test runs, as a person has chosen it"""
AT_ONCE = "[Timer]\nRandomizedDelaySec=0\nAccuracySec=1s\n"
ONLINE = """
[quiet_hours]
zone = "UTC"
[quiet_hours.sources.online]
kind = "online"
url = "mariadb://reader@127.0.0.1:1/game"
"""


def unit(name: str, kind: str) -> str:
    return f"training-supervisor-{name}.{kind}"


def install(machine: Machine, *words: str) -> list[str]:
    """What was done; steps that were done already are left out."""
    said = machine.run(COMMAND, "install", "--system", *words).stdout.splitlines()
    return [line.removeprefix("done: ") for line in said if line.startswith("done: ")]


def ran(machine: Machine, name: str) -> bool:
    """Whether its service has been started since the boot."""
    show = ("show", "--value", "--property=ExecMainStartTimestamp", unit(name, "service"))
    return machine.systemctl(*show) != ""


def analysed(machine: Machine) -> dict[str, Any]:
    """What is told of the timer of the analysis."""
    (told, _) = machine.state()["quiet"]["timers"]
    return told


def enabled(machine: Machine) -> list[str]:
    """How each timer stands: enabled for boots, and waiting now."""
    timers = [unit(name, "timer") for name in NAMES]
    told = (machine.systemctl(verb, *timers, check=False) for verb in ("is-enabled", "is-active"))
    return " ".join(told).split()


def test_timers_are_put_beside_the_service_and_taken_away_whole(machine: Machine) -> None:
    """Twice changes nothing, an upgrade keeps what a person has stopped, and none starts a run."""
    machine.write(DROP_IN, NEVER)
    machine.write(f"{HOME}/tuning.json", "{}")  # no trials
    machine.boot()
    machine.until_steps("drill-A")
    machine.until_steps("drill-B")
    before, mains = machine.changes(), machine.mains()
    assert "would write" in machine.supervisor(
        "install", "--system", "--with", "usage", "--dry-run"
    )
    assert machine.changes() == before
    done = install(machine, "--with", "usage")
    written = {line.rpartition("/")[2] for line in done if line.startswith("write")}
    assert written - {"10-location.conf"} == {
        unit(name, kind) for name in NAMES for kind in ("service", "timer")
    }
    assert [line for line in done if line.startswith("run")] == [
        f"run systemctl {words}"
        for words in (
            "daemon-reload",
            f"enable {' '.join(unit(name, 'timer') for name in NAMES)}",
            f"restart {' '.join(unit(name, 'timer') for name in NAMES)}",
        )
    ]
    assert install(machine, "--with", "usage") == []
    assert enabled(machine) == ["enabled", "enabled", "active", "active"]
    assert not ran(machine, "analyze-usage")
    assert "-02-29 04:00:00" in machine.systemctl("list-timers", "--all")
    machine.systemctl("disable", "--now", unit("sample-usage", "timer"))
    place = machine.disk / "etc/systemd/system" / unit("analyze-usage", "timer")
    place.write_text(place.read_text().replace("15min", "1min"))  # as an older version had it
    done = install(machine)
    assert [line.split()[0] for line in done] == ["write", "run", "run"]
    assert enabled(machine) == ["enabled", "disabled", "active", "inactive"]
    machine.systemctl("start", unit("analyze-usage", "service"))  # the settings want none
    assert "no [quiet_hours]" in machine.journal()
    assert machine.mains() == mains
    machine.configure(SETTINGS + ONLINE)
    machine.until(lambda: machine.events("usage.unknown"), "the supervisor has tried by itself")
    for name in NAMES:
        machine.systemctl("start", unit(name, "service"))
    assert "the supervisor tries again each hour" in machine.journal()
    assert "supervisor: online: Can't connect" in machine.journal()
    assert f"Finished {unit('sample-usage', 'service')}" not in machine.journal()
    assert machine.systemctl("is-system-running") == "running"
    machine.systemctl("stop", "training-supervisor")
    machine.systemctl("start", unit("analyze-usage", "service"), check=False)
    show = ("show", "--value", "--property=SubState", unit("analyze-usage", "service"))
    assert machine.systemctl(*show) == "auto-restart"  # nobody else tries again
    assert machine.systemctl("is-system-running") == "running"
    install(machine, "--without", "usage")
    assert machine.changes().keys() == {*before, SETTINGS_FILE[1:]}
    assert not (machine.disk / STAMP[1:]).exists()


def test_an_instant_that_passed_while_the_power_was_off_comes_once_after_the_boot(
    machine: Machine,
) -> None:
    """It learns usage, and no more: what waits for a window waits on, and nothing starts twice."""
    machine.configure(SETTINGS + ONLINE)
    machine.write(f"{HOME}/tuning.json", "{}")
    machine.write(DROP_IN, AT_ONCE)
    machine.boot()
    install(machine, "--with", "usage")
    show = machine.supervisor("show-state")
    assert re.search(r"timer analyze-usage: enabled, runs next .*; it has not run", show)
    machine.power_cut()
    passed = time.time() - 8 * 86_400  # noqa: TID251 - the machine reads the same clock
    os.utime(machine.disk / STAMP[1:], (passed, passed))
    machine.boot()
    machine.until(lambda: analysed(machine)["result"] == "success", "it is made up for")
    assert analysed(machine)["exit_code"] == 75  # nobody has been online so far
    machine.power_cut()
    machine.boot()
    assert not ran(machine, "analyze-usage")
    assert machine.trainers() == {}
    assert machine.events("run.started") == []
