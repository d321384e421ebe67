"""How far a program is, from what it prints and writes, whatever that is."""

import itertools
import json
import signal
import subprocess
import sys
import time

import pytest
from programs import EPOCHS, PYTHON, learner

from trainers.command.options import Options, Progress
from trainers.command.output import BAR_S, LINE_MAX_BYTES, Lines
from trainers.command.progress import STILL_S, File, Pattern, Teller
from trainers.contract import EXIT_DONE


class Printed:
    """What is kept of what a program prints, and what patterns see."""

    def __init__(self):
        self.now_s = 0.0
        self.kept, self.seen = b"", []
        self.lines = Lines(self._keep, self.seen.append, lambda: self.now_s)

    def _keep(self, piece):
        self.kept += piece


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_lines_are_the_same_in_whichever_pieces_they_come(size):
    """With both ends of a line, and the last without one."""
    text = b"one\r\ntwo\n\nthree \xff\nfour"
    printed = Printed()
    for begin in range(0, len(text), size):
        printed.lines.feed(text[begin : begin + size])
    printed.lines.close()
    assert printed.kept == b"one\ntwo\n\nthree \xff\nfour\n"
    assert printed.seen == ["one", "two", "three \ufffd", "four"]
    assert printed.lines.last == "four"


@pytest.mark.parametrize("size", [1, 5, 64, 1000])
def test_a_progress_bar_is_what_stands_there_at_last(size):
    """But for one line each few seconds."""
    text = b"".join(b"\r%3d%%" % number for number in range(101)) + b"\ndone\n"
    printed = Printed()
    printed.now_s = 1.0
    printed.lines.feed(b"first\r")
    printed.lines.feed(b"x\n")
    for begin in range(0, len(text), size):
        printed.lines.feed(text[begin : begin + size])
    assert printed.kept == b"first\nx\n100%\ndone\n"
    printed.now_s += BAR_S
    printed.lines.feed(b"a\rb\rc")
    assert printed.kept.endswith(b"\ndone\nb\n") or printed.kept.endswith(b"\ndone\na\n")


def test_patterns_see_what_of_a_bar_is_not_kept():
    """A step is known at once, and a checkpoint is called by the right one."""
    printed = Printed()
    for number in range(4):
        printed.lines.feed(b"\r%d/9" % number)
        printed.now_s += BAR_S / 100
    assert printed.kept == b"0/9\n"
    assert printed.seen == ["0/9", "1/9", "2/9"]


def test_a_long_line_is_kept_and_its_beginning_looked_at():
    """In pieces, so that it is never in memory as a whole."""
    printed = Printed()
    for _ in range(100):
        printed.lines.feed(b"x" * 1000)
    printed.lines.feed(b"end\nnext\n")
    assert printed.kept == b"x" * 100_000 + b"end\nnext\n"
    assert [len(line) for line in printed.seen] == [LINE_MAX_BYTES, 4]


def test_a_pattern_that_never_ends_costs_a_moment():
    """It is told, and after a few lines not asked any more."""
    notices = []
    usual = signal.getsignal(signal.SIGVTALRM)
    try:
        pattern = Pattern(r"(?P<loss>(\d+)+)x$", notices.append)
        began_s = time.process_time()
        for _ in range(100):
            assert pattern.find("1" * 60) == {}
        assert time.process_time() - began_s < 5
        assert len(set(notices)) == 2
        assert "is not asked any more" in notices[-1]
        assert Pattern(r"(?P<a>[\d,.]+)", notices.append).find("at 1,234.5.") == {"a": 1234.5}
    finally:
        signal.signal(signal.SIGVTALRM, usual)


def test_json_lines_are_read_as_they_come(tmp_path):
    """Whoever appends them, in however many pieces; what is no such line is passed over."""
    file = File(tmp_path / "progress.jsonl")
    assert list(file.read()) == []
    with file.path.open("ab", buffering=0) as out:
        out.write(b'{"step": 3, "loss": 0.5}\n{"st')
        assert list(file.read()) == [{"step": 3.0, "loss": 0.5}]
        out.write(b'ep": 4}\nnonsense\n[1]\n{"a": "text", "b": true, "c": NaN}\n')
        told = [numbers for numbers in file.read() if numbers]
        assert told[0] == {"step": 4.0}
        assert [*told[1]] == ["c"]
        out.write(b'{"x": "' + b"y" * 100_000)
        assert [numbers for _ in range(3) for numbers in file.read() if numbers] == []
        out.write(b'"}\n{"step": 5}\n')
        assert [numbers for _ in range(3) for numbers in file.read() if numbers] == [{"step": 5.0}]
    file.path.write_text('{"step": 6}\n')
    assert list(file.read()) == [{"step": 6.0}]
    file.path.unlink()
    assert list(file.read()) == []


