"""The arithmetic of the ledger: entries, estimates, and two ways to each number."""

import itertools
import math

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from state.records import Booking, Goal, Kept, Ledger, ModeLedger, Stretch, Visit
from supervisor.core import ledger as learnt
from supervisor.core.facts import Decision, StabilityLimits
from testkit.builders import DAY_S, HOUR_S, a_mode_ledger, some_facts, some_terms

TWICE = some_terms()
"""medium is twice as fast as light"""
FRESH_WORTH = 3 + 2 * 0.05
"""crashes an hour at which such a medium is even at a price of 20 minutes, fairness included"""
FULL_DAY = a_mode_ledger(crashes=4.0, hours=20.0, aftershocks=2.0, aftershock_hours=3.0)
"""a mode with everything in it that fades"""
FAILED = ModeLedger(level=3, bad_since_s=100.0, failures=3, failure_hours=1.0)
LIMITS = StabilityLimits()


def a_visit(**fields):
    return Visit(entered_at=0.0, entered_s=0.0, **fields)


def an_entry(ledger=Ledger(), mode="medium", terms=TWICE, **fields):  # noqa: B008 - a frozen value
    given = {"at_s": ledger.booked_s, "stretch": Stretch(), "visit": a_visit(), **fields}
    return learnt.entry(ledger, terms, **{"goal": Goal(mode=mode), **given})


def ran(hours, **fields):
    """A stretch of so much running."""
    return Stretch(running_s=hours * HOUR_S, **fields)


def works(steps, hours):
    """A mode that has kept so many steps of one kind in so many hours of training."""
    return ModeLedger(work={"a": Kept(steps=steps, hours=hours)})


def costing(*minutes):
    return Ledger(costs_s=tuple(60.0 * each for each in minutes))


# Entries


def test_an_entry_fades_the_past_and_a_part_of_the_present():
    """After a day half of the past is left, and of what came evenly meanwhile 72 %."""
    ledger = Ledger(booked_s=500.0)
    entry = an_entry(ledger, at_s=500.0 + DAY_S, stretch=ran(24.0, shaken_s=2 * HOUR_S))
    assert entry.crash_keep == pytest.approx(0.5)
    mean = sum(0.5 ** ((hour + 0.5) / 2400) for hour in range(2400)) / 2400
    assert entry.hours == pytest.approx(24 * mean, rel=1e-6)
    assert entry.aftershock_hours == pytest.approx(2 * mean, rel=1e-6)
    assert entry.work_hours_max == 48.0
    assert (entry.at_s, entry.mode) == (500.0 + DAY_S, "medium")


def test_half_the_half_life_is_another_root_of_two():
    """Fading follows the half-life that is set."""
    entry = an_entry(at_s=DAY_S, terms=some_terms(crash_half_life_h=48.0))
    assert entry.crash_keep == pytest.approx(math.sqrt(0.5))


def test_no_time_fades_nothing_and_divides_by_nothing():
    """Two entries at one moment are one."""
    assert an_entry(Ledger(booked_s=7.0), stretch=ran(1.0)).hours == 1.0
    assert an_entry(Ledger(booked_s=7.0)).crash_keep == 1.0


def test_a_microsecond_fades_a_little():
    """Fading grows from nothing without a step."""
    entry = an_entry(at_s=3.6e-3, stretch=ran(1.0))
    assert 0 < 1 - entry.crash_keep < 1e-7
    assert 0 < 1 - entry.hours < 1e-7


def test_the_ledger_never_goes_back_in_time():
    """An entry from before the newest one is booked at its moment."""
    entry = an_entry(Ledger(booked_s=900.0), at_s=100.0, stretch=ran(1.0))
    assert (entry.at_s, entry.crash_keep, entry.hours) == (900.0, 1.0, 1.0)


def test_an_entry_of_nothing_is_empty():
    """Where nothing ran and nothing happened, it says what the budget can hold, and no more."""
    assert an_entry() == Booking(at_s=0.0, mode="medium", work_hours_max=48.0, budget_max=3.0)


def test_nothing_is_staked_in_the_lowest_mode():
    """There is nowhere to fall: crashes count, and cost no budget."""
    entry = an_entry(mode="light", stretch=ran(2.0), crashes=1, charge=0.3)
    assert (entry.refill, entry.spent, entry.crashes) == (0.0, 0.0, 1)
    for budget, left in ((None, 3.0), (1.5, 1.5)):
        assert learnt.booked(Ledger(budget=budget), entry).budget == left
    assert an_entry(mode="removed", stretch=ran(2.0), crashes=1).spent == 0.0


def test_running_earns_what_the_mode_is_worth():
    """Two hours of a medium that is worth 3.1 crashes an hour earn 6.2."""
    entry = an_entry(stretch=ran(2.0))
    assert entry.refill == pytest.approx(2 * FRESH_WORTH)
    assert (entry.spent, entry.budget_max) == (0.0, 3.0)


