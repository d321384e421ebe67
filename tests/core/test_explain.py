"""A decision explained, and a log decided again: every line speaks for itself."""

import copy

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from state.records import Goal, Ledger, ModeLedger
from supervisor.core import explain, policy
from supervisor.core.facts import StabilityLimits
from supervisor.core.readings import GpuReadings, Readings
from supervisor.core.replay import decided_otherwise, logged_decision, replay
from testkit.builders import a_request, some_facts
from testkit.written_life import WrittenLife

FIXED = StabilityLimits(name="fixed")


def a_stormy_life(limits=None, rungs=2):
    """Medium is climbed to, fails, and is tried again; a person has a word, too."""
    life = WrittenLife(limits, rungs=rungs).train(1.5)
    for _ in range(5):
        life.train(0.05).crash()
    life.train(3.0).request("forbid", "light").request("pin", "light").train(0.5).request("unpin")
    for _ in range(4):
        life.train(0.04).crash()
    return life.train(26.0)


def by_name(facts):
    """Name of an input: its value; of several of one name the last."""
    return {each.name: each.value for each in explain.inputs(facts)}


# Explained


def test_every_rule_has_its_say_in_its_order():
    """Each rule of the policy is told once, and exactly one of them decides."""
    for name in policy.RULES:
        facts = some_facts(limits=StabilityLimits(name=name), stable_s=4000.0)
        verdicts = explain.verdicts(facts)
        assert [verdict.rule for verdict in verdicts] == [
            rule.__name__ for rule in policy.RULES[name]
        ]
        assert [verdict.rule for verdict in verdicts if verdict.decides] == ["stable"]
        assert all(verdict.why for verdict in verdicts)


def test_a_rule_that_comes_too_late_says_who_was_asked_before():
    """A storm that a person's pin outlives is not told as if nothing had been wrong."""
    facts = some_facts(
        "medium", pinned=True, limits=FIXED, crashes_s=(9000.0, 9100.0, 9200.0, 9300.0)
    )
    told = {verdict.rule: verdict for verdict in explain.verdicts(facts)}
    assert told["bounded_by_person"].decides
    assert not told["reboot_storm"].decides
    assert "bounded_by_person is asked before" in told["reboot_storm"].why


def test_where_nothing_decides_no_rule_is_said_to():
    """A machine that simply goes on has a reason for each rule."""
    assert not any(verdict.decides for verdict in explain.verdicts(some_facts()))


def test_a_mode_that_is_gone_is_explained():
    """The rules ask for the place of the mode; one that has none leaves them unasked."""
    facts = some_facts(goal=Goal(mode="turbo"))
    (verdict,) = explain.verdicts(facts)
    assert (verdict.rule, verdict.decides) == ("unknown_mode", True)
    assert explain.explained_now(facts).rule == "unknown_mode"
    assert explain.known(facts).budget is None


def test_the_numbers_of_the_ledger_are_inputs_with_units():
    """Price, budget, rates, break-even, speed and level stand there, with what they mean."""
    ledger = Ledger(
        budget=0.4,
        costs_s=(600.0,),
        modes={"medium": ModeLedger(crashes=2.0, hours=4.0, level=1, last_hours=2.0)},
    )
    facts = some_facts("medium", ledger=ledger, running_s=600.0, speeds=(1.0, 2.0))
    told = by_name(facts)
    assert told["price of a crash"] == pytest.approx((20 + 10) / 2)
    assert told["budget"] == 0.4
    assert told["medium rate"] == pytest.approx(2.5 / 4.25)
    assert told["medium speed"] == pytest.approx(2.0)
    assert told["medium failures"] == 1
    assert told["proof"] == 3600.0
    known = explain.known(facts)
    assert (known.budget, known.budget_max, known.probation) == (0.4, 1.0, True)
    assert known.modes[0].break_even_per_h is None
    assert known.modes[1].crashes_per_h_low < 2.5 / 4.25 < known.modes[1].crashes_per_h_high


def test_fixed_is_explained_without_a_ledger():
    """What a policy does not ask for is not told as if it had."""
    told = by_name(some_facts("medium", limits=FIXED))
    assert "budget" not in told
    assert told["policy"] == "fixed"


def test_pressure_holds_and_requests_are_inputs():
    """What a GPU reads, what a person holds and what one asks can all have mattered."""
    gpu = GpuReadings(
        index=0,
        memory_used_mib=9500,
        memory_total_mib=10_000,
        temperature_c=70.0,
        temperature_limit_c=90.0,
        xids=(79,),
        ecc_uncorrected=2,
    )
    facts = some_facts(
        goal=Goal(mode="light", pinned=True, forbidden="medium"),
        readings=Readings(gpus=(gpu,)),
        request=a_request("allow", "medium"),
        cool_downs={"medium": 10_100.0, "light": 1.0},
        work_left=False,
    )
    values = [each.value for each in explain.inputs(facts)]
    assert {95.0, 70.0, "Xid 79", 2, "allow medium", 100.0, "none left"} <= set(values)
    assert by_name(facts)["bounds"] == "pin light, forbid medium"
    assert explain.bounds(Goal(mode="light", pauses=("person",), idle_until_s=5.0)) == (
        "pause",
        "idle",
    )


