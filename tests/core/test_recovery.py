"""What became of a trainer, and what follows from it."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from state.records import Retry
from supervisor.core.recovery import (
    RecoveryLimits,
    backoff_s,
    blames_the_load,
    judge,
    silence_max_s,
)
from testkit.builders import a_heartbeat, a_process, a_run, a_time, an_observation, steps
from trainers.contract import Mark

LIMITS = RecoveryLimits()
NOW_S = 1000.0
NOW = a_time(NOW_S)
PROVEN_S = NOW_S - LIMITS.proven_s


def running(**fields):
    """A run that has been training for five minutes, from step 0."""
    given = {
        "status": "running",
        "mode": "light",
        "process": a_process(),
        "started_s": NOW_S - 300,
        "step": 10,
    }
    return a_run(**{**given, **fields})


def judged(run, life, now=None):
    """The run afterwards, and (event, rule, reason) of each note."""
    run, notes = judge(run, life, now or a_time(NOW_S), LIMITS)
    return run, [(note.event, note.rule, note.reason) for note in notes]


def died(run, heartbeat=None, **ended):
    """The run after its death, and the one thing that is said of it."""
    run, notes = judged(run, an_observation(alive=False, heartbeat=heartbeat, **ended))
    (note,) = notes
    return run, note


def kept(heartbeat):
    """The same words of a trainer that has saved where it is, and began before that."""
    mark = Mark(step=heartbeat.step, trained_s=600.0)
    return msgspec.structs.replace(heartbeat, saved=mark)


FAILED = a_heartbeat(status="failed", error="it broke")
OUT_OF_MEMORY = a_heartbeat(status="failed", error="no memory", out_of_memory=True)


@pytest.mark.parametrize(
    ("ended", "heartbeat", "rule", "reason"),
    [
        ({"code": 1}, None, "crash", "ended with exit code 1"),
        ({"code": 1}, FAILED, "crash", "it broke"),
        ({"code": 75}, FAILED, "crash", "it broke"),
        ({"code": 75}, None, "again", "asking to be started again"),
        ({"code": 75}, a_heartbeat(status="stopped"), "stopped", "somebody other"),
        ({"code": 75}, OUT_OF_MEMORY, "out_of_memory", "no memory"),
        ({"signal": 9, "oom_kill": True}, None, "out_of_memory", "out of memory"),
        ({"signal": 9, "oom_near": True}, None, "killed", "perhaps for want of memory"),
        ({"signal": 9}, None, "killed", "signal 9"),
        ({"signal": 11}, a_heartbeat(), "killed", "signal 11"),
        ({"signal": 11, "oom_kill": True}, None, "killed", "signal 11"),
        ({"start_error": "no such file"}, None, "start", "no such file"),
    ],
)
def test_every_cause_of_death_has_its_name(ended, heartbeat, rule, reason):
    """The exit and the last words tell why a trainer died; then it is to start again."""
    run, (event, by, why) = died(running(), heartbeat, **ended)
    assert (event, by) == ("run.died", rule)
    assert reason in why
    assert run.status == "waiting"
    assert run.faults.restarts == 1


@pytest.mark.parametrize(
    ("ended", "heartbeat", "reason"),
    [
        ({"code": 1}, None, "ended with exit code 1; it printed last: no licence"),
        ({"code": 75}, None, "left, asking to be started again; it printed last: no licence"),
        ({"code": 78}, None, "no licence; mend it, then `supervisor retry`"),
        ({"code": 1}, FAILED, "it broke; "),
        ({"code": 78}, FAILED, "it broke; mend it"),
        ({"signal": 11}, None, "killed by signal 11, not by the supervisor; "),
        ({"code": 75}, a_heartbeat(status="stopped"), "asked to stop by somebody other"),
    ],
)
def test_what_a_trainer_printed_last_is_the_reason_where_it_told_none(ended, heartbeat, reason):
    """A cause that was found before the first heartbeat reaches the log and `show-state`."""
    life = an_observation(alive=False, heartbeat=heartbeat, last_line="no licence", **ended)
    run, notes = judged(running(), life)
    assert notes[-1][2].startswith(reason)
    assert run.reason.startswith(reason)


@pytest.mark.parametrize(
    ("ended", "heartbeat", "blamed"),
    [
        ({"code": 1}, None, True),
        ({"code": 75}, OUT_OF_MEMORY, True),
        ({"signal": 11}, a_heartbeat(), True),
        ({"signal": 9, "oom_kill": True}, None, True),
        ({"signal": 9}, None, False),
        ({"signal": 15}, None, False),
        ({"code": 75}, None, False),
        ({"code": 75}, a_heartbeat(status="stopped"), False),
        ({"start_error": "no such file"}, None, False),
        ({}, None, False),
        ({"code": 0}, None, False),
        ({"code": 78}, None, False),
    ],
)
def test_only_what_a_trainer_did_itself_may_come_of_its_load(ended, heartbeat, blamed):
    """Kills from outside, full disks and bad specs say nothing about the mode."""
    _, notes = judge(
        running(), an_observation(alive=False, heartbeat=heartbeat, **ended), NOW, LIMITS
    )
    assert [blames_the_load(note) for note in notes] == [blamed]


def test_a_hang_may_come_of_the_load_once_it_has_ended_the_trainer():
    """Its death tells it, not the first suspicion."""
    _, notes = judge(running(started_s=0.0, process=None), an_observation(), NOW, LIMITS)
    assert [(note.event, blames_the_load(note)) for note in notes] == [("run.hung", False)]
    hung = running(status="stopping", hung=True)
    _, notes = judge(hung, an_observation(alive=False, signal=9), NOW, LIMITS)
    assert [(note.event, blames_the_load(note)) for note in notes] == [("run.died", True)]


def test_a_trainer_that_went_unwatched_is_started_again():
    """It died while no supervisor lived: nobody knows why, and it goes on."""
    run, notes = judged(running(), an_observation(alive=False))
    assert run.status == "waiting"
    assert [note[:2] for note in notes] == [("run.died", "vanished")]


def test_a_full_disk_or_the_kill_of_a_program_is_no_failure_of_a_run():
    """Its trainer says that the reason was the machine: no retry is used up, and no quarantine."""
    words = a_heartbeat(status="failed", error="full", of_the_machine=True)
    run, note = died(running(retry=Retry(retries=0)), words, code=75)
    assert (run.status, note[:2]) == ("waiting", ("run.died", "crash"))
    assert (run.faults.own_failures, run.faults.died_there) == (0, 0)


def test_a_program_that_the_kernel_kills_for_memory_has_run_out_of_it():
    """As its trainer would have: a kill in their own control group is no stranger's."""
    words = a_heartbeat(status="failed", error="signal 9", of_the_machine=True)
    run, note = died(running(), words, code=75, oom_kill=True)
    assert note[:2] == ("run.died", "out_of_memory")
    assert run.faults.own_failures == 1