def test_what_is_earned_has_bounds():
    """A mode that is worth nothing still earns a little, and a very quick one not without end."""
    assert an_entry(stretch=ran(2.0), terms=some_terms(1.0, 0.5)).refill == pytest.approx(0.2)
    assert an_entry(stretch=ran(2.0), terms=some_terms(1.0, 9.0)).refill == pytest.approx(24.0)


def test_crashes_of_the_machine_and_deaths_of_trainers_are_spent():
    """One crash and a third of one."""
    entry = an_entry(crashes=1, charge=0.3)
    assert (entry.spent, entry.crashes) == (1.3, 1)


def test_an_entry_of_heavy_is_priced_against_medium():
    """Each rung is staked against the one below it."""
    ledger = Ledger(modes={"medium": ModeLedger(crashes=1.0, hours=1.0)})
    entry = an_entry(ledger, mode="heavy", terms=some_terms(1.0, 2.0, 6.0), stretch=ran(1.0))
    assert entry.refill == pytest.approx(6 + 3 * 1.05 / 2)


@pytest.mark.parametrize(
    ("running_s", "level", "cap"), [(3599.0, 1, 1.0), (3600.0, 1, 3.0), (0.0, 0, 3.0), (0.0, 2, 1)]
)
def test_probation_lasts_an_hour_of_a_mode_that_has_failed(running_s, level, cap):
    """Its budget holds one crash instead of three."""
    ledger = Ledger(modes={"medium": ModeLedger(level=level)})
    assert an_entry(ledger, visit=a_visit(running_s=running_s)).budget_max == cap
    assert learnt.on_probation(ledger, TWICE, "medium", running_s) is (cap == 1.0)
    assert not learnt.on_probation(ledger, TWICE, "heavy", running_s), "it was never tried"


@pytest.mark.parametrize(
    ("crashes_s", "stable_s", "aftershocks"),
    [((), 10.0, 0), ((5.0,), 10.0, 1), ((5.0,), 3600.0, 0)],
)
def test_a_crash_within_an_hour_of_another_one_is_an_aftershock(crashes_s, stable_s, aftershocks):
    """The first crash of a visit is none, nor one after a calm hour."""
    visit = a_visit(crashes_s=crashes_s, stable_s=stable_s)
    assert an_entry(visit=visit, crashes=1).aftershocks == aftershocks
    assert an_entry(visit=visit).aftershocks == 0


def test_no_crash_is_priced_above_two_hours():
    """That a machine hung until the morning says nothing of the next crash."""
    assert an_entry(cost_s=90_000.0).cost_s == 7200.0
    assert an_entry(cost_s=90.0).cost_s == 90.0
    assert an_entry().cost_s is None


def test_an_entry_tells_what_the_machine_is():
    """And what was kept, by mode and run."""
    work = {"medium": {"a": Kept(steps=3.0, hours=1.0)}}
    entry = an_entry(stretch=Stretch(work=work), fingerprint={"kernel": "6.1"})
    assert entry.fingerprint == {"kernel": "6.1"}
    assert entry.work == work


# Entries booked


def test_booking_fades_what_fades_and_adds_what_is_new():
    """Crashes and hours, and those soon after a crash; in every mode, also in those at rest."""
    ledger = Ledger(booked_s=1.0, modes={"light": FULL_DAY, "medium": FULL_DAY})
    entry = Booking(
        at_s=9.0,
        mode="medium",
        hours=0.5,
        aftershock_hours=0.25,
        aftershocks=1,
        crash_keep=0.5,
        work_hours_max=48.0,
        crashes=1,
    )
    booked = learnt.booked(ledger, entry)
    assert booked.booked_s == 9.0
    assert booked.modes["light"] == a_mode_ledger(
        crashes=2.0, hours=10.0, aftershocks=1.0, aftershock_hours=1.5
    )
    assert booked.modes["medium"] == a_mode_ledger(
        crashes=3.0, hours=10.5, aftershocks=2.0, aftershock_hours=1.75
    )


def test_an_entry_of_nothing_teaches_of_no_mode():
    """A mode in which nothing ran is not known afterwards; one that crashed at once is."""
    for known, entry in (
        (False, Booking(at_s=1.0, mode="medium")),
        (True, Booking(at_s=1.0, mode="medium", crashes=1)),
        (True, Booking(at_s=1.0, mode="medium", hours=0.1)),
    ):
        assert ("medium" in learnt.booked(Ledger(), entry).modes) is known


