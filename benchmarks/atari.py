"""What our Atari trainers do with a machine, beside stock Stable-Baselines3 on the same one.

Stock is what rl-baselines3-zoo sets up (`make_atari_env`, frame stack, environments in
the trainer's process, default threads). Both take turns, and each figure is a median
with its spread. Parts:

    light, medium   environment steps per second and memory of the whole mode
    limit           the same games without learning, and raw emulation: what could be had
    profile         where a trainer's time goes
    setup           the time to 64 environments that are ready
    checkpoint      for how long training stands still for one
    kills           whether a checkpoint is ever torn: 40 kills in each turn, while it saves
    restart         from `kill -9` to the first new step, by benchmarks/restart.py
    neighbour       gradient steps by few and many threads, also bound to processors, beside
                    programs that keep each of them busy

    .venv/bin/pip install -c constraints.txt -e '.[atari,benchmarks]'
    .venv/bin/python benchmarks/atari.py light --turns 5
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import psutil

from modes import Mode, load_ladder
from state.records import Asked, Run
from supervisor.core import queue
from trainers.checkpoint import Checkpoints
from trainers.contract import RunFolder, Target

STEPS_PER_CYCLE = 4096
GAMES = ("MsPacman", "Pong", "BeamRider", "Seaquest")
LOOK_S = 0.2
TINY = {"atari": {"n_envs": 4, "batch_size": 16}}
KILLS = 40
CORES = os.cpu_count() or 1

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
    _on_training_end = _on_rollout_start
    def _on_step(self):
        return True

game, (n_envs, batch_size, cycle, steps) = sys.argv[1], map(int, sys.argv[2:6])
env = VecFrameStack(make_atari_env(f"{game}NoFrameskip-v4", n_envs=n_envs, seed=1), n_stack=4)
PPO("CnnPolicy", env, n_steps=cycle // n_envs, n_epochs=4, batch_size=batch_size, vf_coef=0.5,
    ent_coef=0.01, learning_rate=LinearSchedule(2.5e-4, 0.0, 1.0),
    clip_range=LinearSchedule(0.1, 0.0, 1.0), seed=1).learn(steps, Times())
"""

ENVIRONMENTS = """
import sys, time
import numpy as np

kind, n_envs, for_s = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
chance = np.random.default_rng(1)
began_s = time.monotonic()
if kind == "raw":
    from ale_py import ALEInterface, LoggerMode, roms
    ALEInterface.setLoggerMode(LoggerMode.Error)
    game = ALEInterface()
    game.loadROM(str(roms.get_rom_path("ms_pacman")))
    actions = game.getMinimalActionSet()
    def step():
        action = actions[chance.integers(len(actions))]
        for _ in range(4):
            game.act(action)
        if game.game_over():
            game.reset_game()
    n_envs = 1
elif kind in ("exact", "native"):
    if kind == "exact":
        from trainers.atari.exact import ExactGames as Games
        if for_s:  # in a life they load one after the other, beside the first steps
            from trainers.atari.game import preload
            preload("ms_pacman", n_envs)
    else:
        from trainers.atari.native import NativeGames as Games
    games = Games("ms_pacman", list(range(n_envs)), threads=1)
    games.reset()
    def step():
        games.send(chance.integers(games.n_actions, size=n_envs))
        games.receive()
else:
    import ale_py, gymnasium
    from stable_baselines3.common.env_util import make_atari_env
    from stable_baselines3.common.vec_env import VecFrameStack
    import torch
    torch.set_num_threads(1)
    gymnasium.register_envs(ale_py)
    env = VecFrameStack(make_atari_env("MsPacmanNoFrameskip-v4", n_envs=n_envs, seed=1), n_stack=4)
    env.reset()
    def step():
        env.step(chance.integers(env.action_space.n, size=n_envs))
step()
ready_s = time.monotonic()
steps = 0
while time.monotonic() < ready_s + for_s:
    step()
    steps += n_envs
print(ready_s - began_s, steps / (time.monotonic() - ready_s))
"""

