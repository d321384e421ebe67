"""The rules of `ledger`, one by one."""

import msgspec
import pytest

from state.records import Goal, Hazard, Kept, Ledger, ModeLedger
from supervisor.core import policy
from supervisor.core.facts import StabilityLimits
from supervisor.core.readings import GpuReadings, Readings
from testkit.builders import HOUR_S, a_mode_ledger, a_request, some_facts

NOW_S = 100_000.0
STORM_S = (NOW_S - 3000, NOW_S - 2000, NOW_S - 1000, NOW_S)
WORTH = 3 + 2 * 0.05
"""crashes an hour at which a fresh medium is even, which is twice as fast"""
EVENLY = a_mode_ledger(crashes=10.0, hours=40.0, aftershocks=5.0, aftershock_hours=20.0)
"""a quarter of a crash an hour, soon after another one and else"""
IN_BURSTS = a_mode_ledger(crashes=10.0, hours=40.0, aftershocks=9.0, aftershock_hours=5.0)
"""as many, nearly all of them soon after another one"""
TOO_MANY = a_mode_ledger(crashes=10.0, hours=3.0, aftershocks=5.0, aftershock_hours=1.5)
"""more than three an hour, evenly"""
FAILED = ModeLedger(level=1, bad_since_s=NOW_S - 5 * HOUR_S, last_hours=1.0, last_crashes=1)


def in_medium(known=ModeLedger(), *, budget=1.0, **fields):  # noqa: B008 - a frozen value
    """Facts of a medium that is twice as fast as a light that never crashed."""
    ledger = Ledger(budget=budget, modes={"medium": known})
    given = {"now_s": NOW_S, "speeds": (1.0, 2.0), "running_s": 600.0, "ledger": ledger, **fields}
    return some_facts("medium", **given)


def in_light(known=ModeLedger(), **fields):  # noqa: B008 - a frozen value
    """Facts of a light below a medium of which that much is known."""
    ledger = Ledger(modes={"medium": known})
    return some_facts("light", **{"now_s": NOW_S, "speeds": (1.0, 2.0), "ledger": ledger, **fields})


def why_not(facts, rule):
    """Why that rule does not apply."""
    return dict(policy.rejected(facts))[rule]


def fell(facts, rule):
    """The decision, which must be this rule's, one rung down, and be written down as a failure."""
    decision = policy.decide(facts)
    assert (decision.rule, decision.outcome) == (rule, "failed")
    assert facts.ladder.index(decision.goal.mode) == facts.rung - 1
    assert decision.ledger.modes[facts.goal.mode].level == (
        facts.ledger.modes.get(facts.goal.mode, ModeLedger()).level + 1
    )
    return decision


# budget_spent


def test_an_overdrawn_budget_falls_back():
    """A mode that crashes more often than it pays for is left, however slowly it does so."""
    decision = fell(in_medium(budget=-0.01, crashes_s=STORM_S[:2]), "budget_spent")
    assert decision.cool_down_s == HOUR_S
    assert decision.reason == (
        "2 crashes in 10 min of running are more than medium pays for: back to light; "
        "medium pays for 3.10 crashes an hour of running; medium again in 60 min at the earliest"
    )
    assert decision.evidence["budget"] == -0.01
    assert decision.evidence["crashes_of_visit"] == 2
    assert decision.evidence["cool_down_min"] == 60.0


@pytest.mark.parametrize("budget", [None, 0.0, 2.5])
def test_a_budget_that_is_not_overdrawn_lets_the_mode_be(budget):
    """An empty budget is still none that is overdrawn."""
    facts = in_medium(budget=budget)
    assert policy.decide(facts).rule == "stay"
    left = 3.0 if budget is None else budget
    assert why_not(facts, "budget_spent") == f"its budget bears {left:.2f} crashes more"


def test_a_long_even_record_bears_a_run_of_bad_luck():
    """It may cost as much again as it had on credit, and no more."""
    facts = in_medium(EVENLY, budget=-2.99)
    assert policy.decide(facts).rule == "stay"
    assert (
        "its budget is used up, but by its record it has at most 0.36 crashes an hour"
        in why_not(facts, "budget_spent")
    )
    fell(in_medium(EVENLY, budget=-3.0), "budget_spent")


@pytest.mark.parametrize("known", [ModeLedger(), IN_BURSTS, TOO_MANY])
def test_no_other_record_bears_it(known):
    """Neither none, nor one of bursts, nor one of more crashes than it is worth."""
    known = msgspec.structs.replace(known, level=0)
    fell(in_medium(known, budget=-0.5), "budget_spent")


def test_light_has_no_budget():
    """Nothing lies below it."""
    facts = some_facts("light", ledger=Ledger(budget=-5.0))
    assert policy.decide(facts).rule == "stay"
    assert why_not(facts, "budget_spent") == "light is the lowest mode"


# reboot_storm


def test_a_storm_falls_back_where_little_is_known():
    """Four crashes within the hour, and nothing that speaks for the mode."""
    decision = fell(in_medium(crashes_s=STORM_S), "reboot_storm")
    assert decision.evidence["crashes"] == 4
    assert decision.evidence["crashes_max"] == 3
    assert decision.evidence["window_min"] == 60.0
    assert "4 crashes in medium within 60 min, 3 are forgiven: back to light" in decision.reason


def test_a_storm_is_borne_by_a_mode_that_is_worth_it():
    """Even the cautious guess at its rate is below break-even, and crashes come evenly."""
    facts = in_medium(msgspec.structs.replace(EVENLY, level=0), crashes_s=STORM_S)
    assert policy.decide(facts).rule == "stay"
    assert "4 crashes within 60 min, but by its record it has at most 0.32 an hour" in why_not(
        facts, "reboot_storm"
    )


@pytest.mark.parametrize("known", [IN_BURSTS, TOO_MANY])
def test_a_storm_is_not_borne_by_any_other(known):
    """Nor by a quick mode whose crashes draw others after them."""
    fell(in_medium(msgspec.structs.replace(known, level=0), crashes_s=STORM_S), "reboot_storm")


