"""Whoever is killed, whenever: it comes back, once, and nobody is left over."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from state.records import Process
from state.store import Store
from testkit.machine import SETTINGS, Machine
from testkit.patience import PATIENCE_S, until
from testkit.processes import PROC, is_held, mains, stat
from testkit.runs import resumed_step, saved_step, story
from testkit.witness import Witness
from testkit.worlds import a_disk

ONE_RUN = SETTINGS.replace('["A", "B", "C", "D", "E"]', '["A"]')
QUICK = "[recovery]\nbackoff_first_s = 0.1\ngrace_s = 20\n"
KINDS = ("group", "setsid", "double_fork")
WORKERS = 2
EVERYBODY = len(KINDS) * (1 + WORKERS)


def with_options(settings: str, *options: str) -> str:
    """The settings with further options of the drill."""
    return settings.replace("steps_per_s", "\n".join((*options, "steps_per_s")))


def drilling(machine: Machine, *options: str) -> subprocess.Popen[str]:
    """A supervisor of one run with workers that are hard to find; it has a checkpoint."""
    workers = (f"workers = {WORKERS}", 'worker_kind = "double_fork"')
    machine.configure(f"{with_options(ONE_RUN, *workers, *options)}\n{QUICK}")
    daemon = machine.start()
    machine.until(lambda: machine.heartbeat("A").get("checkpoint_step"), "a checkpoint")
    machine.until(lambda: len(machine.trainers()) == 1 + WORKERS, "a trainer with its workers")
    return daemon


def drilling_three(machine: Machine) -> subprocess.Popen[str]:
    """A supervisor of three runs, each with workers in another hiding place, and a checkpoint."""
    modes = machine.home / "modes"
    modes.mkdir()
    (modes / "light.toml").write_text("rung = 0\nslots = 3\n")
    runs = SETTINGS.replace('["A", "B", "C", "D", "E"]', f"{list(KINDS)}")
    kinds = "".join(f'[run.{kind}.options]\nworker_kind = "{kind}"\n' for kind in KINDS)
    settings = with_options(runs, f"workers = {WORKERS}")
    machine.configure(f'modes_dir = "modes"\n{settings}\n{kinds}\n{QUICK}')
    daemon = machine.start()
    for kind in KINDS:
        machine.until(lambda: saved_step(machine, kind), "a checkpoint")  # noqa: B023 - at once
    machine.until(lambda: len(machine.trainers()) == EVERYBODY, "three trainers with their workers")
    return daemon


def kill(*pids: int) -> None:
    for pid in pids:
        os.kill(pid, signal.SIGKILL)


DIED = ["run.started", "run.died", "run.killed", "run.started"]


def strike(machine: Machine, daemon: subprocess.Popen[str], victims: str) -> None:
    """Kill or stop what the name says."""
    everybody = set(machine.trainers())
    trainers = {main.pid for main in mains(machine.home / "runs")}
    if "daemon" in victims or victims == "all":
        beside = {"daemon and mains": trainers, "all": everybody}.get(victims, set())
        kill(daemon.pid, *beside)
        daemon.wait()
    if victims in ("mains", "daemon, then mains"):
        kill(*trainers)
    elif victims == "workers":
        kill(*(everybody - trainers))
    elif victims == "SIGTERM":
        daemon.terminate()
        assert daemon.wait(PATIENCE_S) == 0
    elif "supervisor stop" in victims:
        assert machine("stop").returncode == 0
        daemon.wait(PATIENCE_S)


@pytest.mark.parametrize("victims", ["daemon", "workers"])
def test_what_costs_no_training(machine: Machine, victims: str) -> None:
    """Without its daemon a trainer trains on and is adopted; without a worker it is let be.

    Whether a trainer can go on without a worker is its own affair.
    """
    daemon = drilling_three(machine)
    runs = machine.home / "runs"
    before = mains(runs)
    with Witness(runs).watching() as witness:
        strike(machine, daemon, victims)
        step = {kind: machine.heartbeat(kind)["step"] for kind in KINDS}
        if victims == "daemon":
            machine.start()
            machine.until(lambda: len(machine.events("run.adopted")) == len(KINDS), "adopted")
        for kind in KINDS:
            machine.until_steps(kind, step[kind] + 100)
    assert mains(runs) == before
    assert witness.seen <= before
    adopted = {line["evidence"]["pid"] for line in machine.events("run.adopted")}
    assert adopted == ({main.pid for main in before} if victims == "daemon" else set())
    assert len(machine.trainers()) == (EVERYBODY if victims == "daemon" else len(KINDS))
    assert {*story(machine, "group")} <= {"run.started", "run.adopted"}


@pytest.mark.parametrize(
    "victims",
    [
        "mains",
        "daemon and mains",
        "daemon, then mains",
        "all",
        "SIGTERM",
        "supervisor stop",
        "daemon, then supervisor stop",
    ],
)
def test_after_a_kill_or_a_stop_each_run_goes_on_once(machine: Machine, victims: str) -> None:
    """One trainer of each run resumes from its checkpoint; nobody is left over, never are two."""
    daemon = drilling_three(machine)
    runs = machine.home / "runs"
    old, before = set(machine.trainers()), mains(runs)
    with Witness(runs).watching() as witness:
        strike(machine, daemon, victims)
        if victims == "SIGTERM" or "stop" in victims:
            assert machine.trainers() == {}
            assert all(saved_step(machine, k) == machine.heartbeat(k)["step"] for k in KINDS)
        saved = {kind: saved_step(machine, kind) for kind in KINDS}
        if victims != "mains":
            machine.start()
        machine.until(lambda: not old & machine.trainers().keys(), "the old ones are gone")
        machine.until(lambda: len(machine.trainers()) == EVERYBODY, "all is as it was")
        resumed = {kind: resumed_step(machine, kind) for kind in KINDS}
        for kind in KINDS:
            machine.until_steps(kind, resumed[kind] + 50)
    after = mains(runs)
    assert witness.twins == set()
    assert witness.seen <= before | after
    assert len(after) == len(KINDS)
    assert len(machine.events("run.started")) == 2 * len(KINDS)
    assert all(resumed[kind] >= saved[kind] > 0 for kind in KINDS)
    if victims == "mains":
        assert [story(machine, kind) for kind in KINDS] == [DIED] * len(KINDS)
        assert {line["evidence"]["signal"] for line in machine.events("run.died")} == {9}


def test_a_stop_in_mid_save_waits_for_the_save(machine: Machine) -> None:
    """Told to stop three times while a checkpoint is written, it leaves with all steps saved."""
    daemon = drilling(machine, "save_s = 0.5")
    folder = machine.home / "runs/drill-A/checkpoints"
    machine.until(lambda: list(folder.glob(".*.new/first.json")), "a half-written checkpoint")
    for _ in range(3):
        daemon.terminate()
    assert daemon.wait(PATIENCE_S) == 0
    assert machine.trainers() == {}
    assert machine.events("run.killed")[1:] == [], "only the orphans were killed"
    assert saved_step(machine) == machine.heartbeat("A")["step"]
    assert list(folder.glob(".*")) == []


def test_a_kill_after_the_grace_costs_only_the_save_that_it_hits(machine: Machine) -> None:
    """A trainer that goes on saving for ever is killed; the newest whole checkpoint loads."""
    deaf = ("ignore_sigterm = true", "save_s = 0.2")
    settings = with_options(ONE_RUN, *deaf).replace("interval_s = 0.5", "interval_s = 0.01")
    machine.configure(f"{settings}\n[recovery]\ngrace_s = 1\n")
    daemon = machine.start()
    machine.until(lambda: machine.heartbeat("A").get("checkpoint_step"), "a checkpoint")
    daemon.terminate()
    assert daemon.wait(PATIENCE_S) == 0
    assert machine.trainers() == {}
    assert len(machine.events("run.killed")) == 1
    saved = saved_step(machine)
    machine.start()
    assert resumed_step(machine) >= saved


@pytest.mark.parametrize("fits", ["the pid", "the pid and the start"])
def test_a_stranger_with_the_pid_of_a_trainer_is_not_touched(machine: Machine, fits: str) -> None:
    """The state names a process that is now another's: it lives on, and the run starts anew."""
    daemon = drilling(machine)
    machine.crash()
    stranger = subprocess.Popen(["sleep", "1000"], start_new_session=True)
    ticks = int(stat(PROC / str(stranger.pid))[19])
    process = Process(boot_id=machine.boot, pid=stranger.pid, start_ticks=ticks)
    if fits == "the pid":  # it was given away again within this boot
        process = msgspec.structs.replace(process, start_ticks=ticks - 1)
    else:  # or by the next boot, at the same moment of its life
        machine.reboot()
    store = Store(machine.home / "state.json")
    memory, _ = store.load()
    assert memory is not None
    (run,) = memory.runs
    run = run.but(status="running", process=process)
    store.save(msgspec.structs.replace(memory, runs=(run,)))
    heartbeat = machine.heartbeat("A") | {"pid": stranger.pid}
    (machine.home / "runs/drill-A/heartbeat.json").write_bytes(msgspec.json.encode(heartbeat))
    daemon = machine.start()
    machine.until(lambda: len(machine.trainers()) == 1 + WORKERS, "the run trains again")
    assert resumed_step(machine) > 0
    assert machine.events("run.adopted") == []
    assert machine.stop(daemon) == 0
    assert stranger.poll() is None
    stranger.kill()


