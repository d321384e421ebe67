"""The API as a service beside the supervisor: put there, taken away, and no other's affair."""

from __future__ import annotations

import json

from testkit.boot_lab import COMMAND, HOME, SERVICE, SETTINGS, Machine

API = "training-supervisor-api.service"
HEALTH = """\
import json, sys, urllib.request
print(json.load(urllib.request.urlopen(sys.argv[1] + "/health"))["status"])
"""


def install(machine: Machine, *words: str) -> list[str]:
    """What was done; steps that were done already are left out."""
    said = machine.run(COMMAND, "install", "--system", *words).stdout.splitlines()
    return [line.removeprefix("done: ") for line in said if line.startswith("done: ")]


def serves(machine: Machine) -> str:
    """Waits until it answers; where."""
    machine.until(lambda: machine.state()["api"], "it answers")
    return str(machine.state()["api"])


def stands(machine: Machine, unit: str) -> str:
    return machine.systemctl("is-active", unit, check=False).strip()


def main_pid(machine: Machine) -> str:
    return machine.systemctl("show", "--value", "--property=MainPID", API).strip()


def examined(machine: Machine) -> dict[str, str]:
    said = machine.run(COMMAND, "doctor", "--json", check=False).stdout
    return next((one for one in json.loads(said) if one["what"] == "api"), {})


def test_the_api_stands_beside_the_service_and_neither_touches_the_other(machine: Machine) -> None:
    """Twice changes nothing; what dies comes back; whoever is stopped, the other one goes on."""
    machine.write(f"{HOME}/tuning.json", "{}")  # no trials
    machine.boot()
    machine.until_steps("drill-A")
    machine.until_steps("drill-B")
    before, mains = machine.changes(), machine.mains()
    dry = machine.supervisor("install", "--system", "--with", "api", "--dry-run")
    assert f"would write /etc/systemd/system/{API}" in dry
    assert machine.changes() == before
    install(machine, "--with", "api")
    assert install(machine, "--with", "api") == []
    url = serves(machine)
    assert machine.run("/opt/training-supervisor/.venv/bin/python", "-c", HEALTH, url).stdout
    assert (examined(machine)["verdict"], url in examined(machine)["result"]) == ("well", True)
    assert machine.mains() == mains
    first = main_pid(machine)
    machine.run("kill", "-9", first)
    machine.until(lambda: main_pid(machine) not in (first, "0"), "it comes back")
    serves(machine)
    machine.systemctl("stop", API)
    assert (stands(machine, SERVICE), machine.state()["api"]) == ("active", None)
    assert examined(machine)["verdict"] == "bad"
    machine.systemctl("start", API)
    assert machine.mains() == mains
    machine.systemctl("stop", SERVICE)
    assert stands(machine, API) == "active"
    machine.systemctl("start", SERVICE)
    assert serves(machine) == url
    place = machine.disk / "etc/systemd/system" / API
    place.write_text(place.read_text().replace("RestartSec=10", "RestartSec=1"))  # an older one
    assert [line.split()[0] for line in install(machine)] == ["write", "run", "run"]
    assert "RestartSec=10" in place.read_text()
    install(machine, "--without", "api")
    assert (stands(machine, API), stands(machine, SERVICE)) == ("inactive", "active")
    assert machine.changes().keys() - {f"{HOME[1:]}/api/lock"} == before.keys()


def test_a_boot_starts_it_and_wrong_settings_leave_the_supervisor_alone(machine: Machine) -> None:
    """What only a person can mend is not tried for ever."""
    machine.write(f"{HOME}/tuning.json", "{}")
    machine.boot()
    machine.until_steps("drill-A")
    install(machine, "--with", "api")
    machine.power_cut()
    machine.boot()
    url = serves(machine)
    machine.until_steps("drill-A")
    machine.configure(f"{SETTINGS}\n[web]\nenabled = false\n[jobs]\nenabled = false\n")
    machine.systemctl("restart", API, check=False)
    assert (stands(machine, API), stands(machine, SERVICE)) == ("failed", "active")
    assert "enabled = false" in machine.journal()
    assert examined(machine)["verdict"] == "bad"
    machine.configure(SETTINGS)
    machine.systemctl("restart", API)
    assert serves(machine) == url
