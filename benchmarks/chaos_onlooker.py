"""The onlooker of `benchmarks/chaos.py --beside`: what trainers have made, kept and left.

It believes no supervisor and shares no code with any: it looks at processes in /proc, at the files
in which trainers tell their steps, at checkpoints, each read whole by the library that made it, and
is told the time.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")
UNREADABLE = (OSError, ValueError, KeyError, IndexError)
"""what a file that is not there, or only half, raises"""


@dataclass(frozen=True)
class Kind:
    """Where trainers of a kind are seen."""

    program: str
    """how one of the first four words of their command line ends; their folder is another word"""
    steps: str
    """in their folder, the file that tells how far they are"""
    step: Callable[[str], int]
    """how far, by the text of that file"""
    checkpoints: str
    """their checkpoints, as a pattern in their folder"""
    held: Callable[[Path], int]
    """the step that a checkpoint holds; raises anything where it is not whole"""


@dataclass(frozen=True)
class Process:
    """A living process."""

    pid: int
    parent: int
    words: tuple[str, ...]
    """its command line"""


class Run:
    """What is known of one run.

    Args:
        folder: where its trainers write.
        kind: what they are.
        now_s: the time, in seconds of any clock.
        called: what they call their folder.
    """

    def __init__(self, folder: Path, kind: Kind, now_s: float, called: Path) -> None:
        self.folder = folder
        self.kind = kind
        self.called = called
        self.trained = 0
        """steps that were made, those that were made again too"""
        self.durable = 0
        """the furthest step of a checkpoint that is there and whole"""
        self.standstill_s = 0.0
        """the longest time without a new step"""
        self.double_s = 0.0
        """how long two trainers of it have lived at once"""
        self.trainers: tuple[int, ...] = ()
        """the processes that train it now"""
        self._step = 0
        self._looked_s = self._moved_s = now_s
        self._read: dict[Path, tuple[object, int | None]] = {}
        """checkpoint: what it looked like, and its step, if it was whole"""

    def look(self, processes: list[Process], now_s: float) -> None:
        """See how far it is."""
        before = set(self.trainers)
        self.trainers = tuple(self._mains(processes))
        if len(before.intersection(self.trainers)) > 1:  # not only one that goes and one that comes
            self.double_s += now_s - self._looked_s
        self._looked_s = now_s
        self.standstill_s = max(self.standstill_s, now_s - self._moved_s)
        # Steps first: what a trainer that goes back goes on from was kept before it began.
        self._see_step(now_s)
        self._see_checkpoints()

    def newest(self) -> Path | None:
        """Its newest checkpoint, whole or not."""
        return max(self._found(), key=lambda path: path.stat().st_mtime_ns, default=None)

    def _mains(self, processes: list[Process]) -> list[int]:
        trainers = [
            one
            for one in processes
            if str(self.called) in one.words
            and any(word.endswith(self.kind.program) for word in one.words[:4])
        ]
        pids = {one.pid for one in trainers}
        return [one.pid for one in trainers if one.parent not in pids]

    def _see_step(self, now_s: float) -> None:
        with contextlib.suppress(*UNREADABLE):
            step = self.kind.step((self.folder / self.kind.steps).read_text(encoding="utf-8"))
            made = step - (self._step if step >= self._step else min(step, self.durable))
            if made:
                self.trained += made
                self._moved_s = now_s
            self._step = step

    def _see_checkpoints(self) -> None:
        seen: dict[Path, tuple[object, int | None]] = {}
        for path in self._found():
            with contextlib.suppress(OSError):  # it is just being removed
                looks = _looks(path)
                known = self._read.get(path)
                seen[path] = known if known and known[0] == looks else (looks, self._held(path))
        self._read = seen
        self.durable = max((step for _, step in seen.values() if step is not None), default=0)

    def _found(self) -> list[Path]:
        return list(self.folder.glob(self.kind.checkpoints))

    def _held(self, path: Path) -> int | None:
        try:
            return self.kind.held(path)
        except Exception:  # noqa: BLE001 - whatever a library says of a file that is not whole
            return None


class Onlooker:
    """Looks at everything of one contestant.

    Args:
        place: its folder; a process whose environment or command line tells of it is its own.
        runs: the folder of each of its runs in there.
        kind: what trains there.
        now_s: the time, in seconds of any clock.
        called: what its processes call its folder, if not as it is called here.
        proc: where the machine tells of its processes.
    """

    def __init__(
        self,
        place: Path,
        runs: Mapping[str, str],
        kind: Kind,
        now_s: float,
        called: Path | None = None,
        proc: Path = PROC,
    ) -> None:
        called = called or place
        self.runs = {
            name: Run(place / folder, kind, now_s, called / folder) for name, folder in runs.items()
        }
        self._called = str(called).encode()
        self._proc = proc

    def look(self, now_s: float) -> None:
        """See how far all runs are."""
        processes = self.living()
        for run in self.runs.values():
            run.look(processes, now_s)

    def living(self) -> list[Process]:
        """The processes that are there."""
        found = []
        for place in self._proc.glob("[0-9]*"):
            with contextlib.suppress(OSError):
                line = (place / "cmdline").read_bytes()
                told = line + b"\0" + (place / "environ").read_bytes()
                state, parent = (place / "stat").read_text().rpartition(")")[2].split()[:2]
                if self._called in told and state not in "ZX":
                    words = tuple(line.decode(errors="replace").split("\0"))
                    found.append(Process(int(place.name), int(parent), words))
        return found


def _looks(path: Path) -> object:
    files = [path, *path.iterdir()] if path.is_dir() else [path]
    return {(one.name, one.stat().st_mtime_ns, one.stat().st_size) for one in files}


def _whole(text: str) -> list[str]:
    return text[: text.rindex("\n")].splitlines()


def _in_table(text: str) -> int:
    lines = _whole(text)
    return int(lines[-1].split(",")[lines[0].split(",").index("time/total_timesteps")])


def _in_zip(path: Path) -> int:
    from stable_baselines3.common.save_util import load_from_zip_file  # noqa: PLC0415 - heavy

    data, parameters, _ = load_from_zip_file(path)
    if not data or not parameters:
        raise ValueError(f"{path} holds no model")
    return int(data["num_timesteps"])


def _in_torch(path: Path) -> int:
    import torch  # noqa: PLC0415 - heavy

    return int(torch.load(path)["step"])


def _in_manifest(path: Path) -> int:
    manifest = json.loads((path / "manifest.json").read_bytes())
    for name, told in manifest["files"].items():
        if hashlib.sha256((path / name).read_bytes()).hexdigest() != told["sha256"]:
            raise ValueError(f"{path / name} is not what its manifest says")
    return int(manifest["step"])


CARTPOLE = Kind("cartpole.py", "progress.csv", _in_table, "checkpoints/*.zip", _in_zip)
TORCH_LOOP = Kind(
    "torch_loop.py",
    "steps.log",
    lambda text: int(_whole(text)[-1].split()[0]),
    "checkpoints/*.pt",
    _in_torch,
)
OURS = Kind(
    "trainers.__main__",
    "heartbeat.json",
    lambda text: int(json.loads(text)["step"]),
    "checkpoints/[0-9]*",
    _in_manifest,
)