PROFILE = """
import sys, time
from collections import defaultdict
from pathlib import Path
from trainers import attempt
from trainers.atari.env import AtariGames
from trainers.atari.ppo import Ppo
from stable_baselines3 import PPO
from stable_baselines3.common.policies import ActorCriticPolicy

spent_s = defaultdict(float)

def timed(what, kind, name):
    method = getattr(kind, name)
    def wrapper(*arguments, **named):
        began_s = time.perf_counter()
        try:
            return method(*arguments, **named)
        finally:
            spent_s[what] += time.perf_counter() - began_s
    setattr(kind, name, wrapper)

timed("games", AtariGames, "step_wait")
timed("choice of actions", ActorCriticPolicy, "forward")
timed("rollouts", Ppo, "collect_rollouts")
timed("learning", PPO, "learn")
attempt.run(Path(sys.argv[1]), "atari")
rollouts_s, whole_s = spent_s.pop("rollouts"), spent_s.pop("learning")
spent_s["rest of the rollouts"] = rollouts_s - sum(spent_s.values())
spent_s["updates"] = whole_s - rollouts_s
for what, s in spent_s.items():
    print(f"  {what:22} {s / whole_s:6.1%}")
"""

STALL = """
import sys, time
from pathlib import Path
from trainers import attempt
from trainers.atari.learner import _Pilot

take, save = _Pilot._snapshot, _Pilot._save
copying_s = 0.0

def timed_take(pilot):
    global copying_s
    began_s = time.perf_counter()
    snapshot = take(pilot)
    copying_s = time.perf_counter() - began_s
    return snapshot

def timed_save(pilot, snapshot, *, wait):
    began_s = time.perf_counter()
    save(pilot, snapshot, wait=wait)
    if not wait:
        print("stall", copying_s + time.perf_counter() - began_s)

_Pilot._snapshot, _Pilot._save = timed_take, timed_save
attempt.run(Path(sys.argv[1]), "atari")
"""

SAVE = """
import sys, time
import numpy as np
from gymnasium import spaces
from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import DummyVecEnv
import gymnasium

class Blank(gymnasium.Env):
    observation_space = spaces.Box(0, 255, (4, 84, 84), np.uint8)
    action_space = spaces.Discrete(9)
    def reset(self, **_):
        return self.observation_space.sample(), {}
    def step(self, _):
        return self.observation_space.sample(), 0.0, False, False, {}

model = PPO("CnnPolicy", DummyVecEnv([Blank]), n_steps=8, batch_size=8, n_epochs=1)
model.learn(8)
for _ in range(int(sys.argv[2])):
    began_s = time.monotonic()
    model.save(sys.argv[1])
    print(time.monotonic() - began_s)
"""

UPDATES = """
import sys, time
kind, threads, for_s, n = sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), 256
if kind == "ours":
    from trainers import attempt
    attempt.limit_threads(threads)
    import torch
    torch.set_num_threads(threads)
    from trainers.atari.ppo import Form, keep_freed_memory
    from trainers.atari.forms import _model
    keep_freed_memory()
    model = _model(Form(), n)
    ((minibatch,),) = ([*epoch] for epoch in model.rollout_buffer.minibatches(n, 1))
    def step():
        model.update(minibatch, clip_range=0.1)
else:
    import gymnasium
    import numpy as np
    from gymnasium import spaces
    from stable_baselines3 import PPO
    class Noise(gymnasium.Env):
        observation_space = spaces.Box(0, 255, (4, 84, 84), np.uint8)
        action_space = spaces.Discrete(18)
        def reset(self, **_):
            return self.observation_space.sample(), {}
        def step(self, _):
            return self.observation_space.sample(), 0.0, False, False, {}
    model = PPO("CnnPolicy", Noise(), n_steps=n, batch_size=n, n_epochs=1, device="cpu")
    model.learn(n)
    step = model.train
step()
began_s, steps = time.monotonic(), 0
while time.monotonic() < began_s + for_s:
    step()
    steps += 1
print(steps * n / (time.monotonic() - began_s))
"""

Marks = list[tuple[int, float]]
"""step and wall time at the beginning of each update cycle"""


