"""The same with real games: two small modes, real PPO, real emulators."""

from __future__ import annotations

import json
import os
import signal
from typing import Any

import pytest

from testkit.machine import Machine

pytestmark = pytest.mark.slow

SETTINGS = """\
modes_dir = "modes"

[campaign]
runs = ["Pong", "Breakout", "Freeway"]
target = { steps = 100000 }

[campaign.options]
rollout_steps = 128

[checkpoints]
interval_s = 1

[run.Freeway]
target = { steps = 256 }
"""


@pytest.fixture
def atari(machine: Machine) -> Machine:
    """Two modes that two cores bear: one game with 4 environments, two with 8 each."""
    modes = machine.home / "modes"
    modes.mkdir()
    mode = "rung = {}\nslots = {}\nprefer = {}\n[load.atari]\nn_envs = {}\nbatch_size = 64\n"
    (modes / "light.toml").write_text(mode.format(0, 1, '["Pong"]', 4))
    (modes / "medium.toml").write_text(mode.format(1, 2, '["Pong", "Freeway"]', 8))
    machine.configure(SETTINGS)
    return machine


def heartbeat(machine: Machine, game: str) -> dict[str, Any]:
    return machine.heartbeat(game, "atari")


def test_real_games_through_kills_moves_and_their_end(atari: Machine) -> None:
    """Real training survives kills of trainer and daemon, both moves of the mode, and ends."""
    daemon = atari.start()
    atari.until(lambda: heartbeat(atari, "Pong").get("checkpoint_step"), "a first checkpoint")

    # The trainer dies in mid-work: the steps go on from its newest checkpoint.
    os.kill(atari.run("Pong")["pid"], signal.SIGKILL)
    atari.until(lambda: len(atari.events("run.started")) == 2, "a second life")
    saved = atari.events("run.started")[-1]["evidence"]["step"]
    assert saved > 0
    atari.until(lambda: heartbeat(atari, "Pong").get("status") == "running", "it trains again")
    assert heartbeat(atari, "Pong")["step"] > saved

    # The daemon dies: the trainer neither notices nor gets a rival.
    pid = atari.run("Pong")["pid"]
    daemon.kill()
    daemon.wait()
    step = heartbeat(atari, "Pong")["step"]
    daemon = atari.start()
    atari.until(lambda: heartbeat(atari, "Pong").get("step", 0) > step, "it goes on")
    assert atari.run("Pong")["pid"] == pid

    # Up: other environments, the same policy and step count.
    assert atari("force-scale-up").returncode == 0
    atari.until(lambda: heartbeat(atari, "Pong").get("mode") == "medium", "Pong in medium")
    atari.until(lambda: heartbeat(atari, "Pong").get("status") == "running", "Pong trains there")
    assert heartbeat(atari, "Pong")["step"] >= atari.events("run.started")[-2]["evidence"]["step"]

    # A small target is reached, and the slot goes to the next in the queue.
    atari.until(lambda: atari.events("run.done"), "Freeway is done")
    assert atari.events("run.done")[0]["run"] == "atari-Freeway"
    atari.until(lambda: heartbeat(atari, "Breakout").get("step"), "Breakout has its slot")

    # Down again, and a clean end.
    assert atari("force-scale-down").returncode == 0
    atari.until(lambda: heartbeat(atari, "Pong").get("mode") == "light", "Pong in light")
    atari.until(lambda: heartbeat(atari, "Pong").get("status") == "running", "Pong trains there")
    assert atari.stop(daemon) == 0
    assert atari.trainers() == {}
    last = heartbeat(atari, "Pong")
    assert last["status"] == "stopped"
    assert last["checkpoint_step"] == last["step"] > step

    # Greedy play with what was learnt.
    answer = atari("evaluate", "Freeway", "--episodes", "1", "--json")
    assert answer.returncode == 0, answer.stderr
    assert json.loads(answer.stdout)["episodes"] == 1

    # And what was seen last.
    assert (atari.home / "runs/atari-Pong/preview.png").read_bytes().startswith(b"\x89PNG")

    # What was measured lies in the run's folder, on one axis of steps.
    lines = (atari.home / "runs/atari-Pong/metrics.jsonl").read_text().splitlines()
    assert all(json.loads(line)["step"] > 0 for line in lines)
    assert list((atari.home / "runs/atari-Pong/tensorboard").iterdir())
