"""A trainer that a warm parent has forked is like any other, and the parent does no harm."""

import os
import re
import signal
from contextlib import suppress
from pathlib import Path

import msgspec
import pytest
from test_atari_resume import everything, newest_step
from trainer_lives import kill_all

from supervisor.host.clock import boot_id
from supervisor.runners import warm
from supervisor.runners.local import LocalRunner
from testkit.builders import a_run, a_spec
from testkit.patience import until
from trainers.contract import MARKER, Target

SPEC = a_spec()
RUN = a_run(SPEC.run)
MEMORY_MAX_MIB = 100.0
# Python runs it before the first code of a program: a library that has a thread.
THREAD = """\
import sys, threading, time
if "--warm" in sys.orig_argv:
    threading.Thread(target=time.sleep, args=(1e6,), daemon=True).start()
"""
# A library that does not bear a fork.
BROKEN_FORK = """\
import os, sys
if "--warm" in sys.orig_argv:
    os.register_at_fork(after_in_child=lambda: os._exit(3))
"""


@pytest.fixture
def runner(tmp_path):
    """A runner of which nothing outlives the test."""
    runner = LocalRunner(tmp_path, boot_id())
    yield runner
    runner.close()
    kill_all(marked(tmp_path))


@pytest.fixture
def warmed(runner):
    """The same with a warm parent that is ready."""
    begin(runner)
    return runner


def begin(runner):
    until(lambda: not runner.keep_warm([SPEC], memory_max_mib=MEMORY_MAX_MIB))
    until(lambda: runner._warm.tend(calm=True) or runner._warm.is_ready("drill"))


def read(pid, name):
    return (Path("/proc") / str(pid) / name).read_bytes()


def field(pid, number):
    """A field of proc(5)'s stat; None where no process lives."""
    try:
        fields = read(pid, "stat").rpartition(b")")[2].split()
    except FileNotFoundError:
        return None
    return None if fields[0] == b"Z" else int(fields[number - 3])


def parent_of(pid):
    return field(pid, 4)


def marked(runs):
    """Living processes that carry a run folder below `runs`, or that of no run."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            environment = (entry / "environ").read_bytes()
        except OSError:
            continue
        if f"{MARKER}={runs}/".encode() in environment and parent_of(entry.name):
            found.append(int(entry.name))
    return found


def life(runner):
    return runner.look((RUN,))[RUN.id]


def stepping(runner):
    """The trainer's heartbeat once it has made a step."""

    def look():
        heartbeat = life(runner).heartbeat
        return heartbeat is not None and heartbeat.step > 0 and heartbeat

    return until(look)


def troubles(runner):
    return runner.keep_warm([SPEC], memory_max_mib=MEMORY_MAX_MIB)


def nice_of_session(pid):
    """Where the kernel groups sessions; None where it does not."""
    try:
        return int((Path("/proc") / str(pid) / "autogroup").read_text().split()[-1])
    except OSError:
        return None


def looks(runner, pid):
    """What others see of a trainer, once it has made a step."""
    beating = stepping(runner).pid == pid
    lines = read(pid, "environ").split(b"\0")
    files = {}
    for name in Path(f"/proc/{pid}/fd").glob("[0-9]*"):
        with suppress(FileNotFoundError):  # it opens and closes its heartbeat meanwhile
            files[name.name] = str(name.readlink())
    return {
        "beats": beating,
        "command": read(pid, "cmdline").rstrip(b"\0"),
        "marker": [line for line in lines if line.startswith(MARKER.encode())],
        "folder": Path(f"/proc/{pid}/cwd").readlink(),
        "leads its session": field(pid, 6) == pid,
        "niceness": field(pid, 19),
        "niceness of its session": nice_of_session(pid),
        "oom score": read(pid, "oom_score_adj"),
        "standard files": [files[number] for number in "012"],
        "sockets": [file for file in files.values() if file.startswith("socket")],
        "signals": [
            int(mask, 16) & 0x7FFFFFFF  # the ones above are of the C library and its threads
            for mask in re.findall(rb"Sig(?:Ign|Cgt):\s*(\w+)", read(pid, "status"))
        ],
    }