class Turn(NamedTuple):
    """What one turn of a mode came to."""

    rate: float
    """environment steps per second, of all its games together"""
    memory_mib: float
    """proportional set size of all its processes, at its largest"""


def main() -> None:
    """Measure the parts that were asked for."""
    parts: dict[str, Callable[[int], None]] = {
        "light": lambda turns: _mode("light", turns),
        "medium": lambda turns: _mode("medium", turns),
        "limit": _limit,
        "profile": _profile,
        "setup": _setup,
        "checkpoint": _checkpoint,
        "kills": _kills,
        "restart": _restart,
        "neighbour": _neighbour,
    }
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("parts", nargs="*", choices=[*parts, []], help="all of them by default")
    parser.add_argument("--turns", type=int, default=5, help="of each, one after the other")
    options = parser.parse_args()
    for part in options.parts or parts:
        parts[part](options.turns)


def _mode(name: str, turns: int) -> None:
    mode = load_ladder()[name]
    taken: dict[str, list[Turn]] = {"ours": [], "stock": []}
    for number in range(1, turns + 1):
        for who, start in (("ours", start_ours), ("stock", start_stock)):
            taken[who].append(turn(start, mode))
        ours, stock = taken["ours"][-1], taken["stock"][-1]
        print(f"  turn {number}: {ours.rate:.0f} and {stock.rate:.0f} steps/s", flush=True)
    _compare(f"{name}: steps/s", *([one.rate for one in taken[who]] for who in taken))
    _compare(f"{name}: memory in MiB", *([one.memory_mib for one in taken[who]] for who in taken))


def turn(
    start: Callable[[Path, str, Mode, int], Any], mode: Mode, cycle: int = STEPS_PER_CYCLE
) -> Turn:
    """One cycle, of so many steps, of every game of the mode, after one that does not count."""
    with tempfile.TemporaryDirectory() as place:
        games = [start(Path(place), game, mode, cycle) for game in GAMES[: mode.slots]]
        memory_mib = 0.0
        while any(process.poll() is None for process, _ in games):
            memory_mib = max(memory_mib, sum(_memory_mib(process.pid) for process, _ in games))
            time.sleep(5 * LOOK_S)
        if any(process.returncode != 0 for process, _ in games):
            sys.exit("a trainer failed; its output is above")
        marks = [read() for _, read in games]
    rate = sum((one[-1][0] - one[0][0]) / (one[-1][1] - one[0][1]) for one in marks)
    return Turn(rate, memory_mib)


def start_ours(
    place: Path, game: str, mode: Mode, cycle: int
) -> tuple[subprocess.Popen[bytes], Callable[[], Marks]]:
    """Our trainer of a game, and what reads its marks once it has ended."""
    folder = _run_folder(place, game, mode, target_steps=2 * cycle, rollout_steps=cycle)
    process = _train(folder)

    def read() -> Marks:
        lines = folder.metrics.read_text(encoding="utf-8").splitlines()
        return [(line["step"], line["at"]) for line in map(json.loads, lines)]

    return process, read


def start_stock(
    place: Path, game: str, mode: Mode, cycle: int
) -> tuple[subprocess.Popen[bytes], Callable[[], Marks]]:
    """The same of Stable-Baselines3."""
    output = place / game
    load = mode.load_of("atari")
    numbers = [str(load["n_envs"]), str(load["batch_size"]), str(cycle), str(2 * cycle)]
    with output.open("wb") as file:
        process = subprocess.Popen([sys.executable, "-c", STOCK, game, *numbers], stdout=file)

    def read() -> Marks:
        lines = output.read_text(encoding="utf-8").splitlines()
        return [(int(step), float(at)) for step, at in map(str.split, lines)][1:]

    return process, read


