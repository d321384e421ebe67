#!/usr/bin/env python3
"""How long training stands still: from `kill -9` to the first new step, beside stock.

    python benchmarks/restart.py                        everything, some minutes
    python benchmarks/restart.py --environments 32 --kills 20
    python benchmarks/restart.py --json                 the same for machines

A real supervisor trains a real game, in a home of its own in the folder for temporary files. Its
trainer is killed again and again, and each time the heartbeat of the next one tells when it made
its first new step, on the clock that told when it was killed.

warm: the supervisor keeps a warm parent, as by default. cold: it keeps none. boot: nothing lives,
and the supervisor itself is started. stock: Stable-Baselines3 with environments as
rl-baselines3-zoo sets them up, loads its checkpoint and makes a step; from the start of its
process, so the time in which somebody notices its death is not in it. It needs the extra
`benchmarks`. Kinds take turns, and one stands still while another is measured.

scale: from the moment at which every run of `light` has saved, until every run of `medium` steps.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from testkit.machine import Machine
from testkit.patience import until
from testkit.processes import PROC, stat

LOOK_S = 0.01
"""between two looks: how exact the switch of modes is timed"""
GAME = "Pong"
LIMITS_S = {"warm 32": 0.5, "warm 64": 0.7, "boot 32": 3.0, "scale": 2.0}
"""what we set out to reach"""

SETTINGS = """\
modes_dir = "modes"
[policy]
tick_s = 1
stable_min = 10000
[campaign]
runs = [{runs}]
target = {{ steps = 1000000000 }}
options = {{device = "cpu"}}
[checkpoints]
interval_s = 10
[warm]
trainers = [{warm}]
[recovery]
proven_s = 0.5
"""
MODE = (
    "rung = {rung}\nslots = {slots}\n[load.atari]\nn_envs = {n_envs}\nbatch_size = {batch_size}\n"
)

STOCK = """\
import sys, time
import ale_py, gymnasium
from stable_baselines3 import PPO
from stable_baselines3.common.env_util import make_atari_env
from stable_baselines3.common.vec_env import VecFrameStack
gymnasium.register_envs(ale_py)
path, n_envs, train = sys.argv[1], int(sys.argv[2]), sys.argv[3] == "train"
env = VecFrameStack(make_atari_env("PongNoFrameskip-v4", n_envs, seed=1), 4)
if train:
    PPO("CnnPolicy", env, n_steps=128, batch_size=256, n_epochs=4).save(path)
    sys.exit()
class Step(Exception): pass
def stop(*_): raise Step
model = PPO.load(path, env)
try:
    model.learn(10**9, callback=stop)
except Step:
    print(time.monotonic())
