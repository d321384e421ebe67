"""What a program saves is kept whole, and handed back, whatever has ended it."""

import json
import random
import signal
import threading
import time

import pytest
from programs import PYTHON, learner, write
from trainer_lives import kill_all, names_in, write_spec

from testkit.patience import until
from testkit.series import sample_of_a_series
from trainers import durable
from trainers.attempt import read_spec
from trainers.checkpoint import Checkpoints
from trainers.command import saved
from trainers.command.options import Options
from trainers.command.progress import Teller
from trainers.contract import EXIT_DONE, RunFolder
from trainers.session import Session


def newest(run):
    """The newest good checkpoint, and the content of its files but ours."""
    found = Checkpoints(run / "checkpoints").newest()
    if found.checkpoint is None:
        return None
    path = found.checkpoint.path
    ours = ("command.json", "manifest.json", "manifest.sha256")
    return found.checkpoint, {
        name: (path / name).read_text() for name in names_in(path) if name not in ours
    }


@pytest.fixture
def make_learner(make_run, tmp_path):
    """Makes runs of the learner."""

    def make(count=100_000, **options):
        return make_run(
            trainer="command",
            target={"unit": "epochs", "count": count},
            options=learner(tmp_path, count, **options),
        )

    return make


def told(life):
    """The line by which the program says where it goes on from."""
    return next(line for line in iter(life.process.stdout.readline, "") if "resumed" in line)


def test_what_is_saved_is_kept_and_handed_back(make_learner, start):
    """After kill -9 of the whole tree, too."""
    run = make_learner()
    life = start(run, "command")
    life.wait_for(lambda: (beat := life.heartbeat()) and beat["checkpoint_step"])
    life.signal(signal.SIGTERM)
    life.end()
    checkpoint, files = newest(run)
    ((name, content),) = files.items()
    epoch = json.loads(content)["epoch"]
    assert name == f"ckpt-{epoch}.json"
    assert checkpoint.manifest.step in (epoch - 1, epoch)
    assert checkpoint.manifest.score.name == "loss"
    assert f"resumed from {epoch}" in told(start(run, "command"))


def test_the_last_one_is_taken_when_the_program_has_left(make_learner, start):
    """At once: nobody writes to it any more."""
    run = make_learner(count=3, pause_s=0.01)
    assert start(run, "command").end()[0] == EXIT_DONE
    checkpoint, files = newest(run)
    assert (checkpoint.manifest.step, files) == (3, {"ckpt-3.json": '{"epoch": 3}'})


SLOPPY = """
import json, os, signal, sys, time
begin = json.load(open(sys.argv[2]))[0] if len(sys.argv) > 2 else 0
print("resumed from", begin)
for step in range(begin + 1, 100_000):
    with open(sys.argv[1], "w") as out:
        text = json.dumps([step] * 3000)
        out.write(text[:5000])
        out.flush()
        time.sleep(0.4)
        out.write(text[5000:])
    print("step", step)
    time.sleep(1.8)
"""
"""saves over its own file, and takes its time for that"""


@pytest.mark.slow
@pytest.mark.parametrize("resume", [True, False])
def test_a_program_that_saves_in_place_never_gets_a_torn_file(
    make_run, start, tmp_path, children_of, resume
):
    """However often it is killed, in the midst of saving too."""
    kills, seed = sample_of_a_series(3)
    chance = random.Random(seed)  # noqa: S311 - moments, not secrets
    script = write(tmp_path / "sloppy.py", SLOPPY)
    if not resume:
        script.write_text(SLOPPY.replace("if len(sys.argv) > 2", "if os.path.exists(sys.argv[2])"))
    options = {
        "command": [PYTHON, str(script), "model.json", *([] if resume else ["model.json"])],
        "resume": ["{checkpoint}"] if resume else [],
        "checkpoints": "model.json",
        "progress": {"pattern": r"step (?P<step>\d+)"},
    }
    run = make_run(trainer="command", target=None, options=options)
    reached = 0
    for _ in range(kills):
        life = start(run, "command")
        assert f"resumed from {reached}\n" in told(life)
        life.wait_for(
            lambda reached=reached: (
                (found := newest(run)) and json.loads(found[1]["model.json"])[0] > reached
            )
        )
        time.sleep(chance.uniform(0.0, 2.0))
        life.process.kill()
        kill_all(children_of(run))
        life.end()
        _, files = newest(run)
        steps = json.loads(files["model.json"])
        assert len(set(steps)) == 1
        assert len(steps) == 3000
        reached = steps[0]


