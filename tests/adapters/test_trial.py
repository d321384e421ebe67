"""Changed settings are in force once their trial is over, and nobody waits for that."""

from __future__ import annotations

import select
import sys
from pathlib import Path

import pytest

from supervisor.config import Config
from supervisor.trial import RUN_MAX_S, TRIAL_MAX_S, Trial
from testkit.patience import PATIENCE_S, until

WELL = 'print(\'{"problems": [], "notes": ["a note"]}\')'
WRONG = 'print(\'{"problems": ["run A: no such option"]}\'); raise SystemExit(78)'
HANGS = "import time; time.sleep(1000)"


def trial(code: str, now_s: float = 0.0) -> Trial:
    return Trial([sys.executable, "-c", code], monotonic_s=lambda: now_s)


@pytest.fixture
def settings(tmp_path: Path) -> Path:
    path = tmp_path / "supervisor.toml"
    path.write_text('campaign.runs = ["A"]\n')
    return path


def tried(settings: Path, code: str) -> Config:
    """The settings of a daemon, once they were kept."""
    kept = settings.with_name("kept.json")
    Config(settings, last_good=kept).refresh()
    return Config(settings, last_good=kept, trial=trial(code))


def labels(config: Config) -> tuple[str, ...] | None:
    return config.settings.campaign.runs


def ended(config: Config) -> None:
    assert select.select(config.handles, [], [], PATIENCE_S)[0]


def test_nobody_waits_and_the_old_ones_hold_meanwhile(settings: Path) -> None:
    config = tried(settings, WELL)
    settings.write_text('campaign.runs = ["A", "B"]\n')
    assert config.refresh() == (False, ())
    assert labels(config) == ("A",)
    ended(config)
    assert config.refresh() == (True, ())
    assert labels(config) == ("A", "B")
    assert config.handles == ()
    assert config.refresh() == (False, ())


def test_what_asks_no_trainer_for_anything_else_is_in_force_at_once(settings: Path) -> None:
    config = tried(settings, HANGS)
    settings.write_text('campaign.runs = ["A"]\npolicy.stable_min = 5\n')
    assert config.refresh() == (True, ())


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (WRONG, "run A: no such option"),
        ("raise SystemExit(3)", "`check-config` ended with 3"),
        ("print('[]')", "`check-config` ended with 0"),
        ("import os; os.kill(os.getpid(), 9)", "`check-config` ended with -9"),
        ("print('x' * 3_000_000)", "`check-config` ended with 0"),
    ],
)
def test_whatever_is_not_well_is_told_once_and_the_old_ones_stay(
    settings: Path, code: str, said: str
) -> None:
    """Also over a start anew; what was there before is news again once it is back."""
    config = tried(settings, code)
    settings.write_text('campaign.runs = ["B"]\n')
    config.refresh()
    ended(config)
    changed, problems = config.refresh()
    assert not changed
    assert said in problems[0]
    assert config.refresh() == (False, ())
    again = Config(settings, last_good=settings.with_name("kept.json"), trial=trial(code))
    assert labels(config) == labels(again) == ("A",)
    again.refresh()
    ended(again)
    assert said in again.refresh()[1][0]
    settings.write_text('campaign.runs = ["A"]\n')
    assert config.refresh() == (True, ())


def test_what_nobody_could_judge_is_tried_again_and_told_once(settings: Path) -> None:
    """A full disk, or no memory for a process, is over some day, and nobody edits the file then."""
    mark = settings.with_name("mended")
    fails = f"import pathlib; assert pathlib.Path({str(mark)!r}).exists(); {WELL}"
    config = tried(settings, fails)
    settings.write_text('campaign.runs = ["B"]\n')
    told = []
    for _ in range(3):
        assert config.refresh() == (False, ())
        ended(config)
        changed, problems = config.refresh()
        assert not changed
        told += problems
    assert len(told) == 1
    mark.touch()
    config.refresh()
    ended(config)
    assert config.refresh() == (True, ())
    assert labels(config) == ("B",)


def test_what_was_changed_before_a_start_is_tried_by_it(settings: Path) -> None:
    kept = settings.with_name("kept.json")
    Config(settings, last_good=kept).refresh()
    settings.write_text('campaign.runs = ["B"]\n')
    assert labels(Config(settings, last_good=kept, trial=trial(WELL))) == ("B",)


def test_a_change_during_a_trial_begins_another_one(settings: Path) -> None:
    """The verdict on what is no longer there is nobody's."""
    config = tried(settings, "import sys; sys.stdin.read(); " + WELL)
    settings.write_text('campaign.runs = ["B"]\n')
    config.refresh()
    ended(config)
    settings.write_text('campaign.runs = ["B", "C"]\n')
    assert config.refresh() == (False, ())
    assert labels(config) == ("A",)
    ended(config)
    assert config.refresh() == (True, ())
    assert labels(config) == ("B", "C")


def test_trainers_that_hang_are_waited_for_only_so_long() -> None:
    now_s = 0.0
    hanging = Trial([sys.executable, "-c", HANGS], monotonic_s=lambda: now_s)
    hanging.begin(1)
    assert hanging.verdict() is None
    now_s = TRIAL_MAX_S
    assert hanging.verdict() is None  # each run takes its time, and there may be hundreds
    now_s += RUN_MAX_S
    verdict = hanging.verdict()
    assert verdict is not None
    assert "within 305 s" in verdict.problems[0]
    assert hanging.handles == ()


def test_one_that_is_given_up_is_ended(tmp_path: Path) -> None:
    mark = tmp_path / "pid"
    code = f"import os, pathlib; pathlib.Path({str(mark)!r}).write_text(str(os.getpid())); {HANGS}"
    given_up = trial(code)
    given_up.begin(1)
    until(lambda: mark.exists() and mark.read_text(), "it lives", str)
    given_up.end()
    assert not Path(f"/proc/{mark.read_text()}").exists()


def test_without_a_process_the_old_ones_stay() -> None:
    nothing = Trial(["/nowhere/at/all"])
    nothing.begin(1)
    verdict = nothing.verdict()
    assert verdict is not None
    assert "no process can be started" in verdict.problems[0]


@pytest.mark.parametrize("then", ['campaign.runs = ["A"]\n', "campaign.runs = ["])
def test_a_trial_of_what_nobody_wants_any_more_wakes_nobody(settings: Path, then: str) -> None:
    """It was put back, or is no settings at all; an ended trial would wake the daemon for ever."""
    config = tried(settings, WELL)
    settings.write_text('campaign.runs = ["B"]\n')
    config.refresh()
    assert config.handles
    settings.write_text(then)
    config.refresh()
    assert config.handles == ()
    assert labels(config) == ("A",)


def test_a_start_waits_for_a_long_trial_only_so_long(
    settings: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was good is in force then, and the very trial goes on."""
    kept = settings.with_name("kept.json")
    Config(settings, last_good=kept).refresh()
    settings.write_text('campaign.runs = ["B"]\n')
    monkeypatch.setattr("supervisor.config.START_MAX_S", 0.0)
    go = settings.with_name("go")
    waits = f"import pathlib, time\nwhile not pathlib.Path({str(go)!r}).exists(): time.sleep(.01)\n"
    config = Config(settings, last_good=kept, trial=trial(waits + WELL))
    (handle,) = config.handles
    assert labels(config) == ("A",)
    assert config.refresh() == (False, ())
    assert config.handles == (handle,)
    go.touch()
    ended(config)
    assert config.refresh() == (True, ())
    assert labels(config) == ("B",)