def test_a_trainer_that_cannot_be_killed_blocks_its_run(machine: Machine) -> None:
    """A trainer that a frozen disk holds outlives SIGKILL, and its supervisor: nothing starts.

    Its main thread is dead, and the one that the disk holds is not: it is no zombie.
    """
    runs = machine.home / "runs"
    runs.mkdir()
    disk = a_disk(runs / "drill-A")
    two = SETTINGS.replace('["A", "B", "C", "D", "E"]', '["A", "B"]')
    machine.configure(f"{two}\n[recovery]\ngrace_s = 0.5\nkill_s = 0.5\n")
    daemon = machine.start()
    machine.until(lambda: machine.heartbeat("A").get("checkpoint_step"), "a checkpoint")
    machine.until_steps("B")
    (held,) = [main.pid for main in mains(runs) if main.run.endswith("drill-A")]
    (other,) = [main.pid for main in mains(runs) if main.run.endswith("drill-B")]
    with Witness(runs).watching() as witness:
        with disk.frozen():
            machine.until(lambda: is_held(held), "it is held")
            assert machine("pause").returncode == 0
            machine.until(lambda: machine.events("run.blocked"), "A is blocked")
            machine.until(lambda: other not in machine.trainers(), "B has left")
            kill(daemon.pid)
            daemon.wait()
            machine.start()
            assert machine("resume").returncode == 0
            assert len(machine.events("run.started")) == 2
            blocked = machine.run("A")
            assert blocked["status"] == "blocked"
            assert "cannot be killed" in blocked["reason"]
            assert "a reboot may be needed" in blocked["reason"]
            assert is_held(held)
        machine.until(lambda: len(machine.trainers()) == 2, "both train again")
        assert resumed_step(machine) > 0
    assert witness.twins == set()
    told = [event for event in story(machine) if event != "run.adopted"]
    assert told[-4:] == ["run.killed", "run.blocked", "run.cleared", "run.started"]


