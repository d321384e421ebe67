"""What systemd thinks of the unit files, without a boot."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
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


def test_the_service_exposes_little(analyze: str) -> None:
    """Of the ten points of exposure that a bare service has, ours keeps two at most."""
    command = [analyze, "security", "--offline=true", "--no-pager", str(UNITS / SERVICE)]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    exposure = re.search(r"Overall exposure level for \S+: ([\d.]+)", said)
    assert exposure is not None, said
    assert float(exposure[1]) <= EXPOSURE_MAX, said


@pytest.mark.parametrize("kind", ["system", "user"])
def test_the_units_are_well_formed(analyze: str, tmp_path: Path, kind: str) -> None:
    """Once each command is one that exists, systemd finds nothing to complain about."""
    folder = UNITS if kind == "system" else UNITS / "user"
    copies = []
    for unit in sorted(folder.glob("*.service")):
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