def test_work_is_added_run_by_run_in_the_mode_that_it_was_made_in():
    """What is saved on leaving medium is kept in medium, though light is entered by now."""
    before = Ledger(modes={"medium": works(10.0, 2.0)})
    new = {"medium": {"a": Kept(steps=5.0, hours=1.0), "b": Kept(steps=7.0, hours=3.0)}}
    entry = Booking(at_s=1.0, mode="light", work=new, work_hours_max=48.0)
    assert learnt.booked(before, entry).modes == {
        "medium": ModeLedger(
            work={"a": Kept(steps=15.0, hours=3.0), "b": Kept(steps=7.0, hours=3.0)},
        )
    }
    assert before.modes["medium"] == works(10.0, 2.0), "what is known does not change under us"


def test_old_work_makes_room_for_new():
    """Of 96 hours 48 are remembered, at the same speed; a kind that was long away is dropped."""
    entry = Booking(
        at_s=1.0,
        mode="medium",
        work={"medium": {"b": Kept(steps=9.0, hours=1.9e-6), "c": Kept(steps=9.0, hours=46.0)}},
        work_hours_max=48.0,
    )
    booked = learnt.booked(Ledger(modes={"medium": works(100.0, 50.0)}), entry)
    kept = booked.modes["medium"].work
    assert kept["a"].steps == pytest.approx(50.0)
    assert sum(each.hours for each in kept.values()) == pytest.approx(48.0)
    assert kept.keys() == {"a", "c"}


def test_work_within_the_memory_stays_as_it_is():
    """At the bound itself nothing is dropped, however little it is."""
    little = {"medium": {"b": Kept(steps=1.0, hours=1e-9)}}
    entry = Booking(at_s=1.0, mode="medium", work=little, work_hours_max=48.0)
    booked = learnt.booked(Ledger(modes={"medium": works(100.0, 47.0)}), entry)
    assert booked.modes["medium"].work == works(100.0, 47.0).work | little["medium"]


@pytest.mark.parametrize(
    ("before", "refill", "spent", "after"),
    [(None, 0.5, 1.0, 2.0), (1.0, 0.5, 1.0, 0.5), (2.9, 5.0, 1.3, 1.7), (-1.0, 0.25, 0.0, -0.75)],
)
def test_the_budget_is_a_bucket(before, refill, spent, after):
    """What is earned fills it up to its cap, and then the crash takes its part; it begins full."""
    entry = Booking(at_s=1.0, mode="medium", budget_max=3.0, refill=refill, spent=spent)
    assert learnt.booked(Ledger(budget=before), entry).budget == pytest.approx(after)


def test_the_newest_thirty_costs_are_remembered():
    """In their order; an entry without one keeps them."""
    ledger = Ledger(costs_s=tuple(map(float, range(30))))
    priced = learnt.booked(ledger, Booking(at_s=1.0, mode="light", cost_s=99.0))
    assert priced.costs_s == (*map(float, range(1, 30)), 99.0)
    assert learnt.booked(ledger, Booking(at_s=1.0, mode="light")).costs_s == ledger.costs_s


def test_another_machine_begins_without_caution():
    """Levels, cool-downs and bad spells go; what failures cost, and the version, stay."""
    ledger = Ledger(version=7, modes={"medium": FAILED}, fingerprint={"kernel": "6.1"})
    same, new = (Booking(at_s=1.0, mode="light", fingerprint={"kernel": k}) for k in ("6.1", "6.2"))
    assert learnt.booked(ledger, same).modes == ledger.modes
    booked = learnt.booked(ledger, new)
    assert booked.modes["medium"] == ModeLedger(failures=3, failure_hours=1.0)
    assert (booked.fingerprint, booked.version) == ({"kernel": "6.2"}, 7)
    assert learnt.booked(ledger, Booking(at_s=1.0, mode="light")).fingerprint == {"kernel": "6.1"}


def test_a_mode_that_is_defined_anew_has_no_speed_yet():
    """What the old one kept tells nothing of it; its crashes count on, and others stay known."""
    known = {"mode medium": "2 slots", "mode heavy": "3 slots", "kernel": "6.1"}
    seen = {"mode medium": "4 slots", "mode heavy": "9 slots", "kernel": "6.2", "mode new": "1"}
    medium = msgspec.structs.replace(works(10.0, 2.0), crashes=3.0, hours=4.0)
    before = Ledger(modes={"light": works(5.0, 1.0), "medium": medium}, fingerprint=known)
    entry = an_entry(before, fingerprint=seen)
    assert entry.redefined == ("medium", "heavy")
    assert learnt.booked(before, entry).modes == {
        "light": works(5.0, 1.0),
        "medium": ModeLedger(crashes=3.0, hours=4.0),
    }
    assert an_entry(before, fingerprint=known).redefined == ()


def test_a_part_that_becomes_known_is_no_change():
    """Only what was known and is another by now."""
    known = {"kernel": "6.1", "driver": "535"}
    seen = {"kernel": "6.2", "driver": "535", "gpu": "T4"}
    assert learnt.changed(known, seen) == ["kernel"]


