"""The onlooker of the comparison sees what is there, and the comparison leaves nobody."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from testkit.benchmarks import BENCHMARKS, benchmark
from testkit.patience import PATIENCE_S, until

# A trainer as far as its command line tells; its folder is the argument.
IDLE = "import time; time.sleep(1e6)"


@pytest.fixture
def looking() -> ModuleType:
    """What looks on."""
    return benchmark("chaos_onlooker")


@pytest.fixture
def beside() -> ModuleType:
    """The comparison."""
    return benchmark("chaos_beside")


@pytest.fixture
def boxes() -> ModuleType:
    """The machines of contestants."""
    return benchmark("chaos_boxes")


@pytest.fixture
def onlooker(tmp_path: Path, looking: ModuleType) -> Any:
    """One that looks at a run of ours, `one`, from second 0 on."""
    (tmp_path / "one/checkpoints").mkdir(parents=True)
    return looking.Onlooker(tmp_path, {"one": "one"}, looking.OURS, 0.0)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Any]:
    """Starts processes that look like trainers, by the name of their program."""
    started: list[subprocess.Popen[bytes]] = []

    def one(program: str = "trainers.__main__") -> subprocess.Popen[bytes]:
        script = tmp_path / program
        script.write_text(IDLE)
        started.append(subprocess.Popen([sys.executable, script, tmp_path / "one"]))
        return started[-1]

    yield one
    for process in started:
        process.kill()
        process.wait()


def tell(onlooker: Any, step: int) -> None:
    (onlooker.runs["one"].folder / "heartbeat.json").write_text(json.dumps({"step": step}))


def keep(onlooker: Any, step: int) -> Path:
    """Have a checkpoint of ours; its file."""
    folder = onlooker.runs["one"].folder / f"checkpoints/{step}"
    folder.mkdir()
    state = folder / "state.pt"
    state.write_bytes(b"weights" * 100)
    told = {"sha256": hashlib.sha256(state.read_bytes()).hexdigest()}
    (folder / "manifest.json").write_text(json.dumps({"step": step, "files": {"state.pt": told}}))
    return state


def test_steps_that_were_not_kept_are_lost(onlooker: Any) -> None:
    """What was trained after the newest checkpoint is gone with a death, and is trained again."""
    run = onlooker.runs["one"]
    tell(onlooker, 100)
    onlooker.look(1.0)
    keep(onlooker, 100)
    onlooker.look(2.0)
    tell(onlooker, 150)
    onlooker.look(3.0)
    tell(onlooker, 120)  # it died, and went on from 100
    onlooker.look(4.0)
    assert (run.trained, run.durable) == (170, 100)


def test_a_checkpoint_that_is_only_half_there_keeps_nothing(onlooker: Any) -> None:
    """It is the one before that counts."""
    run = onlooker.runs["one"]
    keep(onlooker, 100)
    newest = keep(onlooker, 200)
    onlooker.look(1.0)
    assert run.durable == 200
    os.truncate(newest, 10)
    onlooker.look(2.0)
    assert run.durable == 100


def test_the_longest_standstill_is_told(onlooker: Any) -> None:
    """A time without steps counts whether or not it has ended."""
    run = onlooker.runs["one"]
    for step, now_s in ((10, 1.0), (20, 2.0), (20, 9.0), (30, 10.0), (30, 12.0)):
        tell(onlooker, step)
        onlooker.look(now_s)
    assert run.standstill_s == 8.0
    onlooker.look(30.0)
    assert run.standstill_s == 20.0


def test_two_trainers_of_one_run_are_seen(onlooker: Any, start: Any) -> None:
    """One that goes while another comes is none, nor is whoever restarts."""
    run = onlooker.runs["one"]

    def see(living: int, now_s: float) -> None:
        until(lambda: len(onlooker.living()) == living)
        onlooker.look(now_s)

    start("restarter")
    start()
    see(2, 1.0)
    see(2, 2.0)
    assert len(run.trainers) == 1
    assert run.double_s == 0.0
    start()
    see(3, 3.0)
    see(3, 5.0)
    assert run.double_s == 2.0


def test_whoever_is_left_over_is_seen(onlooker: Any, start: Any, tmp_path: Path) -> None:
    """By a command line or an environment that tells of the place; strangers are not."""
    known = {**os.environ, "CHAOS_PLACE": str(tmp_path)}
    of_it = subprocess.Popen(["sleep", "infinity"], env=known)
    stranger = subprocess.Popen(["sleep", "infinity"])
    trainer = start()
    try:
        until(lambda: {one.pid for one in onlooker.living()} == {of_it.pid, trainer.pid})
    finally:
        for process in (of_it, stranger):
            process.kill()
            process.wait()


def test_each_kind_of_checkpoint_is_read_by_its_own_library(
    looking: ModuleType, tmp_path: Path
) -> None:
    """Whole it tells its step, and half it is none."""
    torch = pytest.importorskip("torch")
    library = pytest.importorskip("stable_baselines3")
    model = library.PPO("MlpPolicy", "CartPole-v1", device="cpu")
    model.num_timesteps = 7
    for kind, name in ((looking.CARTPOLE, "one.zip"), (looking.TORCH_LOOP, "two.pt")):
        run = looking.Run(tmp_path, kind, 0.0, tmp_path)
        path = tmp_path / "checkpoints" / name
        path.parent.mkdir(exist_ok=True)
        if kind is looking.CARTPOLE:
            model.save(path)
        else:
            torch.save({"step": 7}, path)
        run.look([], 1.0)
        assert run.durable == 7
        os.truncate(path, path.stat().st_size // 2)
        run.look([], 2.0)
        assert run.durable == 0


def test_the_same_seed_brings_the_same_faults(beside: ModuleType) -> None:
    """To whoever it is; another one brings as many of each at other times, and the end is calm."""
    faults = beside.schedule(1, 6000.0, 600.0)
    assert faults == beside.schedule(1, 6000.0, 600.0)
    others = beside.schedule(2, 6000.0, 600.0)
    assert faults != others
    for dealt in (faults, others):
        assert Counter(fault.name for fault in dealt) == beside.FAULTS
        assert [fault.at_s for fault in dealt] == sorted(fault.at_s for fault in dealt)
        assert dealt[-1].at_s <= 6000.0 - beside.CALM_S


def test_a_box_brings_its_restarter_back_and_leaves_nobody(
    boxes: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A killed loop of the shell is started again beside its trainer, which is seen."""
    # A trainer that begins at once; the loop is the one that people are told to write.
    (tmp_path / "instead").mkdir()
    (tmp_path / "instead/cartpole.py").write_text(IDLE)
    (tmp_path / "instead/loop.sh").write_text((BENCHMARKS / "instead/loop.sh").read_text())
    monkeypatch.setattr(boxes, "INSTEAD", tmp_path / "instead")
    monkeypatch.setattr(boxes, "BACK_S", 0.0)
    monkeypatch.setattr(boxes, "GRACE_S", 0.0)
    place = tmp_path / "place"
    place.mkdir()
    with boxes.Box("shell", place, tmp_path, ["one"], 1, rooted=False) as box:
        (run,) = box.onlooker.runs.values()
        looks = box.watch(PATIENCE_S)
        while len(run.trainers) != 1:
            next(looks)
        assert box.strike(boxes.Fault(0.0, "restarter killed", 0.0))
        while len(run.trainers) != 2:  # that of the killed loop, which nobody has ended
            next(looks)
        assert not box.strike(boxes.Fault(0.0, "full disk", 1.0)), "there is no disk of its own"
        assert box.stop() > 0
    assert not box.living()


