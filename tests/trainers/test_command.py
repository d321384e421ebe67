"""Any program as a trainer: how it is started, what it is told, and how it ends."""

import json
import os
import signal
import subprocess

import pytest
from programs import EPOCHS, PYTHON, learner, write

from trainers import durable
from trainers.contract import EXIT_AGAIN, EXIT_BAD_SPEC, EXIT_DONE


@pytest.fixture
def make_program(make_run):
    """Makes runs of a program: `make_program("true")`, with a target only where one is given."""

    def make(*command, target=None, run="run", **options):
        fields = {"command": list(command), **options}
        return make_run(run, trainer="command", target=target, options=fields)

    return make


@pytest.fixture
def ended(start):
    """Runs a trainer to its end: its exit code, its output and its last heartbeat."""

    def end(run):
        life = start(run, "command")
        code, output, errors = life.end()
        return code, output + errors, life.heartbeat()

    return end


def sh(script):
    return ("/bin/sh", "-c", script)


def test_a_program_without_a_target_is_done_when_it_says_so(make_program, ended):
    """Exit code 0; its output is that of the run, whichever stream it came by."""
    code, output, beat = ended(make_program(*sh("echo one; echo two >&2")))
    assert (code, beat["status"]) == (EXIT_DONE, "done")
    assert "one\ntwo\n" in output


@pytest.mark.parametrize(
    ("script", "code", "said"),
    [
        ("exit 2", EXIT_BAD_SPEC, "exit code 2, as one that can never work"),
        ("exit 75", EXIT_AGAIN, "asks for another start, with exit code 75"),
        ("echo oh no; exit 1", EXIT_AGAIN, "exit code 1; it printed last: oh no"),
        ("kill -SEGV $$", EXIT_AGAIN, "signal 11"),
        ("kill -KILL $$", EXIT_AGAIN, "signal 9"),
    ],
)
def test_what_an_exit_code_means(make_program, ended, script, code, said):
    """By the tables; whatever stands in none is a death, told in one line without a traceback."""
    ended_with, output, beat = ended(make_program(*sh(script)))
    assert (ended_with, beat["status"]) == (code, "failed")
    assert said in beat["error"]
    assert "Traceback" not in output


@pytest.mark.parametrize(
    ("script", "blames"),
    [("kill -KILL $$", True), ("exit 137", True), ("kill -SEGV $$", False), ("exit 75", False)],
)
def test_a_kill_from_outside_is_no_failure_of_the_program(make_program, ended, script, blames):
    """It is told as the machine's doing, whether the signal or a shell tells of it."""
    _, _, beat = ended(make_program(*sh(script)))
    assert beat["of_the_machine"] is blames


def test_the_tables_of_exit_codes_are_the_users(make_program, ended):
    """Each code says one thing."""
    tables = {"done": [3], "again": [], "never": [0]}
    assert ended(make_program(*sh("exit 3"), run="a", **tables))[0] == EXIT_DONE
    assert ended(make_program(*sh("exit 0"), run="b", **tables))[0] == EXIT_BAD_SPEC
    code, output, _ = ended(make_program("true", run="c", done=[2]))
    assert code == EXIT_BAD_SPEC
    assert "options.never: 2 stands in options.done, too" in output


