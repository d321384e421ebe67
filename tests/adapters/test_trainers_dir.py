"""The folder of the user's own trainers: judged with the settings, watched by who is kept warm."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from modes.toml_file import InvalidFile
from supervisor.config import Config
from supervisor.programs import with_trainers
from supervisor.runners.warm import _sources
from trainers.contract import TRAINERS_DIR


@pytest.fixture
def settings(tmp_path: Path) -> Path:
    (tmp_path / "own").mkdir()
    path = tmp_path / "supervisor.toml"
    path.write_text("trainers_dir = 'own'\n")
    return path


def test_it_is_relative_to_the_settings_and_may_be_a_link(settings: Path) -> None:
    """None where no folder is named."""
    assert Config(settings).trainers_dir == settings.parent / "own"
    (settings.parent / "own").rename(settings.parent / "elsewhere")
    (settings.parent / "own").symlink_to("elsewhere")
    assert Config(settings).trainers_dir == settings.parent / "own"
    settings.write_text("cost_per_hour = 1\n")
    assert Config(settings).trainers_dir is None


@pytest.mark.parametrize("named", ["nowhere", "supervisor.toml", "a\\u0000b", "round", "~nobody-x"])
def test_one_that_cannot_be_read_is_refused_and_the_last_one_holds(
    settings: Path, named: str
) -> None:
    """While the supervisor runs, and over its start anew."""
    kept = settings.with_name("kept.json")
    (settings.parent / "round").symlink_to("round")
    config = Config(settings, last_good=kept)
    config.refresh()
    settings.write_text(f'trainers_dir = "{named}"\n')
    changed, problems = config.refresh()
    assert not changed
    assert len(problems) == 1
    assert "trainers_dir = " in problems[0]
    assert config.refresh() == (False, ())
    assert config.trainers_dir == settings.parent / "own"
    assert Config(settings, last_good=kept).trainers_dir == settings.parent / "own"
    with pytest.raises(InvalidFile, match="trainers_dir = "):
        Config(settings)


def test_a_folder_that_comes_later_is_taken_over_without_a_change_of_the_settings(
    settings: Path,
) -> None:
    """As a disk that is mounted after the boot."""
    config = Config(settings)
    settings.write_text("trainers_dir = 'late'\n")
    assert len(config.refresh()[1]) == 1
    (settings.parent / "late").mkdir()
    assert config.refresh() == (True, ())
    assert config.trainers_dir == settings.parent / "late"


def test_what_somebody_else_has_set_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """The settings alone say which trainers there are."""
    monkeypatch.setenv(TRAINERS_DIR, "/elsewhere")
    assert TRAINERS_DIR not in with_trainers(None)
    assert with_trainers(Path("/own"))[TRAINERS_DIR] == "/own"


def test_code_that_a_warm_parent_may_have_imported_is_watched(tmp_path: Path) -> None:
    """Files of the folder and of packages in it, at any depth; no data, and no way in a circle."""
    deep = tmp_path / "wide" / "deep"
    deep.mkdir(parents=True)
    for folder in (tmp_path / "wide", deep):
        (folder / "__init__.py").write_text("")
        (folder / "round").symlink_to(tmp_path)
    (tmp_path / "wide" / "data").mkdir()
    (tmp_path / "round").symlink_to("round")
    (tmp_path / "nowhere.py").symlink_to("no-such-file")
    os.mkfifo(tmp_path / "pipe.py")
    before = _sources(tmp_path)
    assert before == _sources(tmp_path)
    assert before != _sources(None)
    (tmp_path / "wide" / "data" / "sample.py").write_text("")
    assert before == _sources(tmp_path)
    (deep / "new.py").write_text("")
    after = _sources(tmp_path)
    assert before != after
    os.utime(deep / "new.py", ns=(1, 1))
    assert after != _sources(tmp_path)
    assert _sources(tmp_path / "away") != _sources(None)