def test_strict_bears_no_storm():
    """Who hates reboots need not bear them, however much they are worth."""
    known = msgspec.structs.replace(EVENLY, level=0)
    for limits in (StabilityLimits(strict=True), StabilityLimits(name="fixed")):
        facts = in_medium(known, crashes_s=STORM_S, limits=limits)
        assert policy.decide(facts).rule == "reboot_storm"


def test_who_prices_a_reboot_high_falls_back_from_what_was_worth_it():
    """At an hour a crash, one an hour is all that twice the speed pays for."""
    known = a_mode_ledger(crashes=30.0, hours=20.0, aftershocks=1.0, aftershock_hours=1.0, level=0)
    facts = in_medium(known, crashes_s=STORM_S)
    assert policy.decide(facts).rule == "stay"
    dear = msgspec.structs.replace(facts, limits=StabilityLimits(crash_price_floor_min=60.0))
    fell(dear, "reboot_storm")


# worse_than_worth


def test_a_mode_that_is_known_to_be_bad_is_left_at_its_first_crash():
    """It failed before, and crashes four times an hour where three are worth it."""
    known = a_mode_ledger(crashes=4.5, hours=1.0)
    decision = fell(in_medium(known, crashes_s=(NOW_S,)), "worse_than_worth")
    assert "medium crashes again, as it does 4.0 times an hour" in decision.reason
    assert policy.decide(in_medium(known)).rule == "stay", "without a crash it stays"
    forgiven = msgspec.structs.replace(known, level=0)
    facts = in_medium(forgiven, crashes_s=(NOW_S,))
    assert policy.decide(facts).rule == "stay"
    assert "has not failed before" in why_not(facts, "worse_than_worth")


def test_a_mode_that_failed_and_is_not_clearly_worse_may_go_on():
    """Worse is more than 1.2 times break-even."""
    known = a_mode_ledger(crashes=3.5, hours=1.0)
    facts = in_medium(known, crashes_s=(NOW_S,))
    assert policy.decide(facts).rule == "stay"
    assert why_not(facts, "worse_than_worth") == (
        "it crashes 3.20 times an hour, soon after a crash 2.00 times; "
        "clearly more than it pays for would be 3.72"
    )


def test_a_mode_that_crashes_just_as_often_as_it_is_worth_stays():
    """Worse is more than that, and at a factor of one not the same."""
    light = ModeLedger(crashes=0.95, hours=1.0)
    limits = StabilityLimits(crash_price_min=60.0, worse_factor=1.0)
    for even, more in (
        (a_mode_ledger(crashes=1.5, hours=0.75), a_mode_ledger(crashes=1.6, hours=0.75)),
        (
            a_mode_ledger(aftershocks=3.5, aftershock_hours=1.75, level=0),
            a_mode_ledger(aftershocks=3.6, aftershock_hours=1.75, level=0),
        ),
    ):
        facts = in_medium(even, crashes_s=(NOW_S,), limits=limits)
        facts.ledger.modes["light"] = light
        assert policy.decide(facts).rule == "stay"
        facts.ledger.modes["medium"] = more
        fell(facts, "worse_than_worth")


def test_a_mode_whose_crashes_draw_others_is_left_at_the_first():
    """Two aftershocks make it known; an hour after a crash the danger is over."""
    known = a_mode_ledger(aftershocks=2.0, aftershock_hours=0.25, level=0)
    facts = in_medium(known, crashes_s=(NOW_S,), stable_s=3599.0)
    decision = fell(facts, "worse_than_worth")
    assert "soon after a crash medium crashes 5.0 times an hour" in decision.reason
    for calmer in (
        msgspec.structs.replace(facts, stable_s=3600.0),
        in_medium(msgspec.structs.replace(known, aftershocks=1.9), crashes_s=(NOW_S,)),
        in_medium(msgspec.structs.replace(known, aftershock_hours=0.5), crashes_s=(NOW_S,)),
    ):
        assert policy.decide(calmer).rule == "stay"


def test_bursts_count_also_against_a_mode_that_failed_at_a_bearable_rate():
    """It is left for the one reason or for the other."""
    known = a_mode_ledger(aftershocks=2.0, aftershock_hours=0.25, crashes=2.0, hours=10.0)
    decision = fell(in_medium(known, crashes_s=(NOW_S,)), "worse_than_worth")
    assert "after a crash" in decision.reason
    calm = msgspec.structs.replace(in_medium(known, crashes_s=(NOW_S,)), stable_s=3600.0)
    assert policy.decide(calm).rule == "stay"


def test_a_mode_without_failure_is_judged_by_its_bursts_alone():
    """However often it crashes over all, soon after a crash it is no worse than it is worth."""
    known = a_mode_ledger(crashes=4.5, hours=1.0, aftershocks=2.0, aftershock_hours=0.5, level=0)
    assert policy.decide(in_medium(known, crashes_s=(NOW_S,))).rule == "stay"


def test_light_is_never_left_downwards():
    """Whatever it does."""
    facts = in_light(crashes_s=STORM_S, out_of_memory=True, away=True, running_s=9000.0)
    assert policy.decide(facts).goal.mode != "removed"
    rejected = dict(policy.rejected(facts))
    for rule in ("absence", "out_of_memory", "worse_than_worth", "reboot_storm", "not_faster"):
        assert rejected[rule] == "light is the lowest mode"
    assert rejected["proved"] == "light is the lowest mode"


# not_faster

LIGHT_WORK = {"a": Kept(steps=9.0, hours=9.0)}
CALM_LIGHT = ModeLedger(hours=24.0, work=LIGHT_WORK)
SLOW = {"speeds": (1.0, 1.0)}


def slow(running_h, compared_h=None, **fields):
    """Medium that is as fast as light, tried for so long; compared with it for so long in all."""
    compared_h = running_h if compared_h is None else compared_h
    known = ModeLedger(work={"a": Kept(steps=compared_h, hours=compared_h)})
    facts = in_medium(known, running_s=running_h * HOUR_S, **{**SLOW, **fields})
    facts.ledger.modes["light"] = CALM_LIGHT
    return facts