# Decisions written into it

LEAVING = some_facts(
    "medium",
    now_s=50_000.0,
    entered_s=48_000.0,
    running_s=1800.0,
    crashes_s=(49_000.0, 49_500.0),
    speeds=(1.0, 2.0),
    ledger=Ledger(budget=-1.0),
)
"""medium after two crashes in half an hour"""


def decided(mode, outcome=None, **fields):
    return Decision(goal=Goal(mode=mode), rule="test", reason="", outcome=outcome, **fields)


def with_modes(facts, budget=-1.0, **modes):
    ledger = Ledger(budget=budget, modes=modes)
    return msgspec.structs.replace(facts, ledger=ledger)


def test_a_visit_that_ends_is_remembered():
    """Whatever ends it: how long it ran, and its crashes; the next one has a full budget."""
    after = learnt.after(LEAVING, decided("light"))
    assert after.modes["medium"] == ModeLedger(last_crashes=2, last_hours=0.5)
    assert after.modes["light"] == ModeLedger()
    assert after.budget == 3.0


def test_a_failed_visit_is_one_level_more_of_caution():
    """The beginning of its bad spell and its loss are written down."""
    after = learnt.after(LEAVING, decided("light", "failed", cool_down_s=7200.0))
    assert after.modes["medium"] == ModeLedger(
        level=1,
        in_row=1,
        bad_since_s=49_000.0,
        failures=1,
        failure_hours=pytest.approx(2 / 3 - 0.5),
        last_crashes=2,
        last_hours=0.5,
    )


def test_a_bad_spell_that_lasts_keeps_its_beginning():
    """The next failure of the same spell adds to what is known."""
    facts = with_modes(LEAVING, medium=FAILED)
    after = learnt.after(facts, decided("light", "failed", cool_down_s=7200.0)).modes["medium"]
    assert (after.level, after.bad_since_s, after.failures) == (4, 100.0, 4)
    assert after.failure_hours == pytest.approx(1 + 2 / 3 - 0.5)


def test_a_visit_without_a_crash_that_fails_begins_a_bad_spell_now():
    """As one does that turned out to be no faster; it has cost nothing beside the time."""
    facts = msgspec.structs.replace(LEAVING, crashes_s=())
    after = learnt.after(facts, decided("light", "failed")).modes["medium"]
    assert (after.bad_since_s, after.failure_hours) == (50_000.0, 0.0)


@pytest.mark.parametrize(("running_s", "failures"), [(4 * HOUR_S - 1, 1), (4 * HOUR_S, 0)])
def test_a_long_visit_says_nothing_of_what_a_try_costs(running_s, failures):
    """From four hours on the visit was no mere try; its bad spell is noted all the same."""
    facts = msgspec.structs.replace(LEAVING, running_s=running_s)
    after = learnt.after(facts, decided("light", "failed")).modes["medium"]
    assert (after.failures, after.level, after.bad_since_s) == (failures, 1, 49_000.0)


def test_a_mode_that_has_failed_is_entered_on_probation():
    """With a budget of one crash, or three where nothing is held against it."""
    facts = with_modes(some_facts("light"), medium=FAILED)
    after = learnt.after(facts, decided("medium"))
    assert (after.budget, after.modes["medium"]) == (1.0, FAILED)
    assert learnt.after(with_modes(facts, medium=works(1, 1)), decided("medium")).budget == 3.0


def test_exoneration_takes_one_level_of_caution_away():
    """The last one, too, and then there is no probation; never more than there is."""
    for level, left, budget in ((2, 1, 1.0), (1, 0, 3.0), (0, 0, 3.0)):
        facts = with_modes(some_facts("light"), medium=ModeLedger(level=level))
        after = learnt.after(facts, decided("medium", "exonerated"))
        assert (after.modes["medium"].level, after.budget) == (left, budget)


def test_a_proof_ends_the_bad_spell_when_the_visit_began():
    """The spell lasted from its first crash until then, and one recovery is counted."""
    facts = with_modes(
        LEAVING, budget=0.4, medium=ModeLedger(level=2, bad_since_s=48_000.0 - 7200, bad_hours=1.0)
    )
    after = learnt.after(facts, decided("medium", "proved"))
    assert after.modes["medium"] == ModeLedger(level=1, bad_hours=3.0, recoveries=1)
    assert after.budget == 0.4, "the budget goes on"
    again = learnt.after(msgspec.structs.replace(facts, ledger=after), decided("medium", "proved"))
    assert again.modes["medium"] == ModeLedger(level=0, bad_hours=3.0, recoveries=1)


def test_a_proof_of_a_mode_without_caution_leaves_none():
    """A level is never below 0, and a spell never shorter than nothing."""
    facts = with_modes(LEAVING, medium=ModeLedger(bad_since_s=49_000.0))
    after = learnt.after(facts, decided("medium", "proved")).modes["medium"]
    assert after == ModeLedger(recoveries=1)


