"""A control group that holds none of ours says by itself that its service has to wait."""

import os
import subprocess
import sys
import time

import pytest

from supervisor.core.guard import Guard
from supervisor.host.cgroup import ControlGroup, holds
from supervisor.host.pressure import look, pressure
from supervisor.sentry import protected
from testkit.groups import a_group

MOUNTED = "30 23 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n"
OURS = "0::/system.slice/training-supervisor.service\n"


def told(root, name="system.slice/game.service", tells=True):
    """A machine on which there is such a group, and what is said of our own."""
    folder = root / "sys/fs/cgroup" / name
    folder.mkdir(parents=True)
    if tells:
        (folder / "cpu.pressure").write_text("some avg10=0.00 avg60=0.00 avg300=0.00 total=0\n")
    return ControlGroup(OURS, MOUNTED, root)


@pytest.mark.parametrize("named", ["/system.slice/game.service", "system.slice/game.service"])
def test_a_group_is_found_by_its_path(tmp_path, named):
    """With the slash that the kernel writes or without it."""
    found, lost = protected(Guard(protect_cgroup=named), told(tmp_path), ())
    assert list(found) == ["system.slice/game.service"]
    assert lost == {}


def test_one_that_is_not_there_holds_ours_or_tells_nothing_is_unknown(tmp_path):
    """Each says why; nothing of it is 0."""
    groups = told(tmp_path, "other.slice", tells=False)
    (tmp_path / "sys/fs/cgroup/system.slice").mkdir()
    limits = Guard(protect_cgroup=("game.slice", "other.slice", "system.slice"))
    found, lost = protected(limits, groups, ())
    assert found == {}
    assert lost["game.slice"] == "there is no control group game.slice"
    assert lost["other.slice"] == "the control group other.slice tells no stalls"
    assert "holds this supervisor" in lost["system.slice"]
    assert pressure(look(), look()).psi_cpu_protected == {}


def test_a_name_that_no_group_can_have_is_none_that_is_there(tmp_path):
    """The kernel refuses to look for it, which ends nobody."""
    name = "a" * 300
    found, lost = protected(Guard(protect_cgroup=name), told(tmp_path), ())
    assert found == {}
    assert lost == {name: f"there is no control group {name}"}


def test_who_is_in_a_group_is_told_by_whole_names():
    """One whose name only begins alike is another."""
    assert holds("system.slice", OURS)
    assert holds("system.slice/training-supervisor.service", OURS)
    assert not holds("system.slice/training", OURS)
    assert not holds("system.slice", "4:cpu:/system.slice\n0::/user.slice\n")


@pytest.mark.parametrize("group", ["/", "", "a/../b", "a//b", "/sys/fs/cgroup/game.service"])
def test_what_can_be_no_group_of_another_is_refused(group):
    with pytest.raises(ValueError, match=r"guard\.protect_cgroup"):
        Guard(protect_cgroup=group)


@pytest.fixture
def game():
    """A real control group with nobody in it."""
    with a_group() as folder:
        if folder is None:
            pytest.skip("NOT TESTED: no control group of the second generation can be made here")
        yield folder


def test_who_waits_in_a_real_group_is_told_from_all_others(game):
    """The same load outside counts for it only where it has to wait for that."""
    limits = Guard(protect_cgroup=game.name)
    found, lost = protected(limits, ControlGroup.of(), ())
    assert (found, lost) == ({game.name: game}, {})
    command = [sys.executable, "-c", "while True: pass"]
    outside = [
        subprocess.Popen(command, start_new_session=True) for _ in range(os.cpu_count() or 1)
    ]
    try:
        before = look(protected=found)
        time.sleep(0.5)
        assert pressure(before, look(protected=found)).psi_cpu_protected == {game.name: 0.0}
        inside = subprocess.Popen(command, start_new_session=True)
        (game / "cgroup.procs").write_text(str(inside.pid))
        before = look(protected=found)
        time.sleep(2.0)
        assert pressure(before, look(protected=found)).psi_cpu_protected[game.name] > 10
        inside.kill()
        inside.wait()
    finally:
        for one in outside:
            one.kill()
            one.wait()