def test_a_mode_that_is_no_faster_is_left():
    """After 54 minutes of measuring, for six hours at least."""
    decision = fell(slow(0.9), "not_faster")
    assert decision.cool_down_s == 6 * HOUR_S
    assert "medium trains only 1.00 times as fast as light" in decision.reason
    early = slow(0.899)
    assert policy.decide(early).rule == "stay"
    assert why_not(early, "not_faster") == "tried for 54 min, 54 min are needed"


def test_a_mode_whose_speed_is_known_already_is_tried_for_less():
    """Hours of earlier visits count, but nine minutes are always given."""
    assert policy.decide(slow(0.4, compared_h=0.9)).rule == "not_faster"
    assert policy.decide(slow(0.39995, compared_h=0.89995)).rule == "stay"
    assert policy.decide(slow(0.15, compared_h=30.0)).rule == "not_faster"
    assert policy.decide(slow(0.149, compared_h=30.0)).rule == "stay"
    assert policy.decide(slow(0.9, compared_h=0.1)).rule == "not_faster", "slots stood empty"
    short = StabilityLimits(trial_h=0.1)
    assert policy.decide(slow(0.1, compared_h=30.0, limits=short)).rule == "not_faster"


def test_a_mode_that_is_worth_a_crash_in_two_days_is_faster():
    """Two hundredths of a crash an hour are the bound, and at it the mode stays."""
    facts = slow(0.9)
    facts.ledger.modes["light"] = ModeLedger(hours=1.5, work=LIGHT_WORK)
    assert policy.decide(facts).rule == "stay"
    assert why_not(facts, "not_faster") == "it pays for 0.02 crashes an hour"
    facts.ledger.modes["light"] = ModeLedger(hours=1.51, work=LIGHT_WORK)
    fell(facts, "not_faster")


def test_what_is_measured_counts_and_not_what_is_promised():
    """Medium promised twice as much, and kept no more in an hour."""
    work = {"a": Kept(steps=2000.0, hours=20.0)}
    facts = in_medium(ModeLedger(work=work), running_s=HOUR_S)
    facts.ledger.modes["light"] = ModeLedger(
        hours=100.0, work={"a": Kept(steps=4000.0, hours=20.0)}
    )
    decision = fell(facts, "not_faster")
    assert decision.evidence["speed_ratio"] == pytest.approx(0.519, abs=0.001)


# out_of_memory, absence, forbidden


def test_a_mode_that_does_not_fit_is_left():
    """A trainer ran out of memory right after the climb."""
    decision = fell(in_medium(out_of_memory=True), "out_of_memory")
    assert "medium does not fit" in decision.reason
    facts = in_medium()
    assert why_not(facts, "out_of_memory").startswith("no trainer ran out of memory")


def test_after_a_day_of_absence_it_begins_low():
    """In the lowest mode, not one rung down; nothing is held against the mode."""
    facts = some_facts("heavy", rungs=3, away=True, ledger=Ledger(modes={"heavy": FAILED}))
    decision = policy.decide(facts)
    assert (decision.goal.mode, decision.rule, decision.outcome) == ("light", "absence", None)
    assert decision.cool_down_s is None
    assert decision.ledger.modes["heavy"].level == 1
    assert "begins again in light" in decision.reason
    assert why_not(in_medium(), "absence") == "the machine was not away for a day"


@pytest.mark.parametrize(("forbidden", "mode"), [("heavy", "medium"), ("medium", "light")])
def test_a_forbidden_mode_is_left_for_the_heaviest_that_is_allowed(forbidden, mode):
    """Whichever rung it is; and not a second later."""
    for name in ("ledger", "fixed"):
        limits = StabilityLimits(name=name)
        goal = Goal(mode="heavy", forbidden=forbidden, idle_until_s=5.0)
        decision = policy.decide(some_facts(rungs=3, goal=goal, limits=limits))
        assert decision.goal == Goal(mode=mode, forbidden=forbidden)
        assert (decision.rule, decision.cool_down_s) == ("forbidden", None)
        assert f"{forbidden} is forbidden by a person: down to {mode}" in decision.reason
        allowed = some_facts(mode, rungs=3, goal=Goal(mode=mode, forbidden=forbidden))
        assert policy.decide(allowed).rule == "stay"
        assert why_not(allowed, "forbidden") == f"{forbidden} is forbidden"


def test_a_forbidden_mode_is_not_climbed_to():
    """However calm it is below, and however much crashes below."""
    for name in ("ledger", "fixed"):
        facts = in_light(
            goal=Goal(mode="light", forbidden="medium"),
            stable_s=90_000.0,
            running_s=90_000.0,
            crashes_s=STORM_S,
            limits=StabilityLimits(name=name),
        )
        assert policy.decide(facts).goal == facts.goal
        assert why_not(facts, "stable") == "medium is forbidden by a person"
        assert policy.forecast(facts).why == "medium is forbidden; `allow medium` frees it"
        assert policy.wake_in_s(facts) is None


@pytest.mark.parametrize(
    ("kind", "mode", "before", "after"),
    [
        ("forbid", "heavy", Goal(mode="light"), Goal(mode="light", forbidden="heavy")),
        ("forbid", "medium", Goal(mode="heavy"), Goal(mode="light", forbidden="medium")),
        (
            "forbid",
            "medium",
            Goal(mode="light", forbidden="heavy"),
            Goal(mode="light", forbidden="medium"),
        ),
        (
            "forbid",
            "heavy",
            Goal(mode="medium", pinned=True),
            Goal(mode="medium", pinned=True, forbidden="heavy"),
        ),
        ("allow", "heavy", Goal(mode="light", forbidden="heavy"), Goal(mode="light")),
        (
            "scale_up",
            None,
            Goal(mode="light", forbidden="heavy"),
            Goal(mode="medium", forbidden="heavy"),
        ),
        (
            "pin",
            "medium",
            Goal(mode="light", forbidden="heavy"),
            Goal(mode="medium", pinned=True, forbidden="heavy"),
        ),
        ("resume", None, Goal(mode="light", idle_until_s=9.0), Goal(mode="light")),
        ("unpin", None, Goal(mode="light", pinned=True, idle_until_s=9.0), Goal(mode="light")),
        ("pin", "light", Goal(mode="light", idle_until_s=9.0), Goal(mode="light", pinned=True)),
        (
            "pause",
            None,
            Goal(mode="light", idle_until_s=9.0),
            Goal(mode="light", pauses=("person",)),
        ),
        ("scale_up", None, Goal(mode="light", idle_until_s=9.0), Goal(mode="medium")),
        ("scale_down", None, Goal(mode="medium", idle_until_s=9.0), Goal(mode="light")),
        (
            "forbid",
            "heavy",
            Goal(mode="light", idle_until_s=9.0),
            Goal(mode="light", forbidden="heavy"),
        ),
    ],
)
def test_what_a_person_allows_and_forbids_is_done(kind, mode, before, after):
    """At once; and who asks for training ends the idle time."""
    decision = policy.decide(some_facts(rungs=3, goal=before, request=a_request(kind, mode)))
    assert (decision.goal, decision.rule, decision.refused) == (after, "request", False)
    assert decision.evidence == {"request": "request-1", "kind": kind}
    assert decision.reason == f"ada asked: {kind.replace('_', ' ')}" + (f" {mode}" if mode else "")


