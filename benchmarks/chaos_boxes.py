"""The contestants of `benchmarks/chaos.py --beside`, and the machines that they live on."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import chaos_machine
import chaos_onlooker
from chaos_onlooker import Kind, Onlooker, Process

if TYPE_CHECKING:
    from testkit.boot_lab import Lab as BootLab

INSTEAD = Path(__file__).parent / "instead"
BACK_S = 5.0
"""after which whoever restarts is started again"""
CALLED = Path("/srv/chaos")
"""the folder of what is trained, on a machine that really boots"""
GRACE_S = 30.0
"""for everything to end that was asked to"""
LOOK_S = 0.25
DISK_MIB = 128


@dataclass(frozen=True)
class Fault:
    """Something that happens to a contestant."""

    at_s: float
    """since its turn has begun"""
    name: str
    lasts_s: float
    """how long the machine is off, or its disk full"""


@dataclass(frozen=True)
class Contestant:
    """What a person would set up."""

    kind: Kind
    command: str
    """what restarts; words in braces are known to `Box`"""
    peer: bool = False
    """it comes from its registry"""
    for_all: bool = False
    """one of it restarts all runs; else each run has one"""
    by_ctrl_c: bool = False
    """it is ended by Ctrl-C, else by SIGTERM"""


CONTESTANTS = {
    "ours": Contestant(
        chaos_onlooker.OURS,
        "{python} -P -m supervisor --home {place}/home run --plain",
        for_all=True,
    ),
    "shell": Contestant(chaos_onlooker.CARTPOLE, "sh {here}/loop.sh", by_ctrl_c=True),
    "supervisord": Contestant(
        chaos_onlooker.CARTPOLE,
        "{tools}/venv/bin/supervisord -c {here}/supervisord.conf",
        peer=True,
    ),
    "circus": Contestant(
        chaos_onlooker.CARTPOLE, "{tools}/venv/bin/circusd {here}/circus.ini", peer=True
    ),
    "systemd": Contestant(chaos_onlooker.CARTPOLE, "", for_all=True),
    "torchrun": Contestant(
        chaos_onlooker.TORCH_LOOP,
        "{python} -m torch.distributed.run --standalone --nproc-per-node 1 --max-restarts 100"
        " {here}/torch_loop.py {run}",
    ),
}


class Box:
    """A machine of a contestant, which is switched off at the end of a `with`.

    Args:
        name: whose.
        place: an empty folder.
        tools: where peers are installed.
        runs: the names of what is to be trained.
        save_steps: after how many steps stock saves.
        rooted: it has namespaces of its own.
        called: what its processes call the folder, if not as it is called here.
    """

    def __init__(
        self,
        name: str,
        place: Path,
        tools: Path,
        runs: list[str],
        save_steps: int,
        *,
        rooted: bool,
        called: Path | None = None,
    ) -> None:
        self.contestant = CONTESTANTS[name]
        self.place = place
        self._tools = tools
        self._save_steps = save_steps
        self._rooted = rooted
        ours = self.contestant.kind is chaos_onlooker.OURS
        folders = {run: f"home/runs/sb3-{run}" if ours else run for run in runs}
        kind = self.contestant.kind
        self.onlooker = Onlooker(place, folders, kind, time.monotonic(), called)
        self._restarters: dict[str, subprocess.Popen[bytes]] = {}
        self._died_s: dict[str, float] = {}
        self._boot_at_s: float | None = None
        self._room_at_s: float | None = None
        self._boot_id = ""
        self._uptime_s = 0
        if ours:
            _settle(place / "home", runs)
        else:
            for folder in folders.values():
                (place / folder).mkdir()

    def __enter__(self) -> Box:
        try:
            self._boot()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._sweep()

    def watch(self, for_s: float) -> Iterator[tuple[float, float]]:
        """Look on for so long; how long it has been, and how long since the look before."""
        began_s = before_s = time.monotonic()
        while (now_s := time.monotonic()) < began_s + for_s:
            self._mind(now_s)
            self.onlooker.look(now_s)
            yield now_s - began_s, now_s - before_s
            before_s = now_s
            time.sleep(LOOK_S)

    def strike(self, fault: Fault) -> bool:
        """Have it happen; whether it could."""
        (run,) = self.onlooker.runs.values()
        if self._boot_at_s is not None:
            return False
        if fault.name == "power cut":
            self.fall(fault.lasts_s)
            if newest := run.newest():
                _halve(newest)
        elif fault.name == "full disk":
            if not self._rooted:
                return False
            self._fill()
            self._room_at_s = time.monotonic() + fault.lasts_s
        else:
            frozen = fault.name == "trainer frozen"
            pids = self.restarters() if fault.name == "restarter killed" else run.trainers
            _send(pids, signal.SIGSTOP if frozen else signal.SIGKILL)
            return bool(pids)
        return True

    def fall(self, off_s: float) -> None:
        """Everything is gone at once; it boots again after so long."""
        self._free()
        self._sweep()
        self._boot_at_s = time.monotonic() + off_s

    def stop(self) -> int:
        """Have it stop as a person does; how many processes are there afterwards."""
        self._free()
        for restarter in self._restarters.values():
            if self.contestant.by_ctrl_c:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(restarter.pid, signal.SIGINT)
            else:
                restarter.terminate()
        deadline_s = time.monotonic() + GRACE_S
        while self.living() and time.monotonic() < deadline_s:
            time.sleep(LOOK_S)
        self.onlooker.look(time.monotonic())
        return len(self.living())

    def ask(self, command: str) -> None:
        """Type a command of ours, and do not wait for its end."""
        words = [sys.executable, "-P", "-m", "supervisor", "--home", f"{self.place}/home", command]
        self._start(words, self._environment())

    def restarters(self) -> list[int]:
        """The processes that restart, which live."""
        return [one.pid for one in self._restarters.values() if one.poll() is None]

    def living(self) -> list[Process]:
        """Everything that lives here."""
        for one in self._restarters.values():
            one.poll()
        return self.onlooker.living()

    def told(self) -> str:
        """The end of what was printed."""
        return (self.place / "screen.log").read_text(errors="replace")[-2000:]

    def _boot(self) -> None:
        self._boot_at_s = None
        self._boot_id = uuid.uuid4().hex
        self._uptime_s = int(time.clock_gettime(time.CLOCK_BOOTTIME))
        for name in ["all"] if self.contestant.for_all else self.onlooker.runs:
            self._begin(name)

    def _begin(self, name: str) -> None:
        run = self.place / name
        known = {"python": sys.executable, "here": INSTEAD, "tools": self._tools}
        known |= {"place": self.place, "run": run}
        words = shlex.split(self.contestant.command.format_map(known))
        self._restarters[name] = self._start(words, self._environment() | {"RUN": str(run)})

    def _environment(self) -> dict[str, str]:
        dropped = ("PYTHONDONTWRITEBYTECODE", "NOTIFY_SOCKET", "SUPERVISOR_HOME")
        return {key: value for key, value in os.environ.items() if key not in dropped} | {
            "CHAOS_PLACE": str(self.place),  # by which they are known
            "BOOT_ID": self._boot_id,
            "CUDA_VISIBLE_DEVICES": "",
            "PYTHON": sys.executable,
            "HERE": str(INSTEAD),
            "SAVE_STEPS": str(self._save_steps),
        }

    def _start(self, words: list[str], environment: dict[str, str]) -> subprocess.Popen[bytes]:
        with (self.place / "screen.log").open("ab") as screen:
            return subprocess.Popen(
                [*(chaos_machine.anew(self._uptime_s) if self._rooted else []), *words],
                env=environment,
                cwd=self.place,
                stdin=subprocess.DEVNULL,
                stdout=screen,
                stderr=screen,
                start_new_session=True,
            )

    def _mind(self, now_s: float) -> None:
        """Be what starts whoever restarts."""
        if self._room_at_s is not None and now_s >= self._room_at_s:
            self._free()
        if self._boot_at_s is not None:
            if now_s >= self._boot_at_s:
                self._boot()
            return
        for name, restarter in list(self._restarters.items()):
            if restarter.poll() is None:
                self._died_s.pop(name, None)
            elif now_s - self._died_s.setdefault(name, now_s) >= BACK_S:
                self._begin(name)

    def _sweep(self) -> None:
        """End everything at once."""
        while living := self.living():
            _send([one.pid for one in living], signal.SIGKILL)
            time.sleep(0.02)

    def _fill(self) -> None:
        room = os.statvfs(self.place)
        with (self.place / "filler").open("wb") as filler, contextlib.suppress(OSError):
            os.posix_fallocate(filler.fileno(), 0, room.f_bavail * room.f_frsize)

    def _free(self) -> None:
        self._room_at_s = None
        (self.place / "filler").unlink(missing_ok=True)


class Booted(Box):
    """A machine that really boots; its systemd restarts.

    Args:
        lab: where it stands.
        runs: the names of what is to be trained.
        save_steps: after how many steps stock saves.
    """

    def __init__(self, lab: BootLab, runs: list[str], save_steps: int) -> None:
        from testkit.boot_lab import PLACE  # noqa: PLC0415 - it needs the extra `dev`

        self._lab = lab
        self._machine = lab.machine()
        place = self._machine.disk / str(CALLED)[1:]
        place.mkdir()
        self._disk = f"/{place.relative_to(lab.root)}"
        options = ["-t", "tmpfs", "-o", f"size={DISK_MIB}m", "chaos", self._disk]
        subprocess.run(lab.inside("mount", *options), check=True)
        super().__init__("systemd", place, place, runs, save_steps, rooted=True, called=CALLED)
        shutil.copytree(INSTEAD, self._machine.disk / "srv/instead")
        known = f"PYTHON={PLACE}/.venv/bin/python\nHERE=/srv/instead\n"
        self._machine.write("/etc/train.env", f"{known}SAVE_STEPS={save_steps}\n")
        unit = "/etc/systemd/system/train@.service"
        self._machine.write(unit, (INSTEAD / "train@.service").read_text(encoding="utf-8"))
        wanted = self._machine.disk / "etc/systemd/system/multi-user.target.wants"
        wanted.mkdir(exist_ok=True)
        for run in runs:
            (wanted / f"train@{run}.service").symlink_to(unit)

    def stop(self) -> int:
        """Have it stop as a person does; how many processes are there afterwards."""
        self._free()
        self._machine.systemctl("stop", "train@*", check=False)
        self.onlooker.look(time.monotonic())
        return len(self.living())

    def told(self) -> str:
        """The end of what was printed."""
        return self._machine.story()

    def __exit__(self, *_: object) -> None:
        self._sweep()
        subprocess.run(self._lab.inside("umount", self._disk), check=True)
        self._machine.remove()

    def _boot(self) -> None:
        self._boot_at_s = None
        self._machine.power_on()

    def _sweep(self) -> None:
        if self._machine.is_on:
            self._machine.power_cut()


def _settle(home: Path, runs: list[str]) -> None:
    (home / "modes").mkdir(parents=True)
    for mode in ("light", "heavy")[: len(runs)]:  # nobody needs a second slot for one run
        shutil.copy(INSTEAD / f"modes/{mode}.toml", home / "modes")
    settings = (INSTEAD / "supervisor.toml").read_text(encoding="utf-8")
    settings = settings.replace('["one"]', json.dumps(runs))
    (home / "supervisor.toml").write_text(settings, encoding="utf-8")


def _halve(checkpoint: Path) -> None:
    """Leave half of it, or of its largest file."""
    files = list(checkpoint.iterdir()) if checkpoint.is_dir() else [checkpoint]
    largest = max(files, key=lambda path: path.stat().st_size)
    os.truncate(largest, largest.stat().st_size // 2)


def _send(pids: Iterable[int], number: signal.Signals) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
