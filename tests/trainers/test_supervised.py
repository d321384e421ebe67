"""A script that tells by `supervised` how far it is: it is heard, and never harmed."""

import ast
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from programs import PYTHON
from trainer_lives import kill_all, names_in

import supervised
from trainers.checkpoint import Checkpoints
from trainers.command import process, saved
from trainers.command.progress import File, Saved
from trainers.contract import EXIT_DONE

MODULE = Path(supervised.__file__)


@pytest.fixture
def told(tmp_path, monkeypatch):
    """What has reached the file by now, line by line."""
    path = tmp_path / "progress.jsonl"
    path.touch()
    monkeypatch.setenv(supervised.PROGRESS, str(path))
    monkeypatch.setattr(supervised, "_lines", supervised._Lines())
    return lambda: [json.loads(line) for line in path.read_text().splitlines()]


def script(text, folder, **environment):
    """Run a script that lies beside a copy of the module."""
    shutil.copy(MODULE, folder)
    path = folder / "script.py"
    path.write_text(f"import supervised\n{text}")
    known = {key: value for key, value in os.environ.items() if "SUPERVISOR" not in key}
    return subprocess.run(
        [PYTHON, str(path)],
        env={**known, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_it_is_one_file_for_any_python_from_3_8_on():
    """Nothing is imported but the standard library, and nothing newer is said."""
    tree = ast.parse(MODULE.read_text(), feature_version=(3, 8))
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            assert {name.name for name in node.names} <= sys.stdlib_module_names
        if isinstance(node, ast.ImportFrom):
            assert node.module.partition(".")[0] in sys.stdlib_module_names


def test_the_variables_are_those_that_the_trainer_sets():
    """The file is copied, so it cannot look at ours."""
    names = ("PROGRESS", "CHECKPOINT", "STOP_SIGNAL")
    assert [getattr(supervised, name) for name in names] == [
        getattr(process, name) for name in names
    ]


def test_where_nobody_supervises_nothing_is_done(tmp_path):
    """Not even a handler is set."""
    ended = script(
        "import signal\n"
        "supervised.report(1, loss=0.5)\n"
        "supervised.saved('model.pt')\n"
        "print(supervised.stopping(), supervised.checkpoint_path())\n"
        "print(signal.getsignal(signal.SIGTERM) == signal.SIG_DFL)\n",
        tmp_path,
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "False None\nTrue\n", "")


class Scalar:
    """As numpy's and torch's are: it becomes a number where somebody asks."""

    def __float__(self):
        return 0.25


class Broken:
    def __float__(self):
        raise RuntimeError("a tensor with more than one element")


def test_numbers_of_any_kind_are_told(told):
    """What is not finite is none; what is no number is not there, and harms nothing."""
    values = {"a": Scalar(), "b": math.nan, "c": -math.inf, "d": None, "e": True, "f": 10**25}
    supervised.report(3, **values, g=Broken(), h="much", i=[1])
    numbers = {"step": 3, "a": 0.25, "b": None, "c": None, "d": None, "e": 1, "f": 10**25}
    assert told() == [numbers]
    supervised.report(epoch=3)
    assert told()[1:] == [{"epoch": 3}]
    supervised.report()
    assert len(told()) == 2


def test_the_trainer_reads_what_is_told(tmp_path, monkeypatch):
    """In its order: what was reported before a save is what that holds."""
    file = File(tmp_path / "progress.jsonl")
    monkeypatch.setenv(supervised.PROGRESS, str(file.path))
    monkeypatch.setattr(supervised, "_lines", supervised._Lines())
    monkeypatch.chdir(tmp_path)
    for step in range(3):
        supervised.report(step, loss=math.nan)
    supervised.saved(Path("model.pt"))
    first, second, marker = list(file.read())
    assert (first, second) == ({"step": 0.0}, {"step": 2.0})
    assert isinstance(marker, Saved)
    assert marker.saved == str(tmp_path / "model.pt")
    assert abs(marker.at - file.path.stat().st_mtime) < 60
    with file.path.open("a") as out:
        out.write('{"saved": 3}\n{"saved": "\\u0000", "at": 1}\n{"saved": "x"}\n')
    assert [one for one in file.read() if isinstance(one, Saved)] == []


def test_a_hundred_thousand_reports_cost_next_to_nothing(told):
    """Neither time nor disk: of what comes faster than anybody looks the newest is told."""
    began_s = time.thread_time()
    for step in range(100_000):
        supervised.report(step, loss=0.1)
    assert time.thread_time() - began_s < 10
    supervised.report(epoch=1)
    lines = told()
    assert len(lines) < 100_000 / 50
    assert lines[-2:] == [{"step": 99_999, "loss": 0.1}, {"epoch": 1}]
    for number in range(3 * supervised.KINDS_MAX):
        supervised.report(**{f"loss_{number}": 1.0})
    assert len(supervised._lines._written_s) <= supervised.KINDS_MAX


def test_the_last_report_is_told_at_the_end(tmp_path):
    """Also of a script that reports faster than anybody looks; and once, whoever was forked."""
    path = tmp_path / "progress.jsonl"
    path.touch()
    text = """
import os, sys
for step in range(1000):
    supervised.report(step)
if os.fork() == 0:
    sys.exit()
os.wait()
"""
    ended = script(text, tmp_path, SUPERVISOR_PROGRESS=str(path))
    assert (ended.returncode, ended.stderr) == (0, "")
    lines = path.read_text().splitlines()
    assert lines.count('{"step": 999}') == 1
    assert lines[-1] == '{"step": 999}'


@pytest.mark.parametrize("place", ["/dev/full", "gone/progress.jsonl", "."])
def test_a_full_disk_and_a_missing_file_harm_nothing(tmp_path, place):
    """A line less is told."""
    text = "supervised.report(1)\nsupervised.report(2)\nsupervised.saved('x')\nprint('trained')\n"
    ended = script(text, tmp_path, SUPERVISOR_PROGRESS=str(tmp_path / place))
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "trained\n", "")


def test_threads_and_processes_tell_beside_each_other(tmp_path):
    """No line is torn."""
    path = tmp_path / "progress.jsonl"
    path.touch()
    text = """
import multiprocessing, threading, time
def tell(number):
    for step in range(300):
        supervised.report(step, **{f"x{number}_{step % 7}": 0.5})
        time.sleep(0.0005)
def both(number):
    threads = [threading.Thread(target=tell, args=[10 * number + one]) for one in range(3)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
workers = [multiprocessing.get_context("fork").Process(target=both, args=[n]) for n in range(3)]
[worker.start() for worker in workers]
both(9)
[worker.join() for worker in workers]
assert [worker.exitcode for worker in workers] == [0, 0, 0]
"""
    ended = script(text, tmp_path, SUPERVISOR_PROGRESS=str(path))
    assert (ended.returncode, ended.stderr) == (0, "")
    assert all("step" in json.loads(line) for line in path.read_text().splitlines())


STOPS = {"SUPERVISOR_STOP_SIGNAL": "SIGTERM"}


def test_a_stop_is_heard_by_all_who_listened_before_and_after(tmp_path):
    """Whoever has a handler, also one that calls ours in its turn, is called once."""
    text = """
import os, signal, threading
called = []
signal.signal(signal.SIGTERM, lambda *_: called.append("before"))
print(supervised.stopping())
ours = signal.getsignal(signal.SIGTERM)
signal.signal(signal.SIGTERM, lambda *all: (called.append("after"), ours(*all)))
heard = []
thread = threading.Thread(target=lambda: heard.append(supervised.stopping()))
thread.start(); thread.join()
print(supervised.stopping())
os.kill(os.getpid(), signal.SIGTERM)
os.kill(os.getpid(), signal.SIGTERM)
print(supervised.stopping(), heard, called)
"""
    ended = script(text, tmp_path, **STOPS)
    assert ended.stderr == ""
    assert ended.stdout == f"False\nFalse\nTrue [False] {['after', 'after']}\n"


def test_a_thread_that_asks_first_sets_nothing(tmp_path):
    """Only the main thread can; it does when it asks."""
    text = """
import os, signal, threading
thread = threading.Thread(target=supervised.stopping)
thread.start(); thread.join()
print(signal.getsignal(signal.SIGINT) == signal.default_int_handler, supervised.stopping())
os.kill(os.getpid(), signal.SIGINT)
print(supervised.stopping())
"""
    ended = script(text, tmp_path, SUPERVISOR_STOP_SIGNAL="SIGINT")
    assert (ended.stdout, ended.stderr) == ("True False\nTrue\n", "")


def test_a_forked_worker_ends_by_the_signal(tmp_path):
    """Whoever ends it so, as loaders of data do, need not wait for ever."""
    text = """
import multiprocessing, os, signal, time
supervised.stopping()
fork = multiprocessing.get_context("fork")
worker = fork.Process(target=lambda: (supervised.stopping(), time.sleep(60)))
worker.start()
time.sleep(0.2)
worker.terminate()
worker.join(30)
print(worker.exitcode, supervised.stopping())
os.kill(os.getpid(), signal.SIGTERM)
print(supervised.stopping())
"""
    ended = script(text, tmp_path, **STOPS)
    assert (ended.stdout, ended.stderr) == ("-15 False\nTrue\n", "")


LEARNER = """
import json, os, sys, time
import supervised

count, pause_s = int(sys.argv[1]), float(sys.argv[2])
begin, path = 0, supervised.checkpoint_path()
if path:
    begin = json.load(open(path))["epoch"]
    print("resumed from", begin)
for epoch in range(begin + 1, count + 1):
    time.sleep(pause_s)
    supervised.report(epoch=epoch, loss=1 / epoch)
    name = sys.argv[3].replace("N", str(epoch))
    with open(name, "w") as out:
        json.dump({"epoch": epoch}, out)
    supervised.saved(name)
    if supervised.stopping():
        print("left after", epoch)
        sys.exit(75)
"""


@pytest.fixture
def make_reporter(make_run, tmp_path):
    """Makes runs of a script that tells all by the module."""

    def make(count=100_000, pause_s=0.2, name="ckpt-N.json", **options):
        shutil.copy(MODULE, tmp_path)
        (tmp_path / "learner.py").write_text(LEARNER)
        options = {
            "command": [PYTHON, str(tmp_path / "learner.py"), str(count), str(pause_s), name],
            "checkpoints": name.replace("N", "*"),
            "progress": {"score": "loss", "better": "lower"},
            **options,
        }
        return make_run(
            trainer="command", target={"unit": "epochs", "count": count}, options=options
        )

    return make


@pytest.mark.parametrize("resume", [(), ("--resume", "{checkpoint}")], ids=["back", "handed"])
@pytest.mark.parametrize("name", ["ckpt-N.json", "model.json"])
def test_a_script_goes_on_from_the_path_that_it_is_told(
    make_reporter, start, children_of, resume, name
):
    """Where words of `resume` are given, and where it is put back in its place."""
    run = make_reporter(name=name, resume=resume)
    life = start(run, "command")
    life.wait_for(lambda: (beat := life.heartbeat()) and (beat["checkpoint_step"] or 0) >= 2)
    life.process.kill()
    kill_all(children_of(run))
    life.end()
    held = Checkpoints(run / "checkpoints").newest().checkpoint
    again = start(run, "command")
    line = next(line for line in iter(again.process.stdout.readline, "") if "resumed" in line)
    assert line == f"resumed from {held.manifest.step}\n"
    again.wait_for(lambda: (beat := again.heartbeat()) and beat["step"] > held.manifest.step)
    again.signal(signal.SIGTERM)
    _, output, _ = again.end()
    assert "left after" in output


def test_what_is_told_to_be_whole_is_taken_though_it_is_never_quiet(make_reporter, start):
    """With the step that was reported before it, to the epoch."""
    run = make_reporter(count=5, pause_s=0.05)
    assert start(run, "command").end()[0] == EXIT_DONE
    checkpoint = Checkpoints(run / "checkpoints").newest().checkpoint
    assert (checkpoint.manifest.step, checkpoint.manifest.score.value) == (5, 0.2)
    assert "ckpt-5.json" in names_in(checkpoint.path)


DYING = """
import os, signal, sys, time
import supervised
os.mkdir("one-1")
open("one-1/weights", "w").write("whole")
supervised.report(1)
supervised.saved("one-1")
os.mkdir("one-2")
open("one-2/weights", "w").write("to")
supervised.saved("one-2")
time.sleep(0.05)
open("one-2/weights", "a").write("rn")
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_the_word_of_a_program_holds_for_what_it_has_not_changed_since(
    make_reporter, start, tmp_path
):
    """Killed at once, it leaves one folder that it called whole, and one that it went on with."""
    run = make_reporter(checkpoints="one-*")
    (tmp_path / "learner.py").write_text(DYING)
    start(run, "command").end()
    checkpoint = Checkpoints(run / "checkpoints").newest().checkpoint
    kept = saved.kept(checkpoint.path)
    assert kept.path.endswith("one-1")
    assert (checkpoint.path / next(iter(kept.files))).read_text() == "whole"
