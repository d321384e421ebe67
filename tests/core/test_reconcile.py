"""Want is not is: the steps between the two, and that none of them does harm."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.core import queue
from supervisor.core.cards import Hand
from supervisor.core.readings import GpuReadings, Readings
from supervisor.core.reconcile import GPU_LOOK_S, Kill, Start, Stop, reconcile, wake_in_s
from supervisor.core.recovery import Life, RecoveryLimits, ask_to_stop
from supervisor.core.slots import assign
from testkit.builders import a_heartbeat, a_life, a_mode, a_process, a_run, a_time

LIMITS = RecoveryLimits()
NOW_S = 1000.0
LONG_AGO_S = NOW_S - LIMITS.grace_s
A, B, C = (a_run(f"drill-{name}") for name in "abc")
GONE = a_life(alive=False)


def training(run, mode="light", **fields):
    return run.but(status="running", mode=mode, process=a_process(), started_s=NOW_S - 60, **fields)


def stopping(run, asked_s=NOW_S, **fields):
    return ask_to_stop(training(run), asked_s, "why").but(**fields)


def steps_for(runs, wanted=(), lives=None, mode="light", gpus=(), now=None, awaited_s=None):
    """The runs afterwards by id, the steps, and the events of the notes."""
    after, steps, notes = reconcile(
        runs=tuple(runs),
        wanted={run.id: Hand() for run in wanted},
        mode=mode,
        lives=dict.fromkeys((run.id for run in runs), Life()) | (lives or {}),
        start=started,
        why_not=why_not,
        readings=Readings(gpus=gpus, gpu_awaited_s=awaited_s),
        now=now or a_time(NOW_S),
        limits=LIMITS,
    )
    return {run.id: run for run in after}, list(steps), [note.event for note in notes]


def why_not(run):
    return f"{run.name} has no slot now"


def started(run):
    """The start of `run`, whatever became of it meanwhile."""
    spec = queue.spec(run, a_mode(), cores=1, checkpoint_interval_s=90.0)
    return Start(spec=spec, nice=0)


def alive(*runs):
    return {run.id: a_life() for run in runs}


# Starting


def test_what_is_wanted_and_not_there_is_started():
    """Each wanted run is started with the goal's mode; it is believed to run from then on."""
    after, steps, _ = steps_for((A, B, C), wanted=(A, C))
    assert steps == [started(A), started(C)]
    assert (after[A.id].status, after[A.id].attempt.mode) == ("running", "light")
    assert after[A.id].attempt.started_s == NOW_S
    assert after[B.id] == B


def test_what_no_look_has_covered_is_not_started():
    """What lives of a run has to be known before another trainer of it is brought to life."""
    lives = {A.id: Life()}
    after, steps, _ = reconcile(
        runs=(A, B),
        wanted={A.id: Hand(), B.id: Hand()},
        mode="light",
        lives=lives,
        start=started,
        why_not=why_not,
        readings=Readings(),
        now=a_time(NOW_S),
        limits=LIMITS,
    )
    assert list(steps) == [started(A)]
    assert after[1] == B


def test_a_new_life_starts_from_what_was_saved():
    """Progress counts from the checkpoint, not from where the last life died."""
    died_at_90 = A.but(step=90)
    said = a_life(alive=False, heartbeat=a_heartbeat(step=90, checkpoint_step=50))
    after, _, _ = steps_for((died_at_90,), wanted=(A,), lives={A.id: said})
    assert after[A.id].attempt.started_step == 50


def test_what_runs_as_wanted_is_let_be():
    """Nothing is done where the machine agrees with the goal."""
    run = training(A)
    after, steps, notes = steps_for((run,), wanted=(A,), lives=alive(A))
    assert (after[A.id], steps, notes) == (run, [], [])


