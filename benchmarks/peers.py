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
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Literal, NamedTuple

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
SETTINGS = """\
[campaign]
trainer = "drill"
runs = ["child"]
target_steps = 1_000_000_000
[campaign.options]
{options}
[recovery]
proven_s = 0.1  # each death is the first in a row, so that the policy says "now"
"""
OPTIONS = {
    "sleep": "",
    "crash": "crash_at_step = 1\nexit_code = 1",
    "worker": 'workers = 1\nworker_kind = "setsid"',
}


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
        rows: dict[str, dict[str, Any]] = {name: {} for name in names if _installed(name, tools)}
        _measure_idle(rows, tools, options.idle_s)
        _measure_crash_loops(rows, tools)
        for name, row in rows.items():
            _measure_restarts(name, row, tools, options.kills)
            _measure_left_over(name, row, tools)
            _measure_mains(name, row, tools)
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
        command = shlex.split(f"{OURS.format(place=lab.place)} show-state")
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


def _measure_restarts(name: str, row: dict[str, Any], tools: Path, kills: int) -> None:
    row |= {"restart_ms": [], "bare_spawn_ms": []}
    with Lab(name, tools, "sleep") as lab:
        for _ in range(kills):
            row["restart_ms"].append(lab.restart_ms())
            with Lab("", tools, "sleep") as bare:
                row["bare_spawn_ms"].append((bare.stamps()[0] - bare.started_ns) / 1e6)


def _measure_left_over(name: str, row: dict[str, Any], tools: Path) -> None:
    with Lab(name, tools, "worker") as lab:
        _until(lambda: lab.pids("worker"), "a worker")
        workers = lab.pids("worker")
        lab.restart_ms()
        row["left_over"] = len(workers & lab.pids("worker"))


def _measure_mains(name: str, row: dict[str, Any], tools: Path) -> None:
    with Lab(name, tools, "sleep") as lab:
        time.sleep(SETTLED_S)
        _kill(lab.pids("own"))
        _until(lambda: not lab.pids("own"), "the end of a supervisor")
        lab.start()
        time.sleep(2 * SETTLED_S)
        row["mains"] = len(lab.pids("child"))


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
        child = f"{sys.executable} {tools}/child.py {kind}"
        peer = PEERS[name] if name else Peer("", child, {})
        words = {"tools": tools, "place": self.place, "child": child, "options": OPTIONS[kind]}
        for path, content in peer.files.items():
            file = self.place / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(content.format_map(words))
            file.chmod(0o700)
        self._command = shlex.split(peer.command.format_map(words))

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
        return sum(_field(pid, "VmRSS") for pid in self.pids("own")) / 1000

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


# The peers


class Peer(NamedTuple):
    """A supervisor. In all that is written here, a word in braces stands for a value.

    {tools} is the folder that peers are installed into, {place} that of one supervisor, {child}
    the command of the child.
    """

    install: str
    """a command for the shell, in the folder of tools"""
    command: str
    """brings the supervisor to life"""
    files: dict[str, str]
    """in the folder of the supervisor; all can be executed"""


PIP = f"(test -d venv || {sys.executable} -m venv venv) && venv/bin/pip install -q "
NPM = "mkdir node && cd node && echo {{}} > package.json && npm install --silent "
# Unpacked beside the system, not installed into it.
DEBIAN = """\
mkdir -p {0}/partial && apt-get install -qq -y --download-only --reinstall \\
    -o Debug::NoLocking=1 -o Dir::Cache::archives=$PWD/{0} {0} \\
    && for one in {0}/*.deb; do dpkg -x $one debian || exit 1; done
"""
# As pip compiles what it installs: ours may be a checkout that nobody has run yet.
COMPILE = f"cd {ROOT} && {sys.executable} -m compileall -q modes state supervisor trainers"
OURS = f"{sys.executable} -P -m supervisor --home {{place}}/home"
RUN = "#!/bin/sh\nexec {child}\n"

