"""Real boots: systemd in a container over this machine's own root, with a power button.

A lab is a mount and pid namespace whose first process ends when this one does,
however it ends; the kernel then ends every machine in it and forgets every mount.
A machine is a layer over the root of this machine, which is only read, and
`systemd-nspawn --boot` on top of it. Its disk outlives its boots; its processes
do not. The checkout is copied to where a person would install it: a machine sees
nothing of a folder for temporary files, in which the tests may well run.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from testkit.machine import CAMPAIGN, logged, said
from testkit.patience import PATIENCE_S, until
from testkit.processes import PROC, processes, stat

CHECKOUT = Path(__file__).resolve().parents[1]
PACKAGES = ("modes", "state", "supervisor", "systemd", "trainers")
MODULE = "training_supervisor.py"
"""what the checkout consists of, as far as a machine runs it"""
HALF_WRITTEN = shutil.ignore_patterns("*.pyc.*")
"""what Python may rename while it is copied: other tests compile packages that they import"""
PYTHON = Path(sys.base_prefix)
"""below which installation of Python everything runs, here and in the machines"""
LIBRARIES = tuple(Path(path) for path in sys.path if Path(path).name.endswith("-packages"))
"""where the tests have their libraries from; the machines have the same ones"""
PLACE = Path("/opt/training-supervisor")
"""what the machines run from: the packages, and a venv"""
COMMAND = f"{PLACE}/.venv/bin/supervisor"
SERVICE = "training-supervisor.service"
HOME = "/var/lib/training-supervisor"
SETTINGS_FILE = "/etc/training-supervisor/supervisor.toml"

SETTINGS = f"""\
{CAMPAIGN}
[checkpoints]
interval_s = 0.3
"""

OF_NO_INTEREST = re.compile(r"^var/(log|cache|tmp|lib/(systemd|dbus))/|/__pycache__/")
"""what a machine changes on its disk by merely being up"""
JOURNAL = "[Journal]\nSystemMaxUse=16M\n"
"""the disks of the machines are this machine's memory"""
CAP_SYS_RESOURCE = 24
REBOOT_ASKED = 133
"""what systemd-nspawn exits with when the machine asked to be started again"""

# Runs beside the tests and outlives them, even where they are killed: it tidies up after them.
_CARETAKER = """
unshare -m -p -f --kill-child=KILL --mount-proc --propagation private sh -c "$KEEPER" keeper "$1"
for _ in 1 2 3 4 5 6 7 8 9; do
    find "$@" -depth -type d -exec rmdir {} + 2>/dev/null
    ls -d "$@" 2>/dev/null | grep -q . || break
    sleep 0.1
done
"""

# The first process of the lab. It holds the namespaces until its input ends, and so does it.
_KEEPER = """
set -e
mount -t tmpfs -o mode=0755 boot-lab "$1"
mkdir "$1/upper" "$1/work" "$1/root"
mount -t overlay boot-lab -o "lowerdir=/,upperdir=$1/upper,workdir=$1/work" "$1/root"
umount "$1/root"
mount -t tmpfs -o mode=0755 boot-lab /run  # where systemd-nspawn keeps notes of its own
trap '' CHLD  # who loses his parent comes to us: let the kernel reap him
echo ready
exec cat
"""

# A machine gets cgroups of its own, by which its power is cut, and an uptime that begins at 0.
_POWER_ON = """
set -e
for group in $GROUPS_OF_ITS_OWN; do echo 0 > "$group/cgroup.procs"; done
export SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1
exec unshare -T "--boottime=-$BOOTTIME_S" "--monotonic=-$MONOTONIC_S" \
    systemd-nspawn -q --boot --register=no --keep-unit --private-network --link-journal=no \
    --console=pipe --kill-signal=SIGRTMIN+3 --tmpfs=/tmp "$@" systemd.show_status=0
"""

_MAIN = """\
import sys
from training_supervisor import main
sys.exit(main())
"""


class NoLab(Exception):
    """Why no machine can be booted here."""