@pytest.mark.parametrize("status", ["running", "stopping"])
def test_exit_0_is_done(status):
    """The target is reached, even if a stop was asked at the same moment."""
    run, note = died(running(status=status), a_heartbeat(step=1000), code=0)
    assert (run.status, run.progress.step, note[0]) == ("done", 1000, "run.done")


def test_a_program_that_is_done_before_its_target_is_told_as_that():
    """No step is claimed that nobody has made."""
    said = a_heartbeat(step=700, status="done")
    for ended in ({"code": 0}, {}):
        run, (event, rule, reason) = died(running(target=steps(1000)), said, **ended)
        assert (run.status, event, rule) == ("done", "run.done", "program")
        assert "done at step 700, before its target" in reason
        assert run.reason == reason
    run, (_, rule, _) = died(running(target=steps(700)), said, code=0)
    assert (rule, run.reason) == ("target", None)


def test_to_leave_in_peace_is_not_to_be_done():
    """Exit code 0 alone says nothing: the target is not reached, and nobody said it is over."""
    run, (event, rule, reason) = died(running(), a_heartbeat(step=700), code=0)
    assert (run.status, event, rule) == ("waiting", "run.died", "returned")
    assert "at step 700 with exit code 0" in reason
    run, (event, rule, _) = died(running(target=None), a_heartbeat(step=700), code=0)
    assert (run.status, event, rule) == ("waiting", "run.died", "returned")