def test_ours_goes_on_after_a_kill_and_keeps_what_it_trained(
    boxes: ModuleType, tmp_path: Path
) -> None:
    """A real supervisor and its trainer, seen by their files alone."""
    pytest.importorskip("stable_baselines3")
    place = tmp_path / "place"
    place.mkdir()
    with boxes.Box("ours", place, tmp_path, ["one"], 1, rooted=False) as box:
        (run,) = box.onlooker.runs.values()
        looks = box.watch(PATIENCE_S)
        while not (run.durable and run.trainers):
            next(looks)
        (killed,) = run.trainers
        assert box.strike(boxes.Fault(0.0, "trainer killed", 0.0))
        trained = run.trained
        while run.trainers == (killed,) or run.trained == trained:
            next(looks)
        assert box.stop() == 0
        assert 0 < run.durable <= run.trained
        assert run.double_s == 0.0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_comparison_leaves_nobody_whatever_ends_it(
    tmp_path: Path, number: signal.Signals
) -> None:
    """In the midst of it; and where it can, it removes its folders."""
    if number == signal.SIGKILL and os.geteuid() != 0:
        pytest.skip("NOT TESTED: only root has namespaces whose end ends everything")
    pytest.importorskip("stable_baselines3")
    command = [sys.executable, BENCHMARKS / "chaos.py", "--beside", "--only", "shell"]
    known = {**os.environ, "OF_THE_TEST": str(tmp_path), "TMPDIR": str(tmp_path)}
    with (tmp_path / "said").open("wb") as said:
        comparison = subprocess.Popen(command, env=known, stdout=said, stderr=said)

    def of_it() -> list[tuple[bytes, ...]]:
        """The command lines of its processes."""
        found = []
        for place in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if str(tmp_path).encode() in (place / "environ").read_bytes():
                    found.append(tuple((place / "cmdline").read_bytes().split(b"\0")))
        return found

    until(
        lambda: any(b"cartpole.py" in word for line in of_it() for word in line),
        "it trains",
        (tmp_path / "said").read_text,
    )
    comparison.send_signal(number)
    assert comparison.wait() != 0
    until(lambda: not of_it(), "nobody of it lives")
    if number == signal.SIGTERM:
        assert not list(tmp_path.glob("chaos-*"))