class Lab:
    """The room in which machines are built.

    Args:
        name: of its folder and its control groups. Whoever gives one lives in a namespace of
            processes of its own, where no other lab is seen to live, and sweeps nothing.

    Raises:
        NoLab: there cannot be one on this machine.
    """

    def __init__(self, name: str | None = None) -> None:
        _check_that_it_can_be()
        roots = _cgroup_roots()
        if name is None:
            _sweep(roots)
            name = f"boot-lab-{os.getpid()}-{_start_ticks(os.getpid())}"
        self.folder = Path(tempfile.gettempdir()) / name
        self.groups = [root / name for root in roots]
        """its cgroup of version 2 first"""
        try:
            for folder in (self.folder, *self.groups):
                folder.mkdir()
        except OSError as error:
            _remove(self.folder, *self.groups)
            raise NoLab(f"cannot make {error.filename}: {error.strerror}") from error
        self._caretaker = subprocess.Popen(
            ["sh", "-c", _CARETAKER, "caretaker", str(self.folder), *map(str, self.groups)],
            env={**os.environ, "KEEPER": _KEEPER},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,  # Ctrl-C is for the tests, which then close the lab
        )
        assert self._caretaker.stdout is not None
        said = self._caretaker.stdout.readline().strip()
        trouble = "" if said == "ready" else f"no namespace with an overlay of the root: {said}"
        if not (self.groups[0] / "cgroup.kill").exists():
            trouble = "this kernel cannot kill a cgroup"
        if trouble:
            self.close()
            raise NoLab(trouble)
        (unshared,) = psutil.Process(self._caretaker.pid).children()
        self._keeper = unshared.children()[0].pid
        self.root = Path(f"/proc/{self._keeper}/root")
        """what the lab sees as its root: its mounts are its own"""
        self._made = 0

    def machine(self, like: Machine | None = None) -> Machine:
        """A new machine, switched off. Its disk holds what `like` has, which is used no more."""
        self._made += 1
        return Machine(self, f"machine-{self._made}", like)

    def inside(self, *command: str) -> list[str]:
        """The command line that runs `command` in the lab, beside its machines."""
        return ["nsenter", "-t", str(self._keeper), "-m", "-p", "--", *command]

    def close(self) -> None:
        """End everything that runs here. Nothing of it is left on this machine."""
        self._caretaker.communicate()
        assert not leftovers(self.folder.name)