def test_a_file_that_is_saved_all_the_time_is_kept_all_the_same(make_run, start):
    """In a moment in which nobody writes to it, and without a change while it is cloned."""
    script = """if True:
        import time
        for step in range(1, 100_000):
            with open("model", "w") as out:
                out.write(f"{step}x" * 1000)
            print("step", step)
            time.sleep(0.1)
    """
    options = {
        "command": [PYTHON, "-c", script.replace("{", "{{")],
        "checkpoints": "model",
        "progress": {"pattern": r"step (?P<step>\d+)"},
    }
    run = make_run(trainer="command", target=None, options=options)
    life = start(run, "command")
    life.wait_for(lambda: (beat := life.heartbeat()) and beat["checkpoint_step"])
    checkpoint, files = newest(run)
    step = int(files["model"].partition("x")[0])
    assert files["model"] == f"{step}x" * 1000
    assert abs(checkpoint.manifest.step - step) <= 10


def test_a_folder_is_kept_with_all_that_is_below_it(make_run, start, tmp_path):
    """As other libraries save a model."""
    script = write(
        tmp_path / "folders.py",
        """\
        import pathlib, sys
        if len(sys.argv) > 1:
            there = pathlib.Path(sys.argv[1])
            below = sorted(str(path.relative_to(there)) for path in there.rglob("*"))
            print("resumed", below, there.name)
        for step in (1, 2):
            for name in ("config.json", "model/weights.bin", "model/.hidden", "manifest.json"):
                path = pathlib.Path(f"checkpoint-{step}") / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(f"{name} {step}")
        print("step 2")
        sys.exit(75 if len(sys.argv) == 1 else 0)
        """,
    )
    options = {
        "command": [PYTHON, str(script)],
        "resume": ["{checkpoint}"],
        "checkpoints": "checkpoint-*",
        "progress": {"pattern": r"step (?P<step>\d+)"},
    }
    run = make_run(trainer="command", target=None, options=options)
    start(run, "command").end()
    assert (newest(run)[0].manifest.step, len(newest(run)[1])) == (2, 4)
    code, output, _ = start(run, "command").end()
    assert code == EXIT_DONE
    below = ["config.json", "manifest.json", "model", "model/.hidden", "model/weights.bin"]
    assert f"resumed {below} checkpoint-2" in output


QUICK = """if True:
    import itertools, json, os, pathlib, sys, time
    for step in itertools.count(1):
        time.sleep(0.005)
        print("step", step, flush=True)
        if step % 200 == 0:
            path = pathlib.Path(sys.argv[1].replace("N", str(step)))
            path.with_name("fresh").write_text(json.dumps(dict(step=step)))
            path.with_name("fresh").rename(path)
"""


@pytest.mark.parametrize("saved", ["model.json", "model-N.json"])
def test_a_checkpoint_never_claims_a_step_that_it_does_not_hold(make_run, start, saved):
    """Of a program that steps far quicker than anybody looks; a number in its name is exact."""
    options = {
        "command": [PYTHON, "-c", QUICK, saved],
        "checkpoints": saved.replace("N", "*"),
        "progress": {"pattern": r"step (?P<step>\d+)"},
    }
    run = make_run(trainer="command", target=None, options=options)
    life = start(run, "command")
    for _ in range(3):
        before = newest(run)[0].manifest.step if newest(run) else 0
        life.wait_for(lambda least=before: newest(run) and newest(run)[0].manifest.step > least)
        checkpoint, content = newest(run)
        ((name, text),) = content.items()
        held = json.loads(text)["step"]
        assert 0 < checkpoint.manifest.step <= held
        if "N" in saved:
            assert checkpoint.manifest.step == held
            assert name == f"model-{held}.json"


