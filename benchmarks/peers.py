"""What the supervisor costs and how it restarts, beside its peers, in one run.

Each supervises one child that sleeps; ours supervises a `drill` trainer, which counts. Peers are
installed from their registries into a scratch folder, and left out loudly where that fails.

    idle       of its own processes, without the child, all supervisors at once: resident memory,
               processor time by the scheduler's nanoseconds and by clock ticks, and wake-ups
               (voluntary context switches of every thread). The processor time of ours includes
               its looks, twelve an hour, which are measured apart.
    restart    from `kill -9` of the child to the first code of the next one. A bare spawn beside
               each is `subprocess.Popen` to the first code of the child, and nothing else.
    crash loop the child exits 1 at once: its starts within ten seconds, and whether it is still
               being started after that
    left over  the child has a worker in a session of its own: whether that lives on beside the
               next child after `kill -9` of the child
    mains      every process of the supervisor is killed, then it is started again: how many
               children live

    .venv/bin/python benchmarks/peers.py
    .venv/bin/python benchmarks/peers.py --peers ours,supervisord --idle-s 3600 --json
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import os
import re
import resource
import shlex
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Literal

ROOT = Path(__file__).resolve().parent.parent
MARK = "PEERS_PLACE"
"""environment variable that everything started here inherits: the folder of its supervisor"""
PATIENCE_S = 30.0
SETTLED_S = 3.0
"""a child that has lived for so long is taken for healthy by every peer"""
LOOP_S = 40.0
LOOKS = 10
LOOKS_AN_HOUR = 12

Kind = Literal["sleep", "crash", "worker"]
"""what the child does"""

# Python runs it before the first code of a program: it writes down when a child began.
STAMP = f"""\
import os, sys, time
if "trainers" in sys.orig_argv or any(word.endswith("child.py") for word in sys.orig_argv):
    with open(os.path.join(os.environ["{MARK}"], "stamps"), "a") as stamps:
        stamps.write(f"{{time.monotonic_ns()}}\\n")
"""
CHILD = """\
import subprocess, sys, time
if sys.argv[1] == "crash":
    sys.exit(1)
if sys.argv[1] == "worker":
    subprocess.Popen(["sleep", "infinity"], start_new_session=True)
time.sleep(1e6)
"""
OPTIONS = {
    "sleep": "",
    "crash": "crash_at_step = 1\nexit_code = 1",
    "worker": 'workers = 1\nworker_kind = "setsid"',
}

PEERS = tomllib.loads(Path(__file__).with_suffix(".toml").read_text())
INSTALL = {
    # As pip compiles what it installs: ours may be a checkout that nobody has run yet.
    "here": f"cd {ROOT}; env -u PYTHONDONTWRITEBYTECODE {sys.executable} -m compileall -q "
    "modes state supervisor trainers",
    "pip": f"test -d venv || {sys.executable} -m venv venv; venv/bin/pip install -q {{0}}",
    "npm": "mkdir node; cd node; echo {{}} >package.json; npm install --silent {0}",
    # Unpacked beside the system, not installed into it.
    "debian": "mkdir -p {0}/partial; apt-get install -qq -y --download-only --reinstall "
    "-o Debug::NoLocking=1 -o Dir::Cache::archives=$PWD/{0} {0}; "
    "for one in {0}/*.deb; do dpkg -x $one debian; done",
}
"""commands for the shell, in the folder of tools; {0} is the package"""


def main() -> None:
    """Measure the chosen ones and print a table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--peers", metavar="A,B", help=f"of {', '.join(PEERS)}; default: all")
    parser.add_argument("--idle-s", type=float, default=60.0, help="length of the idle window")
    parser.add_argument("--kills", type=int, default=10, help="restarts that are measured of each")
    parser.add_argument("--json", action="store_true", help="for machines")
    options = parser.parse_args()
    names = options.peers.split(",") if options.peers else list(PEERS)
    if strangers := set(names) - PEERS.keys():
        parser.error(f"no such peer: {', '.join(strangers)}")
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # tidies up, as Ctrl-C does
    with tempfile.TemporaryDirectory(prefix="peers-") as place:
        tools = Path(place)
        (tools / "sitecustomize.py").write_text(STAMP)
        (tools / "child.py").write_text(CHILD)
        rows: dict[str, dict[str, Any]] = {name: {} for name in names if installed(name, tools)}
        _measure_idle(rows, tools, options.idle_s)
        _measure_crash_loops(rows, tools)
        for name, row in rows.items():
            _measure_kills(name, row, tools, options.kills)
    print(json.dumps(rows, indent=1) if options.json else _table(rows))


