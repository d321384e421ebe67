"""A run begins with what another one has learnt, once, and says so; or it says why not."""

import msgspec
import pytest
from trainer_lives import names_in, write_spec

from trainers import anew, drill
from trainers.attempt import read_spec
from trainers.checkpoint import Checkpoints, Manifest
from trainers.contract import BadSpec, RunFolder


@pytest.fixture
def pair(tmp_path):
    """A run that has learnt, and one that is to begin."""
    for name in ("old", "new"):
        (tmp_path / name).mkdir()
    write_spec(tmp_path / "new", target_steps=50, begin_from="old", options={"steps_per_s": 1000})
    return RunFolder(tmp_path / "old"), RunFolder(tmp_path / "new")


def learnt(folder, *steps):
    for step in steps:
        manifest = Manifest(
            run="old", trainer="drill", mode="light", step=step, episodes=0, saved_at=1.0
        )
        Checkpoints(folder.checkpoints).save(manifest, drill._files(step, 0.0))


def begun(folder):
    return anew.begin(folder, read_spec(folder))


def test_a_run_begins_at_step_0_and_comes_to_its_whole_target(pair, start):
    """The other one was further than that, and is left as it is."""
    old, new = pair
    learnt(old, 800)
    assert start(new.path).end()[0] == 0
    assert names_in(old.checkpoints) == ["800"]
    newest = Checkpoints(new.checkpoints).newest().checkpoint
    assert newest.manifest.step == 50
    said = msgspec.json.decode(new.heartbeat.read_bytes())
    assert said["notices"] == ["it begins with what checkpoint 800 of old has learnt"]


def test_what_has_a_checkpoint_goes_on_from_that(pair):
    """It is done once, however often the spec is read."""
    old, new = pair
    learnt(old, 800)
    assert begun(new) is not None
    assert begun(new) is None
    assert names_in(new.checkpoints) == ["0"]


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda old: None, "it begins from scratch: old has no checkpoint"),
        (lambda old: old.path.rmdir(), "it begins from scratch: old is not there"),
    ],
)
def test_without_a_checkpoint_to_begin_with_it_begins_from_scratch(pair, make, why):
    """And says why; the other run was never trained, or made room."""
    old, new = pair
    make(old)
    assert begun(new) == why
    assert not new.checkpoints.exists()


def test_a_trainer_that_cannot_says_so(pair, monkeypatch):
    """Never silently: who has asked for the best must not take scratch for it."""
    old, new = pair
    learnt(old, 800)
    monkeypatch.delattr(drill, "begin_from")
    assert begun(new).startswith("it begins from scratch: the trainer 'drill' cannot begin with")


def test_a_checkpoint_that_does_not_fit_is_no_reason_to_fail(pair, monkeypatch):
    """Of another game, for instance, since the settings have changed meanwhile."""
    old, new = pair
    learnt(old, 800)

    def refuse(_spec, _checkpoint):
        raise BadSpec("it is of another game")

    monkeypatch.setattr(drill, "begin_from", refuse)
    assert begun(new) == "it begins from scratch: it is of another game"


def test_a_check_tells_that_a_trainer_cannot(tmp_path, start):
    """Before it is in force."""
    run = tmp_path / "run"
    run.mkdir()
    write_spec(run, begin_from="run", options={})
    assert start(run, "drill", "--check").end() == (0, "", "")
    options = {"command": ["true"]}
    write_spec(
        run,
        trainer="command",
        target={"unit": "steps", "count": 5},
        begin_from="run",
        options=options,
    )
    code, _, errors = start(run, "command", "--check").end()
    assert code == 0
    assert "cannot begin with what another run has learnt: each generation begins" in errors
