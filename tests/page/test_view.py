"""What each part of the page says of a home, from one look at it."""

import msgspec
import pytest

from supervisor import screen
from supervisor.core.guard import Pressure
from supervisor.page import view
from supervisor.page.queue import JobReport
from supervisor.report import DaemonReport, GuardReport, QuietReport
from testkit.looks import AT, a_boot, a_line, a_look, a_report, a_run, a_sample, but

STOPPED = DaemonReport(state="stopped")
LOG_OF_A_STOP = (a_line(7, "supervisor.started", 900.0), a_line(8, "supervisor.stopped", 240.0))
LOG_OF_A_FALL = (a_line(9, "mode.changed", 30.0, old="medium", new="light"),)
LOG_OF_A_CLIMB = (a_line(9, "mode.changed", 30.0, old="light", new="medium"),)
ON_ITS_WAY = (a_run("Pong"), a_run("Breakout", status="starting"))


def paused(*owners):
    return {"mode": "medium", "pinned": False, "pauses": owners, "paused": True}


def ended(*statuses):
    return tuple(a_run(f"run-{number}", status=status) for number, status in enumerate(statuses))


WELL, NO_CRASH = "Training, medium, 2 of 2 running, 42.8 h left", "no crash in 24 h"

SITUATIONS = {
    "all trains": (
        a_look(),
        "well",
        f"{WELL}; {NO_CRASH}",
    ),
    "a crash in the night": (
        a_look(a_report(boots=(a_boot(5 * 3600.0),), crashes_total=1)),
        "well",
        f"{WELL}; 1 crash in 24 h",
    ),
    "a crash just now": (
        a_look(a_report(boots=(a_boot(7200.0), a_boot(240.0)), crashes_last_hour=1)),
        "warn",
        f"{WELL}; 2 crashes in 24 h, the newest 4 min ago",
    ),
    "a crash of yesterday": (
        a_look(a_report(boots=(a_boot(25 * 3600.0),))),
        "well",
        f"{WELL}; {NO_CRASH}",
    ),
    "a run starts": (
        a_look(a_report(runs=ON_ITS_WAY)),
        "wait",
        "Training, medium, 1 of 2 running, 42.8 h left; no crash in 24 h",
    ),
    "climbing down": (
        a_look(a_report(mode="light", runs=ON_ITS_WAY), lines=LOG_OF_A_FALL),
        "wait",
        "Climbing down, light, 1 of 2 running, 42.8 h left; no crash in 24 h",
    ),
    "climbing": (
        a_look(a_report(runs=ON_ITS_WAY), lines=LOG_OF_A_CLIMB),
        "wait",
        "Climbing, medium, 1 of 2 running, 42.8 h left; no crash in 24 h",
    ),
    "has climbed": (
        a_look(lines=LOG_OF_A_CLIMB),
        "well",
        f"{WELL}; {NO_CRASH}",
    ),
    "a run waits for a slot": (
        a_look(a_report(runs=(a_run(), a_run("Q", status="queued", waits="all slots are taken")))),
        "well",
        "Training, medium, 1 of 1 running, 42.8 h left; no crash in 24 h",
    ),
    "a run in quarantine": (
        a_look(a_report(runs=(a_run(), a_run("Q", status="quarantined", waits="it died")))),
        "warn",
        "Training, medium, 1 of 1 running, 42.8 h left; 1 quarantined; no crash in 24 h",
    ),
    "a job that has failed": (
        but(
            a_look(a_report(runs=(a_run(), a_run("job", status="failed", reason="no table")))),
            campaign=msgspec.structs.replace(a_report().campaign, runs=1),
        ),
        "well",
        f"Training, medium, 1 of 1 running, 42.8 h left; {NO_CRASH}",
    ),
    "a run that has failed": (
        a_look(a_report(runs=(a_run(), a_run("Q", status="failed", reason="no game")))),
        "warn",
        f"Training, medium, 1 of 1 running, 42.8 h left; 1 failed; {NO_CRASH}",
    ),
    "a run that cannot be ended": (
        a_look(a_report(runs=(a_run(), a_run("Q", status="blocked", reason="processes stay")))),
        "bad",
        "Training, medium, 1 of 2 running, 42.8 h left; 1 blocked; no crash in 24 h",
    ),
    "paused by a person": (
        a_look(a_report(goal=paused("person"))),
        "rest",
        "Paused by a person; no crash in 24 h",
    ),
    "paused by two": (
        a_look(a_report(goal=paused("guard", "quiet_hours"))),
        "rest",
        "Paused by the guard, since the machine is needed and the quiet hours; no crash in 24 h",
    ),
    "frozen by the guard": (
        a_look(a_report(goal={"mode": "medium", "pauses": (), "still": "frozen"})),
        "rest",
        "Standing still for the guard; no crash in 24 h",
    ),
    "it dies as soon as it trains": (
        a_look(a_report(goal={"mode": "light", "pauses": (), "idle_until_s": 9.0})),
        "bad",
        "Left idle: this machine dies as soon as it trains",
    ),
    "nothing to do": (
        a_look(a_report(runs=())),
        "rest",
        "Nothing to train: there is no run, and no job",
    ),
    "jobs alone, which have ended": (
        but(
            a_look(a_report(runs=ended("done"))),
            campaign=msgspec.structs.replace(a_report().campaign, runs=0, done=0),
        ),
        "rest",
        "Nothing to train: every job has ended",
    ),
    "all wait": (
        a_look(a_report(runs=(a_run("Q", status="queued", waits="its GPU is missing"),))),
        "wait",
        "Waiting, medium, 42.8 h left; no crash in 24 h",
    ),
    "done": (
        a_look(a_report(runs=ended("done", "done"))),
        "done",
        "Done: 2 of 2 runs; no crash in 24 h",
    ),
    "done but for one": (
        a_look(a_report(runs=ended("done", "failed"))),
        "warn",
        "Done: 1 of 2 runs, 1 failed; no crash in 24 h",
    ),
    "nobody has lived here": (
        a_look(a_report(home_id=None, daemon=STOPPED), lines=()),
        "rest",
        "No supervisor has lived here yet",
    ),
    "stopped as asked": (
        a_look(a_report(daemon=STOPPED), lines=LOG_OF_A_STOP),
        "rest",
        "Stopped as asked 4 min ago; nothing trains",
    ),
    "stopped when all was done": (
        a_look(a_report(daemon=STOPPED, runs=ended("done")), lines=LOG_OF_A_STOP),
        "done",
        "Done: 1 of 1 runs; the supervisor was stopped 4 min ago",
    ),
    "killed": (
        a_look(a_report(daemon=STOPPED), lines=LOG_OF_A_STOP[:1]),
        "bad",
        "The supervisor is gone without a word; nobody looks after training",
    ),
    "it hangs": (
        a_look(looked_at=AT - 660, sample=None, lines=(a_line(1, "run.started", 900.0),)),
        "bad",
        "No news for 11 min",
    ),
    "it has only just gone quiet": (
        a_look(looked_at=AT - 9000, sample=a_sample(590.0), lines=()),
        "well",
        f"{WELL}; {NO_CRASH}",
    ),
    "it hangs in a pause": (
        a_look(
            a_report(goal=paused("person")),
            looked_at=AT - 9000,
            sample=a_sample(660.0),
            lines=(),
        ),
        "bad",
        "No news for 11 min",
    ),
    "a damaged state": (
        a_look(a_report(trouble=("state.json is not what was written",), daemon=STOPPED)),
        "bad",
        "The state is damaged: state.json is not what was written",
    ),
}


