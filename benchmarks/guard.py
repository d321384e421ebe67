#!/usr/bin/env python3
"""Whether who plays notices that training goes on beside: a game alone, and beside three ways.

    python benchmarks/guard.py                      three turns of 60 s each way
    python benchmarks/guard.py --turns 1 --seconds 20
    python benchmarks/guard.py --json               the same for machines
    python benchmarks/guard.py --what reaction      how soon training stands still
    python benchmarks/guard.py --what cost          what the guard costs the supervisor

The game answers twenty requests a second, each of which takes it some milliseconds of a core. In
the second third of each turn it is busy: two more of its processes calculate all the time. Beside
it, training wants all cores:

    guard      under our supervisor, with an empty [guard]
    nice 19    the same program with the least niceness, as a shell script starts it
    rule       the same program, and the rule of the user's page: every 30 s the processor of the
               whole machine is read; above 80 % the first process is stopped, below 30 % it goes on

The 95th percentile of the game's answers is told by that of the game alone in the same turn.

A reaction begins with foreign load, of twice as many processes as there are processors, at any
moment between two samples, and ends when no process of the trainer runs any more; with an alarm of
the kernel and without, for a trainer that sleeps and one that fills the machine, `--turns` of each.
The cost is memory, processor time and wake-ups of the supervisor in `--seconds`, without a guard
and with it. A reaction waits until nothing else keeps the machine busy.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import psutil

REQUESTS_PER_S = 20
SETTLE_S = 8.0
"""until training has begun"""
RULE_S, RULE_STOPS, RULE_GOES_ON = 30.0, 80.0, 30.0
GAME = """
import socket, sys
listener = socket.create_server(("127.0.0.1", 0))
print(listener.getsockname()[1], flush=True)
while True:
    player, _ = listener.accept()
    while player.recv(1):
        sum(range(100000))
        player.sendall(b"!")
"""
BUSY = "while True: pass"
TRAINING = """
import multiprocessing, os
def calculate():
    while True:
        sum(range(100000))
for _ in range((os.cpu_count() or 2) - 1):
    multiprocessing.Process(target=calculate, daemon=True).start()
calculate()
"""
ASLEEP = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(9999)"])
while True:
    time.sleep(1)
"""
GUARD = "[guard]\ncalm_s = 3\n"
NEVER = GUARD + "start_cpu_percent = 100\npause_cpu_percent = 100\npause_samples = 100\n"
"""one that looks as any does, and lets training go on whoever else is here"""
STANDS_MAX_S = 20.0
SILENT = """
import sys
sys.path.insert(0, {root})
from supervisor.host.alarm import Alarm
Alarm.set = lambda self: None
from supervisor.cli import main
sys.exit(main())
"""
"""a supervisor that no kernel wakes"""
SETTINGS = """
{guard}
[warm]
trainers = []
[run.program]
trainer = "command"
[run.program.options]
command = [{python}, {program}]
"""


def main() -> int:
    """Take turns and print what came of them; the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=60.0, help="of each turn, each way")
    parser.add_argument("--what", choices=("answers", "reaction", "cost"), default="answers")
    parser.add_argument("--json", action="store_true", help="for machines")
    options = parser.parse_args()
    if options.what != "answers":
        rows = _reactions(options.turns) if options.what == "reaction" else _costs(options.seconds)
        print(json.dumps(rows) if options.json else _table(rows))
        return 0
    found: dict[str, list[float]] = {name: [] for name in WAYS}
    trained: dict[str, list[float]] = {name: [] for name in WAYS}
    for _ in range(options.turns):
        for name, way in WAYS.items():
            p95_ms, share = _turn(way, options.seconds)
            found[name].append(p95_ms)
            trained[name].append(share)
    if options.json:
        print(json.dumps({"p95_ms": found, "trained_share_of_machine": trained}))
        return 0
    print(f"{options.turns} turns of {options.seconds:g} s each way; median (least to most)")
    for name, values in found.items():
        ratios = [here / alone for here, alone in zip(values, found["alone"], strict=True)]
        print(
            f"{name:<8} p95 {_spread(values)} ms, {_spread(ratios)} times that of the game alone; "
            f"training had {_spread([100 * share for share in trained[name]])} % of the machine"
        )
    return 0


def _turn(way: Callable[[Path], object], seconds: float) -> tuple[float, float]:
    """The 95th percentile of the game's answers, in ms, and what training had of the machine."""
    with tempfile.TemporaryDirectory() as place, ExitStack() as ended:
        pids: Callable[[], list[int]] = ended.enter_context(way(Path(place)))  # type: ignore[arg-type]
        game = subprocess.Popen(
            [sys.executable, "-c", GAME], stdout=subprocess.PIPE, text=True, start_new_session=True
        )
        ended.callback(game.kill)
        assert game.stdout is not None  # noqa: S101 - given by PIPE, unknown to mypy
        port = int(game.stdout.readline())
        time.sleep(SETTLE_S)
        before, began_s = _ticks(pids()), time.monotonic()
        answers_ms = list(_played(port, seconds))
        lasted_s = time.monotonic() - began_s
        had_s = (_ticks(pids()) - before) / os.sysconf("SC_CLK_TCK")
        p95_ms = statistics.quantiles(answers_ms, n=20)[-1]
        return p95_ms, max(0.0, had_s) / lasted_s / (os.cpu_count() or 1)