@pytest.mark.parametrize("end", ["exit 1", "kill -9 $$"])
def test_what_was_seen_closed_is_taken_after_a_death(make_run, start, end):
    """A death half a second after a save costs nothing; what was being written is never taken."""
    script = f"echo whole > model-1; echo step 1; sleep 0.9; exec 3> model-2; echo torn >&3; {end}"
    options = {
        "command": ["/bin/sh", "-c", script],
        "checkpoints": "model-*",
        "progress": {"pattern": r"step (?P<step>\d+)"},
    }
    run = make_run(trainer="command", target=None, options=options)
    start(run, "command").end()
    assert newest(run)[1] == {"model-1": "whole\n"}


def test_what_is_on_its_way_into_a_checkpoint_is_not_swept_away(
    open_session, tmp_path, monkeypatch
):
    """A program may end while gigabytes that it has saved are written: that costs nothing."""
    session = open_session(trainer="command", target=None)
    session.progress(1)
    writes, write = [], Checkpoints.save

    def write_slowly(*arguments, **more):
        writes.append(arguments)
        time.sleep(0.5)
        return write(*arguments, **more)

    monkeypatch.setattr(Checkpoints, "save", write_slowly)
    teller = Teller(session, Options(command=("true",)), time.monotonic)
    saves = saved.Saves(session, str(tmp_path / "model-*"), teller, links=False)
    (tmp_path / "model-1").write_text("whole")
    until(lambda: saves.look(lambda: True) or writes)
    saves.last(left=False)
    assert newest(session.folder.path)[1] == {"model-1": "whole"}


def test_what_is_saved_upon_a_stop_is_taken(make_run, start):
    """Whatever its exit code is then."""
    script = "trap 'echo last > model-2; exit 1' TERM; echo step 1; while :; do sleep 0.05; done"
    options = {
        "command": ["/bin/sh", "-c", script],
        "checkpoints": "model-*",
        "progress": {"pattern": r"step (?P<step>\d+)"},
    }
    run = make_run(trainer="command", target=None, options=options)
    life = start(run, "command")
    life.wait_for_step(1)
    life.signal(signal.SIGTERM)
    life.end()
    assert newest(run)[1] == {"model-2": "last\n"}


def test_a_folder_of_too_many_files_is_told(make_run, start):
    """And what has no name that can be written down is left alone."""
    script = """if True:
        import os
        os.mkdir("model-1")
        for number in range(1001):
            open(f"model-1/{{number}}", "w").write("x")
        open(b"model-\\xff", "w").write("x")
    """
    options = {"command": [PYTHON, "-c", script], "checkpoints": "model-*"}
    life = start(make_run(trainer="command", target=None, options=options), "command")
    assert life.end()[0] == EXIT_DONE
    assert any("more than 999 files" in notice for notice in life.heartbeat()["notices"])


def test_what_goes_on_by_itself_finds_what_is_kept_in_a_moved_home(start, tmp_path):
    """And what it saved later, which nobody has seen whole, is aside."""
    script = (
        "import glob, os; print('there', sorted(os.listdir())); n = len(glob.glob('model-*'));"
        "open(f'model-{{n + 1}}', 'w').write('x'); print('step', n + 1); exit(75)"
    )
    options = {
        "command": [PYTHON, "-c", script],
        "checkpoints": "model-*",
        "progress": {"pattern": r"step (?P<step>\d+)"},
    }
    run = tmp_path / "old/runs/run"
    run.mkdir(parents=True)
    write_spec(run, trainer="command", target=None, options=options)
    start(run, "command").end()
    start(run, "command").end()
    (run / "work/model-2").write_text("torn")
    (run / "work/model-3").write_text("torn")
    (tmp_path / "old").rename(tmp_path / "new")
    moved = tmp_path / "new/runs/run"
    _, output, _ = start(moved, "command").end()
    there = [".model-2.aside", ".model-3.aside", "model-1", "model-2"]
    assert f"there {there}" in output
    assert (moved / "work/.model-2.aside").read_text() == "torn"
    assert newest(moved)[1] == {"model-3": "x"}
    assert not (tmp_path / "old").exists()


