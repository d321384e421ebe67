"""What the parts of benchmarks/gpu.py share: trainers in folders of their own, and the card.

As a program, `gpu_lab.py MIB`, it holds all memory of the card but so much, while it lives.
"""

# ruff: noqa: PLC0415 - a box may lack some of what is imported, and each part says what it needs

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # it may not be installed

if TYPE_CHECKING:
    import torch

    from supervisor.core.readings import GpuReadings
    from supervisor.runners.warm import WarmParents
    from trainers.contract import Heartbeat, RunFolder, Spec

LOOK_S = 0.02
CORES = len(os.sched_getaffinity(0))
MIB = 2**20
LEARNER = ("numpy", "gymnasium", "stable_baselines3")
"""what our learner imports beside torch; the emulators are not needed for games of noise"""


class Place(NamedTuple):
    """Where and how a part is measured."""

    folder: str
    seconds: float
    """until its deadline, when it begins"""
    quick: bool
    card_mib: int
    """memory of the card; 0: there is none, and the processor is measured"""
    uuid: str
    """of the card, as torch writes it; empty: unknown"""

    @property
    def device(self) -> str:
        """What torch calls it."""
        return "cuda" if self.card_mib else "cpu"


class Told:
    """What a part has found so far, on the disk at once: one that hangs has told it all the same.

    Args:
        path: the file that holds it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._found: dict[str, Any] = {"figures": {}, "words": {}, "faults": [], "over": False}

    def figure(self, what: str, *values: float) -> None:
        """Add measurements; `what` names the unit."""
        self._found["figures"].setdefault(what, []).extend(round(value, 4) for value in values)
        self._write()

    def say(self, what: str, value: object) -> None:
        """Tell something that is no measurement."""
        self._found["words"][what] = value
        self._write()

    def must(self, holds: object, fault: str) -> None:
        """See that something holds that has to; otherwise the part has failed, and goes on."""
        if not holds:
            self._found["faults"].append(fault)
            self._write()

    def over(self) -> None:
        """Say that nothing more will come."""
        self._found["over"] = True
        self._write()

    def _write(self) -> None:
        new = self._path.with_suffix(".new")
        new.write_text(json.dumps(self._found))
        new.replace(self._path)


class Failed(Exception):
    """A part cannot go on; the message says why."""


class Trainers:
    """Trainers of `gpu_trainer.py`, with their folders; nothing of them outlives a `with`.

    Args:
        place: where and how.
        warm: whether they are forked from a warm parent, as the supervisor does it. Where all is to
            be quick they always are: to import torch is most of the work of a short life.
    """

    def __init__(self, place: Place, *, warm: bool = False) -> None:
        lacking = missing(LEARNER)
        self.learner = f"the bare network: ours needs {lacking}" if lacking else "ours"
        self._kind = "plain" if lacking else "noise"
        self._place = place
        self._folder = Path(tempfile.mkdtemp(prefix="trainers-", dir=place.folder))
        self._until_s = time.monotonic() + 0.9 * place.seconds
        self._warm = warm or (place.quick and not missing(("transitions",)))
        self._parents: WarmParents | None = None
        self._parent_pid = 0
        self._lives: list[Life] = []

    def __enter__(self) -> Trainers:
        if self._warm:
            from supervisor.runners.warm import WarmParents

            self._parents = WarmParents(self._folder, self._spawn)
            self._parents.want([self._spec("any", 1, {})], memory_max_mib=4096)
            self._parents.tend(calm=True)
            while not self._parents.is_ready(self._kind):
                if troubles := self._parents.troubles():
                    raise Failed("; ".join(troubles))
                self.rest("the warm parent is not ready")
        return self

    def __exit__(self, *_: object) -> None:
        for life in self._lives:
            life.send(signal.SIGKILL)
        if self._parents:
            self._parents.close()

    def folder(self, name: str, cycles: int, **options: Any) -> RunFolder:
        """A new run that is over after so many updates."""
        from trainers.contract import RunFolder

        folder = RunFolder(self._folder / name)
        folder.path.mkdir()
        spec = self._spec(name, cycles, options)
        self.write(folder, spec, spec.options)
        return folder

    def spec(self, folder: RunFolder) -> Spec:
        """What a run is asked for."""
        from trainers import contract

        return contract.decode(folder.spec, folder.spec.read_bytes(), contract.Spec)

    def write(self, folder: RunFolder, spec: Spec, options: dict[str, Any]) -> None:
        """Ask a run for that, with these options."""
        import msgspec

        asked = msgspec.structs.replace(spec, options=options)
        folder.spec.write_bytes(msgspec.json.encode(asked))

    def start(self, folder: RunFolder) -> Life:
        """Start a trainer."""
        with folder.output.open("ab") as output:
            if self._parents:
                forked = self._parents.fork(self._kind, folder.path.name, 0, output.fileno())
                if forked is None:
                    raise Failed(f"nothing was forked: {'; '.join(self._parents.troubles())}")
                pid, code = forked
            else:
                words = (self._kind, "--run", str(folder.path))
                process = self._spawn(words, folder.path, subprocess.DEVNULL, output.fileno())
                pid, code = process.pid, process.wait
        self._lives.append(Life(self, folder, pid, code))
        return self._lives[-1]

    def touched(self) -> list[str]:
        """Devices of the driver that the warm parent holds open: a CUDA of its own would."""
        handles = Path(f"/proc/{self._parent_pid}/fd").iterdir()
        names = {str(handle.readlink()) for handle in handles}
        return sorted(name for name in names if name.startswith("/dev/nvidia"))

    def rest(self, otherwise: str) -> None:
        """Wait a moment.

        Raises:
            Failed: there has been enough of that; `otherwise` says what has not come.
        """
        if time.monotonic() > self._until_s:
            raise Failed(f"{otherwise} after {0.9 * self._place.seconds:.0f} s of this part")
        time.sleep(LOOK_S)

    def _spec(self, name: str, cycles: int, options: dict[str, Any]) -> Spec:
        from trainers.contract import Spec, Target

        card = bool(self._place.card_mib)
        n_envs, batch_size, rollout = (32, 512, 4096) if card else (16, 64, 256)
        if self._place.quick:
            n_envs, batch_size, rollout = 4, 8, 16
            options = {"features": 16, **options}
        return Spec(
            run=name,
            trainer=self._kind,
            name="Noise",
            mode="light",
            load={"n_envs": n_envs, "batch_size": batch_size},
            threads=max(1, CORES // 4),
            target=Target(unit="steps", count=cycles * rollout),
            # The first is due at once, where there is something to keep.
            options={"device": self._place.device, "rollout_steps": rollout, **options},
        )

    def _spawn(
        self,
        words: Sequence[str],
        folder: Path,
        stdin: int,
        output: int,
        trainers_dir: Path | None = None,  # noqa: ARG002 - as whoever forks calls it; ours is here
    ) -> subprocess.Popen[bytes]:
        from trainers.contract import MARKER

        trainer = Path(__file__).with_name("gpu_trainer.py")
        process = subprocess.Popen(
            [sys.executable, "-P", str(trainer), *words],
            env=os.environ | {MARKER: str(folder), "PYTHONUNBUFFERED": "1"},
            stdin=stdin,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        self._parent_pid = process.pid if "--warm" in words else self._parent_pid
        return process


class Life:
    """One process of a run."""

    def __init__(
        self, trainers: Trainers, folder: RunFolder, pid: int, code: Callable[[], int | None]
    ) -> None:
        self.folder = folder
        self._trainers = trainers
        self._pid = pid
        self._code = code
        self._handle = os.pidfd_open(pid)

    def wait(self) -> int | None:
        """Its exit code, or a signal's number, negative, once it has ended."""
        while not self.ended():
            self._trainers.rest(f"the run {self.folder.path.name} has not ended")
        return self._code()

    def ended(self) -> bool:
        """Whether it has."""
        return bool(select.select([self._handle], [], [], 0)[0])

    def send(self, number: signal.Signals) -> None:
        """Send it a signal, if it lives."""
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._handle, number)

    def beat(self) -> Heartbeat | None:
        """What it last said of itself."""
        from trainers import contract

        with contextlib.suppress(OSError):
            content = self.folder.heartbeat.read_bytes()
            beat = contract.decode(self.folder.heartbeat, content, contract.Heartbeat)
            return beat if beat.pid == self._pid else None
        return None

    def error(self) -> str:
        """Why it has failed, or the last line that it printed."""
        beat = self.beat()
        if beat and beat.error:
            return beat.error
        lines = self.folder.output.read_text(errors="replace").strip().splitlines()
        return lines[-1] if lines else "it has said nothing"

    def marks(self) -> list[tuple[int, float]]:
        """Step, and the time in seconds, at the end of each update so far."""
        with contextlib.suppress(FileNotFoundError):
            lines = self.folder.metrics.read_text().splitlines()
            return [(line["step"], line["at"]) for line in map(json.loads, lines)]
        return []

    def until_marked(self, least: int) -> None:
        """Wait for so many updates.

        Raises:
            Failed: they do not come.
        """
        while len(self.marks()) < least:
            if self.ended():
                raise Failed(f"the run {self.folder.path.name} has ended: {self.error()}")
            self._trainers.rest(f"the run {self.folder.path.name} has not made {least} updates")