def test_a_forked_trainer_looks_like_one_that_was_started(warmed, tmp_path):
    """Command, marker, folder, session, niceness and open files are those of a cold start."""
    parents = marked(tmp_path)
    forked = warmed.start(SPEC, nice=3).pid
    as_forked = looks(warmed, forked)
    warmed.kill(SPEC.run)
    until(lambda: parent_of(forked) is None)
    cold = LocalRunner(tmp_path, boot_id())
    started = cold.start(SPEC, nice=3).pid
    assert parent_of(started) == os.getpid()
    assert as_forked == looks(cold, started)
    assert as_forked["beats"]
    assert (as_forked["niceness"], as_forked["sockets"]) == (3, [])
    assert as_forked["niceness of its session"] in (3, None)
    assert [read(pid, "oom_score_adj") for pid in parents] == [b"1000\n"]
    cold.kill(SPEC.run)
    until(lambda: life(cold).exit)


def test_a_parent_that_hangs_costs_a_cold_start(warmed, monkeypatch):
    """It is ended, the trainer lives all the same, and somebody is told."""
    (parent,) = marked(warmed._runs)
    os.kill(parent, signal.SIGSTOP)
    monkeypatch.setattr(warm, "ANSWER_S", 0.1)
    begin_answers_soon(warmed)
    started = warmed.start(SPEC, nice=0).pid
    assert parent_of(parent) is None
    assert parent_of(started) == os.getpid()
    stepping(warmed)
    (trouble,) = troubles(warmed)
    assert "has not answered" in trouble


def begin_answers_soon(runner):
    """Shorten the wait of a parent that lives already."""
    runner._warm._parents["drill"]._line.settimeout(warm.ANSWER_S)


def test_a_trainer_that_was_forked_unheard_is_ended(warmed, monkeypatch):
    """The answer of a parent is lost: one trainer lives, and it is the one that is known."""
    hear, forked = warm._Parent._hear, []

    def hear_nothing(parent):
        forked.append(hear(parent).pid)
        raise warm.WarmLost("its answer is lost")

    monkeypatch.setattr(warm._Parent, "_hear", hear_nothing)
    started = warmed.start(SPEC, nice=0).pid
    assert parent_of(started) == os.getpid()
    assert [parent_of(pid) for pid in forked] == [None]
    assert marked(warmed._runs) == [started]
    assert stepping(warmed).pid == started


def test_a_parent_with_a_thread_forks_nothing(runner, tmp_path, monkeypatch):
    """A lock that a thread holds would be held for ever in the fork."""
    place = tmp_path / "packages"
    place.mkdir()
    (place / "sitecustomize.py").write_text(THREAD)
    monkeypatch.setenv("PYTHONPATH", str(place))
    begin(runner)
    assert parent_of(runner.start(SPEC, nice=0).pid) == os.getpid()
    (trouble,) = troubles(runner)
    assert "2 threads" in trouble


def test_a_parent_whose_trainers_die_at_birth_is_given_up(runner, tmp_path, monkeypatch):
    """The next start is a cold one, which works."""
    place = tmp_path / "packages"
    place.mkdir()
    (place / "sitecustomize.py").write_text(BROKEN_FORK)
    monkeypatch.setenv("PYTHONPATH", str(place))
    begin(runner)
    runner.start(SPEC, nice=0)
    assert until(lambda: life(runner).exit).code == 3
    (trouble,) = troubles(runner)
    assert "before its first step" in trouble
    assert parent_of(runner.start(SPEC, nice=0).pid) == os.getpid()
    stepping(runner)


def test_a_parent_that_is_too_large_is_ended(warmed):
    """Its bound is looked at again and again, and can be changed."""
    (parent,) = marked(warmed._runs)
    warmed.keep_warm([SPEC], memory_max_mib=1.0)
    warmed.tend()
    assert parent_of(parent) is None
    (trouble,) = troubles(warmed)
    assert "grown" in trouble
    assert not warmed._warm.is_ready("drill")