def test_a_damaged_one_is_passed_over(make_learner, start):
    """The one before is handed back."""
    run = make_learner()
    life = start(run, "command")
    life.wait_for(lambda: len(Checkpoints(run / "checkpoints")._steps()) >= 2)
    life.signal(signal.SIGTERM)
    life.end()
    checkpoint, files = newest(run)
    (checkpoint.path / next(iter(files))).write_text("{}")
    older = json.loads(next(iter(newest(run)[1].values())))["epoch"]
    assert f"resumed from {older}" in told(start(run, "command"))


def test_what_is_being_written_is_seen_to_be(tmp_path):
    """By whoever has it open for writing; readers disturb nobody."""
    path = tmp_path / "model"
    with path.open("w") as out:
        assert saved._is_open(path)
        assert saved._is_open_somewhere(path.stat())
        out.write("x")
    with path.open():
        assert not saved._is_open(path)
        assert not saved._is_open_somewhere(path.stat())


def test_a_clone_is_apart_from_what_it_is_of(tmp_path):
    """A link is not, and is made only where that is asked for."""
    old = tmp_path / "old"
    old.write_bytes(b"weights" * 100_000)
    durable.clone(old, tmp_path / "new")
    durable.clone(old, tmp_path / "link", link=True)
    old.write_bytes(b"")
    assert (tmp_path / "new").read_bytes() == b"weights" * 100_000
    assert (tmp_path / "link").read_bytes() == b""


def test_a_program_that_goes_on_by_itself_is_only_told_to(make_run, start):
    """Words of `resume` are added once there is something to go on from; ours is a few bytes."""
    script = 'echo "words: $*"; echo step 4; sleep 1000'
    options = {
        "command": ["/bin/sh", "-c", script, "sh"],
        "resume": ["--again", "{step}"],
        "progress": {"pattern": r"step (?P<step>\d+)"},
    }
    run = make_run(trainer="command", target=None, options=options)
    life = start(run, "command")
    life.wait_for_step(4)
    life.signal(signal.SIGTERM)
    life.end()
    assert newest(run)[1] == {}
    again = start(run, "command")
    line = next(line for line in iter(again.process.stdout.readline, "") if "words" in line)
    assert line == "words: --again 4\n"
    until(lambda: again.process.poll() is None)


def test_what_is_being_written_while_the_program_dies_is_kept(make_run, monkeypatch):
    """Of a large file every byte is read for that, which may take as long as a death is away."""
    folder = RunFolder(make_run())
    session = Session(folder, read_spec(folder))
    write, begun = session._checkpoints.save, threading.Event()

    def slowly(*arguments, **named):
        begun.set()
        time.sleep(0.5)
        return write(*arguments, **named)

    monkeypatch.setattr(session._checkpoints, "save", slowly)
    options = Options(command=("true",))
    work = session.folder.path / "work"
    work.mkdir()
    teller = Teller(session, options, time.monotonic)
    saves = saved.Saves(session, str(work / "model-*"), teller, links=False)
    (work / "model-1").write_text("whole")
    until(lambda: saves.look(lambda: True) or begun.is_set(), "it is being written")
    saves.last(left=False)
    session.fail("it died")
    assert newest(session.folder.path)[1] == {"model-1": "whole"}


