"""One broken trainer is named, with file and line, and spoils nothing for the others."""

import os
import sys

import pytest

import trainers
from trainers import registry
from trainers.__main__ import main
from trainers.contract import EXIT_AGAIN

SOUND = "def check(spec): pass\ndef train(session): pass\n"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder of trainers with a sound one."""
    monkeypatch.setattr(registry, "FOLDER", tmp_path)
    monkeypatch.setattr(trainers, "__path__", [str(tmp_path), *trainers.__path__])
    before = set(sys.modules)
    (tmp_path / "sound.py").write_text(SOUND)
    yield tmp_path
    for module in set(sys.modules) - before:
        del sys.modules[module]
        vars(trainers).pop(module.rpartition(".")[2], None)


def syntax(path):
    path.write_text("def check(spec): pass\ndef train(session)\n    pass\n")


def other_bytes(path):
    path.write_bytes(SOUND.encode() + b"x = 'caf\xe9'\n")


def null_bytes(path):
    path.write_bytes(SOUND.encode() + b"\0\0\0")


def too_deep(path):
    path.write_text(SOUND + "x = " + "(" * 5000 + ")" * 5000)


def a_folder(path):
    path.mkdir()


def a_pipe(path):
    os.mkfifo(path)


def a_link_to_nothing(path):
    path.symlink_to("nowhere.py")


def unreadable(path):
    path.symlink_to(path)


def without_check(path):
    path.write_text("def train(session): pass\n")


def a_missing_import(path):
    path.write_text("\nimport no_such_package\n" + SOUND)


def an_error_when_imported(path):
    path.write_text(SOUND + "{}['key']\n")


def an_exit_when_imported(path):
    path.write_text(SOUND + "raise SystemExit(0)\n")


def an_error_in_what_it_imports(path):
    path.with_name("part.py").write_text("def broken(:\n")
    path.write_text("from trainers import part\n" + SOUND)


def a_file_that_it_misses(path):
    path.write_text(SOUND + "open('/no/such/file')\n")


@pytest.mark.parametrize(
    ("damage", "line"),
    [
        (syntax, 2),
        (other_bytes, 3),
        (null_bytes, None),
        (too_deep, 3),
        (a_folder, None),
        (a_pipe, None),
        (a_link_to_nothing, None),
        (unreadable, None),
        (without_check, None),
        (a_missing_import, 2),
        (an_error_when_imported, 3),
        (an_exit_when_imported, 3),
        (an_error_in_what_it_imports, 1),
        (a_file_that_it_misses, 3),
    ],
)
def test_a_broken_trainer_is_named_for_its_own_runs_alone(damage, line, folder):
    """Others are found, and a wrong name is told as one, with the list of what there is."""
    damage(folder / "neighbour.py")
    registry.load("sound")
    with pytest.raises(registry.NoTrainer, match=r"there is no trainer 'nosuch'; .*sound"):
        registry.load("nosuch")
    with pytest.raises(registry.BrokenTrainer) as refused:
        registry.load("neighbour")
    said = str(refused.value)
    where = f"{folder}/neighbour.py"
    assert (f"{where}, line {line}: " if line else f"{where}") in said
    assert "\n" not in said


@pytest.mark.parametrize("name", ["../sound", "", ".sound", "so und", "part"])
def test_what_is_no_trainer_is_told_as_a_wrong_name(name, folder):
    """A path, nothing, and a module beside the trainers that trains nothing."""
    (folder / "part.py").write_text("x = 1\n")
    with pytest.raises(registry.NoTrainer, match=r"there are: sound$"):
        registry.load(name)


def test_a_trainer_may_lie_elsewhere(folder, tmp_path_factory):
    """A link to a file is as good as the file."""
    (elsewhere := tmp_path_factory.mktemp("elsewhere") / "mine.py").write_text(SOUND)
    (folder / "mine.py").symlink_to(elsewhere)
    registry.load("mine")
    assert registry.names() == ["mine", "sound"]


def test_want_of_memory_says_nothing_of_a_trainer(folder):
    """It may be over at the next start."""
    (folder / "large.py").write_text(SOUND + "raise MemoryError\n")
    with pytest.raises(MemoryError):
        registry.load("large")


def test_an_error_in_a_check_is_told_with_its_place(folder, make_run, capsys):
    """The last line is what `supervisor check-config` passes on."""
    (folder / "hasty.py").write_text("def train(session): pass\ndef check(spec):\n    spec.no\n")
    run = make_run(trainer="hasty")
    assert main(["hasty", "--run", str(run), "--check"]) == EXIT_AGAIN
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith(
        f"trainers: the trainer 'hasty' cannot be used: {folder}/hasty.py, line 3"
    )