def metrics(run):
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def run_of(make_run, script, unit="steps", count=10**9, **options):
    target = {"unit": unit, "count": count}
    options = {"command": [PYTHON, "-c", script], **options}
    return make_run(trainer="command", target=target, options=options)


def test_a_pattern_tells_the_step_the_score_and_curves(make_run, start, tmp_path):
    """The group that is called like the unit is the step."""
    target = {"unit": "epochs", "count": 4}
    run = make_run(trainer="command", target=target, options=learner(tmp_path, 4, 0.4))
    life = start(run, "command")
    assert life.end()[0] == EXIT_DONE
    beat = life.heartbeat()
    assert (beat["status"], beat["step"]) == ("done", 4)
    assert beat["score"] == {"name": "loss", "value": 0.25, "better": "lower"}
    assert beat["loss"] == 0.25
    assert metrics(run)[-1]["loss"] == 0.25
    assert list((run / "tensorboard").iterdir())


def test_json_lines_and_a_pattern_work_together(make_run, start):
    """Each tells what it knows."""
    script = """if True:
        import json, os, time
        with open(os.environ["SUPERVISOR_PROGRESS"], "a", buffering=1) as out:
            for step in range(1, 6):
                out.write(json.dumps(dict(step=step, entropy=step / 2)) + chr(10))
                print("loss", 1 / step)
                time.sleep(0.3)
    """
    progress = {"pattern": r"loss (?P<loss>[\d.]+)", "score": "entropy"}
    life = start(run := run_of(make_run, script, count=5, progress=progress), "command")
    assert life.end()[0] == EXIT_DONE
    beat = life.heartbeat()
    assert (beat["step"], beat["score"]["value"], beat["loss"]) == (5, 2.5, 0.2)
    told = set(itertools.chain.from_iterable(metrics(run)))
    assert {"loss", "entropy"} <= told


def test_without_progress_seconds_count(make_run, start):
    """Also as a target; then the program is asked to stop."""
    life = start(run_of(make_run, "import time; time.sleep(1000)", "seconds", 2), "command")
    assert life.end()[0] == EXIT_DONE
    assert life.heartbeat()["step"] == 2


def test_steps_that_are_made_again_are_no_hang_and_no_step_back(make_run, start):
    """A program that begins anew counts from one, and the run goes on where it was."""
    script = """if True:
        import time
        for step in range(1, 1000):
            print("step", step)
            time.sleep(0.05)
    """
    run = run_of(make_run, script, progress={"pattern": r"step (?P<step>\d+)"})
    life = start(run, "command")
    life.wait_for_step(20)
    life.signal(signal.SIGTERM)
    life.end()
    reached = life.heartbeat()["step"]
    assert reached >= 20
    again = start(run, "command")
    beat = again.wait_for(lambda: (b := again.heartbeat()) and b["alive_at_s"] and b)
    assert beat["step"] == reached
    again.wait_for_step(reached + 1)


def test_a_long_epoch_is_no_hang_while_numbers_change(open_session, clock):
    """The same line again and again is no sign of life, and a loss that falls is one."""
    session = open_session(trainer="command", target={"unit": "epochs", "count": 9})
    teller = Teller(session, Options(command=("true",), progress=Progress()), clock)

    def alive_at_s():
        clock.advance(STILL_S)
        session.progress(session.step)
        return json.loads(session.folder.heartbeat.read_bytes())["alive_at_s"]

    teller.numbers({"epoch": 1, "loss": 9})
    teller.numbers({"loss": 8})
    assert alive_at_s() is None
    teller.numbers({"epoch": 1.25, "loss": 8})
    since_s = alive_at_s()
    assert since_s is not None
    teller.numbers({"epoch": 1.25, "loss": 8})
    assert alive_at_s() == since_s
    teller.numbers({"loss": 7})
    assert alive_at_s() > since_s
    assert session.step == 1


PEAK = """\
import resource, subprocess, sys
subprocess.run(sys.argv[1:], check=True)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""
"""runs a program, and prints the most memory that it or a process of its own had, in KiB"""


def test_a_hundred_megabytes_of_carriage_returns_cost_nothing(make_run):
    """Neither disk nor memory, and hardly any time."""
    script = """if True:
        import sys
        bar = (chr(13) + "x" * 79).encode() * 12_500
        for _ in range(100):
            sys.stdout.buffer.write(bar)
        print(chr(13) + "epoch 7 loss 0.5")
    """
    run = run_of(make_run, script, "epochs", 9, progress=EPOCHS)
    trainer = [sys.executable, "-m", "trainers", "command", "--run", str(run)]
    watched = subprocess.run(
        [sys.executable, "-c", PEAK, *trainer], capture_output=True, check=True, text=True
    )
    *output, most_kib = watched.stdout.splitlines()
    assert sum(map(len, output)) < 10_000
    assert json.loads((run / "heartbeat.json").read_bytes())["step"] == 7
    assert int(most_kib) < 100 * 1024