def test_a_run_that_goes_back_has_its_program_go_on_from_there(start, tmp_path):
    """One that looks by itself, too: what is later is aside; from the start, all is."""
    script = (
        "import glob, os; print('there', sorted(glob.glob('model-*')));"
        "n = len(glob.glob('model-*')) + 1; open(f'model-{{n}}', 'w').write(str(n));"
        "print('step', n); exit(75)"
    )
    options = {
        "command": [PYTHON, "-c", script],
        "checkpoints": "model-*",
        "progress": {"pattern": r"step (?P<step>\d+)"},
    }
    run = tmp_path / "home/runs/run"
    run.mkdir(parents=True)

    def attempt(**fields):
        write_spec(run, trainer="command", target=None, options=options, **fields)
        _, output, errors = start(run, "command").end()
        return output + errors

    for _ in range(3):
        attempt()
    back = attempt(rewind={"id": "1", "checkpoint": "1"})
    assert "there ['model-1']" in back
    assert "is later: model-1 is gone on from" in back
    assert "whole" not in back  # what a person leaves behind is as good as it was
    assert newest(run)[1] == {"model-2": "2"}
    assert "there []" in attempt(rewind={"id": "2", "checkpoint": "start"})
    assert newest(run)[1] == {"model-1": "1"}
    lie_there = names_in(run / "checkpoints")
    assert lie_there == ["1", "beside-1", "beside-2", "beside-2-2", "beside-3", "rewound.json"]


def test_a_program_that_looks_by_itself_though_it_is_told_begins_anew_too(start, tmp_path):
    """As many scripts do: what they are told to go on from, and else the newest that lies there."""
    script = (
        "import glob, sys; print('told', sys.argv[1:], 'there', sorted(glob.glob('model-*')));"
        "n = len(glob.glob('model-*')) + 1; open(f'model-{{n}}', 'w').write(str(n));"
        "print('step', n); exit(75)"
    )
    options = {
        "command": [PYTHON, "-c", script],
        "checkpoints": "model-*",
        "resume": ["{step}"],
        "progress": {"pattern": r"step (?P<step>\d+)"},
    }
    run = tmp_path / "home/runs/run"
    run.mkdir(parents=True)

    def attempt(**fields):
        write_spec(run, trainer="command", target=None, options=options, **fields)
        _, output, errors = start(run, "command").end()
        return output + errors

    attempt()
    assert "told ['1'] there ['model-1']" in attempt()
    said = attempt(rewind={"id": "1", "checkpoint": "start"})
    assert "told [] there []" in said
    assert "/.model-1.aside and 1 more: set aside" in said


@pytest.mark.parametrize(("saves", "is_told"), [("ckpt-N.json", False), ("other-N.json", True)])
def test_a_program_that_saves_nothing_of_that_name_is_told_of(make_learner, start, saves, is_told):
    """Before its work is lost once more, not after."""
    run = make_learner(pause_s=0.1, saved=saves, checkpoints="ckpt-*.json")
    life = start(run, "command")
    life.wait_for_step(3)
    life.signal(signal.SIGTERM)
    life.end()
    said = [each for each in life.heartbeat()["notices"] if "nothing was saved" in each]
    assert bool(said) == is_told


def test_a_folder_that_is_never_quiet_is_told_of(open_session, tmp_path, monkeypatch):
    """Once; nobody can see when it is whole, so it is never kept."""
    monkeypatch.setattr(saved, "UNSEEN_S", 0.5)
    session = open_session(trainer="command", target=None)
    teller = Teller(session, Options(command=("true",)), time.monotonic)
    saves = saved.Saves(session, str(tmp_path / "state"), teller, links=False)
    (tmp_path / "state").mkdir()

    def looked():
        (tmp_path / "state/part").write_text(str(time.monotonic_ns()))
        saves.look(lambda: True)
        beat = json.loads(session.folder.heartbeat.read_bytes())
        return [each for each in beat["notices"] if "never quiet" in each]

    until(looked)
    time.sleep(saved.LOOK_S)
    assert len(looked()) == 1
    saves.last(left=False)


def test_a_program_that_keeps_files_of_its_own_is_told_of(start, make_run):
    """What is counted goes back; of what it goes on from nobody knows anything."""
    options = {
        "command": ["/bin/sh", "-c", "echo step 4; sleep 0.2; exit 75"],
        "progress": {"pattern": r"step (?P<step>\d+)"},
    }
    run = make_run(trainer="command", target=None, options=options)
    start(run, "command").end()
    rewind = {"id": "1", "checkpoint": "start"}
    write_spec(run, trainer="command", target=None, options=options, rewind=rewind)
    life = start(run, "command")
    life.end()
    assert any("only what is counted" in notice for notice in life.heartbeat()["notices"])
