"""The rules of the mode, one by one and together."""

from typing import get_args

import msgspec
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from state.records import Goal, Ledger, ModeLedger
from state.requests import AboutTheMode
from supervisor.core import policy
from supervisor.core.facts import Decision, Facts, StabilityLimits
from supervisor.core.guard import Guard, Pressure, Verdict
from supervisor.core.quiet_hours import Quiet
from supervisor.core.readings import GpuReadings, Readings
from testkit.builders import MIDNIGHT, RUNGS, a_request, some_facts

HOUR_STABLE_S = 3600.0
NOW_S = 10_000.0
STORM_S = (NOW_S - 3000, NOW_S - 2000, NOW_S - 1000, NOW_S)

BOTH = [StabilityLimits(name=name) for name in policy.RULES]
both_policies = pytest.mark.parametrize("limits", BOTH, ids=policy.RULES)
seconds = st.floats(0, 20_000)
kinds = st.sampled_from([kind.__struct_config__.tag for kind in get_args(AboutTheMode)])


modes = st.builds(
    ModeLedger,
    crashes=st.floats(0, 50),
    hours=st.floats(0, 50),
    level=st.integers(0, 5),
    last_crashes=st.integers(0, 9),
    last_hours=st.floats(0, 20),
)
"""what may be known of a mode"""


verdicts = st.builds(
    Verdict,
    answer=st.sampled_from(("hold", "free", "freeze", "evict")),
    cause=st.sampled_from(("cpu", "memory", "calm")),
    pressure=st.builds(Pressure, cpu_other=st.none() | st.floats(0, 100)),
)
quiets = st.builds(
    Quiet,
    open=st.booleans(),
    why=st.sampled_from(("window", "outside", "unknown")),
    opens_at=st.none() | st.floats(MIDNIGHT, MIDNIGHT + 1e6),
    closes_at=st.none() | st.floats(MIDNIGHT, MIDNIGHT + 1e6),
)


@st.composite
def facts(draw, *, asks=True, name=None):
    """Any facts that a life could bring about, under either policy."""
    rungs = draw(st.integers(1, 5))
    names = RUNGS[:rungs]
    kind = draw(st.none() | kinds) if asks else None
    named = kind in ("pin", "forbid", "allow")
    asked_mode = draw(st.sampled_from((*names, "removed"))) if named else None
    return some_facts(
        draw(st.sampled_from((*names, "removed"))),
        rungs=rungs,
        pinned=draw(st.booleans()),
        pauses=draw(st.sampled_from(((), ("person",), ("guard",), ("person", "quiet_hours")))),
        now_s=NOW_S,
        stable_s=draw(seconds),
        crashes_s=tuple(sorted(draw(st.lists(st.floats(0, NOW_S), max_size=8)))),
        cool_downs=draw(st.dictionaries(st.sampled_from(names), seconds)),
        limits=StabilityLimits(
            name=name or draw(st.sampled_from(sorted(policy.RULES))),
            crashes_max=draw(st.integers(0, 5)),
        ),
        work_left=draw(st.booleans()),
        ledger=Ledger(
            budget=draw(st.none() | st.floats(-5, 3)),
            modes=draw(st.dictionaries(st.sampled_from(names), modes)),
        ),
        request=a_request(kind, asked_mode) if kind else None,
        guard=draw(st.none() | st.just(Guard())),
        pressure=draw(st.none() | verdicts),
        quiet=draw(st.none() | quiets),
    )


def rung(ladder, goal):
    return ladder.index(goal.mode)


# One rung up


@both_policies
def test_an_hour_without_a_crash_climbs(limits):
    """Sixty stable minutes are enough, and one second less is not."""
    ready = some_facts(stable_s=HOUR_STABLE_S, limits=limits)
    decision = policy.decide(ready)
    assert (decision.goal, decision.rule) == (Goal(mode="medium"), "stable")
    assert decision.cool_down_s is None
    assert policy.decide(msgspec.structs.replace(ready, stable_s=3599.0)).rule == "stay"