@pytest.mark.parametrize(("retry_s", "starts"), [(NOW_S + 0.1, 0), (NOW_S, 1), (None, 1)])
def test_a_backoff_is_waited_for(retry_s, starts):
    """A run that died starts when its wait is over, not before."""
    waiting = A.but(status="waiting", retry_s=retry_s)
    _, steps, _ = steps_for((waiting,), wanted=(A,))
    assert len(steps) == starts


def test_no_slot_is_filled_twice():
    """A run that is still leaving keeps its slot until it has left."""
    _, steps, _ = steps_for((stopping(A), B), wanted=(B,), lives=alive(A))
    assert steps == [Stop(run=A.id)]


# Two modes never train together


def test_a_change_of_mode_first_ends_what_runs():
    """Trainers of the old mode are asked to leave; none of the new one starts beside them."""
    after, steps, _ = steps_for(
        (training(A), training(B), C), wanted=(A, B, C), lives=alive(A, B), mode="medium"
    )
    assert steps == [Stop(run=A.id), Stop(run=B.id)]
    assert {after[A.id].status, after[B.id].status} == {"stopping"}
    assert after[C.id] == C


def test_the_last_of_the_old_mode_is_waited_for():
    """As long as one of the old mode lives, all of the new one wait."""
    _, steps, _ = steps_for((A, stopping(B)), wanted=(A, B), lives=alive(B), mode="medium")
    assert steps == [Stop(run=B.id)]
    _, steps, _ = steps_for((A, B), wanted=(A, B), mode="medium")
    assert steps == [started(A), started(B)]


def test_whoever_lost_its_slot_leaves():
    """A run of the right mode that is no longer wanted is asked to leave, and the reason said."""
    after, steps, _ = steps_for((training(A), training(B)), wanted=(A,), lives=alive(A, B))
    assert steps == [Stop(run=B.id)]
    assert after[B.id].reason == "b has no slot now"


def test_nothing_is_wanted_while_paused():
    """Everything that runs is asked to leave, and nothing starts."""
    _, steps, _ = steps_for((training(A), B), lives=alive(A))
    assert steps == [Stop(run=A.id)]


# Stop, then kill, then blocked


def test_a_stop_is_asked_until_the_grace_is_over():
    """Asking again is harmless; after the grace it is killed, which is said once."""
    _, steps, notes = steps_for((stopping(A, LONG_AGO_S + 1),), lives=alive(A))
    assert (steps, notes) == ([Stop(run=A.id)], [])
    after, steps, notes = steps_for((stopping(A, LONG_AGO_S),), lives=alive(A))
    assert (steps, notes) == ([Kill(run=A.id)], ["run.killed"])
    _, steps, notes = steps_for((after[A.id],), lives=alive(A))
    assert (steps, notes) == ([Kill(run=A.id)], [])


def test_the_grace_is_longer_than_saving_takes():
    """A run whose checkpoints take long is not killed in the middle of its last one."""
    slow = a_life(heartbeat=a_heartbeat(checkpoint_write_s=LIMITS.grace_s))
    run = stopping(A, asked_s=LONG_AGO_S)
    _, steps, _ = steps_for((run,), lives={A.id: slow})
    assert steps == [Stop(run=A.id)]
    wake_s = wake_in_s((run,), {A.id: slow}, a_time(NOW_S), LIMITS)
    assert wake_s == LIMITS.grace_s
    later = a_time(NOW_S + wake_s)
    assert steps_for((run,), lives={A.id: slow}, now=later)[1] == [Kill(run=A.id)]


def test_what_hung_dumps_its_stacks_first():
    """Only a trainer that stands still is asked where it stands."""
    _, steps, _ = steps_for((stopping(A, hung=True),), lives=alive(A))
    assert steps == [Stop(run=A.id, dump=True)]


