"""What a trainer gets free, seen through a session with its own clock."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from trainer_lives import names_in, strict_json, write_spec

from testkit.builders import TRAINERS
from testkit.fakes import FakeTime
from trainers import durable
from trainers.attempt import _is_out_of_memory, open_folder
from trainers.contract import (
    EXIT_AGAIN,
    EXIT_BAD_SPEC,
    EXIT_DONE,
    BadSpec,
    Heartbeat,
    Mark,
    RunFolder,
    Score,
    Spec,
    Stood,
    Target,
)
from trainers.session import Session

NO_SPACE = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def beat_of(session):
    strict_json(session.folder.heartbeat.read_bytes())
    return msgspec.json.decode(session.folder.heartbeat.read_bytes(), type=Heartbeat)


def files(content=b"weights"):
    return [("weights.bin", content)]


def test_a_heartbeat_tells_of_progress_at_most_once_a_second(open_session, clock):
    """Progress is told once a second, however often the step moves; a change of status at once."""
    session = open_session()
    assert beat_of(session).status == "starting"
    session.progress(1)
    assert (beat_of(session).status, beat_of(session).step) == ("running", 1)
    clock.advance(0.5)
    session.progress(2)
    assert beat_of(session).step == 1
    clock.advance(0.5)
    session.progress(3, episodes=2, score=Score(name="rmse", value=1.5), loss=0.25)
    beat = beat_of(session)
    assert (beat.step, beat.episodes, beat.score.value, beat.loss) == (3, 2, 1.5, 0.25)
    assert beat.progress_at_s == clock.now_s
    session._stop.requested = True
    session.progress(4)
    assert beat_of(session).status == "stopping"


def test_the_longest_gap_excludes_the_start(open_session, clock):
    """Loading may take minutes; only the gaps between two moves of the step are remembered."""
    session = open_session()
    clock.advance(300.0)
    session.progress(1)
    assert beat_of(session).longest_gap_s == 0.0
    clock.advance(2.0)
    session.progress(2)
    clock.advance(7.0)
    session.progress(2)
    clock.advance(1.0)
    session.progress(3)
    clock.advance(3.0)
    session.progress(4)
    assert beat_of(session).longest_gap_s == 8.0


def test_time_in_which_it_stood_still_is_no_time(open_session, clock):
    """No gap, no training, no interval and no slower rate, also while nobody has written it yet."""
    session = open_session(checkpoint_interval_s=90.0)
    session.progress(1)
    assert session.save(files())
    for step in range(2, 12):
        clock.advance(1.0)
        session.progress(step)
    stood = Stood().begun(clock.now_s)
    durable.write(session.folder.stood, msgspec.json.encode(stood))
    clock.advance(3600.0)
    session.alive()
    stood = stood.ended(clock.now_s)
    durable.write(session.folder.stood, msgspec.json.encode(stood))
    for step in range(12, 22):
        clock.advance(1.0)
        session.progress(step)
    assert beat_of(session).steps_per_s == pytest.approx(1.0, rel=0.1)
    assert not session.checkpoint_due()
    clock.advance(70.0)
    assert session.checkpoint_due()
    session.progress(22)
    beat = beat_of(session)
    assert beat.longest_gap_s == 70.0
    assert beat.reached.trained_s == 90.0


@given(
    st.lists(st.tuples(st.floats(0, 100), st.floats(0, 100)), max_size=8),
    st.floats(0, 500),
    st.floats(0, 500),
)
def test_what_lasted_is_what_is_left_of_it_without_the_spans(pauses, since_s, lasts_s):
    """Never negative, never longer than the time, and additive over any cut."""
    now_s, stood = 0.0, Stood()
    for runs_s, stands_s in pauses:
        stood = stood.begun(now_s + runs_s).begun(now_s + runs_s + stands_s / 2)
        now_s += runs_s + stands_s
        stood = stood.ended(now_s).ended(now_s + 1)
    until_s = since_s + lasts_s
    whole = stood.lasted_s(since_s, until_s)
    assert 0 <= whole <= lasts_s + 1e-9
    cut_s = since_s + lasts_s / 3
    assert stood.lasted_s(since_s, cut_s) + stood.lasted_s(cut_s, until_s) == pytest.approx(whole)


def test_the_rate_is_that_of_the_last_minute(open_session, clock):
    """A run that slows down is seen to be slow within a minute or two."""
    session = open_session()
    step = 0
    for per_second in [100] * 90 + [10] * 90:
        clock.advance(1.0)
        step += per_second
        session.progress(step)
    assert beat_of(session).steps_per_s == pytest.approx(10.0)


def test_a_loss_that_is_no_number_is_null_and_said_once(open_session, clock):
    """NaN and infinity never reach a file; the run says what happened."""
    session = open_session()
    for _ in range(3):
        clock.advance(1.0)
        score = Score(name="return_mean", value=float("-inf"))
        session.progress(session.step + 1, loss=float("nan"), score=score)
        session.log({"loss": float("inf"), "rate": 1.0, "count": 3, "nothing": None})
    beat = beat_of(session)
    assert beat.loss is None
    assert beat.score.value is None
    assert len(beat.notices) == 2
    for line in session.folder.metrics.read_bytes().splitlines():
        assert strict_json(line)["loss"] is None


def test_a_run_resumes_where_its_newest_checkpoint_stands(open_session):
    """Step, episodes and return go on; the first checkpoint is due at the first step."""
    session = open_session()
    assert session.checkpoint is None
    assert not session.checkpoint_due()
    session.progress(10, episodes=3, score=Score(name="rmse", value=2.5, better="lower"))
    assert session.checkpoint_due()
    assert session.save(files())
    assert not session.checkpoint_due()
    next_life = open_session(session.folder.path)
    assert (next_life.step, next_life.episodes) == (10, 3)
    assert beat_of(next_life).score == Score(name="rmse", value=2.5, better="lower")
    assert beat_of(next_life).checkpoint_step == 10
    assert (next_life.checkpoint.path / "weights.bin").read_bytes() == b"weights"


def test_a_checkpoint_is_due_before_the_interval_would_be_missed(open_session, clock):
    """Whoever must wait 20 s for the next occasion saves up to 20 s early."""
    session = open_session(checkpoint_interval_s=90.0)
    session.progress(1)
    session.save(files())
    clock.advance(69.0)
    assert not session.checkpoint_due(within_s=20.0)
    clock.advance(1.0)
    assert session.checkpoint_due(within_s=20.0)
    assert not session.checkpoint_due()


def test_a_damaged_newest_checkpoint_costs_a_notice(open_session):
    """The one before is resumed from, the damaged one is kept aside, and the run says so."""
    session = open_session()
    for step in (5, 6):
        session.progress(step)
        session.save(files())
    (session.folder.checkpoints / "6" / "weights.bin").write_bytes(b"w")
    next_life = open_session(session.folder.path)
    assert next_life.step == 5
    assert "checkpoint 6 is damaged" in beat_of(next_life).notices[0]
    assert (session.folder.checkpoints / "damaged-6").is_dir()
    assert not beat_of(open_session(session.folder.path)).notices


def test_only_damaged_checkpoints_mean_a_loud_new_start(open_session):
    """A run that lost everything starts again, and does not pretend that it is new."""
    session = open_session()
    session.progress(5)
    session.save(files())
    (session.folder.checkpoints / "5" / "manifest.json").unlink()
    next_life = open_session(session.folder.path)
    assert next_life.step == 0
    assert "starts again from step 0" in beat_of(next_life).notices[-1]


def test_a_full_disk_costs_one_notice_and_no_training(open_session, clock, monkeypatch):
    """Saving fails, is said once, and recovers; what was saved before is untouched."""
    session = open_session(checkpoint_interval_s=10.0)
    session.progress(1)
    session.save(files())

    def full():
        yield "half.bin", b"weights"
        raise NO_SPACE

    for step in (2, 3):
        clock.advance(10.0)
        session.progress(step)
        assert session.checkpoint_due()
        assert not session.save(full())
        assert not session.checkpoint_due()
    assert sum("No space left" in notice for notice in beat_of(session).notices) == 1
    assert beat_of(session).checkpoint_step == 1
    assert names_in(session.folder.checkpoints) == ["1"]
    clock.advance(10.0)
    assert session.save(files())
    assert "can be written to again" in beat_of(session).notices[-1]
    assert open_session(session.folder.path).step == 3


def test_a_full_disk_does_not_look_like_a_hang(open_session, clock, monkeypatch):
    """Where no new file fits, the old heartbeat is overwritten in place."""
    session = open_session()

    def full(*_, **__):
        raise NO_SPACE

    monkeypatch.setattr(durable, "write", full)
    for step in (1, 20, 300):
        clock.advance(1.0)
        session.progress(step)
        assert beat_of(session).step == step


@pytest.mark.slow
def test_a_disk_that_is_really_full(tmp_path):
    """On a file system of 256 KB the training counts on, and saves again once there is space."""
    script = f"""
