"""Want is not is: the steps between the two, and that none of them does harm."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.core import queue
from supervisor.core.cards import Hand
from supervisor.core.readings import GpuReadings, Readings
from supervisor.core.reconcile import GPU_LOOK_S, Kill, Start, Stop, reconcile, wake_in_s
from supervisor.core.recovery import Observation, RecoveryLimits, ask_to_stop
from supervisor.core.slots import assign
from testkit.builders import a_heartbeat, a_mode, a_process, a_run, a_time, an_observation

LIMITS = RecoveryLimits()
NOW_S = 1000.0
LONG_AGO_S = NOW_S - LIMITS.grace_s
A, B, C = (a_run(f"drill-{name}") for name in "abc")
GONE = an_observation(alive=False)


def training(run, mode="light", **fields):
    return run.but(status="running", mode=mode, process=a_process(), started_s=NOW_S - 60, **fields)


def stopping(run, asked_s=NOW_S, **fields):
    return ask_to_stop(training(run), asked_s, "why").but(**fields)


def actions_for(
    runs, assigned=(), observations=None, mode="light", gpus=(), now=None, awaited_s=None
):
    """The runs afterwards by id, the steps, and the events of the notes."""
    after, steps, notes = reconcile(
        runs=tuple(runs),
        assigned={run.id: Hand() for run in assigned},
        mode=mode,
        observations=dict.fromkeys((run.id for run in runs), Observation()) | (observations or {}),
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
    spec = queue.spec(run, a_mode(), cores=1, checkpoint_interval_s=90.0, grace_s=120.0)
    return Start(spec=spec, nice=0, attempt=1, boot=1)


def alive(*runs):
    return {run.id: an_observation() for run in runs}


# Starting


def test_what_is_wanted_and_not_there_is_started():
    """Each wanted run is started with the goal's mode; it is believed to run from then on."""
    after, steps, _ = actions_for((A, B, C), assigned=(A, C))
    assert steps == [started(A), started(C)]
    assert (after[A.id].status, after[A.id].attempt.mode) == ("running", "light")
    assert after[A.id].attempt.started_s == NOW_S
    assert after[B.id] == B


