"""Trainers that lie outside of the project: in a folder of the user's, or in a package."""

from __future__ import annotations

import os
import subprocess
import sys

import msgspec
import pytest

from supervisor.programs import program
from testkit.builders import TRAINERS
from trainers import registry, yours
from trainers.__main__ import main
from trainers.beside import EXIT_UNKNOWN
from trainers.contract import EXIT_AGAIN, EXIT_BAD_SPEC, EXIT_DONE, TRAINERS_DIR

SOUND = '"""Is {}.\n\nAnd no more."""\nUNIT = "rounds"\ndef train(session): pass\n'


@pytest.fixture(autouse=True)
def own(tmp_path, monkeypatch):
    """The user's folder; what is imported of it is forgotten afterwards."""
    folder = tmp_path / "own"
    folder.mkdir()
    monkeypatch.setenv(TRAINERS_DIR, str(folder))
    monkeypatch.setattr(yours, "__path__", [str(folder)])
    before = set(sys.modules)
    yield folder
    for module in set(sys.modules) - before:
        del sys.modules[module]
        vars(yours).pop(module.rpartition(".")[2], None)


@pytest.fixture
def package(tmp_path, monkeypatch):
    """Puts a package with a module and an entry point where packages are installed."""
    place = tmp_path / "site"
    place.mkdir()
    monkeypatch.syspath_prepend(str(place))

    def installed(called, entry, value, source=None, module="theirs_of_the_test"):
        about = place / f"{called}-1.0.dist-info"
        about.mkdir()
        (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {called}\nVersion: 1.0\n")
        (about / "entry_points.txt").write_text(f"[{registry.GROUP}]\n{entry} = {value}\n")
        if source is not None:
            (place / module).mkdir()
            (place / module / "__init__.py").write_text("raise SystemExit('imported')\n")
            (place / module / "learn.py").write_text(source)

    return installed


def broken():
    return {str(one) for one in registry.everything() if not isinstance(one, registry.Found)}


def test_a_file_and_a_package_in_the_folder_are_trainers(own):
    """What lies beside one is imported from there, whatever else has such a name."""
    (own / "json.py").write_text("ours = 1\n")
    (own / "mine.py").write_text(SOUND.format("a file") + "from . import json\njson.ours\n")
    (own / "wide").mkdir()
    (own / "wide" / "__init__.py").write_text(SOUND.format("a package"))
    (own / "linked.py").symlink_to(own / "mine.py")
    assert registry.names() == sorted([*TRAINERS, "linked", "mine", "wide"])
    assert registry.load("mine").json.ours == 1
    assert registry.find("wide").about == "Is a package"
    assert registry.load("wide").__name__ == "trainers.yours.wide"
    assert not broken()


def test_what_is_called_like_a_part_of_ours_is_a_trainer_all_the_same(own):
    """Only the names of our trainers are taken, and not those of modules and variables of ours."""
    for name in ("session", "yours", "os", "folder", "my-1st"):
        (own / f"{name}.py").write_text(SOUND.format("a file"))
        assert registry.load(name).__file__ == str(own / f"{name}.py")
    assert registry.names() == sorted([*TRAINERS, "folder", "my-1st", "os", "session", "yours"])


def test_a_name_of_ours_is_nobody_elses(own, package):
    """In the folder it is refused with both places; an entry point cannot take it, and is told."""
    package("theirs", "drill", "theirs_of_the_test.learn", SOUND.format("theirs"))
    assert registry.load("drill").__name__ == "trainers.drill"
    (own / "atari.py").write_text(SOUND.format("mine"))
    with pytest.raises(registry.BrokenTrainer) as refused:
        registry.load("atari")
    assert str(own / "atari.py") in str(refused.value)
    assert str(registry.FOLDER / "atari/__init__.py") in str(refused.value)
    told = broken()
    assert str(refused.value) in told
    assert any("'drill'" in one and "theirs_of_the_test.learn" in one for one in told)
    assert len(told) == 2
    assert registry.names() == [*TRAINERS]


def test_an_entry_point_is_found_without_importing_anything(package):
    """Its package would end this process, which only a start may."""
    package("theirs", "far", "theirs_of_the_test.learn", SOUND.format("far away"))
    found = registry.find("far")
    assert (found.origin, found.about, found.unit) == ("theirs", "Is far away", "rounds")
    assert found.name in registry.names()
    with pytest.raises(registry.BrokenTrainer, match="SystemExit: imported"):
        registry.load("far")


def test_the_folder_goes_before_packages(own, package):
    """What somebody puts there is what they mean."""
    package("theirs", "far", "theirs_of_the_test.learn", SOUND.format("far away"))
    (own / "far.py").write_text(SOUND.format("near"))
    assert registry.load("far").__file__ == str(own / "far.py")
    assert not broken()


@pytest.mark.parametrize(
    ("value", "source", "why"),
    [
        ("theirs_of_the_test.learn:train", "", "names a module"),
        ("no_such_module_of_the_test", None, "names no module with Python source"),
        ("theirs_of_the_test.nothing", "", "names no module with Python source"),
        ("theirs_of_the_test.learn", "x = 1\n", "defines no train"),
        ("theirs_of_the_test.learn", "def train(:\n", "line 1: SyntaxError"),
        ("math", None, "names no module with Python source"),
    ],
)
def test_an_entry_point_that_leads_to_no_trainer_is_told_in_one_line(package, value, source, why):
    """For its own name alone."""
    package("theirs", "far", value, source)
    with pytest.raises(registry.BrokenTrainer, match=why) as refused:
        registry.load("far")
    assert "\n" not in str(refused.value)
    assert broken() == {str(refused.value)}
    assert registry.names() == [*TRAINERS]


def test_two_packages_with_a_trainer_of_one_name_are_told_both(package):
    """Neither is picked."""
    package("theirs", "far", "theirs_of_the_test.learn", SOUND.format("far away"))
    package("others", "far", "others_of_the_test.learn")
    with pytest.raises(registry.BrokenTrainer, match="others and theirs have"):
        registry.load("far")


def test_hostile_files_cost_their_own_line_and_nothing_else(own):
    """A pipe that nobody writes to, links that lead round, a file without end, other bytes."""
    (own / "mine.py").write_text(SOUND.format("sound"))
    os.mkfifo(own / "pipe.py")
    (own / "round.py").symlink_to("round.py")
    (own / "nowhere.py").symlink_to("no-such-file")
    (own / "rounds").symlink_to("rounds")
    (own / "folder.py").mkdir()
    (own / "bytes.py").write_bytes(b"\0\xff" * 100)
    with (own / "huge.py").open("wb") as huge:
        huge.truncate(2**40)
    (own / "two words.py").write_text(SOUND.format("sound"))
    (own / "_helper.py").write_text("not Python\n")
    (own / "notes.txt").write_text("none\n")
    told = broken()
    assert len(told) == 7
    assert not any("\n" in one for one in told)
    ours = sorted([*TRAINERS, "mine"])
    assert registry.names() == ours
    assert registry.load("mine").UNIT == "rounds"


@pytest.mark.parametrize("what", ["missing", "a file", "a loop"])
def test_a_folder_that_cannot_be_read_may_be_there_the_next_time(own, make_run, capsys, what):
    """A disk that is mounted late must end no run for good; ours are found all the same."""
    own.rmdir()
    if what == "a file":
        own.write_text("")
    elif what == "a loop":
        own.symlink_to(own)
    assert registry.load("drill")
    assert registry.names() == [*TRAINERS]
    assert main(["mine", "--run", str(make_run(trainer="mine")), "--check"]) == EXIT_AGAIN
    said = capsys.readouterr().err
    assert said.startswith(f"trainers: {own}: the folder of trainers_dir cannot be read: ")
    assert said.count("\n") == 1
    assert main(["mine", "--probe", '{"threads": 1}']) == EXIT_AGAIN
    assert capsys.readouterr().err == said
    assert main(["--list"]) == 0
    assert str(own) in capsys.readouterr().out


def test_the_list_tells_all_and_one_tells_its_options(own, capsys):
    """For people and for machines; what is broken has its line at the end."""
    (own / "mine.py").write_text(
        "import msgspec\nclass Options(msgspec.Struct, forbid_unknown_fields=True):\n"
        '    pace: int = 3\n    """how quick"""\n' + SOUND.format("mine").replace('"""', "'''")
    )
    (own / "bad.py").write_text("def train(:\n")
    assert main(["--list"]) == 0
    head, *_, last = capsys.readouterr().out.splitlines()
    assert head.split() == ["trainer", "step", "from", "what", "it", "does"]
    assert str(own / "bad.py") in last
    assert main(["--list", "--json"]) == 0
    told = msgspec.json.decode(capsys.readouterr().out)
    assert [one["name"] for one in told] == [*sorted([*TRAINERS, "mine"]), "bad"]
    assert [one["origin"] for one in told[3:5]] == ["the supervisor", "trainers_dir"]
    assert main(["mine", "--list"]) == 0
    assert capsys.readouterr().out.splitlines()[-1].split() == [
        *("pace", "3", "a", "whole", "number", "how", "quick")
    ]
    assert main(["mine", "--list", "--json"]) == 0
    assert msgspec.json.decode(capsys.readouterr().out)["options"] == [
        {
            "name": "pace",
            "type": "a whole number",
            "required": False,
            "default": 3,
            "about": "how quick",
        }
    ]


def test_an_unknown_trainer_is_told_with_the_nearest(own, capsys):
    """And a broken one with what is wrong with it."""
    (own / "mine.py").write_text(SOUND.format("sound"))
    (own / "bad.py").write_text("def train(:\n")
    assert main(["mien", "--list"]) == EXIT_UNKNOWN
    assert "did you mean 'mine'?" in capsys.readouterr().err
    assert main(["bad", "--list"]) == EXIT_BAD_SPEC
    assert "line 1: SyntaxError" in capsys.readouterr().err


def test_what_it_starts_itself_finds_its_code(own, make_run, tmp_path):
    """A pool of new processes, which know nothing but what they inherit and are sent."""
    (own / "wide").mkdir()
    (own / "wide" / "part.py").write_text("def double(n):\n    return 2 * n\n")
    (own / "wide" / "__init__.py").write_text(
        "import multiprocessing\nfrom . import part\ndef train(session):\n"
        "    with multiprocessing.get_context('spawn').Pool(1) as pool:\n"
        "        session.progress(sum(pool.map(part.double, [1, 2])))\n"
        "    session.save([('a', b'1')])\n"
    )
    run = make_run(trainer="wide", target_steps=6)
    command = [*program("trainers.__main__"), "wide", "--run", str(run)]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr) == (EXIT_DONE, "")
