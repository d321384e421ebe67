"""What the local runner writes, and what it does not."""

import errno
import os
import signal
import time
from pathlib import Path

import msgspec
import pytest

from supervisor import ask
from supervisor.config import Config
from supervisor.host.cgroup import ControlGroup
from supervisor.host.clock import SystemClock, boot_id
from supervisor.host.home import Home
from supervisor.runners import local
from supervisor.runners.local import OOM_S, LocalRunner
from testkit.builders import a_run, a_spec
from testkit.patience import until
from trainers import durable
from trainers.contract import Remark, Spec

SPEC = a_spec()


@pytest.fixture
def runner(tmp_path):
    """A runner whose trainers do not outlive the test."""
    runner = LocalRunner(tmp_path, boot_id())
    yield runner
    runner.kill(SPEC.run)


def lived(runner, spec):
    """A trainer is started and killed, and its end is seen."""
    os.kill(runner.start(spec, nice=0).pid, signal.SIGKILL)
    until(lambda: not runner.look(()))


def test_a_restart_does_not_wait_for_a_disk_that_holds_the_spec(runner, tmp_path):
    """The same spec is left as it is, another one replaces it, and a damaged one is mended."""
    path = tmp_path / SPEC.run / "spec.json"
    lived(runner, SPEC)
    written_ns = path.stat().st_mtime_ns
    lived(runner, SPEC)
    assert path.stat().st_mtime_ns == written_ns
    lived(runner, msgspec.structs.replace(SPEC, mode="medium"))
    assert msgspec.json.decode(path.read_bytes(), type=Spec).mode == "medium"
    path.write_bytes(b"{")
    lived(runner, SPEC)
    assert msgspec.json.decode(path.read_bytes(), type=Spec) == SPEC


def exit_of(runner, process):
    """A living trainer is killed; how its end looks."""
    os.kill(process.pid, signal.SIGKILL)
    return until(lambda: runner.look((a_run(SPEC.run),))[SPEC.run].exit)


@pytest.mark.parametrize(
    ("looks_s", "is_blamed"), [((0.0,), True), ((OOM_S,), True), ((OOM_S, OOM_S), False)]
)
def test_who_dies_long_after_the_kernel_struck_was_not_struck(
    runner, monkeypatch, looks_s, is_blamed
):
    """What the kernel killed for want of memory, in hours of training, explains no later death."""
    strikes, ahead_s = 0, 0.0
    clock = time.monotonic
    monkeypatch.setattr(ControlGroup, "oom_kills", lambda _group: strikes)
    monkeypatch.setattr(local.time, "monotonic", lambda: clock() + ahead_s)
    process = runner.start(SPEC, nice=0)
    strikes = 1
    for look_s in looks_s:
        ahead_s += look_s
        runner.look(())
    assert exit_of(runner, process).oom_kill == is_blamed


@pytest.mark.parametrize("own", [0, None])
def test_an_oom_kill_somewhere_on_the_machine_is_not_ours(runner, monkeypatch, own):
    """Another program that the kernel killed explains nothing, also where no group counts."""
    strikes, before = 0, local._oom_kills() or 0
    monkeypatch.setattr(ControlGroup, "oom_kills", lambda _group: own)
    monkeypatch.setattr(local, "_oom_kills", lambda: before + strikes)
    process = runner.start(SPEC, nice=0)
    strikes = 1
    seen = exit_of(runner, process)
    assert (seen.signal, seen.oom_kill, seen.oom_near) == (9, False, True)


@pytest.mark.parametrize(
    ("printed", "line"),
    [
        (b"", None),
        (b"\n \n", None),
        (b"one\ntwo\n\n", "two"),
        (b"trainers: it is a symlink\n", "it is a symlink"),
        (b"\x1b[31mred\x07\n", "[31mred"),
        (b"\xff\xfe", "\N{REPLACEMENT CHARACTER}" * 2),
        (b"x" * 10_000, "x" * 300),
    ],
)
def test_the_last_line_of_an_attempt_is_fit_for_a_log(tmp_path, printed, line):
    """Bounded, without anything that moves a cursor, and nothing of the attempt before."""
    output = tmp_path / "output.log"
    for before in (b"", b"trainers: what an earlier attempt said\n"):
        output.write_bytes(before + printed)
        assert local._last_line(output, len(before)) == line
    assert local._last_line(output, 10**6) is not None, "it was rotated since"
    output.unlink()
    os.mkfifo(output)
    assert local._last_line(output, 0) is None


