"""One machine for each test, switched off after it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from testkit.commands import Commands
from testkit.machine import Machine


@pytest.fixture
def machine(tmp_path: Path, commands: Commands) -> Iterator[Machine]:
    machine = Machine(tmp_path / "home", commands=commands)
    yield machine
    machine.crash()
    machine.think_again()