@pytest.mark.parametrize(
    ("run", "life"),
    [
        (stopping(A, LONG_AGO_S), a_life()),
        (A.but(status="waiting"), a_life(alive=False, leftovers=1)),
        (A, a_life(alive=False, leftovers=1)),
    ],
    ids=["deaf trainer", "leftover of a death", "leftover of a stop"],
)
def test_what_cannot_be_killed_is_blocked(run, life):
    """A process that outlives SIGKILL makes its run blocked, loudly, and is killed ever again."""
    asked = run.but(kill_asked_s=NOW_S - LIMITS.kill_s)
    after, steps, notes = steps_for((asked, B), wanted=(B,), lives={A.id: life})
    assert after[A.id].status == "blocked"
    assert "cannot be killed" in after[A.id].reason
    assert (steps, notes) == ([Kill(run=A.id)], ["run.blocked"])


# Nothing starts beside what is in the way


def test_leftovers_are_killed_before_anything_starts():
    """What a dead trainer left behind may hold the memory that the next one needs."""
    _, steps, notes = steps_for(
        (A, B), wanted=(A, B), lives={A.id: a_life(alive=False, leftovers=2)}
    )
    assert (steps, notes) == ([Kill(run=A.id)], ["run.killed"])


def test_nothing_starts_beside_a_blocked_run():
    """What cannot be killed may hold the GPU: nothing else is started there."""
    blocked = A.but(status="blocked", kill_asked_s=NOW_S - 99)
    _, steps, _ = steps_for(
        (blocked, B), wanted=(B,), lives={A.id: a_life(alive=False, leftovers=1)}
    )
    assert steps == [Kill(run=A.id)]


@pytest.mark.parametrize("life", [a_life(), a_life(alive=False, leftovers=1)])
def test_what_belongs_to_no_run_of_the_queue_is_ended(life):
    """A trainer or a worker of a run that nobody knows is killed, and nothing starts beside it."""
    _, steps, notes = steps_for((B,), wanted=(B,), lives={A.id: life})
    assert (steps, notes) == ([Kill(run=A.id)], ["run.killed"])


@pytest.mark.parametrize("status", ["held", "done", "failed"])
def test_a_trainer_that_ought_not_to_live_is_ended(status):
    """A run at its end or held has no living trainer."""
    run = A.but(status=status)
    _, steps, _ = steps_for((run,), lives=alive(A))
    assert steps == [Kill(run=A.id)]


# The memory of GPUs


def gpu(*pids, index=0):
    return GpuReadings(index=index, pids=pids)


def dead(run, **fields):
    return run.but(process=a_process(), **fields)


def test_memory_of_a_dead_trainer_is_waited_for_and_told_once():
    """Nothing starts while a GPU lists a dead trainer of ours; without it all start."""
    runs, wanted = (dead(A), B), (A, B)
    after, steps, told = steps_for(runs, wanted, gpus=(gpu(), gpu(7, 100, index=1)))
    assert (steps, told) == ([], ["gpu.awaited"])
    assert wake_in_s(tuple(after.values()), {}, a_time(NOW_S), LIMITS) == GPU_LOOK_S
    later = a_time(NOW_S + GPU_LOOK_S)
    again, steps, told = steps_for(after.values(), wanted, gpus=(gpu(100),), now=later)
    assert (steps, told) == ([], [])
    after, steps, told = steps_for(again.values(), wanted, gpus=(gpu(7),), now=later)
    assert (steps, told) == ([started(A), started(B)], [])
    assert wake_in_s(tuple(after.values()), alive(A, B), later, LIMITS) > GPU_LOOK_S


def test_memory_that_is_never_freed_is_given_up():
    """At the end of the wait all start, with a line, and that process is never waited for again."""
    runs = (dead(A, memory_held_s=NOW_S - LIMITS.gpu_free_s), B)
    after, steps, told = steps_for(runs, wanted=(B,), gpus=(gpu(100),))
    assert (steps, told) == ([started(B)], ["gpu.leaked"])
    assert steps_for(after.values(), wanted=(A, B), gpus=(gpu(100),))[1:] == ([started(A)], [])