# What follows: price, speed, worth


def test_a_price_is_a_mean_with_one_guess():
    """20 minutes are taken for granted once; a floor holds against every measure."""
    assert learnt.price_h(Ledger(), LIMITS) == pytest.approx(1 / 3)
    assert learnt.price_h(costing(5, 5, 2), LIMITS) == pytest.approx((20 + 12) / 4 / 60)
    assert learnt.price_h(costing(5), StabilityLimits(crash_price_min=40.0)) == pytest.approx(0.375)
    dear = StabilityLimits(crash_price_floor_min=60.0)
    assert learnt.price_h(costing(5), dear) == 1.0
    assert learnt.price_h(costing(150), dear) == pytest.approx(85 / 60)


def by_kind(**kept):
    """A mode that has kept these steps and hours of each kind."""
    return ModeLedger(
        work={kind: Kept(steps=steps, hours=hours) for kind, (steps, hours) in kept.items()}
    )


def faster(light, medium, terms=TWICE):
    """How many times as fast medium is believed to be."""
    return learnt.ratio(Ledger(modes={"light": light, "medium": medium}), terms, 1)


def test_unmeasured_speeds_are_what_is_promised():
    """Whatever one mode has shown alone: a ratio needs both."""
    for modes in ({}, {"light": works(300.0, 3.0)}, {"medium": works(9.0, 3.0)}):
        assert learnt.speeds(Ledger(modes=modes), some_terms(1.0, 2.0, 5.0)) == (1.0, 2.0, 5.0)
        assert learnt.compared(Ledger(modes=modes), TWICE, 1) == ()


def test_a_measured_speed_and_its_promise_are_weighed():
    """Light makes 100 an hour; medium, in half an hour, 80; the promise counts a quarter."""
    assert faster(works(300.0, 3.0), works(80.0, 0.5)) == pytest.approx(
        (0.25 * 2 + 0.5 * 1.6) / 0.75
    )


def test_six_minutes_of_each_mode_are_already_a_measure():
    """However little: they move the promise a little."""
    assert faster(works(10.0, 0.1), works(10.0, 0.1)) == pytest.approx((0.25 * 2 + 0.1) / 0.35)


def test_a_mode_promises_times_the_measured_one_below():
    """Heavy has never run: it should be three times as fast as medium has shown to be."""
    ledger = Ledger(modes={"light": works(100.0, 1.0), "medium": works(100.0, 1.0)})
    assert learnt.speeds(ledger, some_terms(1.0, 2.0, 6.0)) == pytest.approx((1.0, 1.2, 3.6))


def test_only_what_was_trained_in_both_modes_is_compared():
    """A slow game in light and a quick one in medium say nothing of the two."""
    assert faster(by_kind(slow=(100.0, 5.0)), by_kind(quick=(90_000.0, 5.0))) == 2.0
    both = by_kind(slow=(150.0, 5.0), quick=(90_000.0, 5.0))
    assert faster(by_kind(slow=(100.0, 5.0)), both) == pytest.approx((0.5 + 5 * 1.5) / 5.25)


def test_the_ratio_is_the_mean_of_the_kinds_weighed_by_their_hours():
    """Three hours at twice the speed, one hour at the same."""
    light = by_kind(a=(100.0, 1.0), b=(7000.0, 7.0))
    medium = by_kind(a=(600.0, 3.0), b=(1000.0, 1.0))
    assert faster(light, medium) == pytest.approx((0.25 * 2 + 3 * 2 + 1 * 1) / 4.25)


def test_a_moment_in_the_lower_mode_is_no_measure_of_hours_above():
    """One minute of light stands for ten of medium, however long medium was."""
    minute_h = 1 / 60
    ratio = faster(works(100 * minute_h, minute_h), works(1000.0, 10.0))
    assert ratio == pytest.approx((0.25 * 2 + 10 * minute_h * 1) / (0.25 + 10 * minute_h))


@given(
    st.dictionaries(
        st.sampled_from("abcd"),
        st.tuples(*[st.floats(0.01, 1e6)] * 2, *[st.floats(1e-3, 48.0)] * 2),
        min_size=1,
    ),
    st.dictionaries(st.sampled_from("abcd"), st.floats(1e-3, 1e3)),
)
def test_the_unit_of_a_kind_is_no_matter(kinds, units):
    """Steps, frames, rounds, epochs of which a day brings a few: each kind has its own."""
    light = {kind: (low, low_h) for kind, (low, _, low_h, _) in kinds.items()}
    medium = {kind: (high, high_h) for kind, (_, high, _, high_h) in kinds.items()}

    def told(kept):
        return by_kind(**{k: (steps * units.get(k, 1.0), h) for k, (steps, h) in kept.items()})

    ratio = faster(by_kind(**light), by_kind(**medium))
    assert faster(told(light), told(medium)) == pytest.approx(ratio, rel=1e-9)