def test_an_early_return_is_nobody_elses_doing():
    """It is told with its step, holds the run in the end, and blames no mode."""
    said = a_heartbeat(step=4, status="stopped", returned_at=10)
    run, notes = judge(running(), an_observation(alive=False, heartbeat=said, code=75), NOW, LIMITS)
    assert [note.rule for note in notes] == ["returned"]
    assert "returned before its target, at step 10" in notes[0].reason
    assert (run.faults.died_there, blames_the_load(notes[0])) == (1, False)


def test_a_trainer_that_finished_unwatched_is_done():
    """Its last word stands in the heartbeat, though nobody saw its exit code."""
    run, _ = judged(running(), an_observation(alive=False, heartbeat=a_heartbeat(status="done")))
    assert run.status == "done"


@pytest.mark.parametrize("status", ["running", "stopping"])
def test_exit_78_is_never_tried_again(status):
    """A spec that cannot work is a matter for a person, who is told the trainer's own words."""
    run, note = died(running(status=status), FAILED, code=78)
    assert (run.status, note[0]) == ("failed", "run.failed")
    assert "it broke" in note[2]


def test_a_run_that_was_asked_to_leave_is_queued():
    """Leaving on request is no death: no backoff, no restart counted; the log has a line."""
    run, notes = judged(
        running(status="stopping", reason="x"), an_observation(alive=False, code=75)
    )
    assert (run.status, run.faults.restarts, run.retry_s) == ("queued", 0, None)
    assert notes == [("run.stopped", "asked", "stopped: x")]


def test_a_machine_that_went_down_is_nobodys_fault():
    """After a reboot the run is queued as if it had been asked to leave."""
    for status in ("running", "stopping", "waiting"):
        run, notes = judged(
            running(status=status, failures=3, retry_s=NOW_S + 99),
            an_observation(alive=False),
            a_time(NOW_S, boot_id="boot-2"),
        )
        assert (run.status, run.faults.restarts, run.attempt.stop_asked_s) == ("queued", 0, None)
        said = [("run.lost", "boot", "the machine went down with it")]
        assert notes == ([] if status == "waiting" else said)


def test_a_start_that_the_power_cut_prevented_never_happened():
    """The goal was saved, the trainer was not born: it is started, without a death."""
    run, notes = judged(running(process=None), an_observation(alive=False))
    assert (run.status, run.faults.restarts, notes) == ("queued", 0, [])


# Backoff


@pytest.mark.parametrize(
    ("moved", "waits_s"),
    [
        (False, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]),
        (True, [0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]),
    ],
)
def test_the_backoff_doubles_up_to_five_minutes(moved, waits_s):
    """Patient, and never given up; the first death of a trainer that trained costs no wait."""
    deaths = range(1, len(waits_s) + 1)
    assert [backoff_s(failures, LIMITS, moved=moved) for failures in deaths] == waits_s
    assert backoff_s(10**6, LIMITS, moved=moved) == 300


@pytest.mark.parametrize(
    ("moved", "waits"),
    [
        (True, [(0, "at once"), (1, "in 1 s"), (2, "in 2 s")]),
        (False, [(1, "in 1 s"), (2, "in 2 s"), (4, "in 4 s")]),
    ],
)
def test_each_death_in_a_row_waits_twice_as_long(moved, waits):
    """Deaths in a row are counted over lives, as long as none of them lasted."""
    run = running(step=10)
    for wait_s, said in waits:
        life = run.but(status="running", started_step=run.progress.step)
        run, note = died(life, a_heartbeat(step=life.progress.step + moved), code=1)
        assert run.retry_s == NOW_S + wait_s
        assert f"starts again {said}" in note[2]