def test_words_in_braces_stand_for_what_is_known_at_the_start(make_run, ended):
    """Each in its place; nothing goes through a shell."""
    known = ("name", "home", "work", "step", "target", "threads", "gpus", "seed", "mode")
    words = [f"{{{name}}}" for name in (*known, "load.batch", "options.lr", "{name}")]
    words += ["$HOME", "*"]
    run = make_run(
        trainer="command",
        name="mnist",
        threads=2,
        seed=7,
        gpus=["GPU-1", "GPU-2"],
        load={"batch": 64},
        target={"unit": "steps", "count": 9},
        options={
            "command": ["printf", "%s|", *words],
            "options": {"lr": 0.5},
        },
    )
    code, output, _ = ended(run)
    assert code == EXIT_DONE
    home = run.parent.parent
    told = ["mnist", home, run / "work", 0, 9, 2, "GPU-1,GPU-2", 7, "light", 64, 0.5, "{name}"]
    assert "|".join(map(str, [*told, "$HOME", "*|"])) in output


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"command": ["true", "{wrok}"]}, "nothing is called {wrok}; did you mean {work}?"),
        ({"command": ["true", "{"]}, "for a brace itself write {{"),
        (
            {"command": ["true", "{checkpoint}"]},
            "{checkpoint} is known in resume, ",
        ),
        ({"command": ["true", "{load.batch}"]}, "nothing is called {load.batch}"),
        ({"command": ["true"], "cwd": "{nowhere}"}, "options.cwd: nothing is called {nowhere}"),
        ({"command": ["no-such-program"]}, "no program 'no-such-program' in PATH"),
        ({"command": ["/no/such"]}, "there is no program /no/such"),
        ({"command": ["/etc/passwd"]}, "not executable: `chmod +x /etc/passwd`"),
        ({"command": ["true"], "cwd": "/no/such"}, "there is no folder /no/such"),
        ({"command": ["true"], "cwd": "src"}, "such as {home}/src"),
        ({"command": ["true"], "env_file": "/no/such"}, "/no/such: No such file"),
        ({"command": ["sh", "/no/such.sh"]}, "there is no file /no/such.sh"),
        ({"command": ["python3", "/no/such.py"]}, "there is no file /no/such.py"),
        ({"command": []}, "length >= 1"),
        ({"command": ["true"], "resume": ["{checkpoint}"]}, "checkpoints is not set"),
        ({"command": ["true"], "progress": {"pattern": "("}}, "no regular expression"),
        ({"command": ["true"], "progress": {"pattern": "a"}}, "no named group"),
        ({"command": ["true"], "comand": 1}, "did you mean 'command'?"),
    ],
)
def test_what_can_never_work_is_refused_in_one_line_before_the_start(
    make_run, start, options, said
):
    """With what to do; so `check-config` finds it."""
    run = make_run(trainer="command", target=None, options=options)
    code, output, errors = start(run, "command", "--check").end()
    assert (code, output, errors.count("\n")) == (EXIT_BAD_SPEC, "", 1)
    assert said in errors
    assert [path.name for path in run.iterdir()] == ["spec.json"]


@pytest.mark.parametrize(
    ("target", "progress", "said"),
    [
        ("epochs", None, "does not say how the program tells them"),
        ("epochs", {"pattern": r"(?P<step>\d+)"}, "tells step, and the target is in epochs"),
        ("epochs", {"pattern": r"(?P<epoch>\d+)"}, ""),
        ("epochs", {"pattern": r"(?P<epochs>\d+)"}, ""),
        ("epochs", {}, ""),
        ("seconds", None, "hangs cannot be noticed"),
        ("epochs", {**EPOCHS, "better": "higher"}, 'set better = "lower"'),
    ],
)
def test_a_target_is_in_what_the_program_tells(make_run, start, target, progress, said):
    """In whichever unit; what cannot be had is said."""
    options = {"command": ["true"], "progress": progress, "checkpoints": "*.pt"}
    run = make_run(trainer="command", target={"unit": target, "count": 3}, options=options)
    _, _, errors = start(run, "command", "--check").end()
    assert errors.strip() == "" if not said else said in errors


def test_a_program_that_is_no_program(make_program, ended, tmp_path):
    """The first start says so, where a look at the file could not."""
    program = write(tmp_path / "program", "")
    program.write_bytes(b"\0\0\0\0")
    code, output, _ = ended(make_program(str(program)))
    assert code == EXIT_BAD_SPEC
    assert "give it a first line such as #!/bin/sh" in output


def test_a_shell_is_there_where_it_is_asked_for(make_program, ended):
    """What is filled in is one word for it, whatever stands there."""
    script = ["for word in {options.text}; do", 'echo "<$word>"; done | tr a-z A-Z']
    options = {"shell": True, "options": {"text": "a; exit 3 $(exit 4)"}}
    code, output, _ = ended(make_program(*script, **options))
    assert code == EXIT_DONE
    assert "<A; EXIT 3 $(EXIT 4)>" in output