set -e
mount -t tmpfs -o size=256k tmpfs '{tmp_path}'
exec '{sys.executable}' '{__file__}' '{tmp_path}'
"""
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", script],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        check=False,
    )
    if "unshare" in done.stderr or "mount" in done.stderr:
        pytest.skip("this machine does not let us mount a file system")
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("survived\n")


def live_on_a_tiny_disk(disk):
    """The body of the test above, within its own mount."""
    folder = disk / "run"
    folder.mkdir()
    spec = Spec(
        run="run",
        trainer="drill",
        name="x",
        mode="light",
        threads=1,
        target=Target(unit="steps", count=10**9),
        checkpoint_interval_s=0.000001,
    )
    clock = FakeTime()
    session = Session(RunFolder(folder), spec, monotonic_s=clock)
    session.progress(1)
    assert session.save(files(b"x" * 50_000))
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(b"x" * 4096)
        except OSError:
            pass
    for step in range(2, 6):
        clock.advance(1.0)
        session.progress(step)
        session.log({"loss": 1.0})
        assert not session.save(files(b"x" * 50_000))
        assert beat_of(session).step == step
    assert session._checkpoints.newest().checkpoint.manifest.step == 1
    filler.unlink()
    assert session.save(files(b"x" * 50_000))
    assert session._checkpoints.newest().checkpoint.manifest.step == 5
    sys.stdout.write("survived\n")


def test_finishing_needs_a_checkpoint_of_the_target(open_session):
    """Done is what is on the disk: the target without its checkpoint is a failure to try again."""
    session = open_session(target_steps=10)
    session.progress(10)
    assert session.target_reached
    assert session.finish() == EXIT_AGAIN
    assert beat_of(session).status == "failed"
    session.save(files())
    assert session.finish() == EXIT_DONE
    assert beat_of(session).status == "done"


def test_a_stop_falls_back_to_what_was_saved(open_session, clock):
    """The last heartbeat of a stopped run tells the step that the next life begins at."""
    session = open_session()
    for step in (5, 6):
        session.progress(step)
        clock.advance(1.0)
    session.save(files(), step=5, episodes=1)
    assert session.finish() == EXIT_AGAIN
    beat = beat_of(session)
    assert (beat.status, beat.step, beat.episodes, beat.steps_per_s) == ("stopped", 5, 1, 1.0)


def test_training_time_counts_neither_the_start_nor_the_checkpoints(open_session, clock):
    """What the steps took is told with them, and a checkpoint hands it on to the next life."""

    def slowly():
        clock.advance(4.0)
        yield from files()

    session = open_session()
    clock.advance(300.0)
    session.progress(10)
    for _ in range(2):
        clock.advance(5.0)
        session.progress(session.step + 50)
    session.save(slowly())
    clock.advance(5.0)
    session.progress(160)
    beat = beat_of(session)
    assert (beat.began, beat.stepping_at_s) == (Mark(step=0, trained_s=0.0), 1300.0)
    assert (beat.reached, beat.saved) == (
        Mark(step=160, trained_s=15.0),
        Mark(step=110, trained_s=10.0),
    )
    assert (beat.checkpoints, beat.checkpoint_stall_s) == (1, 4.0)
    later = open_session(session.folder.path)
    assert beat_of(later).began == Mark(step=110, trained_s=10.0)
    clock.advance(60.0)
    later.progress(111)
    clock.advance(1.0)
    later.progress(112)
    assert beat_of(later).reached == Mark(step=112, trained_s=11.0)


def test_how_far_a_life_came_is_told_even_if_it_falls_back(open_session, clock):
    """Steps of an unfinished update are thrown away at a stop, and the last words say so."""
    session = open_session()
    for step in (10, 20, 30):
        session.progress(step)
        clock.advance(10.0)
    session.save(files(), step=15)
    session.finish()
    beat = beat_of(session)
    assert (beat.step, beat.reached.step) == (15, 30)
    assert beat.saved == Mark(step=15, trained_s=15.0)
    assert beat.reached.trained_s == 30.0


def test_episodes_can_be_the_target(open_session):
    """A run may be asked for finished episodes instead of steps."""
    session = open_session(target_episodes=3)
    session.progress(1000, episodes=2)
    assert not session.target_reached
    session.progress(1001, episodes=3)
    session.save(files())
    assert session.finish() == EXIT_DONE


def test_metrics_survive_a_torn_line_and_rotate(open_session, monkeypatch):
    """A line after a power cut begins on its own line; the file has a bounded size."""
    monkeypatch.setattr("trainers.sinks.METRICS_MAX_BYTES", 2000)
    session = open_session()
    session.folder.metrics.write_bytes(b'{"step": 1, "los')
    session.log({"loss": 0.5})
    assert strict_json(session.folder.metrics.read_bytes().splitlines()[1])["loss"] == 0.5
    for _ in range(100):
        session.log({"loss": 0.5})
    old = session.folder.path / "metrics.jsonl.1"
    assert old.stat().st_size < 3000
    assert not session.folder.metrics.exists() or session.folder.metrics.stat().st_size < 3000


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "spec.json is missing"),
        (b"", "truncated"),
        (b'{"run": "run"', "truncated"),
        (b"[]", "Expected `object`"),
        (b"\0\0\0", "malformed"),
        (b"[" * 100_000, "spec.json"),
        (b"\xff\xfe{}", "spec.json"),
        (b'{"run": "run", "surprise": 1}', "surprise"),
    ],
)
def test_a_bad_spec_is_refused_in_one_line(make_run, start, content, message):
    """Exit 78, one line on stderr, and a last heartbeat that says the same."""
    run = make_run()
    (run / "spec.json").unlink()
    if content is not None:
        (run / "spec.json").write_bytes(content)
    for arguments in ([], ["--check"], ["--evaluate", "1"]):
        code, output, errors = start(run, "drill", *arguments).end()
        assert (code, output) == (EXIT_BAD_SPEC, "")
        assert message in errors
        assert errors.count("\n") == 1
    beat = msgspec.json.decode((run / "heartbeat.json").read_bytes(), type=Heartbeat)
    assert beat.status == "failed"
    assert message in beat.error


@pytest.mark.parametrize(
    "fields",
    [
        {"run": "other"},
        {"run": "../run"},
        {"target": {"unit": "epochs", "count": 5}},
        {"load": {"n_envs": 1}},
        {"threads": 0},
        {"seed": -1},
        {"trainer": "nothing"},
        {"trainer": "atari"},
        {"options": {"surprise": 1}},
        {"options": {"steps_per_s": "fast"}},
    ],
)
def test_a_spec_that_cannot_work_is_refused(make_run, start, fields):
    """Another run's spec, a path for a name, two targets, foreign options: all are bad specs."""
    run = make_run()
    (run / "spec.json").unlink()
    write_spec(run, **fields)
    code, _, errors = start(run).end()
    assert code == EXIT_BAD_SPEC
    assert errors.count("\n") == 1