def test_an_output_says_where_each_attempt_begins(runner, tmp_path):
    """In a line of its own, before all that the trainer prints; it is no last line of anybody."""
    output = tmp_path / SPEC.run / "output.log"
    output.parent.mkdir()
    output.write_bytes(b"half a li")
    process = runner.start(SPEC, nice=0, attempt=3, boot=7)
    torn, begins, *_ = output.read_bytes().splitlines()
    assert (torn, Remark.of(begins).text) == (b"half a li", "attempt 3 begins in boot 7")
    assert Remark.of(begins).at == pytest.approx(SystemClock().read().wall, abs=600)
    assert exit_of(runner, process).signal == signal.SIGKILL


def test_a_reason_before_the_lock_is_heard(runner, tmp_path):
    """A trainer that may not even look into its folder says why in its output alone."""
    folder = tmp_path / SPEC.run
    folder.mkdir()
    (folder / "tensorboard").symlink_to("elsewhere")
    runner.start(SPEC, nice=0)

    def ended():
        seen = runner.look((a_run(SPEC.run),))[SPEC.run]
        return seen.exit and seen

    seen = until(ended, "it leaves")
    assert "symlink" in (seen.last_line or seen.heartbeat.error)
    assert runner.look((a_run(SPEC.run),))[SPEC.run].last_line is None


def state_of(process):
    """The letter by which the kernel tells what a process is at; T: it was stopped."""
    return Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[0]


def test_a_reset_lets_go_on_what_a_dead_supervisor_has_left_standing(tmp_path):
    """Whoever begins anew knows nothing of it."""
    home = Home(tmp_path / "home")
    home.make()
    home.settings.write_text('[campaign]\ntrainer = "drill"\nruns = ["a"]\ntarget.steps = 9\n')
    runner = LocalRunner(home.runs, boot_id())
    process = runner.start(SPEC, nice=0)
    runner.freeze(SPEC.run)
    until(lambda: state_of(process) == "T")
    ask.reset_now(home, Config(home.settings), SystemClock().read())
    until(lambda: state_of(process) != "T")
    assert not LocalRunner(home.runs, boot_id()).look(())[SPEC.run].frozen
    runner.kill(SPEC.run)


def test_what_nobody_would_know_to_thaw_is_not_frozen(runner, monkeypatch):
    """On a full disk the trainer trains on, as mild as it is: the next daemon could not see it."""
    process = runner.start(SPEC, nice=0)
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def refuse(*_, **__):
        raise full

    with monkeypatch.context() as on_a_full_disk:
        on_a_full_disk.setattr(local.durable, "write", refuse)
        runner.freeze(SPEC.run)
    assert state_of(process) != "T"
    assert not runner.look(())[SPEC.run].frozen
    runner.kill(SPEC.run)


def test_a_folder_is_removed_whole_and_again_without_harm(runner, tmp_path):
    """Also one of which a power cut has left a part."""
    lived(runner, SPEC)
    assert runner.kept() == (SPEC.run,)
    assert runner.remove(SPEC.run) is None
    assert runner.kept() == ()
    assert runner.remove(SPEC.run) is None


def test_nothing_is_removed_that_is_in_use_or_somewhere_else(runner, tmp_path):
    """A trainer, whoever started it, and what a link leads to."""
    runner.start(SPEC, nice=0)
    assert runner.remove(SPEC.run) == "something of it lives"
    elsewhere = tmp_path.parent / "elsewhere"
    (elsewhere / "checkpoints").mkdir(parents=True)
    (tmp_path / "linked").symlink_to(elsewhere)
    assert "is a link" in runner.remove("linked")
    assert (elsewhere / "checkpoints").exists()
    (tmp_path / "held").mkdir()
    lock = durable.hold(tmp_path / "held")
    assert runner.remove("held") == "another process holds it"
    lock.release()
    assert runner.remove("held") is None
