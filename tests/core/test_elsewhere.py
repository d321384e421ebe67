"""Runs elsewhere: a process of this machine minds them, and this machine is not judged by them."""

import math
import random

import pytest

from supervisor.core import decisions
from supervisor.core.recovery import Exit
from testkit.fakes import Plan
from testkit.place import Place, a_job
from trainers.contract import EXIT_DONE

# Each look is saved: else what a crash takes from the memory depends on what else had been saved.
SETTINGS = """\
modes_dir = "modes"
[policy]
name = "{policy}"
stable_min = 5
tick_s = 10
[campaign]
trainer = "drill"
target.steps = 30000
runs = ["A", "B", "C"]
"""
TICK_S = 20.0
TICKS = 260
SEEDS = 6
CLOCK_AHEAD_S = 1e6
MOON = {"place": "moon"}


def a_place(folder, policy="ledger"):
    modes = folder / "modes"
    modes.mkdir(parents=True)
    for rung, (name, slots) in enumerate((("light", 1), ("medium", 2))):
        text = f"rung = {rung}\nslots = {slots}\n"
        (modes / f"{name}.toml").write_text(text)
    return Place(folder, SETTINGS.format(policy=policy))


def a_life(seed, folder, *, elsewhere):
    """What this machine is judged by, at each look at a life in which everything happens."""
    chance, luck = random.Random(seed), random.Random(seed + 1)  # noqa: S311 - lived twice
    place = a_place(folder, chance.choice(("ledger", "fixed")))
    bad = (Plan(ends_s=300.0), Plan(hangs_s=200.0), Plan(ends_s=40.0, end=Exit(signal=9)))
    told = []
    for tick in range(TICKS):
        place.clock.advance(TICK_S)
        happens = chance.random()
        if happens < 0.05:
            place.host.power_off()
            place.clock.reboot(off_s=chance.choice((5.0, 600.0)))
            place.begin()
        elif happens < 0.12:
            place.put(chance.choice(("scale_up", "scale_down", "pause", "resume", "resume")))
        place.plans |= {name: chance.choice((Plan(), Plan(), *bad)) for name in "ABC"}
        if elsewhere and luck.random() < 0.1:
            _happens_elsewhere(place, luck, tick)
        place.daemon.tick("time")
        told.append(_judged_by(place))
    minded = [run for run in place.lines("run.started") if run["run"].startswith("job-")]
    assert len(minded) > 3 or not elsewhere
    return told


def _happens_elsewhere(place, luck, tick):
    """One more run there, which steps, dies, stalls or ends; or one is taken back."""
    name = f"far{tick}"
    ahead = {"clock_ahead_s": CLOCK_AHEAD_S * luck.choice((-1, 1))}
    place.plans[name] = luck.choice(
        (
            Plan(**ahead),
            Plan(ends_s=50.0, workers=2, **ahead),
            Plan(hangs_s=30.0, stops_s=math.inf, **ahead),
            Plan(ends_s=90.0, end=Exit(signal=9, oom_kill=True), **ahead),
            Plan(ends_s=70.0, end=Exit(code=EXIT_DONE), **ahead),
        )
    )
    place.put("submit", asked=a_job(name, steps=luck.choice((900, 10**6)), **MOON))
    if luck.random() < 0.3:
        place.put("cancel", run=f"job-far{luck.randrange(tick + 1)}")


def _judged_by(place):
    memory, config = place.daemon.memory, place.daemon._config
    facts = decisions.facts(memory, config.ladder, config.settings.policy)
    here = [
        (run.id, run.status, run.attempt.mode, run.progress, run.faults, run.retry_s)
        for run in memory.runs
        if run.local
    ]
    what = ("running", "full", "unsaved_s", "outage", "stretch", "boots", "visit", "demanded")
    lives = sorted(main.spec.name for main in place.host.mains() if main.spec.name in "ABC")
    return facts, here, lives, [getattr(memory, name) for name in what]


@pytest.mark.parametrize("seed", range(SEEDS))
def test_this_machine_is_judged_as_if_nothing_ran_elsewhere(tmp_path, seed):
    """Goal, ledger, boots, prices, speed and each local run are the same at every look."""
    without = a_life(seed, tmp_path / "without", elsewhere=False)
    beside = a_life(seed, tmp_path / "beside", elsewhere=True)
    for tick, (expected, found) in enumerate(zip(without, beside, strict=True)):
        assert found == expected, f"at look {tick}"


@pytest.fixture
def place(tmp_path):
    """A machine whose one slot is taken, and a run elsewhere."""
    place = a_place(tmp_path)
    place.ask("pin", mode="light")
    place.plans["far"] = Plan(clock_ahead_s=CLOCK_AHEAD_S)
    place.ask("submit", asked=a_job("far", **MOON))
    place.settle(4)
    assert place.training() == ["A", "far"]
    return place


def test_it_takes_no_slot_and_lives_through_changes_of_mode(place):
    """Its process is the same one all along."""
    (before,) = [main for main in place.host.mains() if main.spec.name == "far"]
    place.ask("pin", mode="medium")
    place.settle(8)
    assert place.training() == ["A", "B", "far"]
    assert before in place.host.mains()
    (line,) = place.lines("run.started", "job-far")
    assert line["reason"] == "on moon, from step 0"


def test_a_persons_pause_holds_there_too_and_says_so(place):
    """What is rented there is not given back by a pause: whoever pauses should know."""
    answer = place.ask("pause")
    assert "far (moon) will rest, too" in answer.reason
    assert "may go on to cost" in answer.reason
    place.settle(4)
    assert place.training() == []
    place.ask("resume")
    place.settle(4)
    assert place.training() == ["A", "far"]


def test_what_is_silent_there_is_not_hung_here(tmp_path):
    """Its clock is another machine's, and its own people judge it."""
    place = a_place(tmp_path)
    place.plans["far"] = Plan(hangs_s=20.0, clock_ahead_s=-CLOCK_AHEAD_S)
    place.ask("submit", asked=a_job("far", **MOON))
    place.settle(20, after_s=600.0)
    assert place.lines("run.hung", "job-far") == []
    assert "far" in place.training()


def test_it_is_started_again_here_as_any_other(tmp_path):
    """Its process here dies: that is a death of a trainer, and no reason to leave the mode."""
    place = a_place(tmp_path)
    place.plans["far"] = Plan(ends_s=30.0)
    place.ask("submit", asked=a_job("far", **MOON))
    place.settle(40)
    assert len(place.lines("run.died", "job-far")) >= 3
    assert place.training() == ["A", "far"] or place.training() == ["A"]


def test_local_runs_start_while_something_there_cannot_be_ended(tmp_path):
    """A courier that hangs in the kernel stands in nobody's way but its own."""
    place = a_place(tmp_path)
    place.ask("pause")
    place.plans["far"] = Plan(stops_s=math.inf, unkillable_s=math.inf, workers=1)
    place.ask("resume")
    place.ask("submit", asked=a_job("far", **MOON))
    place.settle(4)
    place.ask("cancel", run="job-far")
    place.settle(20, after_s=20.0)
    assert place.run("far").status == "blocked"
    place.ask("pin", mode="medium")
    place.settle(8)
    assert {"A", "B"} <= set(place.training())
