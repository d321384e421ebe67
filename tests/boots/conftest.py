"""One lab for all real boots, one installed machine to copy, and a fresh copy for each test."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from testkit.boot_lab import COMMAND, SETTINGS, Lab, Machine, NoLab
from testkit.false_clock import EVERYWHERE, FalseClock, build, compiler


@pytest.fixture(scope="session")
def lab() -> Iterator[Lab]:
    try:
        lab = Lab()
    except NoLab as why:
        pytest.skip(f"NOT TESTED: real boots; {why}")
    yield lab
    lab.close()


@pytest.fixture(scope="session")
def installed(lab: Lab) -> Machine:
    """A machine on which a person has installed the service, and which never trained."""
    machine = lab.machine()
    machine.configure(SETTINGS)
    machine.boot()
    machine.run(COMMAND, "install", "--system")
    machine.shut_down("poweroff")
    for left in machine.home.iterdir():
        if left.is_dir():
            shutil.rmtree(left)
        elif not left.is_symlink():  # the link to the settings is a part of the installation
            left.unlink()
    return machine


@pytest.fixture
def machine(lab: Lab, installed: Machine) -> Iterator[Machine]:
    """An installed machine, switched off, that is to train drills."""
    machine = lab.machine(like=installed)
    yield machine
    machine.remove()


@pytest.fixture
def bare(lab: Lab) -> Iterator[Machine]:
    """A machine on which nothing of ours is installed, up and running."""
    machine = lab.machine()
    machine.boot()
    yield machine
    machine.remove()


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The library that shifts the wall clock."""
    if compiler() is None:
        pytest.skip("NOT TESTED: a wrong clock; there is no C compiler")
    return build(tmp_path_factory.mktemp("clock") / "clock.so")


@pytest.fixture
def clock(machine: Machine, library: Path) -> FalseClock:
    """The clock of the machine, right until it is set."""
    shutil.copy(library, machine.disk / "usr/lib/false-clock.so")
    machine.configure(f"{SETTINGS}\n[policy]\ntick_s = 0.2\n")
    machine.write("/etc/ld.so.preload", "/usr/lib/false-clock.so\n")
    return FalseClock(library, machine.disk / EVERYWHERE)
