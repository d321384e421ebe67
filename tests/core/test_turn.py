"""A whole turn: what was seen goes in, what follows comes out, and the same again."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from state.records import Place
from state.requests import JobsWait
from supervisor.core import history
from supervisor.core.awake import Awakening, awake
from supervisor.core.campaign import Campaign
from supervisor.core.enrolment import watched
from supervisor.core.facts import StabilityLimits
from supervisor.core.job_settings import Jobs
from supervisor.core.moments import Moment
from supervisor.core.readings import Readings
from supervisor.core.reconcile import Start, Stop
from supervisor.core.recorded import make_again, record
from supervisor.core.recovery import Exit, Observation
from supervisor.core.seen import Machine, Rules, Said, Seen, Started
from supervisor.core.settings import Settings
from supervisor.core.turn import DUE_MIN_S, still, turn
from testkit.builders import MIDNIGHT, a_heartbeat, a_ladder, a_process, an_observation
from testkit.builders import a_request as a_request_for

SETTINGS = Settings(campaign=Campaign(runs=("a", "b", "c"), trainer="drill", target_steps=10**6))
RULES = Rules(SETTINGS, a_ladder(), SETTINGS.queue(), revision=1)
A, B, C = (run.id for run in RULES.campaign)
STARTED = Started(run=A, process=a_process())


def a_memory():
    return history.first_day(a_moment(), RULES.ladder)


def a_look(**fields):
    """A turn at which nothing lives, unless `observations` say otherwise."""
    nothing = dict.fromkeys((A, B, C), Observation())
    fields = {"moment": a_moment(), "observations": nothing, **fields}
    return Seen(rules=RULES, machine=Machine(cores=2, parts={}), **fields)


def a_moment(after_s=0.0):
    """So long after the first look."""
    clocks = {"monotonic_s": 10.0 + after_s, "boottime_s": 10.0 + after_s}
    return Moment(wall=MIDNIGHT + after_s, boot_id="boot-1", **clocks)


def a_request(kind="pause"):
    return a_request_for(kind, request_id=f"request-{kind}")


def starts(decided):
    return [action.run for action in decided.actions if isinstance(action, Start)]


def test_equal_turns_are_equal():
    """There is no other input: the same memory that sees the same comes to the same."""
    assert turn(a_memory(), a_look()) == turn(a_memory(), a_look())


def test_what_a_turn_wants_is_in_its_memory_before_anything_is_done():
    """A run that is to be started is believed to run, and the line that says why is there."""
    decided = turn(a_memory(), a_look())
    assert starts(decided) == [A]
    assert decided.memory.runs[0].status == "running"
    assert decided.memory.outbox[-1]["event"] == "slots.assigned"


def test_an_outcome_is_taken_down_without_a_look():
    """The process of a start is remembered; nothing else is thought, and nothing is asked for."""
    decided = turn(a_memory(), a_look())
    after = turn(decided.memory, a_look(observations=None, outcomes=(STARTED,)))
    assert after.memory.runs[0].attempt.process == a_process()
    assert after.memory.outbox[-1]["event"] == "run.started"
    assert after.actions == ()


def test_after_a_death_the_turn_that_the_gpus_answer_causes_starts():
    """The one before it knows the GPUs as they were before; after a boot it starts all the same."""
    awaited = Readings(gpu_awaited_s=0.0)
    memory = turn(a_memory(), a_look(readings=awaited)).memory
    memory = turn(memory, a_look(observations=None, outcomes=(STARTED,))).memory
    lives = dict.fromkeys((A, B, C), Observation()) | {A: Observation(exit=Exit(signal=9))}
    memory = turn(memory, a_look(moment=a_moment(1.0), observations=lives)).memory
    later = a_moment(3600.0)
    before = turn(memory, a_look(moment=later, readings=awaited))
    assert starts(before) == []
    answered = turn(before.memory, a_look(moment=later))
    assert starts(answered) == [A]


def test_what_no_look_has_covered_is_neither_judged_nor_started():
    """A run that came near in mid-turn waits for the next one, which is due at once."""
    decided = turn(a_memory(), a_look(observations={}))
    assert starts(decided) == []
    assert decided.due_s == DUE_MIN_S
    assert [run.status for run in decided.memory.runs] == ["queued"] * 3


def test_a_reset_is_followed_by_a_look_at_what_it_brings_near():
    """The first day's first run had long left the queue: this turn's look knows nothing of it."""
    memory = turn(a_memory(), a_look()).memory
    memory = msgspec.structs.replace(memory, runs=memory.runs[1:])
    near = {run.id: Observation() for run in watched(memory, RULES)}
    decided = turn(memory, a_look(observations=near, requests=(a_request("reset"),)))
    assert [copy.name for copy in decided.before_save]
    assert decided.due_s == DUE_MIN_S
    assert starts(decided) == []
    near = {run.id: Observation() for run in watched(decided.memory, RULES)}
    assert starts(turn(decided.memory, a_look(observations=near))) == [A]


def test_a_disk_that_refuses_is_told_once_and_once_when_it_is_well():
    """However many saves fail in between."""
    memory, told = a_memory(), []
    for unsaved in ("full", "full", None, None):
        memory = turn(memory, a_look(unsaved=unsaved)).memory
        told += [line["event"] for line in memory.outbox if line["event"].startswith("state.")]
        memory = msgspec.structs.replace(memory, outbox=())
    assert told == ["state.unsaved", "state.saved"]


def test_an_answer_is_in_the_memory_with_the_goal():
    """Whoever asked finds it by the id of the request, and the number of the line that tells it."""
    memory = turn(a_memory(), a_look(requests=(a_request(),))).memory
    assert memory.goal.paused
    (answer,) = memory.answers
    (line,) = [line for line in memory.outbox if line.get("request") == "request-pause"]
    assert (answer.request, answer.refused, answer.line) == ("request-pause", False, line["seq"])


def test_a_request_that_cannot_be_taken_away_is_answered_once():
    """With a full disk it is seen at each look: other answers are not pushed out by that."""
    memory = a_memory()
    for _ in range(3):
        memory = turn(memory, a_look(requests=(a_request(),), unsaved="full")).memory
    (answer,) = memory.answers
    assert (answer.refused, answer.line is not None) == (False, True)


@pytest.mark.parametrize(("leaving", "event"), [("signal", "every"), ("stop", "no supervisor was")])
def test_leaving_ends_with_a_line_once_nothing_lives(leaving, event):
    """Until then the trainers are asked to save; nothing is decided."""
    memory = turn(a_memory(), a_look()).memory
    alive = {A: an_observation(heartbeat=a_heartbeat()), B: Observation(), C: Observation()}
    decided = turn(memory, a_look(observations=alive, leaving=leaving, requests=(a_request(),)))
    assert [type(action) for action in decided.actions] == [Stop]
    assert not decided.memory.clean_stop
    gone = {A: Observation(exit=Exit(code=75)), B: Observation(), C: Observation()}
    decided = turn(decided.memory, a_look(observations=gone, leaving=leaving))
    assert decided.memory.clean_stop
    assert not decided.memory.goal.paused
    assert decided.memory.outbox[-1]["reason"].startswith(event)


def test_what_moves_by_itself_is_no_reason_to_save():
    """Time, steps and running time are heard of again; a line of the log is another matter."""
    memory = turn(a_memory(), a_look()).memory
    alive = {A: an_observation(heartbeat=a_heartbeat(step=500)), B: Observation(), C: Observation()}
    memory = turn(memory, a_look(observations=alive)).memory
    alive[A] = an_observation(heartbeat=a_heartbeat(step=900))
    later = turn(memory, a_look(observations=alive, moment=a_moment(after_s=20.0))).memory
    assert later.runs[0].progress.step == 900
    assert still(later, LIMITS) == still(memory, LIMITS)
    said = (Said(event="watch.lost", rule="watch", reason="blind"),)
    spoken = turn(later, a_look(observations=None, said=said)).memory
    assert still(spoken, LIMITS) != still(memory, LIMITS)


def test_whoever_leaves_needs_no_ladder_with_its_mode():
    """A mode file is removed in the moment in which the supervisor is asked to stop."""
    memory = turn(a_memory(), a_look()).memory
    goal = msgspec.structs.replace(memory.goal, mode="heavy")
    memory = msgspec.structs.replace(memory, goal=goal)
    alive = {A: an_observation(), B: Observation(), C: Observation()}
    decided = turn(memory, a_look(observations=alive, leaving="signal"))
    assert decided.actions == (Stop(run=A),)


def test_that_a_boot_came_to_a_look_is_worth_saving():
    """A boot without one is taken for one in which no supervisor came to life."""
    born = turn(a_memory(), a_look(observations=None)).memory
    looked = turn(born, a_look(moment=a_moment(after_s=1.0), observations={})).memory
    unseen = msgspec.structs.replace(born.boots[-1], lived_s=0.0)
    born = msgspec.structs.replace(looked, boots=(*born.boots[:-1], unseen))
    assert looked.boots[-1].lived_s > 0
    assert still(looked, LIMITS) != still(born, LIMITS)


def awoken(memory, place, fresh_id="b"):
    found = Awakening(moment=a_moment(), rules=RULES, memory=memory, place=place, fresh_id=fresh_id)
    return awake(found)


LIMITS = StabilityLimits()
HERE = Place(machine_id="m", device=1, inode=2)


@pytest.mark.parametrize(
    ("place", "where"),
    [
        (Place(machine_id="n", device=1, inode=2), "another machine"),
        (Place(machine_id="m", device=9, inode=2), "another disk"),
        (Place(machine_id="m", device=1, inode=9), "another folder"),
    ],
)
def test_a_copied_home_is_another_home(place, where):
    """It has an id of its own, and says so once; where it stays, nothing is said."""
    first = awoken(None, HERE, "a")
    assert (first.home.id, first.epoch) == ("a", 1)
    assert awoken(first, HERE).home == first.home
    copy = awoken(first, place)
    assert copy.home.id == "b"
    (line,) = [line for line in copy.outbox if line["event"] == "home.renewed"]
    assert where in line["reason"]
    assert awoken(copy, place, "c").home == copy.home


def test_a_reset_begins_another_epoch_of_the_same_home():
    """What others know of runs from before it is void."""
    memory = awoken(None, HERE, "a")
    memory = turn(memory, a_look(requests=(a_request("reset"),))).memory
    assert (memory.home.id, memory.epoch) == ("a", 2)


def test_an_old_form_in_the_settings_is_told_as_they_come_in_force():
    """By a life that begins, and by a turn that hears of them.

    A turn that heard nothing of it says nothing, as it was when it was written down.
    """
    notices = ("one of target_steps", "one of target_episodes")
    found = Awakening(moment=a_moment(), rules=RULES, memory=a_memory(), dated=notices)
    turned = turn(a_memory(), a_look(reloaded=True, dated=notices))
    for memory in (awake(found), turned.memory):
        lines = [line for line in memory.outbox if line["event"] == "settings.dated"]
        assert tuple(line["reason"] for line in lines) == notices
    silent = turn(a_memory(), a_look(reloaded=True)).memory.outbox
    assert SETTINGS.dated()
    assert not [line for line in silent if line["event"] == "settings.dated"]


def recorded_turns(count):
    """Some turns of one life, as they stand in a log."""
    memory, lines = a_memory(), []
    for number in range(count):
        notices = ("an old form",) * (number == 1)
        seen = a_look(moment=a_moment(after_s=10.0 * number), dated=notices)
        came = turn(memory, seen)
        lines.append(msgspec.json.decode(record(memory, seen, came, whole=number == 0)))
        # Every other time what was said is delivered.
        memory = msgspec.structs.replace(came.memory, outbox=()) if number % 2 else came.memory
    return lines


def test_recorded_turns_are_made_again():
    """From what stands in the log alone, whatever was delivered between two of them."""
    made = make_again(recorded_turns(6))
    assert (made.turns, made.gaps, made.first) == (6, 0, None)


@given(st.integers(1, 5))
def test_a_turn_that_is_missing_is_a_gap(missing):
    """What follows it cannot be compared, and is not called different."""
    lines = recorded_turns(6)
    del lines[missing - 1]
    made = make_again(lines)
    assert (made.turns, made.gaps, made.differences) == (missing - 1, 6 - missing, 0)


def test_a_turn_that_would_be_another_now_is_told():
    """The first difference is named; later ones would only follow from it."""
    lines = recorded_turns(4)
    lines[1]["seen"]["requests"] = [msgspec.to_builtins(a_request())]
    made = make_again(lines)
    assert made.differences == 1
    assert made.first.startswith("turn 2,")


@pytest.mark.parametrize("wanted_gib", [1.0, 20.0])
def test_a_disk_that_is_nearly_full_is_told_once_and_its_end_too(wanted_gib):
    """Before it is full, or jobs wait for room; checkpoints that come and go end nothing."""
    settings = msgspec.structs.replace(SETTINGS, jobs=Jobs(min_free_gib=wanted_gib))
    least_mib = max(2048, int(1024 * wanted_gib))
    memory, told = a_memory(), []
    for number, free_mib in enumerate(
        (least_mib, least_mib - 1, least_mib + 100, None, 0, 2 * least_mib, None, least_mib - 1)
    ):
        seen = a_look(
            moment=a_moment(after_s=10.0 * number), readings=Readings(disk_free_mib=free_mib)
        )
        seen = msgspec.structs.replace(seen, rules=RULES._replace(settings=settings))
        memory = turn(memory, seen).memory
        told += [
            (number, line["event"])
            for line in memory.outbox
            if line["event"] in ("disk.low", "disk.eased")
        ]
        memory = msgspec.structs.replace(memory, outbox=())
    assert told == [(1, "disk.low"), (5, "disk.eased"), (7, "disk.low")]


def test_what_was_told_of_the_disk_is_remembered_over_a_restart():
    """Nobody hears of it again, only since a supervisor has come to life."""
    low = a_look(readings=Readings(disk_free_mib=100))
    memory = turn(a_memory(), low).memory
    assert [line["event"] for line in memory.outbox].count("disk.low") == 1
    assert "100 MiB are free" in next(
        line["reason"] for line in memory.outbox if line["event"] == "disk.low"
    )
    memory = awake(Awakening(moment=a_moment(60.0), rules=RULES, memory=memory))
    memory = turn(memory, msgspec.structs.replace(low, moment=a_moment(70.0))).memory
    assert [line["event"] for line in memory.outbox].count("disk.low") == 1


def test_jobs_are_late_once_until_they_wait_for_half_of_that():
    """Where one after the other is just too late, nobody is rung up for each."""
    memory, told = a_memory(), []
    for number, waited_h in enumerate((23, 25, 40, 24, 13, 12, 0, 23, 25)):
        wait = JobsWait(
            id=f"r{number}", by="dispatcher", asked_at=0.0, waited_s=3600.0 * waited_h, job="j"
        )
        memory = turn(memory, a_look(requests=(wait,))).memory
        told += [
            (waited_h, line["event"]) for line in memory.outbox if line["event"].startswith("jobs.")
        ]
        assert memory.answers[-1].request == wait.id
        memory = msgspec.structs.replace(memory, outbox=())
    assert told == [(25, "jobs.late"), (12, "jobs.eased"), (25, "jobs.late")]