def test_a_parent_of_trainers_that_nobody_wants_is_ended(warmed):
    """With nothing to train, and with the setting switched off, there is none."""
    (parent,) = marked(warmed._runs)
    assert not warmed.keep_warm([], memory_max_mib=MEMORY_MAX_MIB)
    assert parent_of(parent) is None


def test_changed_code_is_not_forked_from_an_old_import(warmed, monkeypatch):
    """After an upgrade a trainer starts with the new code, and another parent is begun."""
    (parent,) = marked(warmed._runs)
    monkeypatch.setattr(warm, "_sources", lambda _: (1,))
    monkeypatch.setattr(warm, "STALE_REST_S", 0.0)
    assert parent_of(warmed.start(SPEC, nice=0).pid) == os.getpid()
    assert parent_of(parent) is None
    stepping(warmed)
    until(lambda: warmed.tend() or warmed._warm.is_ready("drill"))
    assert not troubles(warmed)


def test_a_parent_is_begun_when_trainers_step_and_not_before(runner):
    """Neither an idle machine nor a trainer that starts cold is loaded with its imports."""
    runner.keep_warm([SPEC], memory_max_mib=MEMORY_MAX_MIB)
    runner.tend()
    assert marked(runner._runs) == []
    runner.start(SPEC, nice=0)
    stepping(runner)
    until(lambda: runner.tend() or runner._warm.is_ready("drill"))


def test_the_trainers_of_a_parent_that_has_ended_live_on(warmed):
    """The supervisor leaves, and the next one adopts what trains."""
    forked = warmed.start(SPEC, nice=0)
    stepping(warmed)
    warmed.close()
    assert marked(warmed._runs) == [forked.pid]
    other = LocalRunner(warmed._runs, boot_id())
    assert other.look(())[SPEC.run].process == forked


def test_a_trainer_that_ends_tells_why_in_its_code_or_nobody_knows(warmed):
    """The parent tells the exit code; once it is gone the end is known, and its code is not."""
    warmed.start(SPEC, nice=0)
    stepping(warmed)
    warmed.kill(SPEC.run)
    assert until(lambda: life(warmed).exit).signal == signal.SIGKILL
    warmed.start(SPEC, nice=0)
    stepping(warmed)
    warmed.close()
    warmed.kill(SPEC.run)
    exit_ = until(lambda: life(warmed).exit)
    assert (exit_.code, exit_.signal) == (None, None)


@pytest.mark.slow
def test_a_game_goes_on_to_the_bit_whether_forked_or_started(runner, tmp_path, monkeypatch):
    """A run that was killed and forked anew ends as one that was started once and left alone."""
    # Who edits a trainer meanwhile would have the parent replaced.
    monkeypatch.setattr(warm, "_sources", lambda _: ())
    options = {"rollout_steps": 32, "device": "cpu", "sticky_actions": 0.25}
    whole, broken = (
        msgspec.structs.replace(
            SPEC,
            run=f"atari-{name}",
            trainer="atari",
            name="Pong",
            load={"n_envs": 2, "batch_size": 16},
            threads=2,
            target=Target(unit="steps", count=3 * 32),
            checkpoint_interval_s=0.001,
            options=options,
        )
        for name in ("whole", "broken")
    )

    exits = {}

    def ended(spec):
        lives = runner.look((a_run(whole.run), a_run(broken.run)))
        exits.update({run: life.exit for run, life in lives.items() if life.exit})
        return exits.get(spec.run)

    runner.start(broken, nice=0)
    until(lambda: newest_step(tmp_path / broken.run))
    runner.kill(broken.run)
    until(lambda: ended(broken))
    del exits[broken.run]
    runner.start(whole, nice=0)
    runner.keep_warm([broken], memory_max_mib=1024)
    until(lambda: runner.tend() or runner._warm.is_ready("atari"))
    forked = runner.start(broken, nice=0).pid
    assert parent_of(forked) != os.getpid()
    codes = [until(lambda spec=spec: ended(spec)).code for spec in (broken, whole)]
    assert (codes, runner.keep_warm([], memory_max_mib=1024)) == ([0, 0], ())
    step, state, games = everything(tmp_path / broken.run)
    assert step == broken.up_to("steps")
    assert (step, state, games) == everything(tmp_path / whole.run)
