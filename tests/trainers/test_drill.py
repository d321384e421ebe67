"""Real trainer processes: the drill, which keeps the contract and breaks it on demand."""

import os
import random
import signal
import time
from pathlib import Path

import pytest
from trainer_lives import kill_all, names_in, strict_json

from testkit.patience import until
from testkit.series import sample_of_a_series
from trainers.checkpoint import Checkpoints
from trainers.contract import EXIT_AGAIN, EXIT_BAD_SPEC, EXIT_DONE

QUICK = {"steps_per_s": 20_000}


def newest(run):
    return Checkpoints(run / "checkpoints").newest()


def test_a_run_trains_to_its_target_and_is_done_for_good(make_run, start):
    """Exit 0 at the target; a second start of a finished run leaves at once with 0."""
    run = make_run(target_steps=5000, options=QUICK)
    for _ in range(2):
        life = start(run)
        code, _, errors = life.end()
        assert (code, errors) == (EXIT_DONE, "")
        beat = life.heartbeat()
        assert (beat["status"], beat["step"], beat["checkpoint_step"]) == ("done", 5000, 5000)
    assert newest(run).checkpoint.manifest.step == 5000


def test_sigterm_saves_and_the_next_life_goes_on(make_run, start):
    """A stop is exit 75 and a checkpoint of the last step; the next life counts on from it."""
    run = make_run(options=QUICK)
    life = start(run)
    life.wait_for_step(1)
    life.signal(signal.SIGTERM)
    assert life.end()[0] == EXIT_AGAIN
    beat = life.heartbeat()
    assert beat["status"] == "stopped"
    assert beat["step"] == beat["checkpoint_step"] == newest(run).checkpoint.manifest.step
    second = start(run)
    assert second.wait_for_step(1)["step"] >= beat["step"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_more_signals_do_not_break_a_checkpoint(make_run, start, number):
    """A second and a third SIGTERM in mid-checkpoint change nothing."""
    run = make_run(options={**QUICK, "save_s": 0.3}, checkpoint_interval_s=0.01)
    life = start(run)
    folder = run / "checkpoints"
    life.wait_for(lambda: folder.exists() and any(folder.glob(".*.new/first.json")))
    for _ in range(3):
        life.signal(number)
        time.sleep(0.01)  # signals that come together count as one
    assert life.end()[0] == EXIT_AGAIN
    assert life.heartbeat()["status"] == "stopped"
    found = newest(run)
    assert found.checkpoint
    assert not found.passed_over
    assert not list(folder.glob(".*"))


@pytest.mark.slow
def test_kill_in_mid_write_costs_only_that_checkpoint(make_run, start):
    """After kill -9 in the middle of a checkpoint the one before is complete, and resumed from."""
    kills, seed = sample_of_a_series(8)
    chance = random.Random(seed)  # noqa: S311 - moments, not secrets
    run = make_run(options={**QUICK, "save_s": 0.02}, checkpoint_interval_s=0.01)
    folder = run / "checkpoints"
    reached = 0
    for _ in range(kills):
        life = start(run)
        beat = life.wait_for_step(reached + 1)
        assert beat["step"] >= reached
        assert not beat["notices"]
        for _ in range(chance.randint(1, 4)):
            before = {path.name for path in folder.glob("[0-9]*")}
            life.wait_for(
                lambda before=before: {path.name for path in folder.glob("[0-9]*")} - before
            )
        life.wait_for(lambda: any(folder.glob(".*.new/first.json")))
        life.signal(signal.SIGKILL)
        assert life.end()[0] == -signal.SIGKILL
        found = newest(run)
        assert not found.passed_over
        assert found.checkpoint.manifest.step > reached
        reached = found.checkpoint.manifest.step


def test_one_run_has_one_trainer(make_run, start):
    """A second trainer of a living run is refused in one line and touches nothing."""
    run = make_run(options=QUICK)
    life = start(run)
    life.wait_for_step(1)
    code, _, errors = start(run).end()
    assert code == EXIT_AGAIN
    assert "another trainer holds" in errors
    assert errors.count("\n") == 1
    assert life.wait_for_step(2)["status"] == "running"
    life.signal(signal.SIGKILL)
    life.end()
    again = start(run)
    assert again.wait_for_step(1)


def test_ten_at_once_leave_one(make_run, start):
    """However many are started together, one of them trains."""
    run = make_run(options=QUICK)
    lives = [start(run) for _ in range(10)]
    until(lambda: sum(life.process.poll() is None for life in lives) == 1)
    (winner,) = [life for life in lives if life.process.poll() is None]
    assert winner.wait_for_step(1)
    assert {life.end()[0] for life in lives if life is not winner} == {EXIT_AGAIN}


def test_a_crash_has_last_words(make_run, start):
    """An exception is exit 75, a traceback, and a heartbeat with the reason in one line."""
    run = make_run(options={**QUICK, "crash_at_step": 2000})
    for _ in range(2):
        life = start(run)
        code, _, errors = life.end()
        assert code == EXIT_AGAIN
        assert "Traceback" in errors
        beat = life.heartbeat()
        assert (beat["status"], beat["out_of_memory"]) == ("failed", False)
        assert beat["error"] == "RuntimeError: rehearsed crash at step 2000"
        assert newest(run).checkpoint.manifest.step < 2000


def test_a_want_of_memory_is_told_from_other_crashes(make_run, start):
    """The supervisor may answer a want of memory with a lighter mode."""
    life = start(make_run(options={**QUICK, "memory_at_step": 100}))
    assert life.end()[0] == EXIT_AGAIN
    assert life.heartbeat()["out_of_memory"]


def test_an_exit_code_without_last_words(make_run, start):
    """A trainer that is ended from outside says nothing more."""
    life = start(make_run(options={**QUICK, "crash_at_step": 100, "exit_code": 9}))
    assert life.end()[0] == 9
    assert life.heartbeat()["status"] != "failed"


def test_a_hang_shows_its_stack(make_run, start):
    """SIGUSR1 dumps every thread's stack; a hang is deaf to SIGTERM and its step stands."""
    run = make_run(options={**QUICK, "hang_at_step": 3000})
    life = start(run)
    life.wait_for(lambda: (life.heartbeat() or {}).get("status") == "running")

    def where():
        """The function of the drill that it is in."""
        life.signal(signal.SIGUSR1)
        said = iter(life.process.stderr.readline, "")  # up to its end, should it have died
        found = next((line.split()[-1] for line in said if "drill.py" in line), "it is dead")
        # To the end of it: a rest would answer the next question, and two signals become one.
        next((line for line in said if "_run_module_as_main" in line), None)
        return found

    looks = []

    def stands_still():
        """Whether it has nothing to do any more: a dump of threads at work can end a process."""
        status = Path(f"/proc/{life.process.pid}/status").read_text()
        looks.append(status[status.index("voluntary_ctxt_switches") :])
        return looks[-50:] == looks[-1:] * 50

    life.wait_for(stands_still)
    life.wait_for(lambda: where() == "_fail_between")
    life.signal(signal.SIGTERM)
    assert where() == "_fail_between"
    assert life.process.poll() is None
    life.signal(signal.SIGKILL)
    life.end()
    assert newest(run).checkpoint.manifest.step < 3000


def test_a_loss_that_is_no_number(make_run, start):
    """The heartbeat stays strict JSON, and says once what happened."""
    run = make_run(target_steps=2000, options={**QUICK, "nan_at_step": 500})
    life = start(run)
    code, _, errors = life.end()
    assert code == EXIT_DONE
    beat = strict_json((run / "heartbeat.json").read_bytes())
    assert beat["loss"] is None
    assert beat["notices"] == ["the loss is not a finite number"]
    assert errors.count("not a finite number") == 1


def test_a_trainer_that_ignores_sigterm(make_run, start):
    """It says that it was asked to stop, and counts on."""
    life = start(make_run(options={**QUICK, "ignore_sigterm": True}))
    life.wait_for_step(1)
    life.signal(signal.SIGTERM)
    beat = life.wait_for(lambda: (b := life.heartbeat())["status"] == "stopping" and b)
    life.wait_for_step(beat["step"] + 1)


@pytest.mark.parametrize("kind", ["group", "setsid", "double_fork"])
def test_workers_outlive_a_kill_and_carry_the_marker(make_run, start, children_of, kind):
    """After kill -9 the children live on, wherever they moved, and are found by their marker."""
    run = make_run(options={**QUICK, "workers": 2, "worker_kind": kind})
    life = start(run)
    life.wait_for_step(1)
    life.wait_for(lambda: len(children_of(run)) == 2)
    life.signal(signal.SIGKILL)
    life.end()
    orphans = children_of(run)
    try:
        assert len(orphans) == 2
        groups = {os.getpgid(pid) for pid in orphans}
        assert len(groups) == (1 if kind == "group" else 2)
    finally:
        kill_all(orphans)


def test_workers_end_with_a_clean_stop(make_run, start, children_of):
    """A trainer that is asked to stop takes its children with it."""
    run = make_run(options={**QUICK, "workers": 2, "worker_kind": "setsid"})
    life = start(run)
    life.wait_for_step(1)
    life.signal(signal.SIGTERM)
    life.end()
    assert not children_of(run)


def test_checking_prints_nothing_and_starts_nothing(make_run, start):
    """A good spec is exit 0 in silence, and nothing is written."""
    run = make_run(options=QUICK)
    assert start(run, "drill", "--check").end() == (0, "", "")
    assert names_in(run) == ["spec.json"]


def test_the_drill_cannot_be_evaluated(make_run, start):
    """What learns nothing plays nothing."""
    code, _, errors = start(make_run(), "drill", "--evaluate", "3").end()
    assert code == EXIT_BAD_SPEC
    assert "cannot evaluate" in errors


@pytest.mark.parametrize("arguments", [("--evaluate", "0"), ("--evaluate", "x"), ("--nonsense",)])
def test_a_command_line_that_cannot_work(make_run, start, arguments):
    """One line and the exit code of a bad spec."""
    code, _, errors = start(make_run(), "drill", *arguments).end()
    assert code == EXIT_BAD_SPEC
    assert errors.count("\n") == 1