@pytest.mark.parametrize(
    ("runs", "lives", "gpus"),
    [
        pytest.param((dead(A),), {}, (), id="no GPU is known"),
        pytest.param((dead(A),), {}, (GpuReadings(index=0),), id="NVML does not tell"),
        pytest.param((dead(A),), {}, (gpu(7),), id="a stranger's"),
        pytest.param((A,), {}, (gpu(100),), id="it never had a process"),
        pytest.param((dead(A), training(B)), alive(B), (gpu(100),), id="the pid lives again"),
        pytest.param(
            (A.but(process=a_process(boot_id="boot-0")),),
            {},
            (gpu(100),),
            id="a process of an earlier boot",
        ),
    ],
)
def test_there_is_nothing_to_wait_for(runs, lives, gpus):
    """Only what is known to be held by a dead trainer of this boot delays a start."""
    _, steps, told = steps_for(runs, wanted=(A, B), lives=lives, gpus=gpus)
    assert (started(A) in steps, told) == (True, [])


def test_a_start_beside_a_death_waits_for_what_the_gpus_say_of_it():
    """What is known is from before it. Nothing is told, and a slow answer is not waited for."""
    runs, wanted = (dead(A), B), (A, B)
    for known in ((), (gpu(100),)):
        waiting = steps_for(runs, wanted, gpus=known, awaited_s=0.0)
        assert waiting == ({run.id: run for run in runs}, [], [])
    _, steps, _ = steps_for(runs, wanted, awaited_s=LIMITS.gpu_free_s)
    assert steps == [started(A), started(B)]


@pytest.mark.parametrize(
    ("runs", "lives"),
    [
        pytest.param((A, B), {}, id="nothing has died"),
        pytest.param((training(B), A), alive(B), id="what has started lives"),
        pytest.param(
            (A.but(process=a_process(boot_id="boot-0")),),
            {},
            id="the death was in an earlier boot",
        ),
    ],
)
def test_a_start_waits_for_no_gpu_where_nothing_has_died(runs, lives):
    """After a boot training begins at once, however long NVML takes to start."""
    _, steps, _ = steps_for(runs, wanted=(A, B), lives=lives, awaited_s=0.0)
    assert started(A) in steps


def test_memory_is_waited_for_only_when_something_is_to_start():
    """A paused machine does not look for the memory of what it has stopped."""
    runs = (dead(A, memory_held_s=NOW_S - 1),)
    after, steps, told = steps_for(runs, wanted=(), gpus=(gpu(100),))
    assert (steps, told, after[A.id].attempt.memory_held_s) == ([], [], None)


# When to look again


@pytest.mark.parametrize(
    ("run", "life", "wake_s"),
    [
        (A, GONE, None),
        (A.but(status="done"), GONE, None),
        (A.but(status="waiting", retry_s=NOW_S + 8), GONE, 8),
        (A.but(status="waiting", retry_s=NOW_S - 8), GONE, None),
        (A.but(status="held", retry_s=NOW_S + 3000), GONE, 3000),
        (stopping(A, NOW_S - 20), a_life(), 100),
        (stopping(A, LONG_AGO_S, kill_asked_s=NOW_S), a_life(), 0.1),
        (A.but(status="blocked", kill_asked_s=1.0), a_life(), 10),
        (training(A), a_life(), 300),
        (training(A).but(started_s=NOW_S - 590), a_life(), 10),
        (training(A), a_life(heartbeat=a_heartbeat(progress_at_s=NOW_S - 40)), 260),
    ],
    ids=[
        "queued",
        "done",
        "waiting",
        "waiting for a slot",
        "held",
        "stopping",
        "killed",
        "blocked",
        "starting: it may step soon, and be silent then",
        "starting for long",
        "moving",
    ],
)
def test_the_next_look_comes_when_something_is_due(run, life, wake_s):
    """A supervisor sleeps until a wait, a grace or a patience ends, and not a moment less."""
    assert wake_in_s((run,), {A.id: life}, a_time(NOW_S), LIMITS) == pytest.approx(wake_s)


