"""Noise, load, want of memory and a long history: nothing grows, and nobody is blamed wrongly."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from state.store import Store
from supervisor.core import history
from supervisor.core.facts import StabilityLimits
from supervisor.host import process
from testkit.builders import a_ladder
from testkit.fakes import FakeClock
from testkit.machine import SETTINGS, Machine

MIB = 2**20
OUTPUT_MAX_BYTES = 16 * MIB
ONE_RUN = SETTINGS.replace('["A", "B", "C", "D", "E"]', '["A"]')

LIVES, PRINT_MIB = 4, 256
BOOTS, DECISIONS = 10_000, 1_000_000
SPARE_KIB = {"read_kib": 1024, "memory_kib": 2048, "questions_kib": 2048, "state_kib": 4}
"""what chance, but no long history, may cost"""


def test_a_crash_loop_that_prints_a_gigabyte_keeps_little_of_it(machine: Machine) -> None:
    """However much each life prints, two bounded files are left, and what was said last."""
    noisy = f"print_mib = {PRINT_MIB}\ncrash_at_step = 20\nsteps_per_s"
    quick = f"[recovery]\nbackoff_first_s = 0.05\nbackoff_max_s = 0.05\nheld_after = {LIVES}\n"
    quick += "withheld_after = 1000\n"  # whatever is gone on from, it dies
    machine.configure(f"{ONE_RUN.replace('steps_per_s', noisy)}\n{quick}")
    machine.start()
    machine.until(lambda: machine.events("run.quarantined"), "the crash loop is given up")
    assert len(machine.events("run.started")) == LIVES
    folder = machine.home / "runs/drill-A"
    kept = {path.name: path.stat().st_size for path in folder.glob("output.log*")}
    assert kept.keys() == {"output.log", "output.log.1"}
    assert sum(kept.values()) <= 2 * OUTPUT_MAX_BYTES
    assert "rehearsed crash at step 20" in (folder / "output.log.1").read_text()[-4000:]


def test_every_log_rotates_under_a_size_and_a_count(machine: Machine) -> None:
    """A supervisor that looks and decides without end keeps so many files of such a size."""
    kib, kept = 4, 2
    limits = f"max_mib = {kib / 1024}\nkept = {kept}\n"
    settings = ONE_RUN.replace("[logs]\n", f"[logs]\n{limits}")
    machine.configure(f"{settings}\n[policy]\ntick_s = 0.05\n")
    daemon = machine.start()
    logs = ("monitor.jsonl", "decisions.jsonl")
    while not all((machine.home / f"{log}.{kept}").exists() for log in logs):
        assert machine("pin", "medium").returncode == 0
        assert machine("unpin").returncode == 0
    assert machine.stop(daemon) == 0
    lines = b"".join(
        path.read_bytes() for path in sorted(machine.home.glob("decisions.jsonl*"), reverse=True)
    )
    written = [json.loads(line)["seq"] for line in lines.splitlines()]
    assert written == list(range(written[0], written[-1] + 1))
    answer = machine("decisions", "--json", "-n", "8").stdout.splitlines()
    assert [json.loads(line)["seq"] for line in answer] == written[-8:]
    for log in logs:
        files = sorted(machine.home.glob(f"{log}*"))
        older = [f"{log}.{n + 1}" for n in range(kept)]
        # Where the last line filled its file, none has begun the next.
        assert [path.name for path in files] in ([log, *older], older)
        for path in files:
            longest = max(map(len, path.read_bytes().splitlines(keepends=True)))
            assert path.stat().st_size <= kib * 1024 + longest


def test_a_slow_trainer_that_moves_is_left_alone_under_load(machine: Machine) -> None:
    """With twice as many hungry processes as processors a step a second is no hang."""
    slow = ONE_RUN.replace("steps_per_s = 200", "steps_per_s = 1")
    machine.configure(f"{slow}\n[recovery]\nsilent_min_s = 0.5\n[policy]\ntick_s = 0.1\n")
    hungry = [
        subprocess.Popen([sys.executable, "-c", "while True: pass"])
        for _ in range(2 * len(os.sched_getaffinity(0)))
    ]
    try:
        machine.start()
        machine.until_steps("A", 8)
    finally:
        for one in hungry:
            one.kill()
            one.wait()
    assert len(machine.events("run.started")) == 1
    assert machine.events("run.hung") == []
    assert machine.heartbeat("A")["longest_gap_s"] > 0.5, "it was never slow"


def test_a_loss_that_is_no_number_is_told_and_spoils_no_file(machine: Machine) -> None:
    """NaN becomes null in every file, and the decision log says once what happened."""
    settings = ONE_RUN.replace("steps_per_s", "nan_at_step = 100\nsteps_per_s")
    machine.configure(f"{settings}\n[policy]\ntick_s = 0.2\n")
    daemon = machine.start()
    machine.until(lambda: machine.events("run.noticed"), "it is told")
    machine.until_steps("A", 400)
    assert machine("show-state", "--json").returncode == 0
    assert machine.stop(daemon) == 0
    (noticed,) = machine.events("run.noticed")
    assert "loss is not a finite number" in noticed["reason"]
    for path in machine.home.rglob("*.json"):
        json.loads(path.read_text(), parse_constant=pytest.fail)
    for path in machine.home.rglob("*.jsonl"):
        for line in path.read_text().splitlines():
            json.loads(line, parse_constant=pytest.fail)


def oom_score_adj(pid: int) -> int:
    return int(Path(f"/proc/{pid}/oom_score_adj").read_text())


def test_trainers_inherit_no_protection_from_the_oom_killer(machine: Machine) -> None:
    """The daemon may be protected; a trainer and its workers are as anybody else."""
    machine.configure(ONE_RUN.replace("steps_per_s", "workers = 2\nsteps_per_s"))
    protected = 'echo -900 > /proc/$$/oom_score_adj && exec "$@"'
    words = ["sh", "-c", protected, "sh", sys.executable, "-m", "supervisor", "run"]
    with machine.screen.open("a") as screen:
        daemon = subprocess.Popen(
            words, env=machine.environment(), stdout=screen, stderr=screen, text=True
        )
    machine.daemons.append(daemon)
    machine.until(lambda: len(machine.trainers()) == 3 or daemon.poll(), "a trainer and workers")
    if daemon.poll() is not None:
        pytest.skip("NOT TESTED: protection from the OOM killer; it takes CAP_SYS_RESOURCE")
    assert oom_score_adj(daemon.pid) == -900
    machine.until_steps("A")
    assert {oom_score_adj(pid) for pid in machine.trainers()} == {0}


@pytest.mark.parametrize(("inherited", "allowed"), [(-900, 0), (0, 0), (300, 300)])
def test_a_protection_that_was_inherited_is_given_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, inherited: int, allowed: int
) -> None:
    """The same as above on a stand-in for /proc, where nobody may protect a process."""
    adjust = tmp_path / "4711/oom_score_adj"
    adjust.parent.mkdir()
    adjust.write_text(f"{inherited}\n")
    monkeypatch.setattr(process, "PROC", tmp_path)
    process.give_back_protection(4711)
    assert int(adjust.read_text()) == allowed


@pytest.fixture
def memory_group() -> Iterator[Path]:
    """A group of processes whose memory can be limited."""
    own = [line.split(":") for line in Path("/proc/self/cgroup").read_text().splitlines()]
    place = next((path for _, kinds, path in own if kinds == "memory"), None)
    group = Path(f"/sys/fs/cgroup/memory{place}/training-supervisor-test-{os.getpid()}")
    try:
        group.mkdir()
    except OSError:
        pytest.skip("NOT TESTED: a real OOM kill; there is no memory controller (v1) to limit")
    for killed in group.parent.glob("training-supervisor-test-*"):
        if not Path("/proc", killed.name.rpartition("-")[2]).exists():
            killed.rmdir()  # left by tests that could not tidy up
    yield group
    group.rmdir()


def test_an_oom_kill_is_told_from_other_kills(
    machine: Machine, memory_group: Path, tmp_path: Path
) -> None:
    """A trainer that the kernel kills for want of memory is told so; with memory, it trains."""
    (tmp_path / "sitecustomize.py").write_text(
        "import os, sys\nfrom pathlib import Path\n"
        f"Path({f'{memory_group}/cgroup.procs'!r}).write_text(str(os.getpid()))\n"
        f"if '--run' in sys.orig_argv: b'x' * {400 * MIB}\n"
    )
    machine.extra = {"PYTHONPATH": str(tmp_path)}
    limit = memory_group / "memory.limit_in_bytes"
    limit.write_text(f"{250 * MIB}")
    quick = "[recovery]\nbackoff_first_s = 0.2\nbackoff_max_s = 0.2\n"
    machine.configure(f"{ONE_RUN}\n{quick}")
    daemon = machine.start()
    machine.until(lambda: machine.events("run.died"), "a trainer died")
    limit.write_text("-1")
    machine.until_steps("A")
    assert {line["rule"] for line in machine.events("run.died")} == {"out_of_memory"}
    assert machine("show-state").returncode == 0
    (trainer,) = machine.trainers()
    os.kill(trainer, signal.SIGKILL)
    machine.until(lambda: machine.events("run.died")[-1]["rule"] == "killed", "another kill")
    assert machine.stop(daemon) == 0


def test_without_inotify_it_trains_and_says_so_once(machine: Machine) -> None:
    """All instances are taken by others: requests are seen at the next look; it is told once."""
    none = 'echo 0 > /proc/sys/user/max_inotify_instances && exec "$@"'
    within = ("unshare", "--user", "--map-root-user", "sh", "-c", none, "sh")
    if subprocess.run([*within, "true"], check=False, capture_output=True).returncode:
        pytest.skip("NOT TESTED: a machine without inotify; user namespaces cannot be had here")
    machine.configure(f"{ONE_RUN}\n[policy]\ntick_s = 0.5\n")
    daemon = machine.start(*within)
    machine.until_steps("A")
    assert machine("pin", "medium").returncode == 0
    machine.until(lambda: machine.state()["mode"] == "medium", "a request is seen all the same")
    (told,) = machine.events("watch.lost")
    assert "inotify" in told["reason"]
    assert machine.stop(daemon) == 0


def make_history(machine: Machine, *, boots: int, decisions: int) -> None:
    """A home that has lived for very long."""
    clock = FakeClock()
    memory = history.first_day(clock.read(), a_ladder())
    for _ in range(boots):
        clock.reboot()
        memory, _ = history.record_boot(memory, clock.read(), a_ladder(), StabilityLimits())
    # The last of them ended well: this is no boot loop, in which nothing would train.
    memory = msgspec.structs.replace(memory, decisions=decisions, clean_stop=True, bookings=())
    Store(machine.home / "state.json").save(memory)
    with (machine.home / "decisions.jsonl").open("w") as log:
        for number in range(1, decisions + 1):
            log.write(
                f'{{"seq":{number},"time":"2026-01-05T00:00:00Z","boot":"{number % 97:032x}",'
                '"event":"request.refused","rule":"request","reason":"it is the lowest"}\n'
            )


ASK = """
import resource, subprocess, sys
subprocess.run([sys.executable, "-m", "supervisor", *sys.argv[1:]], check=True)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""