# Decided again


@pytest.mark.parametrize("rungs", [2, 3])
@pytest.mark.parametrize("limits", [StabilityLimits(), FIXED], ids=lambda limits: limits.name)
def test_a_log_decided_again_is_the_same_to_the_bit(limits, rungs):
    """Every decision, and the ledger before and after it, comes out of the lines alone."""
    life = a_stormy_life(limits, rungs)
    replayed = replay(life.lines)
    assert replayed.first is None
    assert replayed.ledger == life.memory.ledger
    assert replayed.decisions == replayed.ledgers == sum("facts" in line for line in life.lines)
    assert replayed.decisions > 6
    assert (replayed.older, replayed.gaps, replayed.unreadable) == (0, 0, 0)


@settings(max_examples=25, deadline=None)
@given(
    st.lists(
        st.one_of(
            st.floats(0.01, 3.0).map(lambda hours: ("train", hours)),
            st.just(("crash",)),
            st.sampled_from(["scale_up", "pause", "resume", "reset"]).map(lambda w: ("request", w)),
        ),
        max_size=12,
    ),
    st.sampled_from(["ledger", "fixed"]),
)
def test_whatever_happens_the_log_rebuilds_the_ledger(story, name):
    """Crashes, requests and resets in any order leave no difference."""
    life = WrittenLife(StabilityLimits(name=name))
    for what, *how in story:
        getattr(life, what)(*how)
    replayed = replay(life.lines)
    assert replayed.first is None
    # What has happened since the last line is not in the log yet.
    assert replayed.ledger == life.memory.ledger


def test_a_log_that_begins_in_the_middle_begins_with_its_first_decision():
    """Older lines are rotated away; the rest is decided again all the same."""
    life = a_stormy_life()
    second = [line["seq"] for line in life.lines if "facts" in line][1]
    replayed = replay(life.lines[second - 1 :])
    assert (replayed.first, replayed.ledger) == (None, life.memory.ledger)
    assert replayed.ledgers == replayed.decisions - 1


def test_a_changed_fact_is_found_where_it_stands():
    """The first line that was tampered with is named, with field and both values."""
    lines = copy.deepcopy(a_stormy_life().lines)
    touched = [line for line in lines if "facts" in line][1]
    touched["facts"]["crashes_s"] = []
    replayed = replay(lines)
    assert replayed.differences > 0
    assert replayed.first.seq == touched["seq"]
    assert replayed.first.field.startswith("decision.")
    assert replayed.first.logged != replayed.first.now


def test_a_changed_entry_is_found_at_the_next_decision():
    """A booking that does not add up shows in the ledger that the next decision was made with."""
    lines = copy.deepcopy(a_stormy_life().lines)
    touched = next(line for line in lines if line.get("bookings"))
    touched["bookings"][0]["hours"] = 77.0
    replayed = replay(lines)
    after = next(line["seq"] for line in lines if line["seq"] >= touched["seq"] and "facts" in line)
    assert (replayed.first.seq, replayed.first.field.split(".")[0]) == (after, "ledger")
    assert replayed.differences == 1, "the next decisions are compared with what was logged"


@pytest.mark.parametrize("event", ["state.damaged", "state.lagged", "state.unsaved", None])
def test_a_loss_that_the_log_tells_is_no_difference(event):
    """After a damaged state, or where lines are missing, the ledger is taken over."""
    life = a_stormy_life()
    lines = copy.deepcopy(life.lines)
    lost = next(place for place, line in enumerate(lines) if line.get("bookings"))
    if event is None:
        del lines[lost]
    else:
        del lines[lost]["bookings"]
        lines[lost]["event"] = event
    replayed = replay(lines)
    assert (replayed.first, replayed.gaps) == (None, 1)
    assert replayed.ledger == life.memory.ledger


def test_a_ledger_that_was_begun_anew_is_begun_anew():
    """One of another version is given up, in a line of its own."""
    life = WrittenLife().train(1.5).crash()
    old = len(life.lines)
    life.memory = msgspec.structs.replace(life.memory, ledger=Ledger())
    life._write("ledger.begun", rule="version")
    life.train(0.2).crash().request("scale_up").request("scale_down")
    assert replay(life.lines).first is None
    del life.lines[old]
    for number, line in enumerate(life.lines, 1):
        line["seq"] = number
    assert replay(life.lines).first is not None