PEERS = {
    "ours": Peer(COMPILE, f"{OURS} run --plain", {"home/supervisor.toml": SETTINGS}),
    "supervisord": Peer(
        f"{PIP} supervisor",
        "{tools}/venv/bin/supervisord -c conf",
        {"conf": "[supervisord]\nnodaemon=true\n[program:child]\ncommand={child}\n"},
    ),
    "circus": Peer(
        f"{PIP} circus",
        "{tools}/venv/bin/circusd conf",
        {
            "conf": "[circus]\nendpoint = ipc://{place}/1\npubsub_endpoint = ipc://{place}/2\n"
            "[watcher:child]\ncmd = {child}\ncopy_env = True\n"
        },
    ),
    "pm2": Peer(
        f"{NPM} pm2",
        "{tools}/node/node_modules/.bin/pm2 start run --interpreter none",
        {"run": RUN},
    ),
    # Without its scanner, which looks for the supervising process in /usr/bin alone.
    "s6": Peer(
        DEBIAN.format("s6"),
        "{tools}/debian/usr/bin/s6-supervise scan/child",
        {"scan/child/run": RUN},
    ),
    "runit": Peer(
        DEBIAN.format("runit"), "{tools}/debian/usr/bin/runsvdir scan", {"scan/child/run": RUN}
    ),
    # It starts the child by a script, without an environment, and polls: here each second.
    "monit": Peer(
        DEBIAN.format("monit"),
        "{tools}/debian/usr/bin/monit -I -c conf",
        {
            "begin": f"#!/bin/sh\nexport {MARK}={{place}} PYTHONPATH={{tools}}\n"
            "setsid {child} </dev/null >/dev/null 2>&1 &\necho $! > {place}/main\n",
            "conf": "set daemon 1\nset pidfile {place}/pid\nset statefile {place}/state\n"
            "set idfile {place}/id\ncheck process child pidfile {place}/main start {place}/begin\n",
        },
    ),
}


def _installed(name: str, tools: Path) -> bool:
    environment = {key: os.environ[key] for key in os.environ if key != "PYTHONDONTWRITEBYTECODE"}
    install = subprocess.run(
        PEERS[name].install,
        shell=True,
        cwd=tools,
        env=environment,
        capture_output=True,
        check=False,
    )
    if install.returncode != 0:
        why = (install.stderr.decode().strip().splitlines() or ["no reason given"])[-1]
        print(f"NOT MEASURED: {name}; it cannot be installed: {why}", file=sys.stderr)
    return install.returncode == 0


def _table(rows: dict[str, dict[str, Any]]) -> str:
    titles = ("RSS MB", "CPU s/h", "by ticks", "wakes/s", "restart ms", "bare ms", "over bare")
    cells = [["", *titles, "crash: in 10 s", "tries on", "left over", "mains"]]
    for name, row in rows.items():
        pairs = zip(row["restart_ms"], row["bare_spawn_ms"], strict=True)
        numbers = (row["cpu_s_per_h"], row["cpu_ticks_s_per_h"], row["wakes_per_s"])
        times_ms = (row["restart_ms"], row["bare_spawn_ms"], [ours - bare for ours, bare in pairs])
        tries_on = "yes" if row["crash_tries_on"] else "no"
        counts = (row["crash_starts_in_10_s"], tries_on, row["left_over"], row["mains"])
        texts = [f"{row['rss_mb']:.1f}", *(f"{number:.2f}" for number in numbers)]
        cells.append([name, *texts, *map(_spread, times_ms), *map(str, counts)])
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = ["  ".join(map(str.rjust, line, widths)) for line in cells]
    if "ours" in rows:
        show_ms = _spread(rows["ours"]["show_state_cpu_ms"])
        lines += ["", f"a look of ours takes {rows['ours']['look_cpu_ms']:.1f} ms of the processor"]
        lines += [f"our show-state takes {show_ms} ms of it"]
    return "\n".join(lines)


def _spread(values: list[float]) -> str:
    return f"{statistics.median(values):.1f} ({min(values):.1f} to {max(values):.1f})"


if __name__ == "__main__":
    main()