@given(st.permutations("abcd"))
def test_the_order_of_kinds_is_no_matter(order):
    """A ledger may be read back in any order, and comes to the same bits."""
    kept = {kind: (10.0**place / 7, 0.3 + place) for place, kind in enumerate("abcd")}
    turned = by_kind(**{kind: kept[kind] for kind in order})
    assert faster(turned, by_kind(**kept)) == faster(by_kind(**kept), by_kind(**kept))


@pytest.mark.parametrize(("kept", "bounded"), [(1e-9, 0.01), (1e9, 100.0)])
def test_no_ratio_is_beyond_belief(kept, bounded):
    """A mode that kept next to nothing, or a clock that jumped, leaves what can be worked with."""
    assert faster(works(1e6, 1e4), works(kept * 1e4, 1e4)) == pytest.approx(bounded, rel=0.02)


def test_a_start_and_lost_work_make_no_mode_look_slow():
    """Medium died so early that it kept a tenth of its time: what it kept it made quickly."""
    known = ModeLedger(work={"a": Kept(steps=529.2, hours=0.1)}, hours=1.0, crashes=9.0)
    assert faster(works(3600.0, 1.0), known) == pytest.approx((0.25 * 2 + 0.1 * 1.47) / 0.35)


def test_the_guides_three_crashes_an_hour_are_the_beginning():
    """Twice as fast, 20 minutes a crash: even at 3 an hour; and as fair as light is."""
    assert learnt.break_even_per_h(Ledger(), TWICE, 1) == pytest.approx(FRESH_WORTH)
    shaky = Ledger(modes={"light": ModeLedger(crashes=2.0, hours=3.0)})
    assert learnt.break_even_per_h(shaky, TWICE, 1) == pytest.approx(3 + 2 * 2.05 / 4)


@given(
    st.floats(0.5, 20),
    st.floats(1.01, 5),
    st.floats(0, 50),
    st.floats(0.1, 100),
    st.lists(st.floats(1, 7200), max_size=5),
)
def test_at_the_break_even_rate_both_modes_keep_the_same(pace, faster, crashes, hours, costs_s):
    """Work over wall time is pace / (1 + rate * price): equal there, and only there."""
    ledger = Ledger(
        costs_s=tuple(costs_s), modes={"light": ModeLedger(crashes=crashes, hours=hours)}
    )
    price_h = learnt.price_h(ledger, LIMITS)
    even_per_h = learnt.break_even_per_h(ledger, some_terms(1.0, faster), 1)
    below_per_h = (0.05 + crashes) / (1 + hours)
    below = pace / (1 + below_per_h * price_h)
    assert pace * faster / (1 + even_per_h * price_h) == pytest.approx(below, rel=1e-9)
    assert pace * faster / (1 + (even_per_h + 0.01) * price_h) < below


# What follows: rates


def test_a_rate_is_a_mean_with_a_guess():
    """Half a crash in a quarter of an hour, before anything is known."""
    known = ModeLedger(crashes=3.0, hours=1.75, aftershocks=1.0, aftershock_hours=0.75)
    assert learnt.rate(known) == (3.5, 2.0)
    assert learnt.rate(known).mean_per_h == 1.75
    assert learnt.aftershock_rate(known) == (1.5, 1.0)


def gamma_cdf(shape, x):
    """P(X <= x) for Gamma(shape, 1), by the series of the incomplete gamma function."""
    ratios = (x / (shape + n) for n in range(1, 500))
    terms = itertools.accumulate(ratios, lambda term, ratio: term * ratio, initial=1 / shape)
    return math.fsum(terms) * math.exp(shape * math.log(x) - x - math.lgamma(shape))


@pytest.mark.parametrize(
    ("shape", "exact_80", "exact_10"),
    [
        # From the series above by bisection; the first is half a chi-squared of one degree.
        (0.5, 0.8211872, 0.0078954),
        (1.0, math.log(5), -math.log(0.9)),
        (1.5, 2.3208138, 0.2921871),
        (2.5, 3.6446381, 0.8051540),
        (5.5, 7.3157103, 2.7888924),
        (10.5, 13.0855500, 6.6197990),
        (30.5, 35.0245055, 23.6709074),
    ],
)
def test_the_bounds_of_a_rate_are_those_of_its_distribution(shape, exact_80, exact_10):
    """Wilson and Hilferty are within 1.4 % at 80 %, and within 0.008 crashes at 10 %."""
    assert gamma_cdf(shape, exact_80) == pytest.approx(0.8, abs=1e-6)
    assert gamma_cdf(shape, exact_10) == pytest.approx(0.1, abs=1e-5)
    assert learnt.Rate(shape, 1.0).high_per_h == pytest.approx(exact_80, rel=0.014)
    assert learnt.Rate(shape, 1.0).low_per_h == pytest.approx(exact_10, abs=0.008)
    assert learnt.Rate(shape, 4.0).high_per_h == learnt.Rate(shape, 1.0).high_per_h / 4
    assert learnt.Rate(shape, 4.0).low_per_h == learnt.Rate(shape, 1.0).low_per_h / 4