def _run_folder(
    place: Path,
    game: str,
    mode: Mode,
    *,
    target_steps: int,
    interval_s: float = 90.0,
    **options: Any,
) -> RunFolder:
    asked = Asked(
        id=f"atari-{game}",
        trainer="atari",
        name=game,
        seed=1,
        target=Target(unit="steps", count=target_steps),
        options=options,
    )
    spec = queue.spec(
        Run(asked=asked), mode, cores=CORES, checkpoint_interval_s=interval_s, grace_s=120.0
    )
    folder = RunFolder(place / asked.id)
    folder.path.mkdir()
    folder.spec.write_bytes(msgspec.json.encode(spec))
    return folder


def _train(folder: RunFolder) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "trainers", "atari", "--run", str(folder.path)]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL)


def _memory_mib(pid: int) -> float:
    """The proportional set size of a process and of all below it."""
    total = 0
    try:
        main = psutil.Process(pid)
        for process in (main, *main.children(recursive=True)):
            total += process.memory_full_info().pss
    except psutil.Error:  # one has just ended
        return 0.0
    return total / 2**20


def _limit(turns: int) -> None:
    """Environments alone, one process on each core."""
    rates: dict[str, list[float]] = {kind: [] for kind in ("raw", "native", "exact", "stock")}
    for _ in range(turns):
        for kind, taken in rates.items():
            taken.append(sum(rate for _, rate in environments(kind, 32, 5.0, CORES)))
    for kind in ("raw", "native", "exact"):
        _compare(f"games without learning, {kind}: steps/s", rates[kind], rates["stock"])


def _setup(turns: int) -> None:
    """The time to 64 environments that have made a step, in one trainer."""
    taken: dict[str, list[float]] = {"exact": [], "stock": []}
    for _ in range(turns):
        for kind, seconds in taken.items():
            seconds += [ready_s for ready_s, _ in environments(kind, 64, 0.0, 1)]
    _compare("64 environments: seconds to the first step", taken["exact"], taken["stock"])


def environments(kind: str, n_envs: int, for_s: float, n: int) -> list[tuple[float, float]]:
    """Seconds until the first step, and steps per second, of each of `n` processes that play."""
    command = [sys.executable, "-c", ENVIRONMENTS, kind, str(n_envs), str(for_s)]
    processes = [
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        for _ in range(n)
    ]
    outputs = [process.communicate()[0].split() for process in processes]
    return [(float(ready_s), float(rate)) for ready_s, rate in outputs]


def _profile(_: int) -> None:
    """Where the time of one trainer of the light mode goes, beside a second one."""
    mode = load_ladder()["light"]
    with tempfile.TemporaryDirectory() as place:
        ours, beside = (
            _run_folder(Path(place), game, mode, target_steps=3 * STEPS_PER_CYCLE)
            for game in GAMES[:2]
        )
        second = _train(beside)
        command = [sys.executable, "-c", PROFILE, str(ours.path)]
        output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        second.wait()
    print("where the time of a trainer goes, light mode:")
    print(
        "".join(line for line in output.splitlines(keepends=True) if line.startswith("  ")), end=""
    )


def _checkpoint(turns: int) -> None:
    """How long a trainer stands still for a checkpoint, beside `PPO.save`."""
    mode = load_ladder()["light"]
    ours: list[float] = []
    stock: list[float] = []
    for _ in range(turns):
        with tempfile.TemporaryDirectory() as place:
            folder = _run_folder(
                Path(place),
                GAMES[0],
                mode,
                target_steps=8 * 512,
                interval_s=0.01,
                rollout_steps=512,
            )
            command = [sys.executable, "-c", STALL, str(folder.path)]
            output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            stalls = [line for line in output.splitlines() if line.startswith("stall")]
            ours += [float(stall.split()[1]) for stall in stalls]
            command = [sys.executable, "-c", SAVE, f"{place}/model.zip", "8"]
            output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            stock += [float(line) for line in output.split()]
    _compare(
        "a checkpoint: milliseconds of standstill",
        [1000 * stall_s for stall_s in ours],
        [1000 * save_s for save_s in stock],
    )