# What is measured


def _measure_idle(rows: dict[str, dict[str, Any]], tools: Path, window_s: float) -> None:
    with contextlib.ExitStack() as stack:
        labs = {name: stack.enter_context(Lab(name, tools, "sleep")) for name in rows}
        time.sleep(2 * SETTLED_S)
        before = {name: lab.spent() for name, lab in labs.items()}
        time.sleep(window_s)
        for name, lab in labs.items():
            spent = zip(lab.spent(), before[name], strict=True)
            exact_s, ticks_s, wakes = ((now - then) / window_s for now, then in spent)
            rows[name] |= {"rss_mb": lab.resident_mb(), "wakes_per_s": wakes}
            rows[name] |= {"cpu_s_per_h": exact_s * 3600, "cpu_ticks_s_per_h": ticks_s * 3600}
        if "ours" in labs:
            look_s = _look_s(labs["ours"])
            rows["ours"]["cpu_s_per_h"] += LOOKS_AN_HOUR * look_s
            rows["ours"] |= {"look_cpu_ms": look_s * 1000}
            rows["ours"] |= {"show_state_cpu_ms": _show_state_cpu_ms(labs["ours"])}


def _look_s(lab: Lab) -> float:
    """Processor time of one look of ours; settings that are saved bring one about."""
    log, settings = lab.place / "home/monitor.jsonl", lab.place / "home/supervisor.toml"
    before_s = lab.spent()[0]
    for _ in range(LOOKS):
        size = log.stat().st_size
        settings.write_text(settings.read_text())
        while log.stat().st_size == size:
            time.sleep(0.01)
    return (lab.spent()[0] - before_s) / LOOKS


def _show_state_cpu_ms(lab: Lab) -> list[float]:
    times_s = []
    for _ in range(LOOKS):
        command = [sys.executable, "-m", "supervisor", "--home", f"{lab.place}/home", "show-state"]
        subprocess.run(command, check=True, capture_output=True)
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        times_s.append(usage.ru_utime + usage.ru_stime)
    return [1000 * (now - then) for then, now in itertools.pairwise(times_s)]


def _measure_crash_loops(rows: dict[str, dict[str, Any]], tools: Path) -> None:
    with contextlib.ExitStack() as stack:
        labs = {name: stack.enter_context(Lab(name, tools, "crash")) for name in rows}
        time.sleep(LOOP_S)
        for name, lab in labs.items():
            ages_s = [(at_ns - lab.stamps()[0]) / 1e9 for at_ns in lab.stamps()]
            rows[name]["crash_starts_in_10_s"] = sum(age_s < 10 for age_s in ages_s)
            rows[name]["crash_tries_on"] = ages_s[-1] > 12


def _measure_kills(name: str, row: dict[str, Any], tools: Path, kills: int) -> None:
    row |= {"restart_ms": [], "bare_spawn_ms": []}
    with Lab(name, tools, "sleep") as lab:
        for _ in range(kills):
            row["restart_ms"].append(lab.restart_ms())
            with Lab("", tools, "sleep") as bare:
                row["bare_spawn_ms"].append((bare.stamps()[0] - bare.started_ns) / 1e6)
        time.sleep(SETTLED_S)
        _kill(lab.pids("own"))
        _until(lambda: not lab.pids("own"), "the end of a supervisor")
        lab.start()
        time.sleep(2 * SETTLED_S)
        row["mains"] = len(lab.pids("child"))
    with Lab(name, tools, "worker") as lab:
        _until(lambda: lab.pids("worker"), "a worker")
        workers = lab.pids("worker")
        lab.restart_ms()
        row["left_over"] = len(workers & lab.pids("worker"))


