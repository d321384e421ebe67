"""Whether a run that is killed, resumed and moved between modes learns as an untouched one does.

Each game is learnt with the published settings of PPO (8 environments, rollouts of 1024
transitions, batches of 256, schedules over ten million steps of which these are the first)
over several seeds: by our trainer, which is killed at
random moments and spends the middle third in a mode of 16 environments, and by
Stable-Baselines3 as rl-baselines3-zoo sets it up, without any interruption. One
processor thread each, as many side by side as there are cores. Pong, whose points are
rare, is learnt by both in batches of 64: four times as many gradient steps.

The table gives the mean return of the last 100 games, beside that of random play.
What is finished is kept in a folder, so that an interrupted benchmark goes on. What lies there
is shown again; to measure anew, name another folder with --results.

    .venv/bin/pip install -c constraints.txt -e '.[atari,benchmarks]'
    .venv/bin/python benchmarks/learning.py --plot docs/learning.png
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent import futures
from pathlib import Path

import msgspec

from modes import Mode
from state.records import Asked, Run
from supervisor.core import queue
from trainers.contract import EXIT_AGAIN, Heartbeat, RunFolder, Target

BUDGETS = {"Breakout": 250_000, "Pong": 300_000}
"""steps of each game: about half an hour of a core for each run of stock"""
BATCHES = {"Breakout": 256, "Pong": 64}
LIGHT, HEAVY = 8, 16
"""environments of each trainer in our two modes"""
OPTIONS = {"rollout_steps": 1024}
RESULTS = Path(__file__).parent / "learning-results"
KILLS = 5
ENDLESS = 2**31 - 1
"""episodes; we end it"""
RANDOM_GAMES = 30
LOOK_S = 0.5

ONE_THREAD = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}

STOCK = """
import statistics, sys
import ale_py, gymnasium
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_atari_env
from stable_baselines3.common.utils import LinearSchedule
from stable_baselines3.common.vec_env import VecFrameStack

gymnasium.register_envs(ale_py)
game, seed, steps, batch_size = sys.argv[1], *map(int, sys.argv[2:])

class Curve(BaseCallback):
    def _on_rollout_start(self):
        games = [game["r"] for game in self.model.ep_info_buffer]
        if games:
            print(self.num_timesteps, statistics.fmean(games), flush=True)
    def _on_step(self):
        return self.num_timesteps < steps

env = VecFrameStack(make_atari_env(f"{game}NoFrameskip-v4", n_envs=8, seed=seed), n_stack=4)
PPO("CnnPolicy", env, n_steps=128, n_epochs=4, batch_size=batch_size, vf_coef=0.5, ent_coef=0.01,
    learning_rate=LinearSchedule(2.5e-4, 0.0, 1.0), clip_range=LinearSchedule(0.1, 0.0, 1.0),
    seed=seed).learn(10_000_000, Curve())
"""

RANDOM = """
import sys
import ale_py, gymnasium
from stable_baselines3.common.env_util import make_atari_env

gymnasium.register_envs(ale_py)
game, games = sys.argv[1], int(sys.argv[2])
env = make_atari_env(f"{game}NoFrameskip-v4", n_envs=1, seed=1)
env.action_space.seed(1)
env.reset()
while games:
    _, _, _, infos = env.step([env.action_space.sample()])
    if "episode" in infos[0]:
        games -= 1
        print(infos[0]["episode"]["r"], flush=True)
"""

Curve = list[tuple[int, float]]
"""steps so far, and the mean return of the last 100 games"""


class Results:
    """What is finished, in files."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def path(self, *parts: object) -> Path:
        """Where one result lies, or will."""
        return self._folder / f"{'-'.join(map(str, parts))}.json"

    def read(self, *parts: object) -> Curve:
        """One result."""
        rows = json.loads(self.path(*parts).read_text(encoding="utf-8"))
        return [(int(step), float(value)) for step, value in rows]

    def write(self, curve: Curve, *parts: object) -> None:
        """Keep one result."""
        path = self.path(*parts)
        fresh = path.with_suffix(".new")
        fresh.write_text(json.dumps(curve), encoding="utf-8")
        fresh.replace(path)