@pytest.mark.parametrize("heartbeat", [None, a_heartbeat(pid=99, step=20)])
def test_a_life_that_never_spoke_has_not_moved(heartbeat):
    """An earlier life came far: that does not let one that breaks at its start start at once."""
    run, _ = died(running(step=20, started_step=10), heartbeat, code=1)
    assert run.retry_s == NOW_S + LIMITS.backoff_first_s


@pytest.mark.parametrize(
    ("started_s", "step", "failures"),
    [(PROVEN_S, 11, 1), (PROVEN_S + 1, 11, 6), (PROVEN_S, 10, 6)],
    ids=["long and moving", "too short", "long and still"],
)
def test_a_life_that_lasted_and_moved_starts_the_backoff_afresh(started_s, step, failures):
    """Ten minutes with progress prove that the trainer works; time or progress alone do not."""
    life = running(started_s=started_s, started_step=10, failures=5, dies_everywhere=True)
    run, _ = died(life, kept(a_heartbeat(step=step)), code=1)
    assert run.faults.failures == failures
    assert run.faults.dies_everywhere is (failures > 1)


def test_a_life_that_leaves_nothing_proves_nothing():
    """It trains for long, saves nothing and dies: trained like that, the run would never end."""
    life = running(started_s=PROVEN_S, started_step=10, failures=5)
    run, _ = died(life, a_heartbeat(step=11, saved=Mark(step=10, trained_s=1.0)), code=1)
    assert run.faults.failures == 6


def test_a_proven_trainer_is_forgiven_while_it_lives():
    """Deaths are forgotten as soon as it has proved itself, so that nobody is shown old ones."""
    beating = an_observation(heartbeat=kept(a_heartbeat(step=20, progress_at_s=NOW_S)))
    deaths = {"failures": 3, "died_there": 2, "dies_everywhere": True}
    young, _ = judged(running(**deaths), beating)
    faults = young.faults
    assert (faults.failures, faults.died_there, faults.dies_everywhere) == (3, 2, True)
    proven, _ = judged(running(started_s=PROVEN_S, **deaths), beating)
    faults = proven.faults
    assert (faults.failures, faults.died_there, faults.dies_everywhere) == (0, 0, False)


def test_a_life_that_began_with_the_timeline_has_lasted_too():
    """The very first moment of the timeline is a moment like any other."""
    run, _ = died(running(started_s=0.0, failures=5), kept(a_heartbeat()), code=1)
    assert run.faults.failures == 1
    hung, _ = judged(running(started_s=0.0, process=None), an_observation())
    assert hung.status == "stopping"


# Held


def lives_and_deaths(deaths):
    """A run after deaths, each given as (step, exit keywords)."""
    run, notes = running(step=0), []
    for step, ended in deaths:
        run = run.but(status="running", started_s=NOW_S - 5)
        run, note = died(run, a_heartbeat(step=step), **ended)
        notes.append(note)
    return run, notes


CRASH = {"code": 1}


def test_dying_at_the_same_step_again_and_again_is_held():
    """The fifth death at step 50 gives the slot to others for an hour, loudly."""
    run, notes = lives_and_deaths([(50, CRASH)] * 4)
    assert run.status == "waiting"
    run, notes = lives_and_deaths([(50, CRASH)] * 5)
    assert (run.status, run.retry_s) == ("quarantined", NOW_S + 3600)
    assert notes[-1][0] == "run.quarantined"
    assert "5 times at step 50" in notes[-1][2]


def test_dying_short_of_the_furthest_step_is_no_progress():
    """A life that resumes earlier and dies earlier has not come further."""
    run, _ = lives_and_deaths([(50, CRASH), (40, CRASH), (50, CRASH), (45, CRASH), (50, CRASH)])
    assert run.status == "quarantined"


def test_progress_between_deaths_is_no_reason_to_hold():
    """A trainer that dies often and comes further each time is let go on."""
    run, _ = lives_and_deaths([(step, CRASH) for step in range(50, 70)])
    assert run.status == "waiting"


