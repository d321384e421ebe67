"""The two minutes of the page, under the service of the machine, with a script in a closed home."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from testkit.boot_lab import CHECKOUT, COMMAND, PYTHON, SETTINGS_FILE, Machine

PAGE = CHECKOUT / "docs/how-to/supervise-your-script.md"
PROJECT = "/home/ada/first"


def block(language: str) -> str:
    """The first block of that language on the page."""
    found = re.search(rf"```{language}\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert found
    return found[1]


def make_project(machine: Machine) -> None:
    """A person's own folder: the script, and a virtual environment, whose Python is a link."""
    machine.run("useradd", "--create-home", "--key=HOME_MODE=0700", "ada")
    script = block("python").replace("sleep(2)", "sleep(0.3)").replace("< 20", "< 1000")
    machine.write(f"{PROJECT}/train.py", script)
    machine.write(f"{PROJECT}/.venv/pyvenv.cfg", f"home = {PYTHON}/bin\n")
    python = machine.disk / f"{PROJECT}/.venv/bin/python"[1:]
    python.parent.mkdir()
    python.symlink_to(PYTHON / "bin/python3")
    machine.run("chown", "-R", "ada:", "/home/ada")
    named = f'"{PROJECT}/.venv/bin/python", "{PROJECT}/train.py"'
    settings = block("toml").replace('"python3", "{home}/train.py"', named)
    machine.configure(settings.replace("epochs = 20", "epochs = 1000"))


def beat(machine: Machine) -> dict[str, Any]:
    return machine.heartbeat("command-first")


def resumed(machine: Machine) -> list[int]:
    """After which epochs the script has gone on."""
    output = Path(machine.home / "runs/command-first/output.log").read_text()
    return [int(epoch) for epoch in re.findall(r"resumed after epoch (\d+)", output)]


def test_a_script_in_a_home_is_refused_by_name_then_shown_and_trained(bare: Machine) -> None:
    """Refused with the command that mends it; that typed, it trains, is killed, and goes on."""
    make_project(bare)
    bind = f"supervisor install --system --bind {PROJECT}"
    check = (COMMAND, "--config", SETTINGS_FILE, "check-config", "--as-service")
    refused = bare.run(*check, check=False)
    assert refused.returncode == 78
    assert refused.stderr.count(f": {bind} (or take install --user)\n") == 2
    assert f"{PROJECT}/.venv/bin/python (its program)" in refused.stderr
    assert f"{PROJECT}/train.py (its script)" in refused.stderr
    assert bind in bare.run(COMMAND, "install", "--system", "--dry-run").stderr

    assert "does not see" not in bare.run(COMMAND, *bind.split()[1:]).stderr
    bare.until(lambda: (beat(bare).get("checkpoint_step") or 0) > 1, "it trains and is kept")
    assert "well: 1 runs" in bare.supervisor("check-config")
    assert "every run of the campaign can start" in bare.supervisor("doctor")
    assert "done: " not in bare.run(COMMAND, "install", "--system").stdout
    (script,) = set(bare.trainers()) - {beat(bare)["pid"]}
    bare.kill(script)
    bare.until(lambda: len(resumed(bare)) == 1, "it goes on after its own death")
    bare.power_cut()
    bare.boot()
    bare.until(lambda: len(resumed(bare)) == 2, "it goes on after a power cut")
    assert 0 < resumed(bare)[0] <= resumed(bare)[1]
    assert bare.events("run.failed") == []

    places = [f"{PROJECT}/out", "/srv/out"]
    bare.run("mkdir", *places, "/srv/gone")
    flags = [word for place in places for word in ("--writable", place)]
    bare.run(COMMAND, "install", "--system", "--bind", "/srv/gone")
    bare.run("rmdir", "/srv/gone")  # the service starts all the same
    said = bare.run(COMMAND, "install", "--system", *flags).stderr
    assert said.count("&& chmod -R g+rwX") == 2
    inside = ("nsenter", "-t", str(bare.daemon), "-m", "--", "touch")
    for place in places:
        bare.run(*inside, f"{place}/file")
    for place in (PROJECT, "/srv"):
        assert bare.run(*inside, f"{place}/file", check=False).returncode != 0
    bare.run(COMMAND, "uninstall")
    assert not (bare.disk / "etc/systemd/system/training-supervisor.service.d").exists()
