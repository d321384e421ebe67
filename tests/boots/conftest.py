"""One lab for all real boots, one installed machine to copy, and a fresh copy for each test."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

# Tests are found by path: this folder is no package.
sys.path.append(str(Path(__file__).parent))

from boot_lab import COMMAND, SERVICE, SETTINGS, Lab, Machine, NoLab


DEV = """
cd /work/main/systemd
mkdir -p /etc/sysusers.d /usr/local/lib/training-supervisor /etc/training-supervisor
cp training-supervisor.conf /etc/sysusers.d; systemd-sysusers
cp note-boot /usr/local/lib/training-supervisor/
for u in *.service; do sed s,/opt/training-supervisor/bin,/work/main/.venv/bin,g $u > /etc/systemd/system/$u
mkdir -p /etc/systemd/system/$u.d; printf '[Service]\nBindReadOnlyPaths=/root/.pyenv\n' > /etc/systemd/system/$u.d/home.conf; done
touch /etc/training-supervisor/supervisor.toml
mkdir -p /var/lib/training-supervisor
chown training-supervisor: /var/lib/training-supervisor
ln -s /etc/training-supervisor/supervisor.toml /var/lib/training-supervisor/supervisor.toml
systemctl daemon-reload
systemctl enable --now training-supervisor-boot training-supervisor
"""


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
    machine.boot()
    if True:
        machine.run(COMMAND, "install", "--system")
    else:
        machine.run("bash", "-ec", DEV)
    machine.until(lambda: machine.systemctl("is-active", SERVICE) == "active", "it is ready")
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
    machine.configure(SETTINGS)
    yield machine
    machine.remove()


@pytest.fixture
def bare(lab: Lab) -> Iterator[Machine]:
    """A machine on which nothing of ours is installed, up and running."""
    machine = lab.machine()
    machine.boot()
    yield machine
    machine.remove()