class Machine:
    """One machine: a disk, a power button, and whatever a person types once it is up."""

    def __init__(self, lab: Lab, name: str, like: Machine | None) -> None:
        self.name = name
        self._lab = lab
        self._folder = lab.folder / name
        self._groups = [group / name for group in lab.groups]
        self._power: subprocess.Popen[bytes] | None = None
        self._init = 0
        for folder in ("upper", "work", "root"):
            (lab.root / str(self._folder)[1:] / folder).mkdir(parents=True)
        if like is not None:
            like.unmount()
        self._layers = [self._folder / "upper", *(like._layers if like else [])]
        below = ":".join(map(str, [*self._layers[1:], "/"]))
        options = f"lowerdir={below},upperdir={self._layers[0]},workdir={self._folder / 'work'}"
        mount = ["mount", "-t", "overlay", name, "-o", options, str(self._folder / "root")]
        subprocess.run(lab.inside(*mount), check=True)
        self.disk = lab.root / str(self._folder)[1:] / "root"
        """its root, as this process can read and write it whether or not the machine is up"""
        self.home_path = HOME
        """the home of its supervisor, as it is called in there"""
        self._console = self.disk.with_name("console.log")
        if like is None:
            _make_bootable(self.disk)

    # The power button

    @property
    def is_on(self) -> bool:
        """Whether it has power."""
        return self._power is not None and self._power.poll() is None

    def power_on(self) -> None:
        """Switch it on; returns once its first process lives."""
        assert self._power is None, "it is on already"
        for group in self._groups:
            group.mkdir(exist_ok=True)
        environment = {
            **os.environ,
            "GROUPS_OF_ITS_OWN": " ".join(map(str, self._groups)),
            "BOOTTIME_S": str(int(time.clock_gettime(time.CLOCK_BOOTTIME)) - 1),
            "MONOTONIC_S": str(int(time.monotonic()) - 1),
        }
        options = [f"--directory={self._folder / 'root'}", f"--machine={self.name}"]
        for number, libraries in enumerate(LIBRARIES):
            options.append(f"--bind-ro={_escaped(libraries)}:{_library(number)}")
        if _is_elsewhere(PYTHON):
            options.append(f"--bind-ro={_escaped(PYTHON)}")
        with self._console.open("ab") as console:
            self._power = subprocess.Popen(
                self._lab.inside("sh", "-c", _POWER_ON, "power", *options),
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=subprocess.STDOUT,
            )
        self.until(self._find_init, "its first process lives")

    def boot(self) -> None:
        """Switch it on; returns once systemd has started what it should."""
        self.power_on()
        self.until_up()

    def until_up(self) -> None:
        """Wait until systemd has started what it should."""
        said = ""

        def settled() -> bool:
            nonlocal said
            asked = self.run("systemctl", "is-system-running", "--wait", check=False)
            said = asked.stdout.strip()
            return said in ("running", "degraded")

        self.until(settled, "systemd is done with booting")
        assert said == "running", self.run("systemctl", "--failed").stdout + self.story()

    def shut_down(self, how: str) -> None:
        """Ask it to `reboot` or to `poweroff`, once one can, and wait until it is down."""
        self.until_up()
        self.run("systemctl", how, check=False)  # it may go down before it has answered
        asked = self._wait_for_the_end()
        assert asked == (REBOOT_ASKED if how == "reboot" else 0), self.story()

    def power_cut(self) -> None:
        """Pull the plug: every process of it is gone at once, and what it wrote is on the disk."""
        (self._groups[0] / "payload/cgroup.kill").write_text("1")
        self._wait_for_the_end()

    def unmount(self) -> None:
        """Take the disk out: other machines may be built upon it."""
        if self.is_on:
            self.power_cut()
        if self.disk.is_mount():
            subprocess.run(self._lab.inside("umount", str(self._folder / "root")), check=True)

    def remove(self) -> None:
        """Scrap it."""
        self.unmount()
        subprocess.run(self._lab.inside("rm", "-rf", str(self._folder)), check=True)

    # What a person types

    def run(self, *command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run one command in it, as root, to its end."""
        namespaces = ("-m", "-u", "-i", "-n", "-p", "-C", "-T")
        ended = subprocess.run(
            ["nsenter", "-t", str(self._init), *namespaces, "--", *command],
            env={"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )
        if check and ended.returncode:
            pytest.fail(f"{command}: {ended.returncode}\n{ended.stderr}\n{self.story()}")
        return ended

    def systemctl(self, *arguments: str, check: bool = True) -> str:
        """What `systemctl` answers."""
        return self.run("systemctl", *arguments, check=check).stdout.strip()

    def supervisor(self, *arguments: str, check: bool = True) -> str:
        """What our own command answers."""
        return self.run(COMMAND, *arguments, check=check).stdout.strip()

    def state(self) -> dict[str, Any]:
        """What `show-state` tells."""
        return json.loads(self.supervisor("show-state", "--json"))

    def unit_property(self, name: str) -> str:
        """What systemd has in force for the service."""
        return self.systemctl("show", "--value", f"--property={name}", SERVICE)

    def unit_number(self, interface: str, name: str) -> int:
        """The same of a number, which `unit_property` would tell in words."""
        path = "/org/freedesktop/systemd1/unit/training_2dsupervisor_2eservice"
        systemd = "org.freedesktop.systemd1"
        asked = self.run("busctl", "get-property", systemd, path, f"{systemd}.{interface}", name)
        return int(asked.stdout.split()[1])

    def kill(self, pid: int, signal: str = "KILL") -> None:
        """Send a signal to one of its processes."""
        self.run("kill", f"-{signal}", str(pid))

    @property
    def daemon(self) -> int:
        """The pid of the supervisor, 0 where there is none."""
        return int(self.unit_property("MainPID"))

    # What it leaves to be read

    @property
    def home(self) -> Path:
        """The home of its supervisor."""
        return self.disk / self.home_path[1:]

    def write(self, path: str, text: str, *, executable: bool = False) -> None:
        """Put a file on its disk."""
        place = self.disk / path[1:]
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)
        place.chmod(0o755 if executable else 0o644)

    def changes(self) -> dict[str, bytes]:
        """The files that were changed on its disk outside of the home, but those of no interest."""
        upper, home = self.disk.with_name("upper"), f"{self.home_path[1:]}/"
        found = {str(path.relative_to(upper)): path for path in upper.rglob("*")}
        return {
            name: path.read_bytes() if path.is_file() else b"gone"
            for name, path in found.items()
            if not (path.is_dir() or name.startswith(home) or OF_NO_INTEREST.search(name))
        }

    def configure(self, text: str) -> None:
        """Settle what the supervisor should do."""
        self.write(SETTINGS_FILE, text)

    def drop_in(self, text: str) -> None:
        """Change the service, as `systemctl edit` does; with no text, take the change back."""
        self.write(f"/etc/systemd/system/{SERVICE}.d/lab.conf", text)

    def events(self, event: str | None = None) -> list[dict[str, Any]]:
        """The decision log."""
        return logged(self.home, event)

    def heartbeat(self, run: str) -> dict[str, Any]:
        """What the trainer of a run last said; nothing where it never did."""
        return said(self.home, run)

    @property
    def boots_noted(self) -> int:
        """How many boots have noted themselves and are not yet in the memory, or are this one."""
        notes = self.home / "boots.jsonl"
        return notes.read_text().count('"up"') if notes.exists() else 0

    def process(self, pid: int) -> dict[str, str]:
        """What the kernel says of one of its processes: the lines of /proc/PID/status."""
        lines = (self._proc / str(pid) / "status").read_text().splitlines()
        return {key: value.strip() for key, _, value in (line.partition(":") for line in lines)}

    def oom_score_adj(self, pid: int) -> int:
        """How readily the kernel ends this process for want of memory."""
        return int((self._proc / str(pid) / "oom_score_adj").read_text())

    @property
    def may_spare_from_oom(self) -> bool:
        """Whether anything in it can be protected from the end for want of memory."""
        return bool(int(self.process(1)["CapEff"], 16) >> CAP_SYS_RESOURCE & 1)

    @property
    def uptime_s(self) -> float:
        """How long it has been up."""
        return float(self.run("cat", "/proc/uptime").stdout.split()[0])

    def trainers(self) -> dict[int, str]:
        """Its living processes that belong to a run: pid -> id of the run."""
        found = processes(Path(self.home_path, "runs"), self._proc)
        return {one.pid: one.run for one in found}

    def supervisors(self) -> list[int]:
        """Its living supervisors, of whomever."""
        found = []
        for entry in self._proc.glob("[0-9]*"):
            with contextlib.suppress(OSError):
                words = (entry / "cmdline").read_bytes().decode().split("\0")
                if COMMAND in words and "run" in words:
                    found.append(int(entry.name))
        return found

    def mains(self) -> dict[str, int]:
        """The main process of each run that trains, as its own heartbeat tells it."""
        living = self.trainers()
        pids = {run: self.heartbeat(run).get("pid") for run in living.values()}
        return {run: pid for run, pid in pids.items() if pid in living}

    def journal(self) -> str:
        """What systemd's journal holds of this boot."""
        return self.run("journalctl", "-b", "-o", "short-monotonic", check=False).stdout

    def story(self) -> str:
        """What helps to understand a failure."""
        said = self._console.read_text(errors="replace")[-2000:] if self._console.exists() else ""
        return f"{said}\n{self.journal()[-6000:] if self.is_on and self._init else ''}"

    def until(self, condition: Callable[[], object], what: str) -> None:
        """Look until `condition` holds, or this machine is down."""
        until(lambda: condition() or not self.is_on, what, self.story, look_s=0.02)
        assert self.is_on, f"went down before: {what}\n{self.story()}"

    def until_steps(self, run: str, step: int = 1) -> None:
        """Wait until a run trains and has come that far."""
        self.until(
            lambda: run in self.mains() and self.heartbeat(run).get("step", 0) >= step,
            f"{run} reaches step {step}",
        )

    @property
    def _proc(self) -> Path:
        return Path(f"/proc/{self._init}/root/proc")

    def _find_init(self) -> bool:
        """Whether the first process of the machine is there; from then on it can be entered."""
        scope = self._groups[0] / "payload/init.scope/cgroup.procs"
        with contextlib.suppress(OSError):
            for pid in scope.read_text().split():
                status = Path(f"/proc/{pid}/status").read_text()
                if re.search(r"^NSpid:.*\t1$", status, re.MULTILINE):
                    self._init = int(pid)
                    return True
        return False

    def _wait_for_the_end(self) -> int:
        assert self._power is not None
        try:
            status = self._power.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            pytest.fail(f"it does not go down\n{self.story()}")
        self._power, self._init = None, 0
        _remove(*self._groups)
        return status


def leftovers(name: str) -> list[str]:
    """What is left of a lab on this machine: folders, cgroups, and who still sees its mounts."""
    found = [folder / name for folder in (Path(tempfile.gettempdir()), *_cgroup_roots())]
    for mounts in Path("/proc").glob("[0-9]*/mountinfo"):
        with contextlib.suppress(OSError):  # it has just ended
            found += [mounts] if name in mounts.read_text() else []
    return [str(path) for path in found if path.exists()]


def _check_that_it_can_be() -> None:
    if os.geteuid() != 0:
        raise NoLab("only root can make namespaces and mounts")
    for program in ("systemd-nspawn", "unshare", "nsenter"):
        if shutil.which(program) is None:
            raise NoLab(f"{program} is not installed")
    if not Path("/lib/systemd/systemd").exists():
        raise NoLab("this root holds no systemd that could be booted")
    if PYTHON.parts[1] == "tmp" or PYTHON.parts[1:3] == ("var", "tmp"):
        raise NoLab(f"{PYTHON} lies in a folder that services have another of")


def _make_bootable(disk: Path) -> None:
    """Make a machine of its own out of a copy of this one's disk."""
    # What this machine starts, that one does not.
    for wants in disk.glob("etc/systemd/system/*.wants"):
        shutil.rmtree(wants)
    for link in disk.glob("etc/rc?.d/*"):
        link.unlink()
    (disk / "etc/machine-id").write_text("b" * 32 + "\n")
    (disk / "var/log/journal").mkdir(exist_ok=True)
    limits = disk / "etc/systemd/journald.conf.d/lab.conf"
    limits.parent.mkdir(exist_ok=True)
    limits.write_text(JOURNAL)
    _install(disk / str(PLACE)[1:])


def _install(place: Path) -> None:
    """Make the folder that the machines run from, as `make run` makes a checkout and its venv."""
    shutil.rmtree(place, ignore_errors=True)
    # The packages are copied: whoever edits them here does not edit them there.
    for package in PACKAGES:
        shutil.copytree(CHECKOUT / package, place / package, ignore=HALF_WRITTEN)
    shutil.copy(CHECKOUT / MODULE, place)
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    venv = place / ".venv"
    (venv / "bin").mkdir(parents=True)
    (venv / "bin/python").symlink_to(PYTHON / "bin" / version)
    (venv / "pyvenv.cfg").write_text(f"home = {PYTHON}/bin\n")
    packages = venv / "lib" / version / "site-packages"
    packages.mkdir(parents=True)
    paths = [PLACE, *map(_library, range(len(LIBRARIES)))]
    (packages / "lab.pth").write_text("".join(f"{path}\n" for path in paths))
    command = venv / "bin/supervisor"
    command.write_text(f"#!{PLACE}/.venv/bin/python\n{_MAIN}")
    # The service has an account of its own, and whoever made the checkout any umask.
    for path in (place, *place.rglob("*")):
        if not path.is_symlink():
            runs = path.is_dir() or path == command or path.stat().st_mode & 0o100
            path.chmod(0o755 if runs else 0o644)


def _library(number: int) -> Path:
    """Where a machine sees one of the folders of libraries."""
    return PLACE / "libraries" / str(number)


def _escaped(path: Path) -> str:
    return str(path).replace("\\", "\\\\").replace(":", "\\:")


def _is_elsewhere(place: Path) -> bool:
    """Whether the root's own file system does not hold it: an overlay of the root lacks it, too."""
    return place.stat().st_dev != Path("/").stat().st_dev


def _cgroup_roots() -> list[Path]:
    """Our own cgroup: that of version 2, then that of systemd's hierarchy of version 1, if any.

    Raises:
        NoLab: there is none of version 2.
    """
    mounts: dict[str, Path] = {}
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, place, kind, options, *_ = line.split()
        if kind == "cgroup2":
            mounts[""] = Path(place)
        elif kind == "cgroup" and "name=systemd" in options.split(","):
            mounts["name=systemd"] = Path(place)
    if "" not in mounts:
        raise NoLab("no cgroups of version 2 are mounted")
    roots = []
    for line in reversed(Path("/proc/self/cgroup").read_text().splitlines()):
        _, controllers, path = line.split(":", 2)
        if controllers in mounts:
            roots.append(mounts[controllers] / path[1:])
    return roots


def _sweep(roots: list[Path]) -> None:
    """Remove what labs left whose caretaker was killed, too."""
    for folder in (Path(tempfile.gettempdir()), *roots):
        for left in folder.glob("boot-lab-*-*"):
            pid, ticks = left.name.split("-")[2:]
            if _start_ticks(int(pid)) != int(ticks):
                _remove(left)


def _remove(*folders: Path) -> None:
    """Remove folders in which nothing but folders is left; cgroups are such."""
    for folder in folders:
        for path, _, _ in os.walk(folder, topdown=False):
            with contextlib.suppress(OSError):
                Path(path).rmdir()


def _start_ticks(pid: int) -> int | None:
    fields = stat(PROC / str(pid))
    return int(fields[19]) if fields else None
