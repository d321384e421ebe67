"""A real supervisor with a warm parent: how trainers come back, and what is left behind."""

from __future__ import annotations

import os
import signal

import pytest

from testkit.machine import SETTINGS, Machine
from testkit.patience import PATIENCE_S
from testkit.processes import PROC, stat
from trainers.contract import ANY_RUN

WARM = SETTINGS + '[warm]\ntrainers = ["drill"]\n[policy]\ntick_s = 0.5\n'
ATARI = """\
modes_dir = "modes"

[campaign]
runs = ["Pong"]
target = { steps = 1000000 }
options = { rollout_steps = 128 }

[checkpoints]
interval_s = 1

[policy]
tick_s = 1

[recovery]
proven_s = 0.1
"""


def parent(machine: Machine) -> int | None:
    """The warm parent of this home; it carries its mark, and is of no run."""
    return next((pid for pid, run in machine.trainers().items() if run == ANY_RUN), None)


def parent_of(pid: int) -> int | None:
    fields = stat(PROC / str(pid))
    return int(fields[1]) if fields else None


def spent_ticks(pid: int) -> int:
    return sum(map(int, stat(PROC / str(pid))[11:13]))


def until_forked(machine: Machine, name: str, trainer: str) -> int:
    """Kill the run's trainer until it comes back as a child of the warm parent; its pid."""
    seen: list[int] = []

    def killed_and_forked() -> int | None:
        beat, warm = machine.heartbeat(name, trainer), parent(machine)
        if warm is None or not beat.get("stepping_at_s") or not beat.get("checkpoint_step"):
            return None
        pid: int = beat["pid"]
        if parent_of(pid) == warm:
            return pid
        seen.append(spent_ticks(warm))
        if parent_of(pid) and seen[-20:] == seen[-1:] * 20:  # it has nothing to load any more
            os.kill(pid, signal.SIGKILL)
            seen.clear()
        return None

    machine.until(killed_and_forked, "a forked trainer")
    return int(machine.heartbeat(name, trainer)["pid"])


def test_a_warm_parent_ends_with_its_daemon_and_its_trainers_do_not(machine: Machine) -> None:
    """A daemon that is killed, that hands over, and that stops leaves no parent behind."""
    machine.configure(WARM)
    daemon = machine.start()
    forked = until_forked(machine, "A", "drill")
    first = parent(machine)
    daemon.kill()
    daemon.wait()
    machine.until(lambda: parent(machine) is None, "the parent is gone")
    assert machine.trainers()[forked] == "drill-A"

    # The next one takes the trainer over and has a parent of its own.
    daemon = machine.start()
    assert machine.run("A")["pid"] == forked
    machine.until(lambda: parent(machine), "another parent")
    assert parent(machine) != first
    daemon.send_signal(signal.SIGUSR1)
    assert daemon.wait(PATIENCE_S) == 0
    assert parent(machine) is None
    assert machine.trainers()[forked] == "drill-A"

    daemon = machine.start()
    machine.until(lambda: parent(machine), "a third")
    assert machine.stop(daemon) == 0
    assert machine.trainers() == {}
    assert machine.heartbeat("A")["status"] == "stopped"


def test_without_the_setting_there_is_no_warm_parent(machine: Machine) -> None:
    """Switched off while one waits, it goes; the trainers stay."""
    machine.configure(WARM)
    machine.start()
    machine.until(lambda: parent(machine), "a parent")
    machine.configure(WARM.replace('trainers = ["drill"]', "trainers = []"))
    machine.until(lambda: parent(machine) is None, "no parent")
    assert machine.trainers()


@pytest.mark.slow
def test_a_killed_game_comes_back_warm(machine: Machine) -> None:
    """Real training is forked anew after a kill, goes on from its checkpoint, and is stopped."""
    modes = machine.home / "modes"
    modes.mkdir()
    light = "rung = 0\nslots = 1\n[load.atari]\nn_envs = 4\nbatch_size = 64\n"
    (modes / "light.toml").write_text(light)
    machine.configure(ATARI)
    daemon = machine.start()
    forked = until_forked(machine, "Pong", "atari")
    assert machine.heartbeat("Pong", "atari")["began"]["step"] > 0
    assert machine.run("Pong")["pid"] == forked
    assert not machine.events("warm.lost")
    assert machine.stop(daemon) == 0
    assert machine.trainers() == {}
    last = machine.heartbeat("Pong", "atari")
    assert last["status"] == "stopped"
    assert last["checkpoint_step"] == last["step"] > 0