def rates(lives: Sequence[Life], window_s: float) -> list[float]:
    """Steps per second of each, over whole updates while all of them train."""
    for life in lives:
        life.until_marked(2)
    before = [len(life.marks()) for life in lives]
    time.sleep(window_s)
    for life, least in zip(lives, before, strict=True):
        life.until_marked(least + 1)
    rates = []
    for life, least in zip(lives, before, strict=True):
        here, there = life.marks()[least - 1], life.marks()[-1]
        rates.append((there[0] - here[0]) / (there[1] - here[1]))
    return rates


def end_of(folder: RunFolder) -> tuple[dict[str, torch.Tensor], dict[int, float]]:
    """The weights in the last checkpoint of a run, and the loss of each update by its step."""
    import torch

    from trainers.checkpoint import Checkpoints

    checkpoint = Checkpoints(folder.checkpoints).newest().checkpoint
    if checkpoint is None:
        raise Failed(f"the run {folder.path.name} has left no checkpoint")
    state = torch.load(checkpoint.path / "state.pt", map_location="cpu", weights_only=True)
    # What was done again counts in the way in which it was done last.
    lines = map(json.loads, folder.metrics.read_text().splitlines())
    return state["policy"], {line["step"]: line["train/loss"] for line in lines}


def difference(
    one: tuple[dict[str, torch.Tensor], dict[int, float]],
    other: tuple[dict[str, torch.Tensor], dict[int, float]],
) -> tuple[float, float]:
    """The largest difference of any weight, and of the loss of any update."""
    weights = max(float((part - other[0][name]).abs().max()) for name, part in one[0].items())
    if one[1].keys() != other[1].keys():
        raise Failed(f"the updates are those of steps {[*one[1]]} and of {[*other[1]]}")
    return weights, max(abs(loss - other[1][step]) for step, loss in one[1].items())


