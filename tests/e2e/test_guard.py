"""A real service that has to wait has real trainers stand still, whoever dies meanwhile."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from testkit.groups import a_group
from testkit.patience import until

# Whoever else keeps this machine busy is to have no say. And a share of it is always ours.
SETTINGS = """\
[logs]
turns = true
[campaign]
trainer = "drill"
runs = ["A", "B"]
target = {{ steps = 1000000 }}
[campaign.options]
steps_per_s = 50
[guard]
sample_s = 0.5
calm_s = 1.0
start_cpu_percent = 100
pause_cpu_percent = 100
start_memory_percent = 100
pause_memory_percent = 100
paused_min_s = 1.0
evict_after_s = 3600.0
resume_samples = 1
protect_cgroup = "{group}"
probe = ["sh", "-c", "i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done"]
latency_p95_ms = 9999
"""


@pytest.fixture
def game():
    """A real control group with nobody in it."""
    with a_group() as folder:
        if folder is None:
            pytest.skip("NOT TESTED: no control group of the second generation can be made here")
        yield folder


def press(game):
    """Four players for each processor, who all want one."""
    for _ in range(4 * (os.cpu_count() or 1)):
        player = subprocess.Popen(
            [sys.executable, "-c", "while True: pass"], start_new_session=True
        )
        (game / "cgroup.procs").write_text(str(player.pid))
        yield player


def states(machine):
    """How the processes of the trainers are, one letter each."""
    stats = [Path(f"/proc/{pid}/stat").read_text() for pid in machine.trainers()]
    return {stat.rpartition(")")[2].split()[0] for stat in stats}


def test_a_service_that_waits_has_all_trainers_stand_and_its_calm_has_them_go_on(machine, game):
    """Frozen by a supervisor that is killed then: the next thaws first, and looks for itself."""
    machine.configure(SETTINGS.format(group=game.name))
    daemon = machine.start()
    machine.until_steps("A")
    machine.until_steps("B")
    players = list(press(game))
    until(lambda: states(machine) == {"T"}, "all trainers stand still")
    (line,) = [line for line in machine.events("goal.changed") if "stands still" in line["reason"]]
    assert line["evidence"]["cause"] == "protected_cpu"
    assert line["evidence"][f"psi_cpu.{game.name}"] >= 30
    assert f"{game.name} waits" in machine("why").stdout
    frozen = set(machine.trainers())
    os.kill(daemon.pid, signal.SIGKILL)
    daemon.wait()
    assert states(machine) == {"T"}
    machine.start()
    until(
        lambda: (
            [line["evidence"]["answer"] for line in machine.events("goal.changed")][-1]
            in ("hold", "free")
        ),
        "the next supervisor has thawed them",
    )
    for player in players:
        player.kill()
        player.wait()
    step = machine.heartbeat("A")["step"]
    until(lambda: machine.heartbeat("A")["step"] > step + 50, "they train on")
    assert set(machine.trainers()) == frozen
    assert not machine.events("run.died")
    assert not machine.events("run.hung")


def test_who_stops_what_stands_still_has_it_save(machine, game):
    """Nothing is left, and nothing is killed."""
    machine.configure(SETTINGS.format(group=game.name))
    machine.start()
    machine.until_steps("A")
    players = list(press(game))
    until(lambda: states(machine) == {"T"}, "all trainers stand still")
    assert machine("stop").returncode == 0
    assert machine.trainers() == {}
    assert not machine.events("run.killed")
    assert machine.heartbeat("A")["status"] == "stopped"
    for player in players:
        player.kill()
        player.wait()
