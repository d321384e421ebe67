"""Leaving: with everything saved and nobody left, or with trainers that train on."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import msgspec
import pytest

from state.records import BootNote
from testkit.machine import Machine
from testkit.patience import PATIENCE_S


def both_train(machine: Machine) -> dict[int, str]:
    machine.until_steps("A", 20)
    machine.until_steps("B", 20)
    return machine.trainers()


def assert_all_saved(machine: Machine) -> None:
    assert machine.trainers() == {}
    for name in ("A", "B"):
        heartbeat = machine.heartbeat(name)
        assert (heartbeat["status"], heartbeat["checkpoint_step"]) == ("stopped", heartbeat["step"])


def test_stop_saves_everything_and_ends_the_supervisor(machine: Machine) -> None:
    """`stop` returns once every run is saved, and nothing lives any more."""
    daemon = machine.start()
    both_train(machine)
    answer = machine("stop")
    assert answer.returncode == 0, answer.stderr
    assert "saved and stopped" in answer.stdout
    assert daemon.wait(PATIENCE_S) == 0
    assert_all_saved(machine)
    assert machine("stop").returncode == 0, "again is no harm"


@pytest.mark.parametrize("hurt", [False, True])
def test_stop_ends_what_a_dead_supervisor_has_left(machine: Machine, hurt: bool) -> None:
    """With the supervisor killed, `stop` saves and ends its trainers; the next boot is planned."""
    daemon = machine.start()
    both_train(machine)
    daemon.kill()
    daemon.wait()
    if hurt:
        for name in ("state.json", "state.last.json"):
            (machine.home / name).write_bytes(b"")
    answer = machine("stop")
    assert answer.returncode == 0, answer.stderr
    assert "2 runs" in answer.stdout
    assert_all_saved(machine)
    if not hurt:
        assert machine.events()[-1]["event"] == "supervisor.stopped"
        machine.reboot()
        machine.start()
        assert machine.state()["crashes_total"] == 0


def test_stop_of_nothing_makes_nothing(machine: Machine, tmp_path: Path) -> None:
    """Where no home is, none is made."""
    machine.extra["SUPERVISOR_HOME"] = str(tmp_path / "nowhere")
    assert machine("stop").returncode == 0
    assert not (tmp_path / "nowhere").exists()


def test_a_supervisor_that_hands_over_leaves_its_trainers_to_the_next(machine: Machine) -> None:
    """Asked to hand over, and at once to stop, it goes alone; the next one adopts all."""
    daemon = machine.start()
    before = both_train(machine)
    daemon.send_signal(signal.SIGSTOP)  # so that it hears of both at once
    daemon.send_signal(signal.SIGUSR1)
    daemon.send_signal(signal.SIGTERM)
    daemon.send_signal(signal.SIGCONT)
    assert daemon.wait(PATIENCE_S) == 0
    assert machine.trainers() == before
    assert machine.events()[-1]["rule"] == "hand_over"
    machine.start()
    machine.until(lambda: len(machine.events("run.adopted")) == 2, "both are adopted")
    step = machine.heartbeat("A")["step"]
    machine.until_steps("A", step + 20)
    assert machine.trainers() == before
    assert machine.events("run.died") == []


@pytest.mark.skipif(os.geteuid() != 0, reason="NOT TESTED: a home of another user; needs root")
def test_a_home_of_another_user_is_not_written_to(machine: Machine) -> None:
    """What root wrote into a service's home, the service could not use."""
    os.chown(machine.home, 12345, 12345)
    answer = machine("run")
    assert answer.returncode == 73
    assert "belongs to #12345" in answer.stderr
    assert not (machine.home / "state.json").exists()
    assert machine("show-state").returncode == 0, "looking is allowed"


def test_boots_that_no_supervisor_saw_are_counted_at_the_next_start(machine: Machine) -> None:
    """The notes of earlier boots are taken into the history, once, and then forgotten."""
    machine.start()
    both_train(machine)
    machine.crash()
    notes = [
        BootNote(boot_id=f"{number:032x}", event="up", wall=2e9, boottime_s=1.0)
        for number in range(3)
    ]
    path = machine.home / "boots.jsonl"
    path.write_bytes(b"torn\n" + b"\n".join(msgspec.json.encode(note) for note in notes))
    for _ in range(2):
        machine.boot = "c" * 32
        machine.start()
        state = machine.state()
        assert (state["boots_total"], state["crashes_total"]) == (5, 4)
        machine.crash()
    assert path.read_bytes() == b""
    said = [line["reason"] for line in machine.events("boot.recorded")]
    assert [("no supervisor" in text) for text in said] == [False, True, True, True, False]