def what_it_takes(machine: Machine) -> dict[str, int]:
    """What a start and a few looks read, and what they and two questions keep in memory."""
    settings = ONE_RUN.replace("[logs]\n", "[logs]\nmax_mib = 1000\n")
    machine.configure(f"{settings}\n[policy]\ntick_s = 0.2\n")
    daemon = subprocess.Popen(
        [sys.executable, "-m", "supervisor", "run"],
        env=machine.environment(),
        stdout=subprocess.DEVNULL,
        text=True,
    )
    machine.daemons.append(daemon)
    machine.until_steps("A", 200)
    status = Path(f"/proc/{daemon.pid}/status").read_text().split()
    counters = Path(f"/proc/{daemon.pid}/io").read_text().split()
    questions = [
        int(
            subprocess.check_output(
                [sys.executable, "-c", ASK, *words], env=machine.environment(), text=True
            ).splitlines()[-1]
        )
        for words in (["show-state"], ["decisions", "-n", "5"])
    ]
    assert machine.stop(daemon) == 0
    return {
        "read_kib": int(counters[counters.index("rchar:") + 1]) // 1024,
        "memory_kib": int(status[status.index("VmHWM:") + 1]),
        "questions_kib": max(questions),
        "state_kib": (machine.home / "state.json").stat().st_size // 1024,
    }


def test_a_long_history_costs_nothing(machine: Machine, tmp_path: Path) -> None:
    """After ten thousand boots and a million decisions a start reads and keeps as much as ever."""
    young = Machine(tmp_path / "young")
    make_history(young, boots=history.BOOTS_KEPT, decisions=1000)
    make_history(machine, boots=BOOTS, decisions=DECISIONS)
    assert (machine.home / "decisions.jsonl").stat().st_size > 100 * MIB
    before, after = what_it_takes(young), what_it_takes(machine)
    assert machine.state()["boots_total"] == BOOTS + 2
    newest = machine("decisions", "--json", "-n", "1").stdout
    assert json.loads(newest)["seq"] > DECISIONS
    for what, spare_kib in SPARE_KIB.items():
        assert after[what] <= before[what] + spare_kib, (what, before, after)
