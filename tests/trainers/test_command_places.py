"""What a program needs of the machine, told without starting it."""

import sys
from pathlib import Path

import msgspec
import pytest
from programs import write

from trainers import command
from trainers.contract import HOME, Need, Spec

SHELL = {"shell": True}


@pytest.fixture(autouse=True)
def _own_home(monkeypatch):
    """The home of a service, which is no person's."""
    monkeypatch.setenv("HOME", "/srv/own")
    monkeypatch.setenv(HOME, "/srv/own")


@pytest.fixture
def project(tmp_path):
    """A person's folder."""
    folder = tmp_path / "project"
    (folder / ".venv/bin").mkdir(parents=True)
    (folder / ".venv/pyvenv.cfg").write_text(f"home = {tmp_path}/pyenv/bin\nversion = 3.12\n")
    (folder / ".venv/bin/python").symlink_to("/usr/bin/env")
    (folder / "train.py").touch()
    return folder


def needs(*words, **options):
    """What is told of a run with that command: use and path, in their order."""
    spec = Spec(
        run="run", trainer="command", name="it", seed=1, target=None, threads=1, mode="light",
        checkpoint_interval_s=60.0, options={"command": list(words), **options},
    )  # fmt: skip
    return command.needs(spec)


def told(*words, **options):
    return [(need.use, need.path) for need in needs(*words, **options)]


def test_a_virtual_environment_is_shown_whole_and_so_is_what_it_is_made_from(project):
    """The interpreter alone would find none of its packages."""
    python = str(project / ".venv/bin/python")
    found = {need.path: need for need in needs(python, str(project / "train.py"))}
    assert found[python].within == str(project / ".venv")
    assert found[str(project.parent / "pyenv")].use == "enter"
    assert found[str(project / "train.py")].within == str(project)
    assert found["/usr"].what == f"the Python that {project}/.venv is made from"


def test_a_python_that_nobody_here_may_look_at_is_taken_for_one_of_an_environment():
    """Its name tells; of any other program the folder that it lies in is enough."""
    (python,) = needs("/home/nobody-here/env/bin/python3.12")
    assert python.within == "/home/nobody-here/env"
    (other,) = needs("/home/nobody-here/bin/train")
    assert other.within == "/home/nobody-here/bin"


@pytest.mark.parametrize(
    ("first", "interpreter"),
    [
        ("#!{}/.venv/bin/python -u", "{}/.venv/bin/python"),
        ("#!/usr/bin/env sh", "/usr/bin/sh"),
        ("#! /usr/bin/env -S A=1 sh -e", "/usr/bin/sh"),
        ("#!/usr/bin/env no-such-program", None),
        ("print(1)", None),
    ],
)
def test_a_script_needs_what_its_first_line_names(project, monkeypatch, first, interpreter):
    """Behind `env`, too, where the service would find it."""
    monkeypatch.setenv("PATH", "/usr/bin")
    script = write(project / "go", first.format(project) + "\n")
    uses = [path for use, path in told(str(script)) if use == "run"]
    wanted = [] if interpreter is None else [interpreter.format(project)]
    assert uses == [str(script), *wanted]


def test_each_word_that_is_a_path_is_named_also_behind_an_equals_sign(project):
    """Numbers and relative words are not, nor is what only a start knows."""
    words = ("--data", "/mnt/data.zip", "--out=/mnt/out", "{home}/x", "1", "sub/folder", "/")
    found = needs("true", *words, resume=["--from", "{checkpoint}"], checkpoints="*.pt")
    named = {need.path: need.within for need in found if need.use == "named"}
    assert named == {
        "/mnt/data.zip": "/mnt", "/mnt/out": "/mnt/out", "/srv/own/x": "/srv/own/x"
    }  # fmt: skip


def test_relative_words_are_those_of_its_working_folder(project):
    """The program, the script and what it saves."""
    found = told(
        "./go", cwd=str(project), checkpoints="out/{name}/ckpt-*/model.pt",
        evaluate=["python3", "train.py", "{checkpoint}", "{out}"],
    )  # fmt: skip
    assert ("enter", str(project)) in found
    assert ("run", str(project / "go")) in found
    assert ("read", str(project / "train.py")) in found
    assert ("write", str(project / "out/it")) in found
    assert ("run", str(project / "go")) in told("../go", cwd=str(project / ".venv"))


def test_without_a_working_folder_of_its_own_all_is_in_the_home():
    """The run's own folder is there for every run."""
    found = told("true", checkpoints="ckpt-*.pt", env_file="{home}/env")
    assert ("write", "/srv/own/runs/run/work") in found
    assert ("read", "/srv/own/env") in found


def test_a_tilde_is_the_home_of_the_service():
    """For whoever starts it is the account of the service."""
    assert ("run", "/srv/own/go") in told("~/go")
    assert ("enter", "/srv/own/x") in told("true", cwd="~/x")
    assert ("named", "/srv/own/data") in told("train --data ~/data", **SHELL)


def test_the_environment_names_places_too(project):
    """Each of a list; those of a file, where it can be read."""
    file = project / "env"
    file.write_text("export DATA=/mnt/data\nLEVEL=3\n")
    found = told("true", env_file=str(file), env={"PYTHONPATH": "/a/b:/c/d", "URL": "https://a.b"})
    assert ("read", str(file)) in found
    assert [path for use, path in found if use == "named"] == ["/mnt/data", "/a/b", "/c/d"]
    assert ("read", "/no/such") in told("true", env_file="/no/such")


def test_a_line_for_a_shell_is_looked_at_word_by_word(project):
    """Its first program is surely needed; the rest may be."""
    found = told(
        f"exec {project}/go --data '/mnt/my data'; cd /mnt/x && ./run >/mnt/log", "--n", "{seed}",
        **SHELL, resume=["--from", "{checkpoint}", "/mnt/base"], checkpoints="*",
    )  # fmt: skip
    assert ("run", str(project / "go")) in found
    named = [path for use, path in found if use == "named"]
    assert named == ["/mnt/my data", "/mnt/x", "/mnt/log", "/mnt/base"]
    assert ("named", "/mnt/x") in told("it's /mnt/x", **SHELL)
    found = told("DATA=/mnt/data exec ./go", **SHELL, cwd=str(project))
    assert ("run", str(project / "go")) in found
    assert ("named", "/mnt/data") in found


def test_a_program_is_looked_for_where_the_service_looks(project):
    """By the options' own PATH, where they have one; one that is nowhere is told by its name."""
    write(project / "mine", "")
    assert ("run", str(project / "mine")) in told("mine", env={"PATH": str(project)})
    assert ("run", "no-such-program") in told("no-such-program")


def test_the_command_line_tells_it_as_json(make_run, start):
    """For the supervisor; a trainer that needs nothing tells an empty list."""
    run = make_run(trainer="command", target=None, options={"command": [sys.executable]})
    code, output, errors = start(run, "command", "--needs").end()
    assert (code, errors) == (0, "")
    found = msgspec.json.decode(output, type=list[Need])
    assert found[0].path == sys.executable
    assert Path(found[0].path).is_relative_to(found[0].within)
    code, output, _ = start(make_run("other"), "drill", "--needs").end()
    assert (code, output) == (0, "[]\n")
    assert [path.name for path in run.iterdir()] == ["spec.json"]