def _played(port: int, seconds: float) -> Iterator[float]:
    """How long each answer took, in ms; in the second third the game is busy."""
    with socket.create_connection(("127.0.0.1", port)) as player, ExitStack() as ended:
        began_s, busy = time.monotonic(), False
        for number in range(int(seconds * REQUESTS_PER_S)):
            due_s = began_s + number / REQUESTS_PER_S
            time.sleep(max(0.0, due_s - time.monotonic()))
            third = int(3 * number / (seconds * REQUESTS_PER_S))
            if third == 1 and not busy:
                busy = True
                for _ in range(2):
                    worker = subprocess.Popen([sys.executable, "-c", BUSY], start_new_session=True)
                    ended.callback(worker.kill)
            if third == 2:
                ended.close()
            asked_s = time.monotonic()
            player.sendall(b"?")
            player.recv(1)
            yield 1000 * (time.monotonic() - asked_s)


@contextmanager
def _alone(_place: Path) -> Iterator[Callable[[], list[int]]]:
    yield list


@contextmanager
def _guarded(place: Path) -> Iterator[Callable[[], list[int]]]:
    with _supervised(place) as daemon:
        yield lambda: _below(daemon)


@contextmanager
def _supervised(
    place: Path, training: str = TRAINING, guard: str = GUARD, *, alarm: bool = True
) -> Iterator[int]:
    """A supervisor with such a trainer; its pid."""
    program, root = place / "training.py", Path(__file__).resolve().parents[1]
    program.write_text(training)
    words = {"python": json.dumps(sys.executable), "program": json.dumps(str(program))}
    (place / "home").mkdir()
    (place / "home/supervisor.toml").write_text(SETTINGS.format(guard=guard, **words))
    way_in = ["-m", "supervisor"] if alarm else ["-c", SILENT.format(root=repr(str(root)))]
    daemon = subprocess.Popen(
        [sys.executable, *way_in, "--home", str(place / "home"), "run", "--plain"],
        cwd=root,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield daemon.pid
    finally:
        daemon.send_signal(signal.SIGTERM)
        daemon.wait()


def _reactions(turns: int) -> dict[str, list[float]]:
    """Seconds from the beginning of foreign load until the whole tree stands."""
    found: dict[str, list[float]] = {}
    for _ in range(turns):
        for training, words in ((ASLEEP, "asleep"), (TRAINING, "busy")):
            for alarm in (True, False):
                name = f"{words}, {'with' if alarm else 'without'} alarm: s until it stands"
                found.setdefault(name, []).append(_reaction(training, alarm=alarm))
    return found


def _reaction(training: str, *, alarm: bool) -> float:
    with tempfile.TemporaryDirectory() as place, ExitStack() as ended:
        daemon = ended.enter_context(_supervised(Path(place), training, alarm=alarm))
        tree: list[int] = []
        while not tree or all(map(_stands, tree)):
            tree = _trainers(daemon)
            time.sleep(SETTLE_S + random.uniform(0.0, 2.0))  # noqa: S311 - no secret
        began_s = time.monotonic()
        for _ in range(2 * (os.cpu_count() or 1)):
            worker = subprocess.Popen([sys.executable, "-c", BUSY], start_new_session=True)
            ended.callback(worker.wait)
            ended.callback(worker.kill)
        while time.monotonic() - began_s < STANDS_MAX_S:
            if all(map(_stands, tree)):
                return time.monotonic() - began_s
            time.sleep(0.01)
        return float("inf")


def _costs(seconds: float) -> dict[str, list[float]]:
    """Memory, processor time and wake-ups of the supervisor, while nothing happens."""
    found: dict[str, list[float]] = {}
    for training, words in ((ASLEEP, "asleep"), (TRAINING, "busy")):
        for guard in ("", NEVER):
            with (
                tempfile.TemporaryDirectory() as place,
                _supervised(Path(place), training, guard) as daemon,
            ):
                _trainers(daemon)
                time.sleep(2 * SETTLE_S)
                used, woken = _ticks([daemon]), _status(daemon, "voluntary_ctxt_switches")
                time.sleep(seconds)
                share = (_ticks([daemon]) - used) / os.sysconf("SC_CLK_TCK") / seconds
                woken = _status(daemon, "voluntary_ctxt_switches") - woken
                name = f"{words}, guard {'on' if guard else 'off'}: "
                found[f"{name}MiB"] = [_status(daemon, "VmRSS") / 1024]
                found[f"{name}% of a processor"] = [100 * share]
                found[f"{name}wake-ups a second"] = [woken / seconds]
    return found


def _trainers(daemon: int) -> list[int]:
    """All processes of the trainer, once it is there."""
    while not (found := [pid for pid in _below(daemon) if "training.py" in _called(pid)]):
        time.sleep(0.5)
    time.sleep(1.0)
    return [*found, *(below for pid in found for below in _below(pid) if below not in found)]


def _table(rows: dict[str, list[float]]) -> str:
    return "\n".join(f"{name:<44} {_spread(values)}" for name, values in rows.items())


def _status(pid: int, field: str) -> int:
    text = Path(f"/proc/{pid}/status").read_text()
    return next(int(line.split()[1]) for line in text.splitlines() if line.startswith(f"{field}:"))


def _stands(pid: int) -> bool:
    """Whether it is stopped, or gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return True
    return fields[0] in "TZ"


def _called(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return ""


@contextmanager
def _nice(place: Path) -> Iterator[Callable[[], list[int]]]:
    program = place / "training.py"
    program.write_text(TRAINING)
    training = subprocess.Popen(
        ["nice", "-n", "19", sys.executable, str(program)], start_new_session=True
    )
    try:
        yield lambda: [training.pid, *_below(training.pid)]
    finally:
        os.killpg(training.pid, signal.SIGKILL)
        training.wait()


@contextmanager
def _by_rule(place: Path) -> Iterator[Callable[[], list[int]]]:
    with _nice(place) as pids:
        over = threading.Event()

        def watch() -> None:
            while not over.wait(RULE_S):
                percent = psutil.cpu_percent(interval=1)
                if percent > RULE_STOPS:
                    os.kill(pids()[0], signal.SIGSTOP)
                elif percent < RULE_GOES_ON:
                    os.kill(pids()[0], signal.SIGCONT)

        watcher = threading.Thread(target=watch)
        watcher.start()
        try:
            yield pids
        finally:
            over.set()
            watcher.join()


WAYS: dict[str, Callable[[Path], object]] = {
    "alone": _alone,
    "guard": _guarded,
    "nice 19": _nice,
    "rule": _by_rule,
}


def _below(pid: int) -> list[int]:
    """All that descends from a process."""
    try:
        return [child.pid for child in psutil.Process(pid).children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def _ticks(pids: list[int]) -> int:
    """The processor time that these have used."""
    total = 0
    for pid in pids:
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        total += int(fields[11]) + int(fields[12])
    return total


def _spread(values: list[float]) -> str:
    return f"{statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})"


if __name__ == "__main__":
    sys.exit(main())