def test_the_environment_is_ours_the_files_and_the_options(make_program, ended, tmp_path):
    """In this order; a relative file lies below the working directory."""
    (tmp_path / "src").mkdir()
    (tmp_path / "src/env").write_text("# mine\nexport A=file\nB='two words'\n\n")
    run = make_program(
        *sh('echo "$A|$B|$C|$OMP_NUM_THREADS|$(pwd)"'),
        cwd=str(tmp_path / "src"),
        env_file="env",
        env={"A": "{seed}", "C": True},
    )
    _, output, _ = ended(run)
    assert f"1|two words|true|1|{tmp_path / 'src'}" in output
    (tmp_path / "src/env").write_text("A=1\nnonsense\n")
    code, output, _ = ended(run)
    assert code == EXIT_BAD_SPEC
    assert "line 2: write KEY=VALUE" in output


def test_its_umask_is_the_users(make_program):
    """Though what we make ourselves can be written by its owner alone."""
    run = make_program(*sh("umask; touch made"))
    words = ["/bin/sh", "-c", f"umask 002; exec {PYTHON} -m trainers command --run {run}"]
    # Where one of ours runs already, it has said whose umask counts.
    alone = {key: value for key, value in os.environ.items() if key != durable.UMASK}
    ended = subprocess.run(words, env=alone, capture_output=True, text=True, check=False)
    assert "0002\n" in ended.stdout
    assert (run / "work/made").stat().st_mode & 0o777 == 0o664
    assert not (run / "heartbeat.json").stat().st_mode & 0o022


def test_a_stop_is_a_signal_and_time_to_save(make_program, start, tmp_path):
    """The signal that is named, to the program; it leaves in its own time."""
    script = "trap 'sleep 0.3; echo saved; exit 0' INT; echo ready; while :; do sleep 0.05; done"
    life = start(make_program(*sh(script), stop_signal="SIGINT"), "command")
    assert "ready" in iter_until(life, "ready")
    life.signal(signal.SIGTERM)
    code, output, _ = life.end()
    assert code == EXIT_AGAIN
    assert "saved" in output
    assert life.heartbeat()["status"] == "stopped"


def iter_until(life, word):
    """The line of its output in which a word stands."""
    return next(line for line in iter(life.process.stdout.readline, "") if word in line)


def test_what_is_deaf_is_ended_with_its_whole_tree(make_program, start, children_of):
    """After its time, wherever its children have moved."""
    script = "trap '' TERM; setsid sleep 1000 & echo ready; while :; do sleep 0.05; done"
    run = make_program(*sh(script), stop_s=0.5)
    life = start(run, "command")
    iter_until(life, "ready")
    life.signal(signal.SIGTERM)
    assert life.end()[0] == EXIT_AGAIN
    assert not children_of(run)


def test_what_a_shell_leaves_behind_may_save_too(make_program, start, children_of, tmp_path):
    """A shell dies of the signal at once, and what it had started is asked as well."""
    child = write(
        tmp_path / "child.sh",
        """\
        #!/bin/sh
        trap 'sleep 0.3; touch saved; exit 0' TERM
        echo ready
        while :; do sleep 0.05; done
        """,
    )
    run = make_program(*sh(f"{child}; true"))
    life = start(run, "command")
    iter_until(life, "ready")
    life.signal(signal.SIGTERM)
    assert life.end()[0] == EXIT_AGAIN
    assert (run / "work/saved").exists()
    assert not children_of(run)


def test_nothing_is_left_behind_by_a_program_that_ends(make_program, ended, children_of):
    """Not even what keeps its output open; a person hears of it."""
    script = "setsid sleep 1000 & yes > /dev/null & echo step 1; sleep 0.5; exit 0"
    run = make_program(*sh(script), progress={"pattern": r"step (?P<step>\d+)"})
    code, _, beat = ended(run)
    assert code == EXIT_DONE
    assert not children_of(run)
    assert any("goes into the background" in notice for notice in beat["notices"])


def test_a_program_that_goes_into_the_background_is_not_done(make_program, ended, children_of):
    """It has made no step itself; what would be its training is ended."""
    run = make_program(*sh("setsid sleep 1000 & exit 0"))
    code, output, _ = ended(run)
    assert code == EXIT_BAD_SPEC
    assert "the program went into the background" in output
    assert not children_of(run)


