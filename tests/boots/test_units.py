"""What systemd thinks of the unit files, without a boot."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

from testkit.boot_lab import CHECKOUT, SERVICE

UNITS = CHECKOUT / "systemd"
EXPOSURE_MAX = 2.0


@pytest.fixture
def analyze() -> str:
    """The tool that judges units."""
    found = shutil.which("systemd-analyze")
    if found is None:
        pytest.skip("NOT TESTED: the unit files; there is no systemd-analyze here")
    return found


@pytest.mark.parametrize("service", sorted(path.name for path in UNITS.glob("*.service")))
def test_a_service_exposes_little(analyze: str, service: str) -> None:
    """Of the ten points of exposure that a bare service has, each of ours keeps two at most."""
    command = [analyze, "security", "--offline=true", "--no-pager", str(UNITS / service)]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    exposure = re.search(r"Overall exposure level for \S+: ([\d.]+)", said)
    assert exposure is not None, said
    assert float(exposure[1]) <= EXPOSURE_MAX, said


@pytest.mark.parametrize("kind", ["system", "user"])
def test_the_units_are_well_formed(analyze: str, tmp_path: Path, kind: str) -> None:
    """Once each command is one that exists, systemd finds nothing to complain about."""
    folder = UNITS if kind == "system" else UNITS / "user"
    copies = []
    for unit in sorted((*folder.glob("*.service"), *folder.glob("*.timer"))):
        copy = tmp_path / unit.name
        text = unit.read_text()
        copy.write_text(
            re.sub(r"/(opt|usr/local/lib)/training-supervisor/[\w/-]+", "/bin/true", text)
        )
        copies.append(str(copy))
    assert copies
    command = [analyze, "verify", f"--{kind}", "--man=no", *copies]
    environment = {**os.environ, "XDG_RUNTIME_DIR": str(tmp_path)}
    answer = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert (answer.returncode, answer.stdout, answer.stderr) == (0, "", "")


def test_trees_are_stopped_by_signal_and_no_control_group_is_asked_for() -> None:
    """The unit delegates none, and may change none: SIGSTOP reaches every process of a run."""
    unit = keys(UNITS / SERVICE)
    assert "Delegate" not in unit
    assert unit["ProtectControlGroups"] == ["yes"]
    assert "@privileged" in unit["SystemCallFilter"][1]  # kill(2) is none of these


@pytest.mark.parametrize("timer", sorted(UNITS.rglob("*.timer")), ids=str)
def test_a_timer_starts_its_service_at_its_time_alone(timer: Path) -> None:
    """Neither an installation nor a boot does: nothing requires it, and no boot wants it."""
    unit, service = keys(timer), keys(timer.with_suffix(".service"))
    assert not unit.keys() & {"Requires", "Wants", "BindsTo", "OnBootSec", "OnActiveSec", "Unit"}
    assert (unit["WantedBy"], "WantedBy" in service) == (["timers.target"], False)
    assert service["Type"] == ["oneshot"]
    assert service["SuccessExitStatus"] == ["75 78"]
    (command,) = re.findall(r" ([a-z-]+) --timer$", service["ExecStart"][0])
    assert timer.stem == f"training-supervisor-{command}"


def test_every_file_of_the_units_is_part_of_the_package() -> None:
    """What is installed from a wheel finds them, too."""
    parts = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["tool"]["setuptools"]
    shipped = {
        path.relative_to(CHECKOUT)
        for patterns in parts["data-files"].values()
        for pattern in patterns
        for path in CHECKOUT.glob(pattern)
    }
    there = (path for path in UNITS.rglob("*") if path.is_file())
    assert shipped == {path.relative_to(CHECKOUT) for path in there}


def keys(unit: Path) -> dict[str, list[str]]:
    """What a unit file sets, of all its sections."""
    found: dict[str, list[str]] = {}
    for line in unit.read_text().splitlines():
        key, equals, value = line.partition("=")
        if equals and not line.startswith("#"):
            found.setdefault(key, []).append(value)
    return found