def test_of_ten_supervisors_one_lives(machine: Machine) -> None:
    """However many start at once, whatever is deleted meanwhile, one runs and tells the others."""
    crowd = [
        subprocess.Popen(
            [sys.executable, "-m", "supervisor", "run"],
            env=machine.environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(10)
    ]
    machine.daemons += crowd
    with Witness(machine.home / "runs").watching() as witness:

        def one_is_left() -> bool:
            (machine.home / "daemon.json").unlink(missing_ok=True)
            return sum(one.poll() is None for one in crowd) == 1

        until(one_is_left, "one is left", look_s=0)
        machine.until_steps("A")
        (machine.home / "daemon.json").unlink(missing_ok=True)
        late = machine("run")
    assert (late.returncode, "already runs" in late.stderr) == (75, True)
    losers = [one for one in crowd if one.poll() is not None]
    assert {one.returncode for one in losers} == {75}
    assert all("already runs" in one.communicate()[1] for one in losers)
    assert len(machine.trainers()) == 2
    assert witness.twins == set()


def test_a_supervisor_whose_home_was_taken_away_leaves(machine: Machine) -> None:
    """With the home moved away nothing of the old supervisor lives beside a new one."""
    daemon = machine.start()
    machine.until_steps("A")
    machine.home.rename(machine.home.with_name("moved"))
    machine.home.mkdir()
    shutil.copy(machine.home.with_name("moved") / "supervisor.toml", machine.home)
    (trainer, *_) = machine.trainers()
    kill(trainer)  # whatever wakes it shows it that its home is gone
    assert daemon.wait(PATIENCE_S) == 1
    machine.until(lambda: not machine.trainers(), "nothing of it lives")
    assert not (machine.home / "state.json").exists(), "the new folder may be another's"


def test_a_home_has_one_identity_by_whatever_path(machine: Machine, tmp_path: Path) -> None:
    """Workers left behind under one path to the home are ended by a supervisor under another."""
    daemon = drilling(machine)
    old = set(machine.trainers())
    kill(daemon.pid, *(main.pid for main in mains(machine.home / "runs")))
    daemon.wait()
    other_name = tmp_path / "other-name"
    other_name.symlink_to(machine.home)
    machine.extra["SUPERVISOR_HOME"] = str(other_name)
    machine.start()
    machine.until(lambda: len(machine.trainers()) == 1 + WORKERS, "a new trainer and its workers")
    machine.until(lambda: not old & machine.trainers().keys(), "nothing of the old one lives")


def test_a_run_that_dies_at_the_same_step_is_held_and_others_go_on(machine: Machine) -> None:
    """After a few cycles without progress others get its slot, and it is said."""
    settings = SETTINGS + "\n[run.A.options]\ncrash_at_step = 100\n"
    machine.configure(f"{settings}\n[recovery]\nbackoff_first_s = 0.1\nheld_after = 3\n")
    machine.start()
    machine.until_steps("B")
    other = next(pid for pid, run in machine.trainers().items() if run == "drill-B")
    machine.until(lambda: machine.events("run.quarantined"), "A is held")
    machine.until_steps("C")
    (held,) = machine.events("run.quarantined")
    assert held["run"] == "drill-A"
    assert "died 3 times at step " in held["reason"]
    assert other in machine.trainers()
    assert machine.run("A")["status"] == "quarantined"


def test_a_checkpoint_that_cannot_be_loaded_does_not_hold_its_run(machine: Machine) -> None:
    """After three deaths it is set aside, and the run goes on from the one before and past it."""
    machine.configure(f"{ONE_RUN}\n{QUICK}")
    daemon = machine.start()
    checkpoints = machine.home / "runs/drill-A/checkpoints"
    machine.until(lambda: len([*checkpoints.glob("[0-9]*")]) >= 2, "two checkpoints")
    assert machine.stop(daemon) == 0
    *_, before, newest = sorted(int(path.name) for path in checkpoints.glob("[0-9]*"))
    machine.configure(f"{with_options(ONE_RUN, f'unloadable_from_step = {newest}')}\n{QUICK}")
    machine.start()
    machine.until_steps("A", newest + 10)
    assert machine.heartbeat("A")["began"]["step"] == before
    reasons = [line["reason"] for line in machine.events("run.died")]
    assert len(reasons) == 3
    assert f"from checkpoint {newest}: the one before is tried" in reasons[-1]
    (notice,) = machine.heartbeat("A")["notices"]
    assert f"withheld-{newest}" in notice
    assert (checkpoints / f"withheld-{newest}/manifest.json").exists()


def test_where_no_checkpoint_can_be_loaded_the_newest_comes_back(machine: Machine) -> None:
    """A reason that spoils all of them costs none: the run is held, and nothing has moved."""
    machine.configure(f"{ONE_RUN}\n{QUICK}")
    daemon = machine.start()
    checkpoints = machine.home / "runs/drill-A/checkpoints"
    machine.until(lambda: len([*checkpoints.glob("[0-9]*")]) >= 3, "three checkpoints")
    assert machine.stop(daemon) == 0
    names = sorted(path.name for path in checkpoints.iterdir())
    machine.configure(f"{with_options(ONE_RUN, 'unloadable_from_step = 1')}\n{QUICK}\nheld_s = 1")
    machine.start()
    machine.until(lambda: len(machine.events("run.quarantined")) == 1, "it is held")
    assert "comes back" in machine.events("run.quarantined")[0]["reason"]
    machine.until(lambda: len(machine.events("run.died")) == 6, "the newest is tried once more")
    assert sorted(path.name for path in checkpoints.iterdir()) == names


def test_a_container_without_an_init_keeps_no_zombies(machine: Machine) -> None:
    """As its first process the supervisor waits for all orphans; and it stops as asked."""
    within = ("unshare", "--fork", "--pid", "--mount-proc", "--kill-child")
    if subprocess.run([*within, "true"], capture_output=True, check=False).returncode:
        pytest.skip("NOT TESTED: the supervisor as process 1; this user may not `unshare --pid`")
    workers = (f"workers = {WORKERS}", 'worker_kind = "double_fork"')
    machine.configure(f"{with_options(ONE_RUN, *workers)}\n{QUICK}")
    container = machine.start(*within)
    (first,) = children(container.pid)
    for lives in (1, 2, 3):
        machine.until(lambda: len(machine.trainers()) == 1 + WORKERS, "a trainer with its workers")
        machine.until(lambda n=lives: len(machine.events("run.started")) == n, "its start is told")
        for trainer in machine.trainers():
            os.kill(trainer, signal.SIGKILL)
    machine.until(lambda: len(machine.events("run.started")) == 4, "it lives again")
    machine.until(lambda: len(children(first)) == 1 + WORKERS, "only who lives is left")
    os.kill(first, signal.SIGTERM)
    assert container.wait(PATIENCE_S) == 0
    assert machine.events("supervisor.stopped")


def children(pid: int) -> list[int]:
    """Everybody whose parent that is, the dead among them that nobody has waited for."""
    listed = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(child) for child in listed.split()]