@pytest.mark.parametrize(
    ("kind", "mode", "before", "why"),
    [
        ("forbid", "light", Goal(mode="light"), "lowest mode; `pause` stops training"),
        ("forbid", "unheard-of", Goal(mode="light"), "there is no mode 'unheard-of'"),
        ("forbid", "heavy", Goal(mode="light", forbidden="heavy"), "`allow heavy` first"),
        ("forbid", "heavy", Goal(mode="light", forbidden="medium"), "medium and all above"),
        ("forbid", "medium", Goal(mode="medium", pinned=True), "medium is pinned; `unpin` first"),
        ("allow", "medium", Goal(mode="light", forbidden="heavy"), "medium is not forbidden; hea"),
        ("allow", "medium", Goal(mode="light"), "medium is not forbidden; no mode is"),
        ("scale_up", None, Goal(mode="light", forbidden="medium"), "`allow medium` first"),
        ("pin", "medium", Goal(mode="light", forbidden="medium"), "`allow medium` first"),
        ("pin", "heavy", Goal(mode="light", forbidden="medium"), "`allow medium` first"),
    ],
)
def test_what_cannot_be_allowed_or_forbidden_is_refused(kind, mode, before, why):
    """With the reason, and nothing moves."""
    decision = policy.decide(some_facts(rungs=3, goal=before, request=a_request(kind, mode)))
    assert (decision.goal, decision.refused) == (before, True)
    assert why in decision.reason
    assert decision.evidence == {"request": "request-1", "kind": kind}
    assert decision.ledger is None


def test_a_request_for_another_mode_ends_the_visit_and_punishes_nothing():
    """A forced move is written down, and no failure."""
    facts = in_medium(FAILED, crashes_s=STORM_S, request=a_request("scale_down"))
    decision = policy.decide(facts)
    assert (decision.outcome, decision.cool_down_s) == (None, None)
    assert decision.ledger.modes["medium"] == msgspec.structs.replace(
        FAILED, last_crashes=4, last_hours=1 / 6
    )


def test_what_is_forbidden_stays_so_when_the_mode_of_the_goal_is_gone():
    """The file of medium was removed; a person's no to heavy is none to light."""
    goal = Goal(mode="gone", forbidden="heavy")
    decision = policy.decide(some_facts(rungs=3, goal=goal))
    assert decision.goal == Goal(mode="light", forbidden="heavy")


def test_a_mode_that_is_forbidden_and_then_renamed_is_told():
    """A person's word about a mode that is gone cannot be kept, and does not vanish in silence."""
    decision = policy.decide(some_facts("light", goal=Goal(mode="light", forbidden="removed")))
    assert (decision.rule, decision.goal) == ("forbidden", Goal(mode="light"))
    assert "removed, which a person has forbidden, is no longer a mode" in decision.reason


# boot_loop


def test_idling_begins_once_and_says_after_how_many_boots():
    """While it lasts, nothing is decided anew; when it is over, that is."""
    facts = some_facts("light", booted_s=9_900.0, short_boots=4)
    decision = policy.decide(facts)
    assert decision.goal == Goal(mode="light", idle_until_s=10_500.0)
    assert decision.evidence == {"short_boots": 4, "idle_after": 4}
    assert "nothing trains for 8 min" in decision.reason
    idle = msgspec.structs.replace(facts, goal=decision.goal)
    assert (policy.decide(idle).rule, policy.acts(idle, policy.decide(idle))) == (
        "boot_loop",
        False,
    )
    over = msgspec.structs.replace(idle, now_s=10_500.0)
    assert (policy.decide(over).rule, policy.decide(over).goal) == ("idle_over", Goal(mode="light"))


# proved


def test_light_has_nothing_to_prove():
    """Not even where it was the upper one until the mode below it was removed."""
    light = ModeLedger(level=2, bad_since_s=5.0)
    facts = some_facts("light", running_s=9000.0, ledger=Ledger(modes={"light": light}))
    assert policy.decide(facts).rule == "stay"


def test_an_hour_is_a_proof():
    """One level of caution is walked back, the bad spell is over; the mode stays."""
    facts = in_medium(msgspec.structs.replace(FAILED, level=2), running_s=3600.0)
    decision = policy.decide(facts)
    assert (decision.goal, decision.rule, decision.outcome) == (facts.goal, "proved", "proved")
    assert policy.acts(facts, decision)
    assert decision.ledger.modes["medium"].level == 1
    assert decision.ledger.modes["medium"].bad_since_s is None
    assert "its bad spell is over, 1 failure has still to be made good" in decision.reason
    assert decision.evidence["level"] == 2


