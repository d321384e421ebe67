"""What a newer version has written is neither read, replaced nor removed, and told by name."""

import json
import os
import signal
import time

import msgspec
import pytest

from modes.toml_file import InvalidFile
from state.records import LOG_VERSION
from supervisor import decision_log, journal
from supervisor.config import Config
from supervisor.core.recovery import RecoveryLimits, judge
from supervisor.host import tuning
from supervisor.host.clock import boot_id
from supervisor.runners import StartFailed
from supervisor.runners.local import LocalRunner, read_heartbeat
from testkit.builders import a_run, a_spec, a_time, an_observation
from trainers.contract import Heartbeat, NewerFile, RunFolder, Spec, Tuning, decode

SPEC = a_spec()
PATIENCE_S = 60.0
NEWER = "was written by a newer version"


@pytest.fixture
def runner(tmp_path):
    """A runner whose trainers do not outlive the test."""
    runner = LocalRunner(tmp_path / "runs", boot_id())
    yield runner
    runner.kill(SPEC.run)


def said(folder, **fields):
    """A heartbeat, as a trainer of some version may have written it."""
    beat = {
        "run": SPEC.run,
        "pid": os.getpid(),
        "mode": "light",
        "status": "running",
        "step": 10,
        "episodes": 1,
        "written_at": 0.0,
        "progress_at_s": 0.0,
        "longest_gap_s": 0.0,
    }
    folder.path.mkdir(parents=True, exist_ok=True)
    folder.heartbeat.write_text(json.dumps({**beat, **fields}))


@pytest.mark.parametrize("kind", [Spec, Heartbeat])
@pytest.mark.parametrize(
    "content", [b"", b"[]", b'{"version": "2"}', b'{"version": null}', b"\xff"]
)
def test_damage_is_not_taken_for_a_newer_version(tmp_path, kind, content):
    """It may be replaced, and is."""
    with pytest.raises((msgspec.MsgspecError, UnicodeDecodeError)):
        decode(tmp_path, content, kind)


@pytest.mark.parametrize(
    "fields", [{"version": 3}, {"colour": "red"}, {"tunings": [{"colour": 1}]}]
)
def test_no_trainer_is_started_on_a_spec_of_a_newer_version(runner, tmp_path, fields):
    """The spec stays as it is, with what the trainer last said; the log has the reason."""
    folder = RunFolder(tmp_path / "runs" / SPEC.run)
    said(folder)
    folder.spec.write_text(json.dumps({**msgspec.to_builtins(SPEC), **fields}))
    before = folder.spec.read_bytes(), folder.heartbeat.read_bytes()
    with pytest.raises(StartFailed, match=f"{folder.spec} {NEWER}"):
        runner.start(SPEC, nice=0)
    assert NEWER in runner.look((a_run(SPEC.run),))[SPEC.run].exit.start_error
    assert (folder.spec.read_bytes(), folder.heartbeat.read_bytes()) == before


def test_a_spec_of_the_version_before_is_read(tmp_path):
    """Whoever evaluates a run of it needs nothing else; the next start writes the new form."""
    old = {"run": "r", "trainer": "atari", "name": "Pong", "mode": "light", "threads": 1}
    old |= {"n_envs": 4, "batch_size": 64, "target_steps": 7, "target_episodes": None}
    old |= {"tuning": {"load": {"threads": 1, "batch_size": 64}}, "version": 1}
    spec = decode(tmp_path, json.dumps(old).encode(), Spec)
    assert (spec.version, spec.load) == (2, {"n_envs": 4, "batch_size": 64})
    assert spec.up_to("steps") == 7
    old |= {"target_steps": None, "target_episodes": 3}
    assert decode(tmp_path, json.dumps(old).encode(), Spec).up_to("episodes") == 3


def test_the_last_words_of_a_newer_version_are_not_removed(runner, tmp_path):
    """They tell where its run stands."""
    folder = RunFolder(tmp_path / "runs" / SPEC.run)
    said(folder, version=2)
    assert read_heartbeat(folder) is None
    with pytest.raises(StartFailed, match=f"{folder.heartbeat} {NEWER}"):
        runner.start(SPEC, nice=0)
    assert json.loads(folder.heartbeat.read_bytes())["version"] == 2


@pytest.mark.parametrize(
    "more",
    [
        {"colour": "red"},
        {"score": {"name": "rmse", "value": 0.5, "better": "lower", "colour": "red"}},
        {"saved": {"step": 10, "trained_s": 1.0, "colour": "red"}},
    ],
)
def test_a_field_more_is_no_newer_heartbeat(tmp_path, more):
    """Trainers of a newer version live on under an older supervisor, and are heard."""
    folder = RunFolder(tmp_path / SPEC.run)
    said(folder, **more)
    assert read_heartbeat(folder).step == 10


def test_a_living_trainer_of_a_newer_version_is_asked_to_leave(runner, tmp_path):
    """It is not taken for hung: the reason is its version, and it saves."""
    folder = RunFolder(tmp_path / "runs" / SPEC.run)
    process = runner.start(SPEC, nice=0)
    run = a_run(SPEC.run, status="running", process=process, mode="light", started_s=0.0)
    deadline_s = time.monotonic() + PATIENCE_S
    while not (life := runner.look((run,))[SPEC.run]).newer:
        os.kill(process.pid, signal.SIGSTOP)  # or it writes its own words again
        said(folder, version=2, pid=process.pid)
        assert time.monotonic() < deadline_s
    run, notes = judge(run, life, a_time(1e6), RecoveryLimits())
    assert (run.status, run.attempt.hung) == ("stopping", False)
    assert [note.event for note in notes] == ["run.noticed"]
    assert f"{folder.heartbeat} {NEWER}" in notes[0].reason
    assert judge(run, an_observation(), a_time(1e6), RecoveryLimits())[0].status == "stopping"