class Lab:
    """One supervisor with its child, in a folder of its own; nothing of it outlives a `with`.

    Args:
        name: whose; with no name the child is started without any supervisor.
        tools: the folder in which the peers are installed.
        kind: what its child does.
    """

    def __init__(self, name: str, tools: Path, kind: Kind) -> None:
        self.place = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=tools))
        self.started_ns = 0
        self._started: list[subprocess.Popen[bytes]] = []
        dropped = ("PYTHONDONTWRITEBYTECODE", "NOTIFY_SOCKET")
        path = ":".join(f"{tools}/{place}" for place in ("debian/usr/bin", "venv/bin"))
        self._environment = {key: os.environ[key] for key in os.environ if key not in dropped} | {
            MARK: str(self.place),
            "PATH": f"{path}:{os.environ['PATH']}",
            "LD_LIBRARY_PATH": f"{tools}/debian/usr/lib/{os.uname().machine}-linux-gnu",
            "PM2_HOME": f"{self.place}/pm2",
            "PYTHONPATH": str(tools),  # for the stamp
        }
        words = {"tools": tools, "place": self.place, "python": sys.executable}
        words |= {"child": f"{sys.executable} {tools}/child.py {kind}", "options": OPTIONS[kind]}
        peer = PEERS.get(name, {"command": "{child}", "files": {}})
        for path, content in peer["files"].items():
            file = self.place / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(content.lstrip().format_map(words))
            file.chmod(0o700)
        self._command = shlex.split(peer["command"].format_map(words))

    def __enter__(self) -> Lab:
        try:
            self.start()
            _until(self.stamps, f"a child of {self._command[0]}")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        while left := self.pids("own") | self.pids("child") | self.pids("worker"):
            _kill(left)
            time.sleep(0.02)
        for process in self._started:
            process.wait()

    def start(self) -> None:
        """Start the supervisor."""
        with (self.place / "screen").open("ab") as screen:
            self.started_ns = time.monotonic_ns()
            process = subprocess.Popen(
                self._command,
                env=self._environment,
                cwd=self.place,
                stdin=subprocess.DEVNULL,
                stdout=screen,
                stderr=screen,
                start_new_session=True,
            )
        self._started.append(process)

    def restart_ms(self) -> float:
        """Kill the child, and give the milliseconds until the next one runs its first code."""
        time.sleep(SETTLED_S)
        seen, children = len(self.stamps()), self.pids("child")
        killed_ns = time.monotonic_ns()
        _kill(children)
        _until(lambda: len(self.stamps()) > seen, "a restart")
        return (self.stamps()[seen] - killed_ns) / 1e6

    def stamps(self) -> list[int]:
        """When each child so far began, in nanoseconds."""
        with contextlib.suppress(FileNotFoundError):
            return [int(line) for line in (self.place / "stamps").read_text().splitlines()]
        return []

    def pids(self, role: Literal["own", "child", "worker"]) -> set[int]:
        """Living processes: the supervisor's own, children, or workers of children."""
        found = set()
        for entry in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if f"{MARK}={self.place}\0".encode() in (entry / "environ").read_bytes():
                    words = (entry / "cmdline").read_bytes().decode().split("\0")
                    child = "trainers" in words or any(w.endswith("child.py") for w in words)
                    worker = words[:2] == ["sleep", "infinity"]
                    if role == ("worker" if worker else "child" if child else "own"):
                        found.add(int(entry.name))
        return found

    def resident_mb(self) -> float:
        """Resident memory of its own processes together."""
        return sum(_field(pid, "VmRSS") for pid in self.pids("own")) * 1024 / 1e6

    def spent(self) -> tuple[float, float, int]:
        """Seconds by the scheduler, seconds by clock ticks, and wake-ups of its own processes."""
        exact_ns, ticks, wakes = 0, 0, 0
        for pid in self.pids("own"):
            user, system = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
            ticks += int(user) + int(system)
            for task in Path(f"/proc/{pid}/task").iterdir():
                exact_ns += int((task / "schedstat").read_text().split()[0])
                wakes += _field(f"{pid}/task/{task.name}", "voluntary_ctxt_switches")
        return exact_ns / 1e9, ticks / os.sysconf("SC_CLK_TCK"), wakes