@both_policies
@pytest.mark.parametrize("rungs", [1, 2, 3, 5])
def test_the_ladder_is_climbed_rung_by_rung(rungs, limits):
    """Whatever the length of the ladder, each climb is one rung and the top is the end."""
    climbed = [RUNGS[0]]
    ready = {"rungs": rungs, "stable_s": HOUR_STABLE_S, "limits": limits}
    while (decision := policy.decide(some_facts(climbed[-1], **ready))).rule == "stable":
        climbed.append(decision.goal.mode)
    assert tuple(climbed) == RUNGS[:rungs]
    assert decision.rule == "stay"


@both_policies
def test_a_cooling_mode_is_not_tried(limits):
    """A mode that failed is left alone until its cool-down is over, to the second."""
    cooling = some_facts(stable_s=9000.0, cool_downs={"medium": NOW_S + 1}, limits=limits)
    assert policy.decide(cooling).goal.mode == "light"
    cooled = msgspec.structs.replace(cooling, cool_downs={"medium": NOW_S})
    assert policy.decide(cooled).goal.mode == "medium"


def test_the_cool_down_of_another_mode_does_not_matter():
    """Heavy cooling down is no reason not to climb to medium."""
    assert (
        policy.decide(
            some_facts(rungs=3, stable_s=9000.0, cool_downs={"heavy": NOW_S + 9000})
        ).goal.mode
        == "medium"
    )


@both_policies
def test_nothing_left_to_train_climbs_nowhere(limits):
    """A finished campaign has no use for a heavier mode."""
    facts = some_facts(stable_s=9000.0, work_left=False, limits=limits)
    assert policy.decide(facts).rule == "stay"


# One rung down


@both_policies
@pytest.mark.parametrize("rungs", [2, 3, 5])
def test_a_storm_falls_back_one_rung(rungs, limits):
    """The fourth crash within the hour falls back one rung, and that mode cools down."""
    stormy = some_facts(RUNGS[rungs - 1], rungs=rungs, crashes_s=STORM_S, limits=limits)
    decision = policy.decide(stormy)
    assert (decision.goal, decision.rule) == (Goal(mode=RUNGS[rungs - 2]), "reboot_storm")
    assert decision.cool_down_s == HOUR_STABLE_S
    assert decision.evidence["crashes"] == 4


@both_policies
def test_three_crashes_are_forgiven(limits):
    """Three crashes within the hour are within the measure."""
    facts = some_facts("medium", crashes_s=STORM_S[1:], limits=limits)
    assert policy.decide(facts).rule == "stay"


@both_policies
def test_a_crash_of_an_hour_ago_is_forgotten(limits):
    """The window is open at its far end: a crash exactly an hour old is out of it."""
    old = (NOW_S - HOUR_STABLE_S, *STORM_S[1:])
    assert policy.decide(some_facts("medium", crashes_s=old, limits=limits)).rule == "stay"


@both_policies
def test_a_ladder_of_one_rung_stays(limits):
    """A machine with one mode has nowhere to go, in a storm as in calm."""
    for facts in (
        some_facts(rungs=1, crashes_s=STORM_S, limits=limits),
        some_facts(rungs=1, stable_s=90_000.0, limits=limits),
    ):
        assert policy.decide(facts).goal == facts.goal


@both_policies
def test_a_storm_comes_before_a_climb(limits):
    """Should a mode be both stormy and stable, the storm decides."""
    both = some_facts("medium", rungs=3, crashes_s=STORM_S, stable_s=9000.0, limits=limits)
    assert policy.decide(both).rule == "reboot_storm"


# A mode that is gone


def test_a_mode_without_its_file_becomes_the_safest():
    """When the mode file of the goal is removed, the safest mode is wanted; a pause stays."""
    decision = policy.decide(
        some_facts("removed", pinned=True, pauses=("person",), stable_s=9000.0)
    )
    assert decision.goal == Goal(mode="light", pauses=("person",))
    assert decision.rule == "unknown_mode"