@pytest.mark.parametrize(
    "ended", [{"signal": 9}, {"signal": 15}, {"signal": 1}, {"signal": 2}], ids=str
)
def test_kills_from_outside_never_hold_a_run(ended):
    """Somebody's kill says nothing about the trainer, however often it comes."""
    run, _ = lives_and_deaths([(50, ended)] * 20)
    assert run.status == "waiting"


@pytest.mark.parametrize("ended", [{"signal": 11}, {"signal": 6}, {"signal": 9, "oom_kill": True}])
def test_crashes_by_signal_do_hold_a_run(ended):
    """A segmentation fault, an abort and running out of memory are the trainer's own."""
    run, _ = lives_and_deaths([(50, ended)] * 5)
    assert run.status == "quarantined"


def test_a_held_run_is_tried_once_more():
    """When its time is over it is queued, with all its chances."""
    held = a_run(status="quarantined", retry_s=NOW_S, died_there=5, reason="why")
    early, notes = judged(held, an_observation(alive=False), a_time(NOW_S - 1))
    assert (early, notes) == (held, [])
    run, notes = judged(held, an_observation(alive=False))
    assert (run.status, run.faults.died_there, run.retry_s) == ("queued", 0, None)
    assert notes[0][0] == "run.retried"


# Hung


def test_a_hang_limit_is_learnt_from_the_run():
    """Ten times the longest gap that the run itself has shown, and never less than the minimum."""
    run = running()
    assert silence_max_s(None, run, LIMITS) == LIMITS.start_s
    at_start = a_heartbeat(step=0, longest_gap_s=1e6)
    assert silence_max_s(at_start, run, LIMITS) == LIMITS.start_s
    one_step = a_heartbeat(longest_gap_s=0.0)  # no gap is known before the second one
    assert silence_max_s(one_step, run, LIMITS) == LIMITS.start_s
    assert silence_max_s(a_heartbeat(longest_gap_s=1), run, LIMITS) == LIMITS.silent_min_s
    assert silence_max_s(a_heartbeat(longest_gap_s=100), run, LIMITS) == 1000


@pytest.mark.parametrize(("silent_s", "status"), [(300.0, "running"), (300.5, "stopping")])
def test_a_silent_trainer_is_hung(silent_s, status):
    """Beyond its limit it is stopped with a dump of its stacks; up to it, it is let be."""
    run, notes = judged(
        running(started_s=0.0),
        an_observation(heartbeat=a_heartbeat(progress_at_s=NOW_S - silent_s)),
    )
    assert run.status == status
    if status == "stopping":
        assert run.attempt.hung
        assert run.attempt.stop_asked_s == NOW_S
        assert [note[0] for note in notes] == ["run.hung"]


def test_a_slow_trainer_that_moves_is_let_alone():
    """At a fiftieth of its speed it still moves: that is no hang."""
    run, notes = judged(
        running(started_s=0.0),
        an_observation(heartbeat=a_heartbeat(longest_gap_s=90.0, progress_at_s=NOW_S - 800)),
    )
    assert (run.status, notes) == ("running", [])


def test_eight_hours_of_sleep_are_no_silence():
    """The monotonic clock stands still while the machine is suspended, and so does silence."""
    asleep_s = 8 * 3600.0
    run, notes = judged(
        running(),
        an_observation(heartbeat=a_heartbeat(progress_at_s=NOW_S - 1)),
        a_time(NOW_S + asleep_s, monotonic_s=NOW_S),
    )
    assert (run.status, notes) == ("running", [])


def test_what_hung_is_a_death_when_it_ends():
    """A hang that ends by itself or by SIGKILL counts, and its reason stays."""
    hung = running(status="stopping", hung=True, reason="no progress for 400 s")
    run, note = died(hung, code=75)
    assert (run.status, note[1]) == ("waiting", "hung")
    assert "no progress for 400 s" in note[2]


# Living