def test_lines_of_an_older_version_are_compared_on_goal_and_rule():
    """A log from before the ledger has one policy, and fewer fields."""
    lines = copy.deepcopy(a_stormy_life(FIXED).lines)
    newer = {"booking", "ledger", "speeds", "running_s", "out_of_memory", "proved", "away"}
    for line in lines:
        line.pop("bookings", None)
        if "facts" in line:
            for key in newer:
                del line["facts"][key]
            limits = line["facts"]["limits"]
            line["facts"]["limits"] = {key: limits[key] for key in ("stable_min", "crashes_max")}
            line["decision"] = {"goal": line["decision"]["goal"], "rule": line["rule"]}
            line["decision"]["goal"].pop("forbidden")
    replayed = replay(lines)
    assert (replayed.first, replayed.older) == (None, replayed.decisions)
    assert replayed.decisions > 0
    [line for line in lines if "facts" in line][2]["rule"] = "another"
    assert replay(lines).first.field == "rule"


def test_lines_that_a_rotation_shows_twice_count_once():
    """A file that is renamed while it is read is read twice."""
    life = a_stormy_life()
    assert replay([*life.lines, *life.lines]) == replay(life.lines)


@pytest.mark.parametrize(
    "damage",
    [
        {"facts": "none"},
        {"facts": {"ladder": []}},
        {"facts": {}, "decision": 3},
        {"bookings": "none"},
        {"bookings": [{"at_s": "late"}]},
        {"seq": "seven"},
        {"seq": None, "facts": {}},
        {"evidence": [], "event": None},
        {"decision": {"goal": {"mode": 7}}},
    ],
    ids=str,
)
def test_a_damaged_line_is_never_a_traceback(damage):
    """Whatever stands in a line, it is counted, compared or left out."""
    lines = copy.deepcopy(a_stormy_life().lines)
    for place in range(len(lines)):
        replay([*lines[:place], {**lines[place], **damage}, *lines[place + 1 :]])
        logged_decision({**lines[place], **damage})


def test_facts_of_no_daemon_are_a_difference_and_not_a_traceback():
    """A ladder without a mode cannot be decided upon."""
    lines = copy.deepcopy(a_stormy_life().lines)
    touched = next(line for line in lines if "facts" in line)
    touched["facts"]["ladder"] = []
    replayed = replay(lines)
    assert (replayed.first.seq, replayed.first.field) == (touched["seq"], "decision")
    assert "cannot be decided" in replayed.first.now


def test_the_first_decision_that_others_would_have_made_differently():
    """Each logged decision is asked again under other limits."""
    lines = a_stormy_life(FIXED).lines
    assert decided_otherwise(lines, lambda limits: limits) == (0, None, None)
    others, first, instead = decided_otherwise(
        lines, lambda limits: msgspec.structs.replace(limits, crashes_max=50)
    )
    assert others >= 1
    assert (first.rule, first.goal.mode, instead.goal.mode) == ("reboot_storm", "light", "medium")


def test_a_logged_decision_explains_itself():
    """The line alone is enough, and what it said is not said differently now."""
    line = next(line for line in a_stormy_life().lines if line["event"] == "mode.changed")
    told = explain.explained(logged_decision(line), 7)
    assert (told.seq, told.reason, told.before) == (line["seq"], line["reason"], 7)
    assert (told.old, told.new) == (line["old"], line["new"])
    assert [one.rule for one in told.rules if one.decides] == [line["rule"]]
    assert msgspec.json.decode(msgspec.json.encode(told))["inputs"]


def test_a_decision_says_what_would_change_its_mind():
    """After a climb it is crashes, after a fall-back time; each with its number."""
    climb = explain.explained_now(some_facts(stable_s=4000.0, speeds=(1.0, 2.0)))
    assert climb.new == "medium"
    assert "its budget bears 3 crashes in quick succession, 3.10 an hour for long" in climb.next
    storm = (9000.0, 9100.0, 9200.0, 9300.0)
    back = explain.explained_now(some_facts("medium", limits=FIXED, crashes_s=storm))
    assert back.next == "medium in 60 min, if no crash (medium is cooling down)"
    calm = explain.explained_now(some_facts("medium", limits=FIXED))
    assert calm.next.endswith("3 crashes within 60 min are forgiven")
    pinned = explain.explained_now(some_facts("medium", pinned=True))
    assert pinned.next == "medium is pinned; `unpin` frees it"


JUNK = (None, 0, -1, 1e300, -0.5, "x", "ledger", [], {}, True, [1], {"a": 1})
WRITTEN = a_stormy_life().lines


def places(value, path=()):
    """Where in a log something stands that could be damaged."""
    if path:
        yield path
    if isinstance(value, dict | list):
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from places(inner, (*path, key))


@settings(max_examples=150, deadline=None)
@given(st.sampled_from([path for path in places(WRITTEN) if len(path) > 1]), st.sampled_from(JUNK))
def test_whatever_a_part_of_a_log_becomes_it_is_told_and_not_thrown(path, junk):
    """A replay, and the question of what else might have been, come to their end."""
    lines = copy.deepcopy(WRITTEN)
    place = lines
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = junk
    assert replay(lines).lines <= len(lines)
    decided_otherwise(lines, lambda limits: msgspec.structs.replace(limits, name="fixed"))