def _kills(turns: int) -> None:
    """How many checkpoints are torn by kills of trainers that save all the time."""
    kills = turns * KILLS
    chance = random.Random(1)  # noqa: S311 - moments, not secrets
    while_writing = torn = torn_stock = 0
    with tempfile.TemporaryDirectory() as place:
        mode = Mode(name="tiny", rung=0, slots=CORES, load=TINY)
        folder = _run_folder(
            Path(place), GAMES[0], mode, target_steps=10**9, interval_s=0.01, rollout_steps=16
        )
        checkpoints = Checkpoints(folder.checkpoints)
        held = -1
        for kill in range(1, kills + 1):
            trainer = _train(folder)
            while not (found := checkpoints.newest().checkpoint) or found.manifest.step == held:
                if trainer.poll() is not None:
                    sys.exit("the trainer failed; its output is above")
                time.sleep(LOOK_S / 10)
            time.sleep(chance.random() * LOOK_S)
            trainer.kill()
            trainer.wait()
            while_writing += any(folder.checkpoints.glob(".*"))
            left = checkpoints.newest()
            torn += len(left.passed_over)
            held = left.checkpoint.manifest.step if left.checkpoint else -1
            if kill % KILLS == 0:
                print(f"  {kill} kills, {while_writing} in a write: {torn} torn", flush=True)
        model = Path(place) / "model.zip"
        for _ in range(KILLS):
            model.unlink(missing_ok=True)
            writer = subprocess.Popen(
                [sys.executable, "-c", SAVE, model, "1000000000"], stdout=subprocess.DEVNULL
            )
            while not model.exists():
                time.sleep(LOOK_S / 10)
            time.sleep(chance.random() * LOOK_S)
            writer.kill()
            writer.wait()
            torn_stock += not _is_whole(model)
    print(f"torn checkpoints: {torn} in {kills} kills, {while_writing} of them in a write;")
    print(f"  of `PPO.save`, over one file and without a pause: {torn_stock} in {KILLS}")


def _is_whole(path: Path) -> bool:
    try:
        with zipfile.ZipFile(path) as file:
            return file.testzip() is None
    except (zipfile.BadZipFile, EOFError, OSError):
        return False


def _restart(turns: int) -> None:
    script = Path(__file__).with_name("restart.py")
    subprocess.run([sys.executable, str(script), "--kills", str(turns)], check=True)


def _neighbour(turns: int) -> None:
    """Samples learnt from per second by few and many threads, alone and beside other programs."""
    for busy in (0, CORES):
        for threads in sorted({1, CORES}):
            rates: dict[str, list[float]] = {"ours": [], "bound": [], "stock": []}
            for _ in range(turns):
                others = [
                    subprocess.Popen([sys.executable, "-c", "while True: pass"])
                    for _ in range(busy)
                ]
                try:
                    for kind, taken in rates.items():
                        taken.append(_updates_per_s(kind, threads))
                finally:
                    for other in others:
                        other.kill()
                        other.wait()
            what = f"{threads} threads beside {busy} busy programs: samples/s"
            _compare(what, rates["ours"], rates["stock"])
            print(f"  each thread bound to a processor: {_spread(rates['bound'])}", flush=True)


def _updates_per_s(kind: str, threads: int) -> float:
    """Samples a second of ours, also with each thread bound to a processor, or of stock."""
    bound = {"OMP_PROC_BIND": "true"} if kind == "bound" else {}
    who = "stock" if kind == "stock" else "ours"
    command = [sys.executable, "-c", UPDATES, who, str(threads), "8"]
    done = subprocess.run(
        command, check=True, capture_output=True, text=True, env=os.environ | bound
    )
    return float(done.stdout)


def _compare(what: str, ours: Sequence[float], stock: Sequence[float]) -> None:
    ratios = sorted(mine / theirs for mine, theirs in zip(ours, stock, strict=False))
    print(
        f"{what}: {_spread(ours)}, stock {_spread(stock)}; "
        f"ratio {statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})",
        flush=True,
    )


def _spread(values: Sequence[float]) -> str:
    digits = 0 if statistics.median(values) >= 100 else 2
    return (
        f"{statistics.median(values):.{digits}f} "
        f"({min(values):.{digits}f} to {max(values):.{digits}f})"
    )


if __name__ == "__main__":
    main()