def test_last_words_keep_what_was_known(open_session, start):
    """A spec that is damaged later does not make a long run look new."""
    session = open_session()
    session.progress(500)
    session.save(files())
    session.finish()
    session.folder.spec.write_bytes(b"")
    assert start(session.folder.path).end()[0] == EXIT_BAD_SPEC
    assert beat_of(session).step == 500
    assert beat_of(session).checkpoint_step == 500


@pytest.mark.parametrize(
    ("error", "is_memory"),
    [
        (MemoryError(), True),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), True),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), True),
        (RuntimeError("CUDA error: out of memory"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate`"), True),
        (RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"), True),
        (type("OutOfMemoryError", (RuntimeError,), {})("as torch calls it"), True),
        (RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate"), True),
        (RuntimeError("unable to mmap 8 bytes from file <x>: Cannot allocate memory (12)"), True),
        (RuntimeError("CUDA driver error: CUDA_ERROR_OUT_OF_MEMORY"), True),
        (RuntimeError("Last error:\nCuda failure 2 'out of memory'"), True),
        (
            RuntimeError("CUDA error: out of memory\nSearch for `cudaErrorMemoryAllocation' in"),
            True,
        ),
        (
            RuntimeError(
                "CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasCreate(handle)`"
            ),
            True,
        ),
        (
            RuntimeError(
                "CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasLtCreate(handle)`"
            ),
            True,
        ),
        (
            RuntimeError(
                "cusolver error: CUSOLVER_STATUS_INTERNAL_ERROR, when calling "
                "`cusolverDnCreate(handle)`. If you keep seeing this error, you may use"
            ),
            True,
        ),
        (RuntimeError("cuDNN error: CUDNN_STATUS_NOT_INITIALIZED"), True),
        (RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `sgemm(x)`"), False),
        (RuntimeError("CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `sgemm`"), False),
        (RuntimeError("cuDNN error: CUDNN_STATUS_NOT_SUPPORTED. This error may appear"), False),
        (RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"), False),
        (RuntimeError("GET was unable to find an engine to execute this computation"), False),
        (RuntimeError("CUDA error: device-side assert triggered"), False),
        (RuntimeError("CUDA error: unspecified launch failure"), False),
        (ValueError("out of memory"), False),
        (NO_SPACE, False),
    ],
)
def test_want_of_memory_is_known_by_its_many_names(error, is_memory):
    """Torch, its libraries and the system each say it in their own words."""
    assert _is_out_of_memory(error) == is_memory


@pytest.mark.parametrize("name", ["pong", "../drill", "session", "__main__", "atari_env"])
def test_an_unknown_trainer_is_told_those_that_exist(make_run, start, name):
    """The message lists what could have been meant; a path or a part is no trainer."""
    code, _, errors = start(make_run(), name).end()
    assert code == EXIT_BAD_SPEC
    assert f"there are: {', '.join(TRAINERS)}" in errors


@pytest.mark.parametrize("name", ["checkpoints", "metrics.jsonl", "spec.json", "tensorboard"])
def test_a_symlink_in_a_run_folder_is_refused(make_run, tmp_path, start, name):
    """Nothing outside the run folder is read or written through a link; the last words say so."""
    run = make_run()
    outside = tmp_path / "outside"
    outside.mkdir()
    (run / name).unlink(missing_ok=True)
    (run / name).symlink_to(outside)
    code, _, errors = start(run).end()
    assert code == EXIT_BAD_SPEC
    assert "symlink" in errors
    assert not names_in(outside)
    beat = msgspec.json.decode((run / "heartbeat.json").read_bytes(), type=Heartbeat)
    assert (beat.status, f"{name} is a symlink" in beat.error) == ("failed", True)


def test_a_link_that_a_program_keeps_is_its_own_business(make_run, start):
    """Many keep one to their newest file; where it leads is not for us to look."""
    run = make_run(target_steps=1, options={"steps_per_s": 1000})
    (run / "latest").symlink_to("/nowhere")
    assert start(run).end()[0] == EXIT_DONE
    assert (run / "latest").is_symlink()


def test_a_run_folder_is_no_link(make_run, tmp_path):
    """A linked, missing or regular-file run folder is refused."""
    (tmp_path / "link").symlink_to(make_run())
    (tmp_path / "file").touch()
    for name in ("link", "file", "nothing"):
        with pytest.raises(BadSpec):
            open_folder(tmp_path / name)


def test_whoever_says_that_it_works_on_is_heard(open_session, clock):
    """A validation of an hour is no silence, and no gap that would teach patience with a hang."""
    session = open_session()
    for step in (1, 2):
        session.progress(step)
        clock.advance(2.0)
    assert beat_of(session).alive_at_s is None
    for _ in range(3600):
        session.alive()
        clock.advance(1.0)
    beat = beat_of(session)
    assert (beat.status, beat.alive_at_s) == ("running", clock.now_s - 1.0)
    assert beat.progress_at_s == 1002.0
    session.progress(3)
    clock.advance(1.0)
    session.progress(4)
    assert beat_of(session).longest_gap_s == 2.0


def test_a_trainer_that_loads_for_long_can_say_so(open_session, clock):
    """It is starting still, and no step was made."""
    session = open_session()
    clock.advance(60.0)
    session.alive()
    beat = beat_of(session)
    assert (beat.status, beat.alive_at_s, beat.stepping_at_s) == ("starting", clock.now_s, None)


def test_what_is_done_is_what_is_on_the_disk(open_session, monkeypatch):
    """A trainer may say that it is over; with its last checkpoint missing it is started again."""
    session = open_session()
    session.progress(10)
    monkeypatch.setattr(session._checkpoints, "save", _no_space)
    session.save(files())
    session.done()
    assert session.finish() == EXIT_AGAIN
    assert beat_of(session).of_the_machine
    monkeypatch.undo()
    session.save(files())
    assert session.finish() == EXIT_DONE
    assert (beat_of(session).status, beat_of(session).step) == ("done", 10)


def _no_space(*_arguments, replace):
    raise NO_SPACE


def test_a_checkpoint_that_attempts_die_of_is_set_aside(open_session, make_run):
    """The one before is gone on from, with a notice; later starts say nothing more."""
    session = open_session()
    for step in (1, 2, 3):
        session.progress(step)
        session.save(files())
    run = session.folder.path
    write_spec(run, withheld=[3])
    life = open_session(run)
    assert life.step == 2
    assert "checkpoint 3 is set aside" in beat_of(life).notices[0]
    life = open_session(run)
    assert (life.step, beat_of(life).notices) == (2, ())
    write_spec(run)
    assert open_session(run).step == 3


def test_the_only_checkpoint_is_not_set_aside(open_session):
    """To begin from nothing would lose all; with a second one that is damaged, too."""
    session = open_session()
    for step in (1, 2):
        session.progress(step)
        session.save(files())
    run = session.folder.path
    (session.folder.checkpoints / "1/manifest.json").write_bytes(b"")
    write_spec(run, withheld=[2])
    assert open_session(run).step == 2
    assert "2" in names_in(session.folder.checkpoints)


def test_a_run_of_a_newer_version_is_not_begun_anew(make_run, start):
    """The attempt ends with the reason, and everything is as it was."""
    run = make_run(target_steps=20, options={"steps_per_s": 1000})
    assert start(run).end()[0] == EXIT_DONE
    manifest = run / "checkpoints/20/manifest.json"
    manifest.write_bytes(manifest.read_bytes().replace(b'"version":2', b'"version":3'))
    write_spec(run, target_steps=50)
    before = names_in(run / "checkpoints")
    code, _, errors = start(run).end()
    assert code == EXIT_BAD_SPEC
    assert f"{run}/checkpoints/20 was written by a newer version (version 3" in errors
    assert names_in(run / "checkpoints") == before


def test_the_last_words_of_a_newer_version_are_not_replaced(make_run, start):
    """Not by the first of an attempt, and not by those that tell why there is none."""
    run = make_run(target_steps=20, options={"steps_per_s": 1000})
    words = b'{"version": 1000, "step": {"of": 7}}'
    (run / "heartbeat.json").write_bytes(words)
    code, _, errors = start(run).end()
    assert code == EXIT_BAD_SPEC
    assert f"{run}/heartbeat.json was written by a newer version (version 1000" in errors
    assert (run / "heartbeat.json").read_bytes() == words
    assert not (run / "checkpoints").exists()


@pytest.mark.parametrize("fields", [{"version": 3}, {"colour": "red"}])
def test_a_spec_of_a_newer_version_is_told_as_one(make_run, start, fields):
    """It is no mistake that somebody could mend in it."""
    code, _, errors = start(make_run(**fields)).end()
    assert code == EXIT_BAD_SPEC
    assert "spec.json was written by a newer version" in errors


if __name__ == "__main__":
    live_on_a_tiny_disk(Path(sys.argv[1]))