"""


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--environments", default="32,64", metavar="N,N")
    parser.add_argument("--kills", type=int, default=7, help="of each kind")
    parser.add_argument("--no-kills", action="store_true", help="only the switch of modes")
    parser.add_argument("--no-scale", action="store_true", help="leave out the switch of modes")
    parser.add_argument("--no-stock", action="store_true")
    parser.add_argument("--json", action="store_true", help="for machines")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # tidies up, as Ctrl-C does
    measured = measure(
        [int(n) for n in options.environments.split(",")] if not options.no_kills else [],
        options.kills,
        scale=not options.no_scale,
        stock=not options.no_stock,
    )
    print(json.dumps(measured, indent=1) if options.json else table(measured))


def measure(
    environments: list[int], kills: int, *, scale: bool = True, stock: bool = True
) -> dict[str, list[float]]:
    """Seconds of every try, by kind and number of environments: `warm 32`, `stock 64`, `scale`."""
    if stock and importlib.util.find_spec("cv2") is None:
        print("NOT MEASURED: stock; it needs the extra `benchmarks`", file=sys.stderr)
        stock = False
    found: dict[str, list[float]] = {}
    for n_envs in environments:
        with contextlib.ExitStack() as stack:
            warm = stack.enter_context(Supervisor(n_envs, warm=True))
            cold = stack.enter_context(Supervisor(n_envs, warm=False))
            warm.until_warm()
            cold.until_saved()
            rivals = iter(stack.enter_context(_stock(n_envs))) if stock else None
            for _ in range(kills):
                with cold.frozen():
                    found.setdefault(f"warm {n_envs}", []).append(warm.kill_trainer())
                with warm.frozen():
                    found.setdefault(f"cold {n_envs}", []).append(cold.kill_trainer())
                    found.setdefault(f"boot {n_envs}", []).append(cold.begin_anew())
                with warm.frozen(), cold.frozen():
                    if rivals:
                        found.setdefault(f"stock {n_envs}", []).append(next(rivals))
    if scale:
        with Supervisor(32, warm=True, ladder=True) as one:
            one.until_warm()
            found["scale"] = []
            for _ in range(max(1, kills // 2)):
                found["scale"].append(one.scale("force-scale-up", "medium"))
                one.scale("force-scale-down", "light")
    return found


class Supervisor(Machine):
    """A supervisor in a home of its own; nothing of it outlives a `with`.

    Args:
        n_envs: environments of its only trainer.
        warm: whether it keeps a warm parent.
        ladder: the shipped modes instead of the only trainer.
    """

    def __init__(self, n_envs: int, *, warm: bool, ladder: bool = False) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="restart-")
        program = (sys.executable, "-P", "-m", "supervisor")
        super().__init__(Path(self._folder.name) / "home", program=program)
        modes = self.home / "modes"
        modes.mkdir()
        # The shape of the shipped light mode, so that half of the cores are for each trainer.
        only = MODE.format(rung=0, slots=2, n_envs=n_envs, batch_size=16 * n_envs)
        (modes / "light.toml").write_text(only)
        runs = (GAME, "MsPacman", "Asteroids", "BeamRider", "Seaquest") if ladder else (GAME,)
        settings = SETTINGS.format(
            runs=", ".join(f'"{name}"' for name in runs), warm='"atari"' if warm else ""
        )
        if ladder:
            settings = settings.replace('modes_dir = "modes"\n', "")
        self.configure(settings)

    def __enter__(self) -> Supervisor:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.crash()
        self._folder.cleanup()

    def until_saved(self) -> None:
        """Wait for a checkpoint to go on from."""
        until(lambda: self._beat(GAME).get("checkpoint_step"), "a checkpoint", look_s=LOOK_S)

    def until_warm(self) -> None:
        """Wait until trainers are forked, and their games loaded."""
        self.until_saved()
        seen = None
        while seen != (now := self._warm_spent()):  # it rests for half a second between two games
            seen = now
            time.sleep(3)

    def kill_trainer(self) -> float:
        """Kill the trainer; seconds until the next one makes its first new step."""
        self.until_saved()
        time.sleep(3)  # it has proved itself: this is the first death in a row
        before = self._beat(GAME)["pid"]
        killed_s = time.monotonic()
        os.kill(before, signal.SIGKILL)
        return self._stepping_at_s(GAME, lambda beat: beat["pid"] != before) - killed_s

    def begin_anew(self) -> float:
        """End everything as a power cut does; seconds from the next start to the first step."""
        self.until_saved()
        before = self._beat(GAME)["pid"]
        self.crash()
        started_s = time.monotonic()
        self.launch(self.command("run"))
        return self._stepping_at_s(GAME, lambda beat: beat["pid"] != before) - started_s

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        """Have everything of it stand still, while another is measured."""
        everything = [self.daemons[-1].pid, *self.trainers()]
        for pid in everything:
            _send(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            for pid in reversed(everything):
                _send(pid, signal.SIGCONT)

    def scale(self, command: str, mode: str) -> float:
        """Change the mode; seconds from the last save of the old until all of the new step."""
        until(
            lambda: all(beat.get("checkpoint_step") for beat in self._beats()),
            "checkpoints",
            look_s=LOOK_S,
        )
        old = {beat["run"] for beat in self._beats() if beat["status"] == "running"}
        slots = {"light": 2, "medium": 4}[mode]
        asked_s = time.monotonic()
        subprocess.Popen(self.command(command), env=self.environment(), stdout=subprocess.DEVNULL)
        saved_s: dict[str, float] = {}
        new: dict[str, float] = {}

        def look() -> bool:
            for beat in self._beats():
                if beat["run"] in old and (beat["status"] == "stopped" or beat["mode"] == mode):
                    saved_s.setdefault(beat["run"], time.monotonic())
                if beat["mode"] == mode and (beat["stepping_at_s"] or 0) > asked_s:
                    new[beat["run"]] = beat["stepping_at_s"]
            return len(new) == slots

        until(look, f"everything steps in {mode}", look_s=LOOK_S)
        return max(new.values()) - max(saved_s.values())

    def _warm_parent(self) -> int:
        pid = self.daemons[-1].pid
        for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            if b"\0--warm\0" in Path(f"/proc/{child}/cmdline").read_bytes():
                return int(child)
        return 0

    def _warm_spent(self) -> tuple[int, int]:
        """The warm parent, and the processor time that it has spent so far."""
        pid = until(self._warm_parent, "a warm parent", look_s=LOOK_S)
        user, system = stat(PROC / str(pid))[11:13]
        return pid, int(user) + int(system)

    def _beats(self) -> Iterator[dict[str, Any]]:
        for folder in (self.home / "runs").glob("*"):
            if beat := self._beat(folder.name.partition("-")[2]):
                yield beat

    def _beat(self, game: str) -> dict[str, Any]:
        return self.heartbeat(game, "atari")

    def _stepping_at_s(self, game: str, condition: Callable[[dict[str, Any]], bool]) -> float:
        def look() -> object:
            beat = self._beat(game)
            return beat and condition(beat) and beat["stepping_at_s"]

        answer: float = until(look, "the first new step", look_s=LOOK_S)
        return answer


@contextlib.contextmanager
def _stock(n_envs: int) -> Iterator[Iterator[float]]:
    """Seconds from the start of stock to its first step, again and again."""

    def live(*words: str) -> str:
        command = [sys.executable, "-W", "ignore", "-c", STOCK, f"{folder}/model.zip", str(n_envs)]
        life = subprocess.run([*command, *words], check=False, capture_output=True, text=True)
        return life.stdout if life.returncode == 0 else sys.exit(f"stock: {life.stderr}")

    def lives() -> Iterator[float]:
        while True:
            started_s = time.monotonic()
            yield float(live("go on").split()[-1]) - started_s

    with tempfile.TemporaryDirectory(prefix="restart-") as folder:
        live("train")
        yield lives()


def _send(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def table(measured: dict[str, list[float]]) -> str:
    """The seconds as a table: median, spread, and how many times stock that is."""
    lines = [f"{'':10} {'median s':>9} {'from':>8} {'to':>8}  {'stock is':>10}"]
    for kind, tries_s in measured.items():
        median_s = statistics.median(tries_s)
        line = f"{kind:10} {median_s:9.3f} {min(tries_s):8.3f} {max(tries_s):8.3f}"
        stock_s = measured.get(f"stock {kind.partition(' ')[2]}")
        if stock_s:
            line += f"  {statistics.median(stock_s) / median_s:8.1f} x"
        if (most_s := LIMITS_S.get(kind)) is not None:
            line += f"  {'reached' if median_s <= most_s else 'MISSED'}: at most {most_s:g} s"
        lines.append(line)
    return "\n".join(lines)


if __name__ == "__main__":
    main()
