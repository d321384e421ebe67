"""Training makes way for others, in the order from the mildest, and its pauses are its own."""

import msgspec
import pytest

from state.records import Goal
from supervisor.core import explain, policy
from supervisor.core.guard import Guard, Pressure, Verdict
from supervisor.core.quiet_hours import Quiet
from supervisor.core.settings import Settings
from testkit.builders import MIDNIGHT, a_request, some_facts
from testkit.fakes import Plan
from testkit.place import Place

BUSY = Verdict(answer="freeze", cause="cpu", pressure=Pressure(cpu_other=91.0, by=("ffmpeg 80 %",)))
FULL = Verdict(answer="evict", cause="memory", pressure=Pressure(memory_other=96.0))
HELD = Verdict()
FREE = Verdict(answer="free", cause="calm", pressure=Pressure(cpu_other=2.0))
OPEN = Quiet(open=True, why="window", opens_at=MIDNIGHT, closes_at=MIDNIGHT + 7200.0)
CLOSED = Quiet(open=False, why="outside", opens_at=MIDNIGHT + 7200.0)
UNKNOWN = Quiet(open=False, why="unknown", trouble="mariadb: connection refused")
SETTINGS = '[campaign]\ntrainer = "drill"\nruns = ["a"]\ntarget.steps = 1000000\n'


def decided(goal=None, *, guard=None, **known):
    """The decision, where the goal is this one."""
    facts = some_facts(**known, **({"guard": Guard()} if guard or "pressure" in known else {}))
    return policy.decide(msgspec.structs.replace(facts, goal=goal or facts.goal))


@pytest.mark.parametrize(
    ("verdict", "goal"),
    [
        (FREE, Goal(mode="light")),
        (HELD, Goal(mode="light", still="starts")),
        (BUSY, Goal(mode="light", still="frozen")),
        (FULL, Goal(mode="light", pauses=("guard",))),
    ],
)
@pytest.mark.parametrize("before", ["hold", "free", "freeze", "evict"])
def test_whatever_was_before_the_guard_gets_what_it_wants(verdict, goal, before):
    """And never another mode."""
    was = decided(pressure=Verdict(answer=before, cause="cpu")).goal
    found = decided(was, pressure=verdict)
    assert found.goal == goal
    assert found.rule == ("guard" if was != goal else found.rule)


def test_the_reason_says_who_presses_and_how_hard():
    """`why` has the numbers of it, and the rules that were asked after it."""
    found = decided(pressure=BUSY)
    assert "others use 91 % of the processors" in found.reason
    assert "ffmpeg 80 %" in found.reason
    assert found.evidence["cpu_other"] == 91.0
    facts = some_facts(guard=Guard(), pressure=BUSY)
    assert next(one.rule for one in explain.verdicts(facts) if one.decides) == "guarded"
    assert policy.forecast(msgspec.structs.replace(facts, goal=found.goal)).action == "rest"


@pytest.mark.parametrize(
    ("text", "on"),
    [
        ("", False),
        ("[guard]", True),
        ("[quiet_hours]", True),
        ("[quiet_hours]\nenabled = false", False),
        ("[quiet_hours]\nenabled = false\n[guard]", True),
        ("[quiet_hours]\n[guard]\nenabled = false", False),
        ("[guard]\nenabled = false", False),
    ],
)
def test_quiet_hours_bring_the_guard_with_them(text, on):
    """It is off where neither stands, and where somebody says so."""
    settings = msgspec.toml.decode(text, type=Settings)
    assert (settings.guard_in_force is not None) is on


def test_while_nothing_may_start_what_comes_next_is_no_climb():
    facts = some_facts(guard=Guard(), pressure=HELD)
    held = msgspec.structs.replace(facts, goal=Goal(mode="light", still="starts"))
    assert policy.forecast(facts).action == "climb"
    assert policy.forecast(held).action == "rest"


def test_why_has_what_others_do_beside_the_limits():
    """As it explains a climb, with numbers; what is not known has no line."""
    seen = Pressure(
        cpu_other=91.0,
        gpu_memory_other_mib={"0": 512.0},
        psi_cpu_protected={"game.slice": 40.0},
        service_latency_p95_ms=180.0,
    )
    verdict = msgspec.structs.replace(BUSY, pressure=seen)
    told = explain.inputs(some_facts(guard=Guard(), pressure=verdict))
    found = {one.name: (one.value, one.unit, one.note) for one in told}
    limits = "80 % pause training, nothing starts at 30 %"
    assert found["processors"] == (91.0, "%", f"used by others; {limits}")
    assert found["GPU 0"][:2] == (512.0, "MiB")
    assert "for a processor; 30 % pause training" in found["game.slice"][2]
    assert found["service"][:2] == (180.0, "ms")
    assert "memory" not in found


def test_a_guard_that_is_switched_off_lifts_all_that_it_wanted():
    for still, pauses in (("frozen", ()), (None, ("guard", "person"))):
        held = Goal(mode="light", still=still, pauses=pauses)
        kept = tuple(owner for owner in pauses if owner == "person")
        assert decided(held).goal == Goal(mode="light", pauses=kept)


@pytest.mark.parametrize(
    ("quiet", "waits"), [(None, False), (OPEN, False), (CLOSED, True), (UNKNOWN, True)]
)
def test_training_waits_for_a_window_and_what_is_not_known_is_none(quiet, waits):
    found = decided(quiet=quiet)
    assert found.goal.pauses == (("quiet_hours",) if waits else ())
    if waits:
        assert quiet.words in found.reason


