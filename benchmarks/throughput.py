"""How fast the light mode trains, beside stock Stable-Baselines3 on the same machine.

Two games with 32 environments each and batches of 512, both games at once, in
turn with our trainer and with Stable-Baselines3 as rl-baselines3-zoo sets it up
(`make_atari_env`, frame stack, environments in the trainer's process, default
threads). Counted are environment steps of whole update cycles after the first.

    .venv/bin/pip install -c constraints.txt -e '.[atari,benchmarks]'
    .venv/bin/python benchmarks/throughput.py
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import msgspec

from modes import load_ladder
from state.records import Run
from supervisor.core import queue

GAMES = ("MsPacman", "Pong")
STEPS_PER_CYCLE = 4096

STOCK = """
import sys, time
import ale_py, gymnasium
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_atari_env
from stable_baselines3.common.utils import LinearSchedule
from stable_baselines3.common.vec_env import VecFrameStack

gymnasium.register_envs(ale_py)

class Times(BaseCallback):
    def _on_rollout_start(self):
        print(self.num_timesteps, time.time(), flush=True)
    def _on_step(self):
        return True

game, n_envs, batch_size, steps = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
env = VecFrameStack(make_atari_env(f"{game}NoFrameskip-v4", n_envs=n_envs, seed=1), n_stack=4)
PPO("CnnPolicy", env, n_steps=128, n_epochs=4, batch_size=batch_size, vf_coef=0.5, ent_coef=0.01,
    learning_rate=LinearSchedule(2.5e-4, 0.0, 1.0), clip_range=LinearSchedule(0.1, 0.0, 1.0),
    seed=1).learn(steps, Times())
"""

Marks = list[tuple[int, float]]
"""step and wall time at the beginning of each update cycle"""


def main() -> None:
    """Run both in turn and print the ratio with its spread."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--repeats", type=int, default=3, help="turns of each")
    parser.add_argument("--cycles", type=int, default=2, help="update cycles counted in a turn")
    options = parser.parse_args()
    pairs: list[tuple[float, float]] = []
    for repeat in range(options.repeats):
        rates = tuple(_rate(start, options.cycles) for start in (_start_ours, _start_stock))
        pairs.append((rates[0], rates[1]))
        print(f"turn {repeat + 1}: ours {rates[0]:.0f} steps/s, stock {rates[1]:.0f} steps/s")
    ours, stock = zip(*pairs, strict=True)
    ratios = sorted(a / b for a, b in pairs)
    print(
        f"light mode on {os.cpu_count()} cores, median of {options.repeats} turns of each: "
        f"ours {statistics.median(ours):.0f} and stock {statistics.median(stock):.0f} steps/s, "
        f"{statistics.median(ratios):.2f} times as fast ({ratios[0]:.2f} to {ratios[-1]:.2f})"
    )


def _rate(
    start: Callable[[Path, str, int], tuple[subprocess.Popen[str], Callable[[], Marks]]],
    cycles: int,
) -> float:
    """Steps per second of both games together."""
    with tempfile.TemporaryDirectory() as place:
        steps = (cycles + 1) * STEPS_PER_CYCLE
        both = [start(Path(place), game, steps) for game in GAMES]
        for process, _ in both:
            if process.wait() != 0:
                sys.exit(f"a trainer failed; its output is above: {process.args!r}")
        marks = [read() for _, read in both]
    return sum((one[-1][0] - one[0][0]) / (one[-1][1] - one[0][1]) for one in marks)


def _start_ours(
    place: Path, game: str, steps: int
) -> tuple[subprocess.Popen[str], Callable[[], Marks]]:
    mode = load_ladder()["light"]
    run = Run(id=f"atari-{game}", trainer="atari", name=game, seed=1, target_steps=steps)
    spec = queue.spec(run, mode, cores=os.cpu_count() or 1, checkpoint_interval_s=90.0)
    folder = place / run.id
    folder.mkdir()
    (folder / "spec.json").write_bytes(msgspec.json.encode(spec))
    command = [sys.executable, "-m", "trainers", "atari", "--run", str(folder)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, text=True)

    def read() -> Marks:
        lines = (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
        return [(line["step"], line["at"]) for line in map(json.loads, lines)]

    return process, read


def _start_stock(
    place: Path, game: str, steps: int
) -> tuple[subprocess.Popen[str], Callable[[], Marks]]:
    mode = load_ladder()["light"]
    output = place / game
    numbers = [str(mode.n_envs), str(mode.batch_size), str(steps + STEPS_PER_CYCLE)]
    with output.open("w", encoding="utf-8") as file:
        process = subprocess.Popen(
            [sys.executable, "-c", STOCK, game, *numbers], stdout=file, text=True
        )

    def read() -> Marks:
        lines = output.read_text(encoding="utf-8").splitlines()
        marks = [(int(step), float(at)) for step, at in map(str.split, lines)]
        return [mark for mark in marks if STEPS_PER_CYCLE <= mark[0] <= steps]

    return process, read


if __name__ == "__main__":
    main()