@pytest.mark.parametrize("situation", SITUATIONS)
def test_one_sentence_says_whether_somebody_must_get_up(situation):
    """Each situation has its sentence, and the tone that goes with it."""
    look, tone, said = SITUATIONS[situation]
    verdict = view.verdict(look)
    assert (verdict.tone, verdict.said) == (tone, said)


def test_the_gravest_trouble_is_told_below():
    """The run, and the reason that the log has."""
    ill = (
        a_run("P", status="quarantined", reason="died"),
        a_run("Q", status="blocked", reason="stay"),
    )
    assert view.verdict(a_look(a_report(runs=ill))).more == "Q: stay"
    assert view.verdict(a_look(a_report(runs=ill[:1]))).more == "P: died"


def test_each_tone_has_a_shape_of_its_own():
    """Whoever sees no colours sees the same."""
    assert len(set(view.SIGNS.values())) == len(view.SIGNS)


def test_a_pause_tells_who_lifts_it_and_why_it_is():
    """The words of whoever has paused stand below the sentence."""
    guard = GuardReport(answer="hold", since=None, words="others use 80 %", pressure=Pressure())
    verdict = view.verdict(a_look(a_report(goal=paused("guard"), guard=guard)))
    assert verdict.more == "the guard ends its pause by itself; others use 80 %"


def test_a_card_has_the_numbers_of_show_state():
    """The page never says otherwise than the command."""
    run = a_run()
    card = view.card(run)
    _, _, reached, of, *rest = screen.run_row(run)
    assert (card.reached, card.of) == (reached, of)
    assert [fact.text for fact in card.facts] == [*rest, screen.count(run.loss)]
    assert card.facts[1].label == "return_mean"


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({}, ""),
        ({"reason": "it is told of the attempt before"}, ""),
        ({"status": "quarantined", "reason": "died three times", "waits": "w"}, "died three times"),
        ({"status": "queued", "waits": "all slots are taken"}, "all slots are taken"),
    ],
)
def test_a_card_says_why_a_run_does_not_train(fields, why):
    """A run that trains owes no reason."""
    assert view.card(a_run(**fields)).why == why