def test_a_proof_is_given_once_a_visit_and_only_where_one_is_owed():
    """A visit that has proved itself, and a mode that never failed, go on in silence."""
    for facts in (
        in_medium(FAILED, running_s=9000.0, proved=True),
        in_medium(ModeLedger(), running_s=9000.0),
        in_medium(FAILED, running_s=3599.0),
    ):
        decision = policy.decide(facts)
        assert decision.rule == "stay"
        assert not policy.acts(facts, decision)
    for owed in (ModeLedger(level=1), ModeLedger(bad_since_s=5.0)):
        decision = policy.decide(in_medium(owed, running_s=3600.0))
        assert decision.rule == "proved"
        assert "its bad spell is over, nothing is held against it" in decision.reason
    last_s = why_not(in_medium(FAILED, running_s=3599.0), "proved")
    assert last_s == "it has lasted for 60 min, 60 min are a proof"


# exonerated


def test_light_crashing_as_well_acquits_medium():
    """Two crashes in light within the hour, where medium had one: down there it is no better."""
    facts = in_light(
        FAILED,
        crashes_s=STORM_S[:2],
        running_s=1800.0,
        cool_downs={"medium": NOW_S + 9000.0},
    )
    decision = policy.decide(facts)
    assert (decision.goal.mode, decision.rule) == ("medium", "exonerated")
    assert decision.ledger.modes["medium"].level == 0
    assert decision.ledger.budget == 3.0
    above, here = 2 / (1 + 1.5 / 1.25 / 3), 1 / (1 + 2.5 / 0.75 / 3)
    assert "light crashes as well (2 crashes in 30 min)" in decision.reason
    assert f"medium should keep {above / here:.1f} times as much work" in decision.reason
    assert "its budget bears 3" in decision.reason
    assert "probation" not in decision.reason


def test_an_acquittal_needs_two_crashes_and_a_failure_that_is_held_against_it():
    """One crash is none; and where nothing is held against it the hour has to be waited for."""
    facts = in_light(FAILED, crashes_s=STORM_S[:1], running_s=1800.0)
    assert policy.decide(facts).rule == "stay"
    assert why_not(facts, "exonerated") == "1 crash in light, 2 are needed"
    facts = in_light(
        msgspec.structs.replace(FAILED, level=0), crashes_s=STORM_S[:2], running_s=1800.0
    )
    assert policy.decide(facts).rule == "stay"
    assert why_not(facts, "exonerated") == "medium has not failed"
    assert policy.decide(msgspec.structs.replace(facts, running_s=3599.0)).rule == "stay"
    due = policy.decide(msgspec.structs.replace(facts, running_s=3600.0))
    assert (due.goal.mode, due.rule) == ("medium", "exonerated"), "it is due, calm or not"


def test_who_was_worse_is_not_acquitted():
    """Medium crashed four times in ten minutes; light twice in ten hours."""
    worse = msgspec.structs.replace(FAILED, last_crashes=4, last_hours=1 / 6)
    facts = in_light(worse, crashes_s=STORM_S[:2], running_s=36_000.0)
    assert policy.decide(facts).rule == "stay"
    assert "times the work of light, more than 1.1 times is needed" in why_not(facts, "exonerated")


def test_an_acquittal_needs_more_than_a_tenth():
    """A mode that keeps what light keeps is not worth a move."""
    same = msgspec.structs.replace(FAILED, last_crashes=2, last_hours=0.5)
    fields = {"crashes_s": STORM_S[:2], "running_s": 1800.0}
    for faster, rule in ((1.09, "stay"), (1.11, "exonerated")):
        assert policy.decide(in_light(same, speeds=(1.0, faster), **fields)).rule == rule


def test_as_much_as_is_asked_for_is_not_more():
    """A mode that keeps just what light keeps is not climbed to where a factor of one is asked."""
    same = msgspec.structs.replace(FAILED, last_crashes=2, last_hours=0.5)
    facts = in_light(
        same,
        crashes_s=STORM_S[:2],
        running_s=1800.0,
        speeds=(1.0, 1.0),
        limits=StabilityLimits(exonerated_factor=1.0),
    )
    assert policy.decide(facts).rule == "stay"


def test_medium_acquits_heavy_and_not_itself():
    """Each rung asks for the one above it: heavy is three times as fast as medium."""
    facts = some_facts(
        "medium",
        rungs=3,
        now_s=NOW_S,
        speeds=(1.0, 1.1, 3.3),
        crashes_s=STORM_S[:2],
        running_s=1200.0,
        ledger=Ledger(budget=1.0, modes={"heavy": FAILED}),
    )
    decision = policy.decide(facts)
    assert (decision.goal.mode, decision.rule) == ("heavy", "exonerated")
    assert "which should be 3.00 times as fast and pays for 6.15 crashes an hour" in decision.reason
    slow_above = msgspec.structs.replace(facts, speeds=(1.0, 3.0, 3.0))
    slow_above = msgspec.structs.replace(
        slow_above,
        ledger=Ledger(budget=1.0, modes={"heavy": msgspec.structs.replace(FAILED, last_crashes=5)}),
    )
    assert policy.decide(slow_above).rule == "stay"


def test_where_light_is_never_calm_an_untried_medium_is_tried():
    """After half an hour; it is taken to crash half as often again as light."""
    facts = in_light(crashes_s=STORM_S[:2], running_s=1800.0)
    decision = policy.decide(facts)
    assert (decision.goal.mode, decision.rule) == ("medium", "exonerated")
    rate = 2.5 / 0.75 / 3
    assert f"{2 / (1 + 1.5 * rate) * (1 + rate):.1f} times as much" in decision.reason
    for not_yet in (
        msgspec.structs.replace(facts, running_s=1799.0),
        msgspec.structs.replace(facts, cool_downs={"medium": NOW_S + 1}),
    ):
        assert policy.decide(not_yet).rule == "stay"
        assert "was never tried" in why_not(not_yet, "exonerated")
    assert policy.decide(
        msgspec.structs.replace(facts, cool_downs={"medium": NOW_S})
    ).goal.mode == ("medium")


def test_an_untried_medium_has_to_be_worth_its_heavier_crashes():
    """Ten crashes in half an hour of light: medium would have fifteen, and keep less."""
    many = tuple(NOW_S - 100.0 * n for n in reversed(range(40)))
    facts = in_light(crashes_s=many, running_s=1800.0, speeds=(1.0, 1.5))
    assert policy.decide(facts).rule == "stay"
    fast = msgspec.structs.replace(facts, speeds=(1.0, 1.7))
    assert policy.decide(fast).rule == "exonerated"