def test_what_no_look_has_covered_is_not_started():
    """What lives of a run has to be known before another trainer of it is brought to life."""
    observations = {A.id: Observation()}
    after, steps, _ = reconcile(
        runs=(A, B),
        assigned={A.id: Hand(), B.id: Hand()},
        mode="light",
        observations=observations,
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
    said = an_observation(alive=False, heartbeat=a_heartbeat(step=90, checkpoint_step=50))
    after, _, _ = actions_for((died_at_90,), assigned=(A,), observations={A.id: said})
    assert after[A.id].attempt.started_step == 50


def test_what_runs_as_wanted_is_let_be():
    """Nothing is done where the machine agrees with the goal."""
    run = training(A)
    after, steps, notes = actions_for((run,), assigned=(A,), observations=alive(A))
    assert (after[A.id], steps, notes) == (run, [], [])


@pytest.mark.parametrize(("retry_s", "starts"), [(NOW_S + 0.1, 0), (NOW_S, 1), (None, 1)])
def test_a_backoff_is_waited_for(retry_s, starts):
    """A run that died starts when its wait is over, not before."""
    waiting = A.but(status="waiting", retry_s=retry_s)
    _, steps, _ = actions_for((waiting,), assigned=(A,))
    assert len(steps) == starts


def test_no_slot_is_filled_twice():
    """A run that is still leaving keeps its slot until it has left."""
    _, steps, _ = actions_for((stopping(A), B), assigned=(B,), observations=alive(A))
    assert steps == [Stop(run=A.id)]


# Two modes never train together


def test_a_change_of_mode_first_ends_what_runs():
    """Trainers of the old mode are asked to leave; none of the new one starts beside them."""
    after, steps, _ = actions_for(
        (training(A), training(B), C), assigned=(A, B, C), observations=alive(A, B), mode="medium"
    )
    assert steps == [Stop(run=A.id), Stop(run=B.id)]
    assert {after[A.id].status, after[B.id].status} == {"stopping"}
    assert after[C.id] == C


def test_the_last_of_the_old_mode_is_waited_for():
    """As long as one of the old mode lives, all of the new one wait."""
    _, steps, _ = actions_for(
        (A, stopping(B)), assigned=(A, B), observations=alive(B), mode="medium"
    )
    assert steps == [Stop(run=B.id)]
    _, steps, _ = actions_for((A, B), assigned=(A, B), mode="medium")
    assert steps == [started(A), started(B)]


def test_whoever_lost_its_slot_leaves():
    """A run of the right mode that is no longer wanted is asked to leave, and the reason said."""
    after, steps, _ = actions_for(
        (training(A), training(B)), assigned=(A,), observations=alive(A, B)
    )
    assert steps == [Stop(run=B.id)]
    assert after[B.id].reason == "b has no slot now"


def test_nothing_is_wanted_while_paused():
    """Everything that runs is asked to leave, and nothing starts."""
    _, steps, _ = actions_for((training(A), B), observations=alive(A))
    assert steps == [Stop(run=A.id)]


# Stop, then kill, then blocked


def test_a_stop_is_asked_until_the_grace_is_over():
    """Asking again is harmless; after the grace it is killed, which is said once."""
    _, steps, notes = actions_for((stopping(A, LONG_AGO_S + 1),), observations=alive(A))
    assert (steps, notes) == ([Stop(run=A.id)], [])
    after, steps, notes = actions_for((stopping(A, LONG_AGO_S),), observations=alive(A))
    assert (steps, notes) == ([Kill(run=A.id)], ["run.killed"])
    _, steps, notes = actions_for((after[A.id],), observations=alive(A))
    assert (steps, notes) == ([Kill(run=A.id)], [])


def test_the_grace_is_longer_than_saving_takes():
    """A run whose checkpoints take long is not killed in the middle of its last one."""
    slow = an_observation(heartbeat=a_heartbeat(checkpoint_write_s=LIMITS.grace_s))
    run = stopping(A, asked_s=LONG_AGO_S)
    _, steps, _ = actions_for((run,), observations={A.id: slow})
    assert steps == [Stop(run=A.id)]
    wake_s = wake_in_s((run,), {A.id: slow}, a_time(NOW_S), LIMITS)
    assert wake_s == LIMITS.grace_s
    later = a_time(NOW_S + wake_s)
    assert actions_for((run,), observations={A.id: slow}, now=later)[1] == [Kill(run=A.id)]


def test_what_hung_dumps_its_stacks_first():
    """Only a trainer that stands still is asked where it stands."""
    _, steps, _ = actions_for((stopping(A, hung=True),), observations=alive(A))
    assert steps == [Stop(run=A.id, dump=True)]


@pytest.mark.parametrize(
    ("run", "observed"),
    [
        (stopping(A, LONG_AGO_S), an_observation()),
        (A.but(status="waiting"), an_observation(alive=False, leftovers=1)),
        (A, an_observation(alive=False, leftovers=1)),
    ],
    ids=["deaf trainer", "leftover of a death", "leftover of a stop"],
)
def test_what_cannot_be_killed_is_blocked(run, observed):
    """A process that outlives SIGKILL makes its run blocked, loudly, and is killed ever again."""
    asked = run.but(kill_asked_s=NOW_S - LIMITS.kill_s)
    after, steps, notes = actions_for((asked, B), assigned=(B,), observations={A.id: observed})
    assert after[A.id].status == "blocked"
    assert "cannot be killed" in after[A.id].reason
    assert (steps, notes) == ([Kill(run=A.id)], ["run.blocked"])


# Nothing starts beside what is in the way


def test_leftovers_are_killed_before_anything_starts():
    """What a dead trainer left behind may hold the memory that the next one needs."""
    _, steps, notes = actions_for(
        (A, B), assigned=(A, B), observations={A.id: an_observation(alive=False, leftovers=2)}
    )
    assert (steps, notes) == ([Kill(run=A.id)], ["run.killed"])


def test_nothing_starts_beside_a_blocked_run():
    """What cannot be killed may hold the GPU: nothing else is started there."""
    blocked = A.but(status="blocked", kill_asked_s=NOW_S - 99)
    _, steps, _ = actions_for(
        (blocked, B), assigned=(B,), observations={A.id: an_observation(alive=False, leftovers=1)}
    )
    assert steps == [Kill(run=A.id)]


@pytest.mark.parametrize("observed", [an_observation(), an_observation(alive=False, leftovers=1)])
def test_what_belongs_to_no_run_of_the_queue_is_ended(observed):
    """A trainer or a worker of a run that nobody knows is killed, and nothing starts beside it."""
    _, steps, notes = actions_for((B,), assigned=(B,), observations={A.id: observed})
    assert (steps, notes) == ([Kill(run=A.id)], ["run.killed"])


@pytest.mark.parametrize("status", ["quarantined", "done", "failed"])
def test_a_trainer_that_ought_not_to_live_is_ended(status):
    """A run at its end or held has no living trainer."""
    run = A.but(status=status)
    _, steps, _ = actions_for((run,), observations=alive(A))
    assert steps == [Kill(run=A.id)]


# The memory of GPUs


def gpu(*pids, index=0):
    return GpuReadings(index=index, pids=pids)


def dead(run, **fields):
    return run.but(process=a_process(), **fields)


def test_memory_of_a_dead_trainer_is_waited_for_and_told_once():
    """Nothing starts while a GPU lists a dead trainer of ours; without it all start."""
    runs, assigned = (dead(A), B), (A, B)
    after, steps, told = actions_for(runs, assigned, gpus=(gpu(), gpu(7, 100, index=1)))
    assert (steps, told) == ([], ["gpu.awaited"])
    assert wake_in_s(tuple(after.values()), {}, a_time(NOW_S), LIMITS) == GPU_LOOK_S
    later = a_time(NOW_S + GPU_LOOK_S)
    again, steps, told = actions_for(after.values(), assigned, gpus=(gpu(100),), now=later)
    assert (steps, told) == ([], [])
    after, steps, told = actions_for(again.values(), assigned, gpus=(gpu(7),), now=later)
    assert (steps, told) == ([started(A), started(B)], [])
    assert wake_in_s(tuple(after.values()), alive(A, B), later, LIMITS) > GPU_LOOK_S


def test_memory_that_is_never_freed_is_given_up():
    """At the end of the wait all start, with a line, and that process is never waited for again."""
    runs = (dead(A, memory_awaited_s=NOW_S - LIMITS.gpu_free_s), B)
    after, steps, told = actions_for(runs, assigned=(B,), gpus=(gpu(100),))
    assert (steps, told) == ([started(B)], ["gpu.leaked"])
    assert actions_for(after.values(), assigned=(A, B), gpus=(gpu(100),))[1:] == ([started(A)], [])


@pytest.mark.parametrize(
    ("runs", "observations", "gpus"),
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
def test_there_is_nothing_to_wait_for(runs, observations, gpus):
    """Only what is known to be held by a dead trainer of this boot delays a start."""
    _, steps, told = actions_for(runs, assigned=(A, B), observations=observations, gpus=gpus)
    assert (started(A) in steps, told) == (True, [])


def test_a_start_beside_a_death_waits_for_what_the_gpus_say_of_it():
    """What is known is from before it. Nothing is told, and a slow answer is not waited for."""
    runs, assigned = (dead(A), B), (A, B)
    for known in ((), (gpu(100),)):
        waiting = actions_for(runs, assigned, gpus=known, awaited_s=0.0)
        assert waiting == ({run.id: run for run in runs}, [], [])
    _, steps, _ = actions_for(runs, assigned, awaited_s=LIMITS.gpu_free_s)
    assert steps == [started(A), started(B)]


@pytest.mark.parametrize(
    ("runs", "observations"),
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
def test_a_start_waits_for_no_gpu_where_nothing_has_died(runs, observations):
    """After a boot training begins at once, however long NVML takes to start."""
    _, steps, _ = actions_for(runs, assigned=(A, B), observations=observations, awaited_s=0.0)
    assert started(A) in steps


def test_memory_is_waited_for_only_when_something_is_to_start():
    """A paused machine does not look for the memory of what it has stopped."""
    runs = (dead(A, memory_awaited_s=NOW_S - 1),)
    after, steps, told = actions_for(runs, assigned=(), gpus=(gpu(100),))
    assert (steps, told, after[A.id].attempt.memory_awaited_s) == ([], [], None)


# When to look again


@pytest.mark.parametrize(
    ("run", "observed", "wake_s"),
    [
        (A, GONE, None),
        (A.but(status="done"), GONE, None),
        (A.but(status="waiting", retry_s=NOW_S + 8), GONE, 8),
        (A.but(status="waiting", retry_s=NOW_S - 8), GONE, None),
        (A.but(status="quarantined", retry_s=NOW_S + 3000), GONE, 3000),
        (stopping(A, NOW_S - 20), an_observation(), 100),
        (stopping(A, LONG_AGO_S, kill_asked_s=NOW_S), an_observation(), 0.1),
        (A.but(status="blocked", kill_asked_s=1.0), an_observation(), 10),
        (training(A), an_observation(), 300),
        (training(A).but(started_s=NOW_S - 590), an_observation(), 10),
        (training(A), an_observation(heartbeat=a_heartbeat(progress_at_s=NOW_S - 40)), 260),
    ],
    ids=[
        "queued",
        "done",
        "waiting",
        "waiting for a slot",
        "quarantined",
        "stopping",
        "killed",
        "blocked",
        "starting: it may step soon, and be silent then",
        "starting for long",
        "moving",
    ],
)
def test_the_next_look_comes_when_something_is_due(run, observed, wake_s):
    """A supervisor sleeps until a wait, a grace or a patience ends, and not a moment less."""
    assert wake_in_s((run,), {A.id: observed}, a_time(NOW_S), LIMITS) == pytest.approx(wake_s)


def test_the_first_of_many_moments_wakes():
    """With several runs waiting, the soonest counts."""
    runs = tuple(
        run.but(status="waiting", retry_s=NOW_S + wait_s)
        for run, wait_s in ((A, 9), (B, 3), (C, 6))
    )
    assert wake_in_s(runs, {}, a_time(NOW_S), LIMITS) == 3


# What holds always

MODES = ("light", "medium")
STATUSES = ("queued", "running", "stopping", "waiting", "quarantined", "blocked", "done", "failed")


@st.composite
def worlds(draw):
    """Any queue and any look at it that fit each other as `judge` leaves them."""
    runs, observations = [], {}
    for run in (A, B, C, a_run("drill-d")):
        status = draw(st.sampled_from(STATUSES))
        lives_on = status in ("running", "stopping") or (
            status in ("quarantined", "blocked", "done", "failed") and draw(st.booleans())
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
        observations[run.id] = an_observation(alive=lives_on, leftovers=leftovers)
    return tuple(runs), observations


def reconciled(world, mode):
    runs, observations = world
    slots = 1 + MODES.index(mode)
    assigned = assign(runs, a_mode(mode, slots=slots), a_time())
    after, steps, _ = reconcile(
        runs=runs,
        assigned={run_id: Hand() for run_id in assigned},
        mode=mode,
        observations=observations,
        start=started,
        why_not=why_not,
        readings=Readings(),
        now=a_time(NOW_S),
        limits=LIMITS,
    )
    return after, steps, assigned


@given(worlds(), st.sampled_from(MODES))
def test_no_start_is_ever_unsafe(world, mode):
    """No start beside another mode, a leftover or a blocked run, twice, or beyond the slots."""
    runs, observations = world
    after, steps, assigned = reconciled(world, mode)
    starts = [step.run for step in steps if isinstance(step, Start)]
    if starts:
        for run in runs:
            assert run.status != "blocked"
            assert not observations[run.id].leftovers
            assert observations[run.id].process is None or run.attempt.mode == mode
        living = {run.id for run in runs if observations[run.id].process is not None}
        assert len(starts) == len(set(starts))
        assert not living & set(starts)
        assert set(starts) <= set(assigned)
        believed = [run for run in after if run.status in ("running", "stopping")]
        assert len([run for run in believed if run.id in assigned]) <= 1 + MODES.index(mode)


@given(worlds(), st.sampled_from(MODES))
def test_a_step_taken_twice_is_a_step_taken_once(world, mode):
    """A look at a machine on which nothing has changed yet asks for the same ends and no start."""
    _, observations = world
    after, steps, _ = reconciled(world, mode)
    again, steps_again, _ = reconciled((after, observations), mode)
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