# A person's word


@pytest.mark.parametrize(
    ("kind", "mode", "before", "after"),
    [
        ("scale_up", None, Goal(mode="light"), Goal(mode="medium")),
        ("scale_down", None, Goal(mode="heavy"), Goal(mode="medium")),
        (
            "scale_up",
            None,
            Goal(mode="light", pauses=("person",)),
            Goal(mode="medium", pauses=("person",)),
        ),
        ("pin", "heavy", Goal(mode="light"), Goal(mode="heavy", pinned=True)),
        ("pin", "light", Goal(mode="light"), Goal(mode="light", pinned=True)),
        ("pin", "medium", Goal(mode="light", pinned=True), Goal(mode="medium", pinned=True)),
        ("unpin", None, Goal(mode="heavy", pinned=True), Goal(mode="heavy")),
        ("pause", None, Goal(mode="heavy"), Goal(mode="heavy", pauses=("person",))),
        (
            "pause",
            None,
            Goal(mode="heavy", pinned=True),
            Goal(mode="heavy", pinned=True, pauses=("person",)),
        ),
        ("resume", None, Goal(mode="heavy", pauses=("person",)), Goal(mode="heavy")),
        (
            "resume",
            None,
            Goal(mode="heavy", pauses=("person", "guard")),
            Goal(mode="heavy", pauses=("guard",)),
        ),
        (
            "pause",
            None,
            Goal(mode="heavy", pauses=("guard",)),
            Goal(mode="heavy", pauses=("person", "guard")),
        ),
        ("reset", None, Goal(mode="heavy", pinned=True, pauses=("person",)), Goal(mode="light")),
    ],
)
def test_a_request_is_granted(kind, mode, before, after):
    """What a person asks is done at once, whatever the rules would say."""
    facts = some_facts(
        rungs=3,
        goal=before,
        request=a_request(kind, mode),
        cool_downs={"medium": NOW_S + 3000, "heavy": NOW_S + 3000},
    )
    decision = policy.decide(facts)
    assert (decision.goal, decision.rule, decision.refused) == (after, "request", False)
    assert decision.cool_down_s is None
    assert "ada" in decision.reason


@pytest.mark.parametrize(
    ("kind", "mode", "before", "why"),
    [
        ("scale_up", None, Goal(mode="heavy"), "highest"),
        ("scale_down", None, Goal(mode="light"), "lowest"),
        ("scale_up", None, Goal(mode="light", pinned=True), "pinned"),
        ("scale_down", None, Goal(mode="heavy", pinned=True), "pinned"),
        ("pin", "unheard-of", Goal(mode="light"), "light, medium, heavy"),
        ("unpin", None, Goal(mode="light"), "pinned"),
        ("pause", None, Goal(mode="light", pauses=("person",)), "already"),
        ("resume", None, Goal(mode="light", pauses=("quiet_hours",)), "train-now"),
        ("resume", None, Goal(mode="light"), "paused"),
    ],
)
def test_a_request_that_makes_no_sense_is_refused(kind, mode, before, why):
    """A refusal is a value with its reason, and the goal stays."""
    decision = policy.decide(some_facts(rungs=3, goal=before, request=a_request(kind, mode)))
    assert decision.refused
    assert decision.goal == before
    assert why in decision.reason


@both_policies
@pytest.mark.parametrize("hold", ["pinned", "paused"])
@pytest.mark.parametrize(
    "pressure",
    [
        {"stable_s": 90_000.0},
        {"crashes_s": STORM_S},
        {"ledger": Ledger(budget=-9.0)},
        {"away": True},
        {"out_of_memory": True},
    ],
)
def test_what_a_person_holds_does_not_move(hold, pressure, limits):
    """Pinned or paused, a mode neither climbs nor falls back."""
    held = {"pinned": {"pinned": True}, "paused": {"pauses": ("person",)}}[hold]
    facts = some_facts("medium", rungs=3, limits=limits, **held, **pressure)
    decision = policy.decide(facts)
    assert (decision.goal, decision.rule) == (facts.goal, hold)