def test_nothing_above_is_acquitted_where_there_is_nothing():
    """The highest mode, a forbidden one, and a campaign at its end."""
    fields = {"crashes_s": STORM_S[:2], "running_s": 1800.0}
    facts = in_light(FAILED, **fields, work_left=False)
    assert why_not(facts, "exonerated") == "every run has ended"
    assert policy.decide(facts).rule == "stay"
    assert why_not(in_medium(FAILED), "exonerated") == "medium is the highest mode"


# Climbs


def test_a_climb_says_what_it_is_worth():
    """Speed, break-even rate and budget, and probation where it is one."""
    decision = policy.decide(in_light(stable_s=3600.0))
    assert decision.reason == (
        "60 min stable in light: up to medium, which should be 2.00 times as fast and pays for "
        "3.10 crashes an hour; its budget bears 3"
    )
    assert decision.evidence["stable_s"] == 3600.0
    assert decision.evidence["stable_min"] == 60.0
    decision = policy.decide(in_light(FAILED, stable_s=3600.0))
    assert decision.reason.endswith("; its budget bears 1, on probation for 60 min")
    assert decision.ledger.budget == 1.0
    assert decision.evidence["next_level"] == 1


def test_a_climb_of_fixed_needs_no_prices():
    """It goes by the clock."""
    decision = policy.decide(in_light(stable_s=3600.0, limits=StabilityLimits(name="fixed")))
    assert decision.reason == "60 min stable in light: up to medium"


def test_a_climb_to_a_mode_that_is_worth_little_says_how_little():
    """Less than one crash an hour is still worth something."""
    decision = policy.decide(in_light(stable_s=3600.0, speeds=(1.0, 1.2)))
    assert "which should be 1.20 times as fast and pays for 0.66 crashes an hour" in decision.reason


def test_a_try_of_a_mode_that_was_no_faster_says_so():
    """Nobody is told that a mode is worth a negative number of crashes."""
    slow = Ledger(
        modes={
            "light": ModeLedger(work={"": Kept(steps=10.0, hours=10.0)}, hours=9.0),
            "medium": ModeLedger(work={"": Kept(steps=5.0, hours=10.0)}),
        }
    )
    decision = policy.decide(some_facts("light", stable_s=3600.0, ledger=slow, speeds=(1.0, 2.0)))
    assert decision.rule == "stable"
    assert "to see whether it is still only 0.54 times as fast" in decision.reason


def test_a_light_that_is_never_calm_is_left_after_a_day():
    """What medium bears is asked once a day of running, whatever light does; not with `fixed`."""
    facts = in_light(stable_s=600.0, running_s=24 * HOUR_S, crashes_s=STORM_S[:1])
    decision = policy.decide(facts)
    assert (decision.goal.mode, decision.rule) == ("medium", "stable")
    assert decision.reason.startswith("24.0 h in light without 60 min of calm: up to medium")
    for not_yet in (
        msgspec.structs.replace(facts, running_s=24 * HOUR_S - 1),
        msgspec.structs.replace(facts, cool_downs={"medium": NOW_S + 1}),
        msgspec.structs.replace(facts, limits=StabilityLimits(name="fixed")),
    ):
        assert policy.decide(not_yet).rule == "stay"
    soon = msgspec.structs.replace(facts, running_s=24 * HOUR_S - 100)
    assert policy.forecast(soon).in_s == policy.wake_in_s(soon) == 100.0
    assert why_not(soon, "stable") == "10 min stable, 60 min are needed"
    cooling = msgspec.structs.replace(facts, cool_downs={"medium": NOW_S + 60})
    assert why_not(cooling, "stable") == "medium is left alone for 60 s more"


GPU = GpuReadings(index=1, memory_total_mib=1000.0)
PRESSURES = [
    (
        GPU,
        {"memory_used_mib": 921.0},
        {"memory_used_mib": 920.0},
        "memory",
        "GPU 1 has 92 % of its memory",
    ),
    (
        GPU,
        {"temperature_c": 85.1, "temperature_limit_c": 90.0},
        {"temperature_c": 85.0, "temperature_limit_c": 90.0},
        "heat",
        "GPU 1 has 85 °C and slows itself down at 90 °C",
    ),
    (GPU, {"xids": (79, 13)}, {"xids": ()}, "xid", "trouble with GPU 1 (Xid 79, 13)"),
    (
        GPU,
        {"ecc_uncorrected": 2},
        {"ecc_uncorrected": 0},
        "memory_errors",
        "GPU 1 has had 2 memory errors",
    ),
]


@pytest.mark.parametrize(("gpu", "pressed", "fine", "kind", "why"), PRESSURES)
def test_pressure_vetoes_a_climb(gpu, pressed, fine, kind, why):
    """With its reason; at the bound itself the climb goes on."""
    for state, rule in ((pressed, "pressure"), (fine, "stable")):
        card = msgspec.structs.replace(gpu, **state)
        readings = Readings(gpus=(GpuReadings(index=0), card))
        facts = in_light(stable_s=3600.0, readings=readings)
        decision = policy.decide(facts)
        assert decision.rule == rule
        assert (policy.forecast(facts).why == "medium in 0 s, if no crash") is (rule == "stable")
    decision = policy.decide(msgspec.structs.replace(facts, readings=Readings(gpus=(card,))))
    pressed_facts = in_light(
        stable_s=3600.0, readings=Readings(gpus=(msgspec.structs.replace(gpu, **pressed),))
    )
    veto = policy.decide(pressed_facts)
    assert (veto.goal, veto.outcome, veto.ledger) == (pressed_facts.goal, "vetoed", None)
    assert why in veto.reason
    assert veto.reason.startswith("medium would be next (60 min stable in light), but ")
    assert veto.evidence == {"pressure": kind, "gpu": 1}
    assert why in policy.forecast(pressed_facts).why
    early = msgspec.structs.replace(pressed_facts, stable_s=1800.0)
    assert policy.forecast(early).why == "medium in 30 min, if no crash"