def test_each_notice_is_told_once():
    """Notices stay in the heartbeat for the whole life; the log has each of them once."""
    run = running()
    told = []
    for notices in (("a",), ("a", "b"), ("a", "b")):
        life = an_observation(heartbeat=a_heartbeat(notices=notices, progress_at_s=NOW_S))
        run, notes = judged(run, life)
        told += [note[2] for note in notes]
    assert told == ["a", "b"]


def test_a_notice_of_the_last_moment_is_told_before_the_death():
    """What the trainer said last is heard although it is dead."""
    _, notes = judged(
        running(), an_observation(alive=False, code=1, heartbeat=a_heartbeat(notices=("a",)))
    )
    assert [note[0] for note in notes] == ["run.noticed", "run.died"]


@pytest.mark.parametrize("status", ["queued", "waiting"])
def test_a_living_trainer_that_nobody_remembers_is_taken_over(status):
    """The memory was lost or is older than the machine: no second trainer is started."""
    lost = a_run(status=status, retry_s=NOW_S + 5, hung=True)
    run, notes = judged(lost, an_observation(heartbeat=a_heartbeat(mode="heavy")))
    assert (run.status, run.attempt.mode, run.attempt.process) == ("running", "heavy", a_process())
    assert (run.attempt.started_s, run.attempt.hung) == (NOW_S, False)
    assert notes[0][0] == "run.adopted"


def test_a_trainer_is_believed_about_its_mode():
    """A memory that is older than the machine may hold another mode than the trainer's load."""
    run, _ = judged(
        running(), an_observation(heartbeat=a_heartbeat(mode="heavy", progress_at_s=NOW_S))
    )
    assert run.attempt.mode == "heavy"


def test_a_blocked_run_is_cleared_when_nothing_of_it_lives():
    """As long as something lives it stays blocked; then it is queued, and said so."""
    blocked = a_run(status="blocked", reason="why", kill_asked_s=1.0)
    for life in (an_observation(), an_observation(alive=False, leftovers=1)):
        assert judged(blocked, life) == (blocked, [])
    run, notes = judged(blocked, an_observation(alive=False))
    assert (run.status, run.reason, run.attempt.kill_asked_s) == ("queued", None, None)
    assert notes[0][0] == "run.cleared"


exits = st.fixed_dictionaries(
    {},
    optional={
        "code": st.sampled_from([0, 1, 75, 78, 127]),
        "signal": st.sampled_from([1, 2, 6, 9, 11, 15]),
        "oom_kill": st.booleans(),
        "start_error": st.just("why"),
    },
)
heartbeats = st.none() | st.builds(
    a_heartbeat,
    status=st.sampled_from(["starting", "running", "stopping", "stopped", "done", "failed"]),
    step=st.integers(0, 100),
    out_of_memory=st.booleans(),
    progress_at_s=st.floats(0, NOW_S),
)
lives = st.builds(
    lambda alive, leftovers, heartbeat, ended: an_observation(
        alive=alive, leftovers=leftovers, heartbeat=heartbeat, **({} if alive else ended)
    ),
    st.booleans(),
    st.integers(0, 2),
    heartbeats,
    exits,
)
STATUSES = ("queued", "running", "stopping", "waiting", "quarantined", "blocked", "done", "failed")


@given(st.sampled_from(STATUSES), lives, st.booleans(), st.booleans())
def test_no_look_surprises_the_judge(status, life, here, recorded):
    """Whatever is seen of a run in whatever state, it gets a state that fits what lives."""
    run = running(status=status, process=a_process() if recorded else None, retry_s=NOW_S + 5)
    now = a_time(NOW_S, boot_id="boot-1" if here else "boot-2")
    after, _ = judge(run, life, now, LIMITS)
    assert after.status in STATUSES
    if life.process is not None and status in ("running", "stopping", "queued", "waiting"):
        assert after.status in ("running", "stopping")
    if after.status in ("waiting", "quarantined"):
        assert after.retry_s is not None
    if life.process is None:
        assert after.status not in ("running", "stopping")