def main() -> None:
    """Learn, then print the table and draw the curves."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--seeds", type=int, default=3, help="runs of each, for each game")
    parser.add_argument("--games", nargs="+", default=list(BUDGETS), choices=list(BUDGETS))
    parser.add_argument("--who", nargs="+", default=["stock", "ours"], choices=("stock", "ours"))
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--plot", type=Path, help="draw the curves into this picture")
    options = parser.parse_args()
    results = Results(options.results)
    work = [
        (who, game, seed)
        for game in options.games
        for seed in range(1, options.seeds + 1)
        for who in options.who  # side by side, as far as the cores go
    ]
    for game in options.games:
        if not results.path("random", game).exists():
            results.write(_play_at_random(game), "random", game)
    with futures.ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        running = {
            pool.submit(_ours if who == "ours" else _stock, game, seed): (who, game, seed)
            for who, game, seed in work
            if not results.path(who, game, seed).exists()
        }
        for done in futures.as_completed(running):
            results.write(done.result(), *running[done])
            print("finished:", *running[done], flush=True)
    for game in options.games:
        _print(game, results, options.who, options.seeds)
    if options.plot:
        _draw(options.plot, options.games, results, options.who, options.seeds)


def _print(game: str, results: Results, whos: list[str], seeds: int) -> None:
    chance = [value for _, value in results.read("random", game)]
    print(
        f"{game}, {BUDGETS[game]:,} steps: random play {statistics.fmean(chance):.2f} "
        f"± {statistics.stdev(chance) / len(chance) ** 0.5:.2f}"
    )
    for who in whos:
        last = sorted(results.read(who, game, seed)[-1][1] for seed in range(1, seeds + 1))
        each = " ".join(f"{value:.2f}" for value in last)
        print(f"  {who:5}  mean {statistics.fmean(last):7.2f}   seeds {each}")


def _draw(path: Path, games: list[str], results: Results, whos: list[str], seeds: int) -> None:
    import matplotlib as mpl  # noqa: PLC0415 - comes with Stable-Baselines3; a table needs none

    mpl.use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415 - as above

    figure, axes = plt.subplots(1, len(games), figsize=(6 * len(games), 4), squeeze=False)
    colours = {"stock": "tab:orange", "ours": "tab:blue"}
    labels = {
        "stock": "Stable-Baselines3, uninterrupted",
        "ours": "ours, killed, resumed, moved between modes",
    }
    for axis, game in zip(axes[0], games, strict=True):
        chance = [value for _, value in results.read("random", game)]
        axis.axhline(statistics.fmean(chance), color="grey", linestyle=":", label="random play")
        for who in whos:
            for seed in range(1, seeds + 1):
                steps, returns = zip(*results.read(who, game, seed), strict=True)
                label = labels[who] if seed == 1 else None
                axis.plot(steps, returns, color=colours[who], alpha=0.8, label=label)
        axis.set_title(game)
        axis.set_xlabel("environment steps")
        axis.set_ylabel("mean return of the last 100 games")
        axis.grid(alpha=0.3)
    axes[0][0].legend()
    figure.tight_layout()
    figure.savefig(path, dpi=110)


def _play_at_random(game: str) -> Curve:
    command = [sys.executable, "-c", RANDOM, game, str(RANDOM_GAMES)]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return [(number, float(line)) for number, line in enumerate(output.splitlines(), 1)]


def _stock(game: str, seed: int) -> Curve:
    numbers = [str(seed), str(BUDGETS[game]), str(BATCHES[game])]
    command = [sys.executable, "-c", STOCK, game, *numbers]
    environment = {**os.environ, **ONE_THREAD}
    output = subprocess.run(
        command, check=True, stdout=subprocess.PIPE, text=True, env=environment
    ).stdout
    return [(int(step), float(mean)) for step, mean in map(str.split, output.splitlines())]


def _ours(game: str, seed: int) -> Curve:
    """Our trainer, in three thirds of which the second is in the heavier mode."""
    budget = BUDGETS[game]
    chance = random.Random(f"{game} {seed}")  # noqa: S311 - moments, not secrets
    kills = sorted(chance.randrange(budget // 20, budget) for _ in range(KILLS))
    moves = [(budget // 3, HEAVY), (2 * budget // 3, LIGHT)]
    n_envs = LIGHT
    with tempfile.TemporaryDirectory() as place:
        folder = RunFolder(Path(place) / f"atari-{game}")
        folder.path.mkdir()
        while True:
            trainer = _start(folder, game, seed, n_envs)
            while trainer.poll() is None:
                time.sleep(LOOK_S)
                step = _step(folder)
                if kills and step >= kills[0]:
                    kills.pop(0)
                    trainer.send_signal(signal.SIGKILL)
                elif moves and step >= moves[0][0]:
                    _, n_envs = moves.pop(0)
                    trainer.send_signal(signal.SIGTERM)
                    trainer.wait()
                elif step >= budget and (curve := _curve(folder))[-1][0] >= budget:
                    trainer.kill()
                    trainer.wait()
                    return curve
            if trainer.returncode not in (EXIT_AGAIN, -signal.SIGKILL):
                sys.exit(f"{game} with seed {seed} failed; its output is above")


def _start(folder: RunFolder, game: str, seed: int, n_envs: int) -> subprocess.Popen[bytes]:
    asked = Asked(
        id=folder.path.name,
        trainer="atari",
        name=game,
        seed=seed,
        target=Target(unit="episodes", count=ENDLESS),
        options=OPTIONS,
    )
    mode = Mode(
        name="light" if n_envs == LIGHT else "heavy",
        rung=0,
        slots=1,
        load={"atari": {"n_envs": n_envs, "batch_size": BATCHES[game]}},
    )
    spec = queue.spec(Run(asked=asked), mode, cores=1, checkpoint_interval_s=90.0, grace_s=120.0)
    folder.spec.write_bytes(msgspec.json.encode(spec))
    command = [sys.executable, "-m", "trainers", "atari", "--run", str(folder.path)]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL)


def _step(folder: RunFolder) -> int:
    try:
        return msgspec.json.decode(folder.heartbeat.read_bytes(), type=Heartbeat).step
    except (FileNotFoundError, msgspec.DecodeError):
        return 0


def _curve(folder: RunFolder) -> Curve:
    """What the run's metrics say; where steps were made twice, the later ones count."""
    curve: Curve = []
    for line in folder.metrics.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        while curve and curve[-1][0] >= row["step"]:
            curve.pop()
        if row.get("rollout/return_mean") is not None:
            curve.append((row["step"], row["rollout/return_mean"]))
    return curve


if __name__ == "__main__":
    main()