def _field(process: int | str, name: str) -> int:
    status = Path(f"/proc/{process}/status").read_text()
    found = re.search(rf"^{name}:\s*(\d+)", status, re.MULTILINE)
    return int(found[1]) if found else 0


def _kill(pids: Iterable[int]) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _until(condition: Callable[[], object], what: str) -> None:
    deadline_s = time.monotonic() + PATIENCE_S
    while not condition():
        if time.monotonic() > deadline_s:
            sys.exit(f"{what}: not within {PATIENCE_S:.0f} s")
        time.sleep(0.005)


def installed(name: str, tools: Path) -> bool:
    """Install a peer into the folder of tools; whether that could be done, else it is said."""
    source = INSTALL[PEERS[name]["from"]].format(PEERS[name].get("package", name))
    install = subprocess.run(["sh", "-ec", source], cwd=tools, capture_output=True, check=False)
    if install.returncode != 0:
        why = (install.stderr.decode().strip().splitlines() or ["no reason given"])[-1]
        print(f"NOT MEASURED: {name}; it cannot be installed: {why}", file=sys.stderr)
    return install.returncode == 0


def _table(rows: dict[str, dict[str, Any]]) -> str:
    titles = ("RSS MB", "CPU s/h", "by ticks", "wakes/s", "restart ms", "bare ms", "over bare")
    cells = [["", *titles, "crash: in 10 s", "tries on", "left over", "mains"]]
    for name, row in rows.items():
        over_ms = list(map(float.__sub__, row["restart_ms"], row["bare_spawn_ms"]))
        numbers = (row["cpu_s_per_h"], row["cpu_ticks_s_per_h"], row["wakes_per_s"])
        times_ms = (row["restart_ms"], row["bare_spawn_ms"], over_ms)
        tries_on = "yes" if row["crash_tries_on"] else "no"
        counts = (row["crash_starts_in_10_s"], tries_on, row["left_over"], row["mains"])
        texts = [f"{row['rss_mb']:.1f}", *(f"{number:.2f}" for number in numbers)]
        cells.append([name, *texts, *map(_spread, times_ms), *map(str, counts)])
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = ["  ".join(map(str.rjust, line, widths)) for line in cells]
    return "\n".join([*lines, "", *_reached(rows)])


def _reached(rows: dict[str, dict[str, Any]]) -> list[str]:
    """What we set out to reach, and whether this run did."""
    if "ours" not in rows:
        return []
    ours = rows["ours"]
    most_mb = min(25.0, rows.get("supervisord", {}).get("rss_mb", 25.0))
    over_ms = map(float.__sub__, ours["restart_ms"], ours["bare_spawn_ms"])
    aims = [
        ("resident memory", ours["rss_mb"], most_mb, "MB, the less of 25 and supervisord's"),
        ("processor time", ours["cpu_s_per_h"], 0.5, "s an hour, looks included"),
        ("wake-ups between looks", ours["wakes_per_s"], 0.3, "a second"),
        ("restart over a bare spawn", statistics.median(over_ms), 10.0, "ms"),
        ("left-over workers", ours["left_over"], 0, ""),
        ("mains after its own kill", ours["mains"], 1, ""),
        ("show-state", statistics.median(ours["show_state_cpu_ms"]), 150.0, "ms of the processor"),
    ]
    return [
        f"{'reached' if value <= most else 'MISSED':8} {what}: {value:.2f}, "
        f"at most {most:.4g} {unit}"
        for what, value, most, unit in aims
    ]


def _spread(values: list[float]) -> str:
    return f"{statistics.median(values):.1f} ({min(values):.1f} to {max(values):.1f})"


if __name__ == "__main__":
    main()