OLDER, NEWER = 3000, 4000
"""steps of two checkpoints"""


def died_loading(run, at_step, kind="crash", **words):
    """`run` after a death before its first step from that checkpoint."""
    last = {"began": Mark(step=at_step, trained_s=1.0), "step": at_step, "checkpoint_step": at_step}
    ended, heartbeat = {
        "crash": ({"code": 75}, a_heartbeat(status="failed", error="no such key", **last, **words)),
        "segfault": ({"signal": 11}, a_heartbeat(status="starting", **last)),
        "hung": ({"signal": 9}, a_heartbeat(status="starting", **last)),
        "kill": ({"signal": 9}, a_heartbeat(status="starting", **last)),
        "memory": ({"signal": 9, "oom_kill": True}, a_heartbeat(status="starting", **last)),
        "disk": (
            {"code": 75},
            a_heartbeat(status="failed", error="full", of_the_machine=True, **last),
        ),
        "unseen": ({}, a_heartbeat(status="starting", **last)),
        "start": ({"start_error": "no such file"}, None),
    }[kind]
    status = "stopping" if kind == "hung" else "running"
    run = run.but(
        status=status,
        hung=kind == "hung",
        mode="light",
        process=a_process(),
        started_s=NOW_S - 5,
        started_step=at_step,
    )
    run, notes = judge(run, an_observation(alive=False, heartbeat=heartbeat, **ended), NOW, LIMITS)
    return run, notes[-1]


def loads(run, at_step, kinds):
    for kind in kinds:
        run, note = died_loading(run, at_step, kind)
    return run, note


@pytest.mark.parametrize("kinds", [["crash"] * 3, ["segfault", "hung", "crash"]])
def test_a_checkpoint_that_attempts_die_of_is_withheld(kinds):
    """After three deaths of its own before the first step; then the one before is tried at once."""
    run, _ = loads(a_run(), NEWER, kinds[:2])
    assert run.faults.withheld == ()
    run, note = loads(run, NEWER, kinds[2:])
    assert (run.status, run.faults.withheld) == ("waiting", (NEWER,))
    assert f"from checkpoint {NEWER}: the one before is tried" in note.reason


@pytest.mark.parametrize("kind", ["kill", "memory", "disk", "unseen", "start"])
def test_what_is_no_fault_of_a_trainer_is_none_of_its_checkpoint(kind):
    """Kills, hunger for memory and full disks do not count, and forgive nothing."""
    run, _ = loads(a_run(), NEWER, [kind] * 10)
    assert run.faults.withheld == ()
    run, _ = loads(a_run(), NEWER, ["crash", kind, "crash", kind])
    assert run.faults.withheld == ()
    run, _ = loads(run, NEWER, ["crash"])
    assert run.faults.withheld == (NEWER,)


def test_a_reboot_is_no_fault_of_a_checkpoint():
    """However often the machine goes down while it is loaded."""
    run = running(failed_loads=2)
    after, _ = judge(run, an_observation(alive=False), a_time(NOW_S, boot_id="boot-2"), LIMITS)
    assert (after.faults.failed_loads, after.faults.withheld) == (2, ())


def test_where_the_one_before_fails_too_the_newest_comes_back():
    """The checkpoint was not the reason: it never walks down through all of them."""
    run, _ = loads(a_run(), NEWER, ["crash"] * 3)
    run, _ = loads(run, OLDER, ["crash"] * 2)
    assert (run.status, run.faults.withheld) == ("waiting", (NEWER,))
    run, note = loads(run, OLDER, ["crash"])
    assert (run.status, run.faults.withheld) == ("quarantined", ())
    assert "comes back" in note.reason
    # So does one that could not be withheld, for want of another.
    run, _ = loads(a_run(), NEWER, ["crash"] * 6)
    assert (run.status, run.faults.withheld) == ("quarantined", ())