class Card:
    """The card that torch uses, as our helper reads it.

    Args:
        place: names the card.
    """

    def __init__(self, place: Place) -> None:
        from supervisor.host.gpu import Gpus

        self._gpus = Gpus()
        self._uuid = place.uuid

    def __enter__(self) -> Card:
        return self

    def __exit__(self, *_: object) -> None:
        self._gpus.close()

    def read(self) -> GpuReadings:
        """What is read of it now.

        Raises:
            Failed: nothing.
        """
        gpus = self.read_all()
        # Where it has no such name, as a part of a card has none, the first is the one.
        return next((gpu for gpu in gpus if self._uuid in (gpu.uuid or "")), gpus[0])

    def read_all(self) -> tuple[GpuReadings, ...]:
        """What is read of all cards of this box.

        Raises:
            Failed: nothing.
        """
        until_s = time.monotonic() + 15
        while True:
            answer = self._gpus.read_now()
            if answer.gpus:
                return answer.gpus
            if time.monotonic() > until_s:
                raise Failed(f"no card is read: {answer.trouble or 'NVML knows of none'}")
            time.sleep(LOOK_S)

    def limit(self, watts: float) -> str | None:
        """Set the power limit of all cards; why that is refused."""
        return self._gpus.limit_power(watts)


def nvidia_smi(uuid: str | None) -> dict[str, str]:
    """What nvidia-smi tells of a card; empty where there is no such program."""
    fields = "name,uuid,memory.used,memory.total,utilization.gpu,temperature.gpu,power.draw"
    fields += ",power.limit"
    for row in _smi(f"--query-gpu={fields}"):
        told = dict(zip(fields.split(","), row, strict=False))
        if uuid in (None, told.get("uuid")):
            known = {name: value for name, value in told.items() if value[:1] not in ("[", "N")}
            apps = _smi("--query-compute-apps=gpu_uuid,pid")
            pids = [pid for card, pid in apps if card == told.get("uuid")]
            return known | {"name": told["name"], "pids": " ".join(pids)}
    return {}


def _smi(query: str) -> list[list[str]]:
    command = ["nvidia-smi", query, "--format=csv,noheader,nounits"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return []
    lines = answer.stdout.strip().splitlines() if answer.returncode == 0 else []
    return [[value.strip() for value in line.split(",")] for line in lines]


@contextlib.contextmanager
def all_but(room_mib: int) -> Iterator[None]:
    """Have another process hold all memory of the card but so much."""
    command = [sys.executable, __file__, str(room_mib)]
    holder = subprocess.Popen(command, stdout=subprocess.PIPE)
    assert holder.stdout is not None  # noqa: S101 - given by PIPE
    try:
        if holder.stdout.readline() != b"held\n":
            raise Failed("the card could not be filled")
        yield
    finally:
        holder.kill()
        holder.wait()


def _hold(room_mib: int) -> None:
    """Be the process that holds it."""
    import torch

    held, piece_mib = [], 1024
    while piece_mib >= 16:  # smaller ones are cut from larger, which nobody asked for
        free_mib = torch.cuda.mem_get_info()[0] // MIB
        if free_mib - piece_mib < room_mib:
            piece_mib //= 2
            continue
        try:
            held.append(torch.empty(piece_mib * MIB, dtype=torch.uint8, device="cuda"))
        except RuntimeError:  # it is there, but in smaller pieces
            piece_mib //= 2
    print("held", flush=True)
    signal.pause()


def in_container() -> bool:
    """Whether our pids may be others outside."""
    return str(Path("/proc/self/ns/pid").readlink()) != "pid:[4026531836]"


def missing(modules: Sequence[str]) -> str:
    """Which of these are not installed."""
    return ", ".join(name for name in modules if importlib.util.find_spec(name) is None)


if __name__ == "__main__":
    _hold(int(sys.argv[1]))
