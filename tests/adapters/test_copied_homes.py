"""Whose trainer a process is, where homes are copied, moved, mounted twice, or in containers."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from state.records import Process, Run
from supervisor.core.recovery import Observation, RecoveryLimits, judge
from supervisor.host.clock import boot_id
from supervisor.host.process import start_ticks
from supervisor.runners import local
from supervisor.runners.local import LocalRunner, is_alive
from testkit.builders import a_run, a_spec, a_time
from trainers.contract import MARKER

SPEC = a_spec()
PATIENCE_S = 60.0


BEING_WRITTEN = shutil.ignore_patterns(".*")
"""what a living trainer may take away while it is copied"""


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    """The folder of runs of a home, in which a trainer lives that nobody minds any more."""
    runs = tmp_path / "A"
    runs.mkdir()
    yield runs
    for folder in tmp_path.iterdir():
        LocalRunner(folder, boot_id()).kill(SPEC.run)


@pytest.fixture
def run(home: Path) -> Run:
    """Its run, as the memory has it."""
    runner = LocalRunner(home, boot_id())
    run = a_run(SPEC.run, status="running", process=runner.start(SPEC, nice=0))
    until(lambda: (seen := runner.look((run,))[run.id].heartbeat) is not None and seen.step > 0)
    return run


def until(condition: Callable[[], object]) -> None:
    deadline_s = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline_s
        time.sleep(0.02)


def seen(runs: Path, run: Run) -> Observation:
    """What a supervisor that has just begun sees of the run in that home."""
    return LocalRunner(runs, boot_id()).look((run,))[run.id]


def test_a_copied_home_leaves_the_trainers_of_the_original_alone(home: Path, run: Run) -> None:
    """A copy records the same pids, and a start, a stop or a kill there touches none of them."""
    copy = home.with_name("B")
    shutil.copytree(home, copy, ignore=BEING_WRITTEN)
    life = seen(copy, run)
    assert (life.process, life.leftovers, life.elsewhere) == (None, 0, True)
    LocalRunner(copy, boot_id()).kill(run.id)
    assert run.attempt.process is not None
    assert not is_alive(run.attempt.process, boot_id(), copy / run.id)
    assert is_alive(run.attempt.process, boot_id(), home / run.id)
    assert seen(home, run).process == run.attempt.process


def test_a_copy_starts_its_runs_itself_and_says_why(run: Run) -> None:
    """What trains on in the original has not died in the copy: nobody is blamed."""
    copied, (note,) = judge(
        run, Observation(elsewhere=True), a_time(boot_id=boot_id()), RecoveryLimits()
    )
    assert (copied.status, copied.attempt.process, copied.faults.failures) == ("queued", None, 0)
    assert (note.event, note.rule, "copy" in note.reason) == ("run.lost", "copy", True)


def test_what_a_moved_home_left_behind_is_ended(home: Path, run: Run) -> None:
    """Its trainer can save nowhere any more, so it is no trainer to take over."""
    # It would notice at its next save, and be about to end when it is looked at.
    os.kill(run.attempt.process.pid, signal.SIGSTOP)
    moved = home.rename(home.with_name("B"))
    life = seen(moved, run)
    assert (life.process, life.leftovers, life.elsewhere) == (None, 1, False)
    LocalRunner(moved, boot_id()).kill(run.id)
    until(lambda: not seen(moved, run).leftovers)


def test_a_trainer_belongs_to_the_home_that_it_writes_to(home: Path, run: Run) -> None:
    """Where a home was moved and copied back, that is the one at the old path."""
    # Else it may make its folder anew where it was, before that is copied back.
    os.kill(run.attempt.process.pid, signal.SIGSTOP)
    moved = home.rename(home.with_name("B"))
    shutil.copytree(moved, home, ignore=BEING_WRITTEN)
    assert seen(home, run).process == run.attempt.process
    life = seen(moved, run)
    assert (life.process, life.leftovers) == (None, 0)


def test_a_home_that_is_mounted_twice_is_one_home(home: Path, run: Run, tmp_path: Path) -> None:
    """Its trainer is its own under either path."""
    other = tmp_path / "mounted"
    other.mkdir()
    if subprocess.run(["mount", "--bind", home, other], check=False).returncode:
        pytest.skip("NOT TESTED: a home that is mounted twice; mounting takes root")
    try:
        assert seen(other, run).process == run.attempt.process
    finally:
        subprocess.run(["umount", other], check=True)


def test_a_home_at_the_same_path_in_a_container_is_another(home: Path) -> None:
    """A mark leads where its process sees it lead, not where we would."""
    folder = home / SPEC.run
    folder.mkdir()
    probe = ["unshare", "-m", "mount", "-t", "tmpfs", "none", str(home)]
    if subprocess.run(probe, check=False, capture_output=True).returncode:
        pytest.skip("NOT TESTED: a home in a container; mounting takes root")
    inside = f"mount -t tmpfs none {home} && mkdir {folder} && cd {folder} && exec sleep infinity"
    stranger = subprocess.Popen(
        ["unshare", "-m", "sh", "-c", inside], env={**os.environ, MARKER: str(folder)}
    )
    try:
        until(lambda: comm(stranger.pid) == "sleep")
        assert local._marked_processes(home) == {}
    finally:
        stranger.kill()
        stranger.wait()


def test_a_program_may_write_over_its_environment(home: Path, tmp_path: Path) -> None:
    """The recorded trainer without any mark is ours where it stands in its run folder."""
    folder = home / SPEC.run
    folder.mkdir()
    for place, ours in ((folder, True), (tmp_path, False)):
        trainer = subprocess.Popen(["sleep", "infinity"], cwd=place, env={"PATH": os.defpath})
        try:
            until(lambda pid=trainer.pid: comm(pid) == "sleep")
            ticks = start_ticks(trainer.pid)
            assert ticks is not None
            process = Process(boot_id=boot_id(), pid=trainer.pid, start_ticks=ticks)
            life = seen(home, a_run(SPEC.run, status="running", process=process))
            assert life.process == (process if ours else None)
        finally:
            trainer.kill()
            trainer.wait()


def comm(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text(encoding="utf-8").strip()
    except OSError:
        return ""