def test_a_life_that_steps_forgives_what_was_counted():
    """It was no fault of the checkpoint. What is withheld stays so: the run goes on without it."""
    run, _ = loads(a_run(), NEWER, ["crash"] * 3)
    run, _ = loads(run, OLDER, ["crash"] * 2)
    stepped = a_heartbeat(
        status="failed",
        error="later",
        step=OLDER + 1,
        began=Mark(step=OLDER, trained_s=1.0),
        checkpoint_step=OLDER,
    )
    # It was expected to go on from the newest.
    run = run.but(status="running", process=a_process(), started_s=NOW_S - 9, started_step=NEWER)
    run, _ = judge(run, an_observation(alive=False, heartbeat=stepped, code=75), NOW, LIMITS)
    assert (run.faults.failed_loads, run.faults.withheld, run.faults.failures) == (0, (NEWER,), 6)


def test_a_life_that_steps_and_is_stopped_forgives_too():
    """Deaths of last week and of today are not in a row."""
    said = a_heartbeat(step=NEWER + 1, began=Mark(step=NEWER, trained_s=1.0))
    run, _ = judged(running(failed_loads=2, started_step=NEWER), an_observation(heartbeat=said))
    assert run.faults.failed_loads == 0


def test_a_death_before_the_checkpoint_was_found_is_none_of_it():
    """A spec that cannot be read, or an import that fails: no session has begun."""
    said = a_heartbeat(status="failed", error="no module", checkpoint_step=NEWER)
    run = a_run()
    for _ in range(4):
        run, _ = died(running(failed_loads=run.faults.failed_loads), said, code=75)
    assert run.faults.failed_loads == 0


def test_whoever_says_that_it_works_on_is_not_hung():
    """A validation takes as long as it takes."""
    run = running(started_s=0.0)
    silent = a_heartbeat(progress_at_s=NOW_S - 900, longest_gap_s=1.0)
    assert [note[0] for note in judged(run, an_observation(heartbeat=silent))[1]] == ["run.hung"]
    busy = msgspec.structs.replace(silent, alive_at_s=NOW_S - 1)
    assert judged(run, an_observation(heartbeat=busy))[1] == []
    gone = msgspec.structs.replace(silent, alive_at_s=NOW_S - 301)
    assert [note[0] for note in judged(run, an_observation(heartbeat=gone))[1]] == ["run.hung"]


@pytest.mark.parametrize(
    ("own", "gap_s", "setting"),
    [
        (None, 1.0, "(silent_min_s in [recovery])"),
        (None, 50.0, "(silent_factor in [recovery], times its longest gap of 50.0 s)"),
        (None, 0.0, "(start_s in [recovery])"),
        (20.0, 50.0, "(silent_max_s in [run.a])"),
        (20.0, 0.0, "(silent_max_s in [run.a])"),
    ],
)
def test_the_line_about_a_hang_names_the_setting(own, gap_s, setting):
    """Whoever finds it too strict knows what to change."""
    run = running(started_s=0.0, silent_max_s=own)
    said = a_heartbeat(progress_at_s=NOW_S - 700, longest_gap_s=gap_s)
    _, ((event, _, reason),) = judged(run, an_observation(heartbeat=said))
    assert event == "run.hung"
    assert setting in reason


def test_a_run_may_have_a_patience_of_its_own():
    """Shorter or longer than what all others have."""
    said = a_heartbeat(progress_at_s=NOW_S - 700, longest_gap_s=1.0)
    patient = running(started_s=0.0, silent_max_s=7200.0)
    assert judged(patient, an_observation(heartbeat=said))[1] == []


def test_notices_that_had_no_room_any_more_are_not_told_again():
    """The window moves on; what came after the last look is told, each once."""
    texts = tuple(str(number) for number in range(5, 25))
    said = a_heartbeat(notices=texts, notices_before=5)
    run, told = judged(running(notices_seen=20), an_observation(heartbeat=said))
    assert [note[2] for note in told] == ["20", "21", "22", "23", "24"]
    assert run.attempt.notices_seen == 25
    assert judged(run, an_observation(heartbeat=said))[1] == []