def test_a_program_that_never_ends_is_stopped_at_its_target(make_run, ended, tmp_path):
    """It has a while to leave by itself; then it is asked to."""
    run = make_run(
        trainer="command",
        target={"unit": "epochs", "count": 3},
        options=learner(tmp_path, pause_s=0.05, finish_s=0.2),
    )
    code, _, beat = ended(run)
    assert (code, beat["status"]) == (EXIT_DONE, "done")
    assert beat["step"] >= 3


def test_an_evaluation_is_a_program_too(make_run, ended, start, tmp_path):
    """It prints numbers last, or writes them to the file that it is told."""
    script = "import json, sys; print('look'); print(json.load(open(sys.argv[1]))['epoch'], 1.5)"
    evaluate = [PYTHON, "-c", script, "{checkpoint}"]
    options = learner(tmp_path, count=3, pause_s=0.01, evaluate=evaluate)
    run = make_run(trainer="command", target={"unit": "epochs", "count": 3}, options=options)
    assert ended(run)[0] == EXIT_DONE
    code, output, _ = start(run, "command", "--evaluate", "1", "--json").end()
    assert code == 0
    assert json.loads(output)["returns"] == [3.0, 1.5]
    spec = json.loads((run / "spec.json").read_text())
    spec["options"]["evaluate"] = ["/bin/sh", "-c", 'echo noise; echo "[4]" > "$0"', "{out}"]
    (run / "spec.json").write_text(json.dumps(spec))
    code, output, _ = start(run, "command", "--evaluate", "1", "--json").end()
    assert json.loads(output)["returns"] == [4.0]


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        pytest.param(['cp "$0" "$1"'], 0, "at step 3", id="a file"),
        pytest.param(['mkdir "$1"; cp "$0" "$1/model.json"'], 0, "at step 3", id="a folder"),
        pytest.param(["echo nothing to write"], 78, "it printed last: nothing to write", id="none"),
        pytest.param(["exit 3"], 75, "options.export ended with exit code 3", id="fails"),
    ],
)
def test_what_was_learnt_is_written_by_a_program_of_the_users(
    make_run, ended, start, tmp_path, words, code, said
):
    """Whole, or not at all; nothing is left beside it."""
    export = ["/bin/sh", "-c", *words, "{checkpoint}", "{out}"]
    options = learner(tmp_path, count=3, pause_s=0.01, export=export)
    run = make_run(trainer="command", target={"unit": "epochs", "count": 3}, options=options)
    assert ended(run)[0] == EXIT_DONE
    place = tmp_path / "place"
    place.mkdir()
    was, output, errors = start(run, "command", "--export", str(place / "model.json")).end()
    assert was == code
    assert said in output + errors
    assert [path.name for path in place.iterdir()] == (["model.json"] if code == 0 else [])
    for path in place.rglob("*"):
        assert path.is_dir() or json.loads(path.read_text()) == {"epoch": 3}


def test_without_such_a_program_it_is_what_was_saved(make_run, ended, start, tmp_path):
    options = learner(tmp_path, count=3, pause_s=0.01)
    run = make_run(trainer="command", target={"unit": "epochs", "count": 3}, options=options)
    assert ended(run)[0] == EXIT_DONE
    out = tmp_path / "place.json"
    assert start(run, "command", "--export", str(out)).end()[0] == 0
    assert json.loads(out.read_text()) == {"epoch": 3}


@pytest.mark.parametrize("option", ["cwd", "env_file"])
def test_a_home_of_nobody_is_refused(make_program, ended, option):
    code, output, _ = ended(make_program("true", **{option: "~nobody-x/here"}))
    assert code == EXIT_BAD_SPEC
    assert f"options.{option}: ~nobody-x/here" in output


def test_it_does_not_inherit_what_is_ours(make_program, ended):
    """No handle but the three, nobody to ask, and the marker by which all of it is found."""
    run = make_program(*sh("ls /proc/self/fd | wc -l; read line; echo $?; env"))
    _, output, _ = ended(run)
    handles, read, *environment = [line for line in output.splitlines() if "trainers:" not in line]
    assert (handles, read) == ("4", "1")  # with the folder that is listed
    assert f"TRAINING_SUPERVISOR_RUN={run}" in environment
    assert not any(line.startswith("TRAINING_SUPERVISOR_UMASK") for line in environment)