@pytest.mark.parametrize(("gpu", "pressed", "fine", "kind", "why"), PRESSURES)
def test_pressure_never_forces_a_fall_back(gpu, pressed, fine, kind, why):
    """Nor does it keep a person, or `fixed`, from a climb."""
    readings = Readings(gpus=(msgspec.structs.replace(gpu, **pressed),))
    assert policy.decide(in_medium(EVENLY, proved=True, readings=readings)).rule == "stay"
    for facts in (
        in_light(readings=readings, request=a_request("scale_up")),
        in_light(readings=readings, stable_s=3600.0, limits=StabilityLimits(name="fixed")),
    ):
        assert policy.decide(facts).goal.mode == "medium"


def test_a_climb_waits_for_an_answer_that_is_under_way():
    """Of whatever is known by then, for a minute at most; nothing else waits, and no person."""
    full = GpuReadings(index=0, memory_used_mib=99, memory_total_mib=100)
    for gpus in ((), (full,), (GpuReadings(index=0),)):
        awaited = Readings(gpus=gpus, gpu_awaited_s=59.9)
        facts = in_light(stable_s=3600.0, readings=awaited)
        decision = policy.decide(facts)
        assert (decision.goal, decision.rule, decision.outcome) == (facts.goal, "awaited", None)
        assert "once the GPUs have answered" in decision.reason
        assert (
            policy.decide(in_light(readings=awaited, request=a_request("scale_up"))).goal.mode
            == "medium"
        )
    for limits, awaited_s in ((StabilityLimits(), 60.0), (StabilityLimits(name="fixed"), 0.0)):
        readings = Readings(gpu_awaited_s=awaited_s)
        facts = in_light(stable_s=3600.0, readings=readings, limits=limits)
        assert policy.decide(facts).goal.mode == "medium"


def test_trouble_that_the_driver_has_reported_lately_vetoes_a_climb():
    """Though nobody sees it at this moment; the worse of what is seen is told before."""
    facts = in_light(stable_s=3600.0, gpu_error="GPU 0 fell off the bus (Xid 79)")
    decision = policy.decide(facts)
    assert (decision.rule, decision.outcome) == ("pressure", "vetoed")
    assert decision.evidence == {"pressure": "driver", "gpu": None}
    assert "GPU 0 fell off the bus (Xid 79)" in decision.reason
    hot = GpuReadings(index=1, temperature_c=95.0, temperature_limit_c=90.0)
    seen = msgspec.structs.replace(facts, readings=Readings(gpus=(hot,)))
    assert "95 °C" in policy.decide(seen).reason


def test_unknown_readings_veto_nothing():
    """A card that tells neither its size nor its limit is no reason."""
    cards = (
        GpuReadings(index=0, memory_used_mib=999.0),
        GpuReadings(index=0, memory_used_mib=999.0, memory_total_mib=0.0),
        GpuReadings(index=0, memory_total_mib=1000.0),
        GpuReadings(index=0, temperature_c=99.0),
        GpuReadings(index=0, temperature_limit_c=1.0),
    )
    for card in cards:
        facts = in_light(stable_s=3600.0, readings=Readings(gpus=(card,)))
        assert policy.decide(facts).rule == "stable"


def test_the_idle_time_ends_with_a_fall_back():
    """Whoever falls back trains in the mode below."""
    goal = Goal(mode="medium", idle_until_s=5.0)
    assert policy.decide(in_medium(budget=-1.0, goal=goal)).goal == Goal(mode="light")


# What comes next


def test_what_comes_next_is_told():
    """In each state of the machine."""
    fresh = in_light()

    def foretold(**fields):
        said = policy.forecast(msgspec.structs.replace(fresh, **fields))
        return said.action, said.in_s, said.why

    assert foretold() == ("climb", 3600.0, "medium in 60 min, if no crash")
    assert foretold(cool_downs={"medium": NOW_S + 4000}) == (
        "climb",
        4000.0,
        "medium in 67 min, if no crash (medium is cooling down)",
    )
    assert foretold(cool_downs={"medium": NOW_S + 3600})[2].endswith("(medium is cooling down)")
    assert foretold(cool_downs={"medium": NOW_S + 3599})[2].endswith("if no crash")
    assert foretold(cool_downs={"medium": NOW_S + 0.5}, stable_s=3600.0)[2].endswith("down)")
    assert foretold(goal=Goal(mode="gone")) == ("stay", 0.0, "gone is no longer a mode")
    assert foretold(goal=Goal(mode="light", pauses=("person",)))[:2] == ("rest", None)
    assert foretold(goal=Goal(mode="light", pinned=True))[:2] == ("stay", None)
    assert foretold(goal=Goal(mode="medium")) == ("stay", None, "medium is the highest mode")
    assert foretold(work_left=False)[:2] == ("rest", None)
    assert foretold(goal=Goal(mode="light", idle_until_s=NOW_S + 90))[:2] == ("rest", 90.0)
    assert foretold(goal=Goal(mode="light", idle_until_s=NOW_S - 90))[:2] == ("rest", 0.0)


def test_what_comes_next_on_the_second_of_three_rungs():
    """Heavy, whose cool-down it is that counts."""
    cool_downs = {"light": NOW_S + 9000, "heavy": NOW_S + 5000}
    facts = in_medium(ladder=("light", "medium", "heavy"), speeds=(), cool_downs=cool_downs)
    forecast = policy.forecast(facts)
    assert (forecast.action, forecast.in_s) == ("climb", 5000.0)
    assert forecast.why.startswith("heavy in 83 min")
    assert why_not(facts, "stable") == "heavy is left alone for 83 min more"


