"""What a probe of the machine found, from the trainer's answer to the next trainer's spec."""

import sys
from pathlib import Path

import msgspec
import pytest

from modes import load_ladder
from supervisor.core import queue
from supervisor.host import tuning
from supervisor.host.home import Home
from supervisor.runners.local import LocalRunner
from trainers.contract import Share, Spec, Tuning

LIGHT = Share(threads=1, load={"n_envs": 32, "batch_size": 512})
FOUND = Tuning(
    load={"threads": 1, "batch_size": 512},
    machine={"processor": "fast"},
    choice={"way": "b"},
    took_s={"a": 0.2, "b": 0.1},
)
SPEC = Spec(
    run="run",
    trainer="drill",
    name="drill",
    mode="light",
    threads=1,
)


@pytest.fixture
def home(tmp_path):
    home = Home(tmp_path / "home")
    home.make()
    return home


def test_a_trainer_is_told_what_was_found_for_it(home):
    """Another trainer is told nothing of that."""
    tuning.keep(home.tuning, {"drill": (FOUND,)})
    kept = tuning.read(home.tuning)
    assert tuning.tuned(SPEC, kept).tunings == (FOUND,)
    assert tuning.tuned(msgspec.structs.replace(SPEC, trainer="other"), kept).tunings == ()


NESTED = b'{"drill": [{"choice": ' + 100_000 * b"[" + b"]]}"


@pytest.mark.parametrize(
    "content", [None, b"", b"[1]", b'{"drill": [{"load": {}}]}', b"\xff", NESTED]
)
def test_what_cannot_be_read_costs_speed_and_no_more(home, content):
    """A missing or damaged file is no choice at all."""
    if content is not None:
        home.tuning.write_bytes(content)
    assert tuning.read(home.tuning) == {}


def test_a_runner_writes_the_choice_into_the_spec(home):
    """The trainer finds in its spec what was found on this machine."""
    tuning.keep(home.tuning, {"drill": (FOUND,)})
    runner = LocalRunner(home.runs, "boot", tuning=home.tuning)
    runner.start(SPEC, nice=0)
    runner.kill(SPEC.run)
    written = msgspec.json.decode(home.run(SPEC.run).spec.read_bytes(), type=Spec)
    assert written == msgspec.structs.replace(SPEC, tunings=(FOUND,))


@pytest.mark.parametrize(
    ("script", "why"),
    [
        ("exec sleep 1000", "took longer than"),
        ("echo no torch >&2; exit 3", "ended with code 3: no torch"),
        ("kill -KILL $$", "ended with code -9"),
        ("echo '[{}]'", "cannot be understood"),
        ("echo '['", "cannot be understood"),
    ],
)
def test_a_probe_that_hangs_or_dies_says_so(script, why, tmp_path, monkeypatch):
    """Its end is waited for in bounded time, and told in one line."""
    python = tmp_path / "python"
    python.write_text(f"#!/bin/sh\n{script}\n")
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    if "sleep" in script:
        monkeypatch.setattr(tuning, "PROBE_TIMEOUT_S", 0.2)
    with pytest.raises(tuning.ProbeFailed, match=why):
        tuning.probe("drill", [LIGHT])


def test_a_trainer_with_one_way_has_nothing_to_choose():
    """The real command line of a trainer without a probe answers that nothing was found."""
    assert tuning.probe("drill", [LIGHT]) == ()


def test_each_load_of_the_ladder_is_tried_once():
    """Modes that lay the same load upon a trainer share what is found."""
    ladder = load_ladder(Path("modes"))
    heavier = Share(threads=1, load={"n_envs": 64, "batch_size": 1024})
    assert queue.shares(ladder, "atari", 2) == (LIGHT, heavier)
    assert queue.shares(ladder, "drill", 8) == (Share(threads=4), Share(threads=2))
    only = [ladder.safest, ladder.safest]
    assert queue.shares(only, "atari", 2) == (LIGHT,)