def test_runs_that_wait_or_have_ended_stand_apart():
    """The cards are those that train, or should."""
    statuses = {"A": "running", "B": "done", "C": "down", "D": "queued"}
    look = a_look(a_report(runs=tuple(a_run(name, status=is_) for name, is_ in statuses.items())))
    assert [one.run.called for one in view.cards(look)] == ["A", "C"]
    assert [one.run.called for one in view.waiting(look)] == ["D"]
    assert [one.run.called for one in view.ended(look)] == ["B"]


def test_crashes_of_a_day_have_a_price():
    """Two crashes at 20 minutes each, where an hour costs 1.2."""
    boots = (a_boot(7200.0), a_boot(9000.0), a_boot(90_000.0))
    rows = dict(view.costs(a_look(a_report(boots=boots))))
    assert rows["today"] == "2 crashes in 24 h: about 40 min of work, 0.80 in money"


def test_what_cannot_be_measured_is_no_gauge():
    """A machine without sensors and GPUs has processors, memory and a disk."""
    look = a_look(sample=a_sample(cpu_temperature_c=None, gpus=()))
    assert [gauge.name for gauge in view.gauges(look)] == ["processors", "memory", "disk"]
    assert view.gauges(a_look(sample=None)) == []


def test_gauges_say_what_was_measured_last():
    """The units stand behind the numbers."""
    now = {gauge.name: gauge.now for gauge in view.gauges(a_look())}
    assert now["processors"] == "58 %, 41 % of it ours"
    assert now["memory"] == "8.0 of 16.0 GiB"
    assert now["GPU"] == "78 %, 71 °C, 250 W, 11.2 of 80.0 GiB"


def test_lines_stand_day_by_day_the_newest_first():
    """A boot after a crash stands out, and a planned one does not."""
    lines = (
        a_line(1, "boot.recorded", 90_000.0, evidence={"crash": False}),
        a_line(2, "boot.recorded", 60.0, evidence={"crash": True}),
        a_line(3, "future.happened", 30.0),
    )
    days = view.by_day(lines)
    assert [[one.seq for one in day] for day in days.values()] == [["3", "2"], ["1"]]
    assert [one.tone for day in days.values() for one in day] == ["rest", "warn", "rest"]


def test_what_comes_next_names_what_bounds_it():
    """A pin, quiet hours and the rest of what show-state says."""
    quiet = QuietReport(
        open=False,
        why="outside",
        words="outside of the quiet hours until 22:00",
        opens=None,
        closes=None,
        lifted_until=None,
        analysed=None,
        age_days=None,
        late=True,
        next_analysis=None,
        sources=(),
        timers=(),
        last_refusal=None,
    )
    rows = view.coming(a_look(a_report(bounds=("pin medium",), quiet=quiet)))
    told = [f"{row.label} {row.text}" for row in rows]
    assert "bounds pin medium" in told
    assert "quiet outside of the quiet hours until 22:00" in told


@pytest.mark.parametrize("status", sorted({*screen.STATUS_COLOURS, "queued", "cancelled"}))
def test_every_status_has_a_tone(status):
    """None is shown as if it were at rest by mistake."""
    assert status in view.TONES


def test_what_a_job_has_measured_is_told_in_words():
    """Tables as trainers write them, too; what lies too deep is cut, and None is not told."""
    deep = {"a": {"b": {"c": {"d": {}}}}}
    job = JobReport(
        id="J", run="forecast-J", here=True, tenant="acme", name="load", trainer="tabular",
        priority="high", status="COMPLETED", ended=True, progress=1.0, submitted_at=AT,
        started_at=AT, finished_at=AT, waits=(), error=None, attempts=(),
        metrics={
            "mase": 0.364, "warning": None, "exact": True, "lags": [1, 24],
            "baselines": {"naive": {"mae": 15.5, "rmse": 17.7}, "drift": {"mae": 15.6}},
            "deep": deep,
        },
    )  # fmt: skip
    told = {row.label: row.text for row in view.job_rows(job)}
    assert told["mase"] == "0.364"
    assert told["exact"] == "yes"
    assert told["lags"] == "1, 24"
    assert told["baselines naive"] == "mae 15.5, rmse 17.7"
    assert told["baselines drift"] == "mae 15.6"
    assert told["deep a"] == "b c ..."
    assert "warning" not in told