@pytest.mark.parametrize("newer", [{"version": 3}, {"colour": "red"}, {"settings": {"colour": 1}}])
def test_last_good_settings_of_a_newer_version_stay(tmp_path, newer):
    """Those in force are not kept then; where they are needed, the message names the file."""
    settings, kept = tmp_path / "supervisor.toml", tmp_path / "settings.last.json"
    settings.write_text("[campaign]\nruns = ['Pong']\n")
    config = Config(settings, last_good=kept)
    config.refresh()
    assert config.newer is None
    content = json.dumps({**json.loads(kept.read_bytes()), **newer})
    kept.write_text(content)
    config = Config(settings, last_good=kept)
    settings.write_text("[campaign]\nruns = ['Breakout']\n")
    config.refresh()
    assert f"{kept} {NEWER}" in config.newer
    settings.write_text("nonsense")
    with pytest.raises(InvalidFile, match=f"{kept} {NEWER}"):
        Config(settings, last_good=kept)
    assert kept.read_text() == content


def test_settings_that_were_kept_before_they_had_a_version_are_read(tmp_path):
    """A home may hold them."""
    settings, kept = tmp_path / "supervisor.toml", tmp_path / "settings.last.json"
    settings.write_text("[campaign]\nruns = ['Pong']\n")
    Config(settings, last_good=kept).refresh()
    content = json.loads(kept.read_bytes())
    del content["version"]
    kept.write_text(json.dumps(content))
    settings.write_text("nonsense")
    assert Config(settings, last_good=kept).settings.campaign.runs == ("Pong",)


def test_settings_that_were_kept_before_targets_had_a_unit_are_read(tmp_path):
    """With every key that such a version wrote, set or not; nothing is told of their form."""
    settings, kept = tmp_path / "supervisor.toml", tmp_path / "settings.last.json"
    settings.write_text("[campaign]\nruns = ['Pong']\n")
    Config(settings, last_good=kept).refresh()
    content = json.loads(kept.read_bytes())
    old = {"target_steps": 50, "target_episodes": None, "seed": 3, "options": {}, "rank": "low"}
    own = {"target_steps": None, "target_episodes": 7, "seed": None, "options": {}, "rank": None}
    runs = ["Pong", "Enduro"]
    content["settings"]["campaign"] = {"runs": runs, "trainer": "atari", **old}
    content["settings"]["run"] = {"Enduro": {"trainer": None, "silent_max_s": None, **own}}
    kept.write_text(json.dumps(content))
    settings.write_text("nonsense")
    config = Config(settings, last_good=kept)
    found = [(run.id, run.asked.target.unit, run.asked.target.count) for run in config.campaign]
    assert found == [("atari-Pong", "steps", 50), ("atari-Enduro", "episodes", 7)]
    assert config.dated == ()
    settings.write_text("[campaign]\ntarget_steps = 5\n")
    assert config.refresh() == (True, ())
    assert len(config.dated) == 1


FOUND = {
    "drill": (
        Tuning(load={"threads": 1, "batch_size": 2}, machine={}, choice={"way": "b"}, took_s={}),
    )
}


def test_tuning_from_before_it_had_a_version_is_read(tmp_path):
    """What was found on this machine is true still."""
    path = tmp_path / "tuning.json"
    path.write_bytes(msgspec.json.encode(FOUND))
    assert tuning.read(path) == FOUND
    tuning.keep(path, {})
    assert tuning.read(path) == {}
    tuning.keep(path, FOUND)
    assert tuning.read(path) == FOUND


@pytest.mark.parametrize(
    "content",
    ['{"version": 2, "ways": []}', '{"version": 1, "found": {}, "colour": 1}', '{"a": [{"b": 1}]}'],
)
def test_tuning_of_a_newer_version_stays(tmp_path, content):
    """Trainers start in their default way."""
    path = tmp_path / "tuning.json"
    path.write_text(content)
    assert tuning.read(path) == {}
    with pytest.raises(NewerFile, match=f"{path} {NEWER}"):
        tuning.keep(path, FOUND)
    assert path.read_text() == content


def test_a_line_of_a_newer_version_is_not_judged(tmp_path):
    """It may mean something else by the same words; who only shows the log says what it is."""
    path = tmp_path / "decisions.jsonl"
    line = {
        "version": LOG_VERSION + 1,
        "seq": 7,
        "event": "mode.changed",
        "reason": "colours",
        "facts": {},
    }
    path.write_bytes(msgspec.json.encode({"seq": 6}) + b"\n" + msgspec.json.encode(line) + b"\n")
    for judge_it in (lambda: list(journal.read(path)), lambda: decision_log.newest(path)):
        with pytest.raises(
            NewerFile, match=f"{path} {NEWER} .line 7 has version {LOG_VERSION + 1}"
        ):
            judge_it()
    (shown,) = journal.tail(path, 1)
    assert journal.NEWER_LINE in journal.plain(shown)
    assert "colours" not in journal.plain(shown)
    # The number is known all the same, so that none is used twice.
    assert shown["seq"] == 7