def test_the_first_of_many_moments_wakes():
    """With several runs waiting, the soonest counts."""
    runs = tuple(
        run.but(status="waiting", retry_s=NOW_S + wait_s)
        for run, wait_s in ((A, 9), (B, 3), (C, 6))
    )
    assert wake_in_s(runs, {}, a_time(NOW_S), LIMITS) == 3


# What holds always

MODES = ("light", "medium")
STATUSES = ("queued", "running", "stopping", "waiting", "held", "blocked", "done", "failed")


@st.composite
def worlds(draw):
    """Any queue and any look at it that fit each other as `judge` leaves them."""
    runs, lives = [], {}
    for run in (A, B, C, a_run("drill-d")):
        status = draw(st.sampled_from(STATUSES))
        lives_on = status in ("running", "stopping") or (
            status in ("held", "blocked", "done", "failed") and draw(st.booleans())
        )
        leftovers = 0 if lives_on else draw(st.sampled_from([0, 0, 0, 1]))
        times = st.none() | st.sampled_from([NOW_S - 500, NOW_S - 10, NOW_S])
        runs.append(
            run.but(
                status=status,
                mode=draw(st.sampled_from(MODES)),
                stop_asked_s=draw(times) if status == "stopping" else None,
                kill_asked_s=draw(times),
                retry_s=NOW_S + draw(st.sampled_from([-1, 1])),
                hung=draw(st.booleans()),
            )
        )
        lives[run.id] = a_life(alive=lives_on, leftovers=leftovers)
    return tuple(runs), lives


def reconciled(world, mode):
    runs, lives = world
    slots = 1 + MODES.index(mode)
    wanted = assign(runs, a_mode(mode, slots=slots), a_time())
    after, steps, _ = reconcile(
        runs=runs,
        wanted={run_id: Hand() for run_id in wanted},
        mode=mode,
        lives=lives,
        start=started,
        why_not=why_not,
        readings=Readings(),
        now=a_time(NOW_S),
        limits=LIMITS,
    )
    return after, steps, wanted


@given(worlds(), st.sampled_from(MODES))
def test_no_start_is_ever_unsafe(world, mode):
    """No start beside another mode, a leftover or a blocked run, twice, or beyond the slots."""
    runs, lives = world
    after, steps, wanted = reconciled(world, mode)
    starts = [step.run for step in steps if isinstance(step, Start)]
    if starts:
        for run in runs:
            assert run.status != "blocked"
            assert not lives[run.id].leftovers
            assert lives[run.id].process is None or run.attempt.mode == mode
        living = {run.id for run in runs if lives[run.id].process is not None}
        assert len(starts) == len(set(starts))
        assert not living & set(starts)
        assert set(starts) <= set(wanted)
        believed = [run for run in after if run.status in ("running", "stopping")]
        assert len([run for run in believed if run.id in wanted]) <= 1 + MODES.index(mode)


@given(worlds(), st.sampled_from(MODES))
def test_a_step_taken_twice_is_a_step_taken_once(world, mode):
    """A look at a machine on which nothing has changed yet asks for the same ends and no start."""
    _, lives = world
    after, steps, _ = reconciled(world, mode)
    again, steps_again, _ = reconciled((after, lives), mode)
    ends = [step for step in steps if not isinstance(step, Start)]
    assert [step for step in steps_again if not isinstance(step, Start)] == ends
    started = {step.run for step in steps if isinstance(step, Start)}
    assert not started & {step.run for step in steps_again if isinstance(step, Start)}
    assert again == after


@given(worlds(), st.sampled_from(MODES))
def test_no_run_gets_two_steps(world, mode):
    """A run is started, stopped or killed in one look, never two of these."""
    _, steps, _ = reconciled(world, mode)
    assert len({step.run for step in steps}) == len(steps)