def test_a_person_may_have_it_train_in_any_hour_for_a_while():
    """It lifts the quiet hours, never the guard, and is over by itself."""
    request = a_request("train_now")
    was = Goal(mode="light", pauses=("guard", "quiet_hours"))
    granted = decided(was, quiet=CLOSED, pressure=FULL, request=request)
    assert granted.goal == Goal(
        mode="light", pauses=("guard",), any_hour_until_at=MIDNIGHT + 3600.0
    )
    assert "still paused by the guard" in granted.reason
    free = msgspec.structs.replace(granted.goal, pauses=())
    assert decided(free, quiet=CLOSED, at=MIDNIGHT + 3599.0, pressure=FREE).goal == free
    over = decided(free, quiet=CLOSED, at=MIDNIGHT + 3600.0, pressure=FREE).goal
    assert over == Goal(mode="light", pauses=("quiet_hours",))
    assert decided(request=request).refused


def test_a_person_who_resumes_lifts_no_pause_of_others():
    was = Goal(mode="light", pauses=("person", "quiet_hours"))
    granted = decided(was, quiet=CLOSED, request=a_request("resume"))
    assert granted.goal.pauses == ("quiet_hours",)
    assert "still paused by the quiet hours" in granted.reason


@pytest.fixture
def place(tmp_path):
    """A guarded home in which a run trains."""
    place = Place(tmp_path, SETTINGS + "[guard]\n")
    place.settle(20)
    return place


def main(place):
    (process,) = place.host.mains()
    return process


def test_what_stands_still_is_not_taken_for_hung_and_trains_on_where_it_was(place):
    """For hours; nothing starts beside it, nothing is counted, and no patience runs out."""
    process, step = main(place), place.run("a").progress.step
    running_s = place.daemon.memory.visit.running_s
    place.sentry.answer = BUSY
    place.look()
    assert process.stood.still
    stood_s = place.daemon.memory.visit.running_s
    place.settle(50, after_s=300.0)
    assert main(place) is process
    assert place.daemon.memory.visit.running_s == stood_s
    assert stood_s >= running_s
    place.sentry.answer = FREE
    place.look()
    place.settle(4)
    assert main(place) is process
    assert not process.stood.still
    assert place.run("a").progress.step > step
    assert not any(place.lines(event) for event in ("run.hung", "run.died", "run.killed"))


def test_a_crash_while_it_stands_still_is_no_crash_of_the_mode(place):
    """Whatever brought the machine down, it was not our load."""
    place.sentry.answer = BUSY
    place.look()
    place.host.power_off()
    place.clock.reboot(off_s=30.0)
    place.begin()
    assert place.daemon.memory.visit.crashes == 0
    assert place.daemon.memory.crashes_total == 1


@pytest.mark.parametrize("lives", [False, True])
def test_a_crash_while_the_guard_keeps_trainers_from_starting_is_none_of_theirs(place, lives):
    """Unless one has lived on from before."""
    place.sentry.answer = HELD
    if not lives:
        place.host.power_off()
        place.clock.reboot(off_s=30.0)
    place.begin()
    place.settle(2)
    before = place.daemon.memory.visit.crashes
    assert bool(place.host.mains()) is lives
    place.host.power_off()
    place.clock.reboot(off_s=30.0)
    place.begin()
    assert place.daemon.memory.visit.crashes == before + lives


def test_the_next_daemon_thaws_before_anything_else(place):
    """The one before may have been killed; who has just begun to look freezes nothing."""
    process = main(place)
    place.sentry.answer = BUSY
    place.look()
    assert process.stood.still
    place.sentry.answer = HELD
    place.begin()
    assert not process.stood.still
    assert main(place) is process


def test_memory_is_given_back_by_leaving_and_training_comes_back(place):
    place.sentry.answer = FULL
    place.settle(4)
    assert not place.host.mains()
    assert place.run("a").status == "queued"
    place.sentry.answer = FREE
    place.settle(4)
    assert main(place).run == "drill-a"


def evictions(place):
    return [line["reason"] for line in place.lines("guard.evicted")]


@pytest.mark.parametrize("stands", [False, True])
def test_that_training_has_to_leave_is_told_once(place, stands):
    """Whether it trained or stood still; however long others go on."""
    if stands:
        place.sentry.answer = BUSY
        place.look()
        assert evictions(place) == []
    place.sentry.answer = FULL
    place.settle(20, after_s=60.0)
    (reason,) = evictions(place)
    assert reason.startswith("training saves and leaves: others use 96 % of the memory")
    place.sentry.answer = FREE
    place.settle(4)
    place.sentry.answer = FULL
    place.settle(4)
    assert len(evictions(place)) == 2


def test_where_nothing_trains_nothing_is_evicted(place):
    """Busy evenings after a campaign has been paused wake nobody."""
    place.ask("pause")
    place.settle(4)
    assert not place.host.mains()
    place.sentry.answer = FULL
    place.settle(4)
    assert "guard" in place.daemon.memory.goal.pauses
    assert evictions(place) == []


def test_a_person_who_pauses_what_stands_still_has_it_leave(place):
    """It goes on for as long as saving takes."""
    place.plans["a"] = Plan()
    place.sentry.answer = BUSY
    place.look()
    place.put("pause")
    place.settle(4)
    assert not place.host.mains()
    assert place.host.folders["drill-a"].heartbeat.status == "stopped"
