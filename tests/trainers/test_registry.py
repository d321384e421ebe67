"""One broken trainer is named, with file and line, and spoils nothing for the others."""

import os
import sys
import threading

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


class Restless:
    """Garbage whose collection lets another thread go on."""

    def __init__(self):
        self.own = self

    def __del__(self):
        for _ in range(50):
            pass


def test_many_threads_find_a_trainer_at_once(folder):
    """Python itself stumbles over two sources that are parsed at the same moment."""
    (folder / "sound.py").write_text(SOUND + "x = [f(y + 1) for y in range(z(2))]\n" * 300)
    wrong = []

    def find():
        try:
            for _ in range(40):
                assert [Restless() for _ in range(20)]
                registry.find("sound")
        except SystemError as error:
            wrong.append(error)

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [threading.Thread(target=find) for _ in range(4)]
        for one in threads:
            one.start()
        for one in threads:
            one.join()
    finally:
        sys.setswitchinterval(before)
    assert not wrong


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


def another_name(path):
    path.write_text(SOUND + "NAME = 'other'\n")


def a_name_that_only_an_import_tells(path):
    path.write_text(SOUND + "NAME = 'neigh' + 'bour'\n")


def a_unit_that_is_none(path):
    path.write_text(SOUND + "UNIT: str = 'two words'\n")


def options_that_let_everything_pass(path):
    path.write_text("import msgspec\nclass Options(msgspec.Struct): pass\n" + SOUND)


def options_that_are_no_struct(path):
    path.write_text(SOUND + "Options = dict\n")


def a_package_beside_it(path):
    path.write_text(SOUND)
    (path.with_suffix("") / "__init__.py").parent.mkdir()
    (path.with_suffix("") / "__init__.py").write_text(SOUND)


def far_too_large(path):
    path.write_text(SOUND + "x = 1\n" * 200_000)


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
        (another_name, None),
        (a_name_that_only_an_import_tells, 3),
        (a_unit_that_is_none, 3),
        (options_that_let_everything_pass, None),
        (options_that_are_no_struct, None),
        (a_package_beside_it, None),
        (far_too_large, None),
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


def test_a_package_is_a_trainer_and_its_other_modules_are_its_own_affair(folder):
    """What it says of itself is read from its first file, which may have `train` of another."""
    (folder / "wide").mkdir()
    first = '"""Goes far. And wide."""\nNAME = "wide"\nUNIT = "miles"\nfrom .go import train\n'
    (folder / "wide" / "__init__.py").write_text(first)
    (folder / "wide" / "go.py").write_text("def train(session): pass\n")
    (folder / "plain").mkdir()
    (folder / "plain" / "train.py").write_text(SOUND)
    assert registry.names() == ["sound", "wide"]
    found = registry.find("wide")
    assert (found.unit, found.about) == ("miles", "Goes far")
    assert registry.load("wide").train.__module__ == "trainers.wide.go"


def test_an_error_in_a_package_is_told_with_the_file_that_it_is_in(folder):
    """Whoever mends it opens that one."""
    (folder / "wide").mkdir()
    (folder / "wide" / "__init__.py").write_text("from .go import train\n")
    (folder / "wide" / "go.py").write_text("\n\nimport no_such_package\n")
    with pytest.raises(registry.BrokenTrainer, match=rf"{folder}/wide/go\.py, line 3: "):
        registry.load("wide")


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