def test_the_next_look_is_when_a_rule_may_decide():
    """A climb, the end of idling, the judgement of a speed, a proof: the first of them."""

    def wake_in_s(facts, **fields):
        return policy.wake_in_s(msgspec.structs.replace(facts, **fields))

    light = in_light(stable_s=600.0)
    assert wake_in_s(light) == 3000.0
    assert wake_in_s(light, cool_downs={"medium": NOW_S + 5000}) == 5000.0
    assert wake_in_s(light, stable_s=3600.0) is None
    assert wake_in_s(light, work_left=False) is None
    assert wake_in_s(light, goal=Goal(mode="light", idle_until_s=NOW_S + 7)) == 7.0
    assert wake_in_s(light, goal=Goal(mode="light", idle_until_s=NOW_S - 7)) == 0.0
    for goal in (
        Goal(mode="gone"),
        Goal(mode="light", pauses=("person",)),
        Goal(mode="light", pinned=True),
    ):
        assert wake_in_s(light, goal=goal) is None
    fresh = in_medium(running_s=600.0)
    assert wake_in_s(fresh) == pytest.approx(0.9 * HOUR_S - 600)
    assert wake_in_s(fresh, running_s=0.9 * HOUR_S) is None
    failed = in_medium(FAILED, running_s=0.95 * HOUR_S)
    assert wake_in_s(failed) == pytest.approx(0.05 * HOUR_S)
    assert wake_in_s(failed, proved=True) is None
    assert wake_in_s(in_medium(ModeLedger(level=1), running_s=3599.5)) == 0.5
    assert wake_in_s(in_medium(ModeLedger(bad_since_s=5.0), running_s=3500.0)) == 100.0
    assert wake_in_s(in_medium(FAILED, limits=StabilityLimits(name="fixed"))) is None
    three = some_facts("medium", rungs=3, running_s=600.0, stable_s=3500.0)
    assert wake_in_s(three) == 100.0
    assert wake_in_s(three, stable_s=0.0) == pytest.approx(0.9 * HOUR_S - 600)


def test_the_evidence_of_a_decision_is_what_the_ledger_knows():
    """Of the mode of the goal, and of the one above."""
    facts = some_facts(
        "medium",
        rungs=3,
        speeds=(1.0, 2.0, 3.0),
        running_s=1800.0,
        crashes_s=(9000.0,),
        ledger=Ledger(
            budget=0.25,
            costs_s=(600.0,),
            modes={"medium": ModeLedger(crashes=1.5, hours=0.25, level=2)},
        ),
    )
    assert policy.numbers(facts) == {
        "running_h": 0.5,
        "crash_price_min": 15.0,
        "crashes_per_h": 4.0,
        "crashes_per_h_high": pytest.approx(5.97, abs=0.01),
        "break_even_per_h": 4.1,
        "speed_ratio": 2.0,
        "level": 2,
        "next_crashes_per_h": 2.0,
        "next_crashes_per_h_high": pytest.approx(3.24, abs=0.01),
        "next_break_even_per_h": pytest.approx(2 + 1.5 * 1.55 / 1.25, abs=0.001),
        "next_speed_ratio": 1.5,
        "next_level": 0,
        "crashes_of_visit": 1,
        "budget": 0.25,
        "probation": True,
    }
    fixed = msgspec.structs.replace(facts, limits=StabilityLimits(name="fixed"))
    assert policy.numbers(fixed) == {"running_h": 0.5}
    gone = msgspec.structs.replace(facts, goal=Goal(mode="gone"))
    assert policy.numbers(gone) == {"running_h": 0.5}
    light = msgspec.structs.replace(facts, goal=Goal(mode="light"))
    assert "budget" not in policy.numbers(light)
    assert "level" not in policy.numbers(light)
    assert policy.numbers(light)["next_level"] == 2
    assert policy.numbers(msgspec.structs.replace(fixed, running_s=360_000.0)) == {
        "running_h": 100.0
    }
    unspent = in_medium(budget=None)
    assert policy.numbers(unspent)["budget"] is None
    assert "next_level" not in policy.numbers(unspent)


# breather, breather_over

HOUR_AFTER = (8.0, 8.0, 8.0, 8.0, 0.05, 0.05, 0.05, 0.05, 0.05)
DRAWS_OTHERS = a_mode_ledger(
    hazard=Hazard(
        crashes=tuple(20 * rate for rate in HOUR_AFTER),
        hours=(20.0,) * 9,
        day_crashes=(80.0,) * 8,
        day_hours=(22.5,) * 8,
        ahead=10.0,
    ),
    level=0,
)
"""for an hour after each crash it crashes again"""


def test_a_mode_whose_crashes_draw_others_takes_a_breather():
    """Light goes on for the rest of the hour; nothing is held against medium."""
    facts = in_medium(DRAWS_OTHERS, crashes_s=(NOW_S - 600,))
    decision = policy.decide(facts)
    assert (decision.rule, decision.goal.mode, decision.outcome) == (
        "breather", "light", "breather"
    )  # fmt: skip
    assert decision.cool_down_s == 3600 - 600
    assert decision.ledger.budget == facts.ledger.budget
    assert decision.ledger.modes["medium"].level == 0
    assert "draws others after it" in decision.reason


def test_a_crash_of_long_ago_is_no_reason_for_a_breather():
    """Whoever has gone on since has gone on."""
    facts = in_medium(DRAWS_OTHERS, crashes_s=(NOW_S - 600,), stable_s=60.0)
    assert "has not crashed just now" in why_not(facts, "breather")


def test_a_mode_on_probation_has_to_bear_its_crashes():
    """Else one that is hopeless would be tried again and again, a breather each time."""
    known = msgspec.structs.replace(DRAWS_OTHERS, level=1)
    facts = in_medium(known, crashes_s=(NOW_S,))
    assert "is on probation" in why_not(facts, "breather")


def test_after_its_breather_the_mode_goes_on():
    """Not before its end, whatever the calm; and not where light has crashed meanwhile."""
    begun = {"breather": True, "stable_s": 1800.0, "running_s": 1800.0}
    early = in_light(DRAWS_OTHERS, **begun, cool_downs={"medium": NOW_S + 60})
    assert "lasts for 60 s more" in why_not(early, "breather_over")
    over = policy.decide(in_light(DRAWS_OTHERS, **begun))
    assert (over.rule, over.goal.mode, over.outcome) == (
        "breather_over", "medium", "breather_over"
    )  # fmt: skip
    crashed = in_light(DRAWS_OTHERS, **begun, crashes_s=(NOW_S - 1800,))
    assert policy.decide(crashed).goal.mode == "light"
    assert policy.forecast(early).in_s == 60