def test_no_rate_is_negative():
    """The cube of Wilson and Hilferty ends at nothing for the smallest shapes."""
    assert learnt.Rate(0.1, 1.0).low_per_h == 0.0


@pytest.mark.parametrize(
    ("crashes", "hours", "aftershocks", "aftershock_hours", "evenly"),
    [
        (0.0, 0.0, 0.0, 0.0, False),  # nothing is known
        (1.0, 0.49, 0.0, 0.0, False),  # too little
        (1.0, 0.5, 0.0, 0.0, True),
        (9.0, 3.0, 9.0, 1.99, False),  # all of it but an hour soon after a crash: too little yet
        (9.0, 3.0, 9.0, 2.0, True),  # and then that rate is the rate
        (90.0, 9.0, 89.0, 8.9, True),
        (4.0, 20.0, 3.9, 18.4, True),
        (10.0, 40.0, 5.0, 20.0, True),  # as often soon after one as else
        (10.0, 40.0, 9.0, 5.0, False),  # one draws the next
    ],
)
def test_crashes_in_bursts_are_told_from_even_ones(
    crashes, hours, aftershocks, aftershock_hours, evenly
):
    """They come one upon the other if they are surely twice as frequent soon after one."""
    known = a_mode_ledger(
        crashes=crashes, hours=hours, aftershocks=aftershocks, aftershock_hours=aftershock_hours
    )
    assert learnt.crashes_evenly(known) is evenly


def test_bursts_are_sure_at_twice_the_lone_rate():
    """One in ten that the rate soon after a crash is lower is compared with twice the other."""
    # Alone: Gamma(2.5, 10.25 h), 0.244 an hour. Soon after: Gamma(2.5, T), 10 % at 0.8049 / T.
    shaken = {"crashes": 4.0, "aftershocks": 2.0}
    for shaken_h, evenly in ((1.41, True), (1.39, False)):
        known = a_mode_ledger(**shaken, hours=10 + shaken_h, aftershock_hours=shaken_h)
        assert learnt.crashes_evenly(known) is evenly


# What follows: cool-downs


def a_failure(level=0, *, rho=2.0, crashes=4, running_h=0.5, now_h=100.0, known=None, **limits):
    """Facts of a visit of medium that has crashed so often, with ten minutes between."""
    now_s = now_h * HOUR_S
    return some_facts(
        "medium",
        now_s=now_s,
        running_s=running_h * HOUR_S,
        crashes_s=tuple(now_s - 600.0 * n for n in reversed(range(crashes))),
        speeds=(1.0, rho),
        limits=StabilityLimits(**limits),
        ledger=Ledger(modes={"medium": known or ModeLedger(level=level)}),
    )


def test_cool_downs_double_up_to_the_interval_that_costs_least():
    """One hour, two, then what a failure of that price and a spell of that length are worth."""
    waits_h = [learnt.cool_down_h(a_failure(level), worthless=False) for level in range(4)]
    visit_h = (0.25 + 4 / 3 - 0.5) / 2
    best_h = math.sqrt(2 * visit_h * (0.5 + 6) / learnt.BAD_RECOVERIES)
    assert waits_h == pytest.approx([1, 2, 4, best_h])


def test_the_best_interval_minimises_its_cost():
    """A try costs K each interval, and half an interval of the gain is missed each recovery."""
    for rho, known in (
        (1.5, ModeLedger(level=9, failures=3, failure_hours=1.2, recoveries=1, bad_hours=40.0)),
        (3.0, ModeLedger(level=9, failures=9, failure_hours=2.0, recoveries=2, bad_since_s=3600.0)),
    ):
        facts = a_failure(rho=rho, known=known, crashes=2)
        visit_h = (0.25 + known.failure_hours + max(0.0, 2 / 3 - (rho - 1) / 2)) / (
            2 + known.failures
        )
        since_h = 100.0 - 1 / 6 if known.bad_since_s is None else 1.0
        spell_h = (known.bad_hours + 100.0 - since_h + 6) / (
            known.recoveries + learnt.BAD_RECOVERIES
        )

        def cost(interval_h, rho=rho, visit_h=visit_h, spell_h=spell_h):
            return visit_h * spell_h / interval_h + (rho - 1) * interval_h / 2

        best_h = learnt.cool_down_h(facts, worthless=False)
        assert best_h > 1.5, "it is not the bound below that is met"
        assert cost(best_h) < min(cost(best_h * 1.01), cost(best_h * 0.99))


