"""Whatever is submitted, and however often it takes slots: how fast the modes are stays known."""

import random

import pytest

from state.records import Booking, Kept, Ledger, ModeLedger
from supervisor.core import decisions
from supervisor.core import ledger as learnt
from supervisor.core.facts import Terms
from testkit.fakes import Plan
from testkit.place import Place, a_job

SETTINGS = """\
modes_dir = "modes"
[policy]
name = "fixed"
[campaign]
trainer = "drill"
target.steps = 1000000000
runs = ["A", "B", "C"]
[jobs]
min_run_s = {min_run_s}
"""
LOOK_S = 60.0
HOURS = 6
PACE = {"light": 10.0, "medium": 8.0}
"""steps a second of each trainer: two slots of the latter are 1.6 times as fast as one"""
JOBS_PACE = 300.0
"""how many times as many steps a job makes"""
WITHIN = 0.02
ALONE = PACE["medium"] * 2 / PACE["light"]


def ratio(seed, folder, *, jobs_per_h):
    """How much faster than light medium was, as the ledger of a machine has measured it."""
    modes = folder / "modes"
    modes.mkdir(parents=True)
    for rung, (name, slots) in enumerate((("light", 1), ("medium", 2))):
        text = f"rung = {rung}\nslots = {slots}\n"
        (modes / f"{name}.toml").write_text(text)
    chance = random.Random(seed)  # noqa: S311 - to be lived again
    settings = SETTINGS.format(min_run_s=chance.choice((0, 120, 600)))
    place = Place(folder, settings)
    place.host.plan = lambda spec: Plan(steps_per_s=_pace(spec), stops_s=20.0)
    looks = int(HOURS * 3600 / LOOK_S)
    for look in range(looks):
        if look % (looks // 4) == 0:
            mode = ("light", "medium")[look // (looks // 4) % 2]
            place.put("pin", mode=mode)
        if chance.random() < jobs_per_h * LOOK_S / 3600:
            steps = int(JOBS_PACE * chance.choice((200, 2000, 20_000)))
            rank = chance.choice(("normal", "high", "critical"))
            place.put("submit", asked=a_job(f"job{look}", steps=steps, rank=rank))
        place.look(LOOK_S)
    memory, config = place.daemon.memory, place.daemon._config
    facts = decisions.facts(memory, config.ladder, config.settings.policy)
    preempted = sum(
        line["rule"] == "asked" and "rank above" in line["reason"]
        for line in place.lines("run.stopped")
    )
    terms = Terms(facts.ladder, facts.speeds, facts.limits)
    measured = learnt.compared(facts.ledger, terms, 1)
    hours = sum(each_h for each_h, _ in measured)
    return sum(each_h * faster for each_h, faster in measured) / hours, preempted


def _pace(spec):
    return PACE[spec.mode] * (JOBS_PACE if spec.name.startswith("job") else 1.0)


@pytest.mark.parametrize(("seed", "jobs_per_h"), [(1, 1.0), (2, 6.0), (3, 20.0)])
def test_preemption_leaves_the_speed_of_a_mode_as_it_is(tmp_path, seed, jobs_per_h):
    """A stream of jobs takes slots all day; what is learnt of the modes differs by 2 % at most."""
    beside, preempted = ratio(seed, tmp_path, jobs_per_h=jobs_per_h)
    assert preempted > 2
    assert beside == pytest.approx(ALONE, rel=WITHIN)


def test_without_jobs_it_is_measured_as_it_is(tmp_path):
    """What the others are compared with."""
    alone, _ = ratio(1, tmp_path, jobs_per_h=0.0)
    assert alone == pytest.approx(ALONE)


def test_a_thousand_jobs_do_not_push_the_campaign_out_of_the_ledger():
    """Each is of another kind, trained once: they make room for one another alone."""
    ledger = Ledger(modes={"light": ModeLedger(work={"atari/Pong": Kept(steps=9e6, hours=5.0)})})
    for number in range(1000):
        work = {"light": {f"job:drill/j{number}": Kept(steps=1e6, hours=1.0)}}
        booking = Booking(at_s=number, mode="light", work=work, work_hours_max=24.0)
        ledger = learnt.booked(ledger, booking)
    known = ledger.modes["light"].work
    assert known.pop("atari/Pong") == Kept(steps=9e6, hours=5.0)
    assert sum(kept.hours for kept in known.values()) == pytest.approx(24.0)
    assert not learnt.has_room({f"job:drill/j{at}" for at in range(learnt.KINDS_MAX)}, "job:x/y")
    assert learnt.has_room(known, "atari/Breakout")