# What holds for all facts


@given(facts())
def test_a_decision_wants_a_mode_of_the_ladder(facts):
    """Whatever the facts, the goal is a mode that exists, and the reason is a sentence."""
    decision = policy.decide(facts)
    assert decision.goal.mode in facts.ladder
    assert decision.reason


@given(facts(asks=False))
def test_nothing_moves_by_more_than_one_rung_by_itself(facts):
    """Without a request the mode moves by one rung at most, if it exists."""
    assume(facts.goal.mode in facts.ladder)
    assert abs(rung(facts.ladder, policy.decide(facts).goal) - facts.rung) <= 1


@given(facts())
def test_a_decision_can_be_made_again_from_the_log(facts):
    """Facts that went through a line of JSON give the same decision, now and in a year."""
    told = msgspec.structs.replace(
        facts, readings=Readings(cpu_percent=12.5, gpus=(GpuReadings(index=0),))
    )
    line = msgspec.json.encode(
        {"facts": msgspec.to_builtins(told), "decision": msgspec.to_builtins(policy.decide(told))}
    )
    read = msgspec.json.decode(line)
    assert policy.decide(msgspec.convert(read["facts"], Facts)) == msgspec.convert(
        read["decision"], Decision
    )


@given(facts(), st.floats(-1e10, 1e10), st.text(max_size=5))
def test_the_wall_clock_and_the_boot_decide_nothing(facts, wall, boot_id):
    """Facts that differ in wall time and boot alone give the same decision."""
    assume(facts.quiet is None)  # which hour of the week it is the wall alone can tell
    elsewhere = msgspec.structs.replace(facts, at=wall, boot_id=boot_id)
    assert policy.decide(elsewhere) == policy.decide(facts)


@given(facts(asks=False, name="fixed"), st.floats(0, NOW_S))
def test_one_more_crash_never_leads_higher(facts, crash_s):
    """With a crash more, the mode is never a heavier one than without it.

    With `ledger`, crashes of light may acquit medium: see `test_policy_proofs.py`.
    """
    assume(facts.goal.mode in facts.ladder)
    worse = msgspec.structs.replace(facts, crashes_s=tuple(sorted((*facts.crashes_s, crash_s))))
    assert rung(facts.ladder, policy.decide(worse).goal) <= rung(
        facts.ladder, policy.decide(facts).goal
    )


@given(facts(asks=False), seconds)
def test_longer_stability_never_leads_lower(facts, more_s):
    """With more stable time, the mode is never a lighter one than without it."""
    assume(facts.goal.mode in facts.ladder)
    better = msgspec.structs.replace(facts, stable_s=facts.stable_s + more_s)
    assert rung(facts.ladder, policy.decide(better).goal) >= rung(
        facts.ladder, policy.decide(facts).goal
    )


@given(facts(asks=False))
def test_a_forecast_comes_true(facts):
    """A climb that is forecast comes then, if no crash does, and not a second before."""
    assume(facts.goal.mode in facts.ladder)
    # What is due at once has been done by the time that anybody asks what comes next.
    assume(not policy.acts(facts, policy.decide(facts)))
    forecast = policy.forecast(facts)

    def later(wait_s):
        return policy.decide(
            msgspec.structs.replace(
                facts, now_s=facts.now_s + wait_s, stable_s=facts.stable_s + wait_s
            )
        )

    if forecast.action == "climb":
        assert later(forecast.in_s + 1e-6).rule == "stable"
        if forecast.in_s > 1:
            assert later(forecast.in_s - 1).rule == "stay"
    else:
        assert later(100_000.0).goal == facts.goal