def test_a_try_that_costs_next_to_nothing_is_not_made_all_the_time():
    """A failed visit is taken to cost 0.03 h at least."""
    known = ModeLedger(level=9, failures=99, recoveries=1)
    wait_h = learnt.cool_down_h(a_failure(known=known, crashes=0), worthless=False)
    assert wait_h == 1.0
    long = ModeLedger(level=9, failures=99, bad_since_s=0.0)
    wait_h = learnt.cool_down_h(a_failure(known=long, crashes=0), worthless=False)
    assert wait_h == pytest.approx(math.sqrt(2 * 0.03 * 106 / learnt.BAD_RECOVERIES))


def test_no_cool_down_is_longer_than_a_day():
    """Neither where tries are dear, nor where nothing is gained, nor after a thousand failures."""
    dear = ModeLedger(level=1000, failures=1, failure_hours=99.0, bad_since_s=0.0)
    assert learnt.cool_down_h(a_failure(known=dear), worthless=False) == 24.0
    assert learnt.cool_down_h(a_failure(9, rho=1.0), worthless=False) == 24.0
    week = a_failure(known=dear, cool_down_max_h=12.0)
    assert learnt.cool_down_h(week, worthless=False) == 12.0


@pytest.mark.parametrize(("level", "wait_h"), [(0, 6.0), (3, 8.0), (9, 24.0)])
def test_a_mode_that_is_no_faster_is_left_alone_for_six_hours_at_least(level, wait_h):
    """It costs nothing but time."""
    assert learnt.cool_down_h(a_failure(level, rho=1.0), worthless=True) == wait_h


def test_the_first_cool_down_is_a_setting():
    """And the best interval is never below it."""
    cheap = ModeLedger(level=5, failures=99, recoveries=50)
    for known in (None, cheap):
        facts = a_failure(known=known, cool_down_min=180.0, crashes=1)
        assert learnt.cool_down_h(facts, worthless=False) == 3.0


# What follows: nets and checkpoints


def test_a_net_is_work_for_wall_time():
    """Twice the speed, one crash in 1.25 hours at half an hour each."""
    assert learnt.net(2.0, 1, 1.25, 0.5) == pytest.approx(2 / (1 + 0.5 * 1.5 / 1.5))


def overhead(interval_s, rate_per_h, write_s):
    """The exact share of time that is lost, for crashes at a constant rate.

    An interval of work and its write succeed with probability exp(-rate * both); a crash
    within them loses what was done of both (Daly 2006, without restart time).
    """
    rate_per_s = rate_per_h / 3600
    took_s = math.expm1(rate_per_s * (interval_s + write_s)) / rate_per_s
    return 1 - interval_s / took_s


def interval_s(rate_per_h, stall_s, longest_s, *, write_s=0.0, size_bytes=1.0, per_day=1e12):
    saving = learnt.Saving(stall_s, write_s, size_bytes)
    return learnt.checkpoint_interval_s(rate_per_h, saving, longest_s, bytes_per_day=per_day)


@pytest.mark.parametrize(("rate_per_h", "stall_s"), [(0.1, 0.05), (2.0, 0.5), (10.0, 1.0)])
def test_checkpoints_are_as_far_apart_as_loses_least(rate_per_h, stall_s):
    """Young's interval is within 0.05 points of the best that a search finds."""
    found_s = interval_s(rate_per_h, stall_s, 10_000.0)
    assert found_s == pytest.approx(math.sqrt(2 * stall_s * 3600 / rate_per_h))
    best = min(overhead(10 * 1.02**n, rate_per_h, stall_s) for n in range(300))
    assert overhead(found_s, rate_per_h, stall_s) - best < 0.0005


def test_checkpoints_have_a_longest_interval_and_leave_time_to_train():
    """90 s are promised; and for no more than a tenth of the time the disk is at it."""
    assert interval_s(0.01, 1.0, 90.0) == 90.0
    assert interval_s(100.0, 5.0, 90.0, write_s=5.0) == 50.0
    assert interval_s(100.0, 15.0, 90.0, write_s=15.0) == 90.0
    for unknown in ((0.0, 1.0), (1.0, 0.0)):
        assert interval_s(*unknown, 90.0) == 90.0


def test_no_more_is_written_in_a_day_than_the_disk_may_bear():
    """20 MB for each of four slots: every 20 s is 345 GB a day; what is promised holds anyhow."""
    often = {"rate_per_h": 1000.0, "stall_s": 0.006, "size_bytes": 20e6}
    assert interval_s(**often, longest_s=90.0, per_day=345.6e9 / 4) == pytest.approx(20.0)
    assert interval_s(**often, longest_s=15.0, per_day=345.6e9 / 4) == 15.0
    assert interval_s(**often, longest_s=90.0, per_day=1e9) == 90.0
