"""Settings that are edited to nonsense, in every way an editor has, harm nobody."""

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from testkit.machine import SETTINGS, Machine
from testkit.processes import mains

OTHERS = SETTINGS.replace('"E"', '"F"')
EDIT = 's/"E"/"F"/'


def by_vim(path: Path, *options: str) -> None:
    """Save as vim does."""
    editor = shutil.which("vim") or shutil.which("vim.tiny") or shutil.which("vi")
    if editor is None:
        pytest.skip("NOT TESTED: a save of vim; there is no vim here (apt-get install vim-tiny)")
    words = [editor, "-u", "NONE", "-N", "-es", "-n", *options, "-c", f"%{EDIT}", "-c", "wq", path]
    subprocess.run(words, check=True, stdin=subprocess.DEVNULL)


def by_renaming(path: Path) -> None:
    """What most editors do: the old file becomes a backup, and a new one is written in pieces."""
    content = OTHERS.encode()
    probe = path.with_name("4913")  # vim tries whether a file can be made here
    probe.touch()
    probe.unlink()
    backup = path.with_name(f"{path.name}~")
    path.rename(backup)
    with path.open("wb", buffering=0) as file:
        file.write(content[:60])
        file.write(content[60:])
        os.fsync(file.fileno())
    backup.unlink()


@pytest.mark.parametrize(
    "save",
    [
        pytest.param(by_vim, id="vim"),
        pytest.param(lambda path: by_vim(path, "-c", "set backup"), id="vim, with a backup"),
        pytest.param(
            lambda path: by_vim(path, "-c", "set backupcopy=yes"), id="vim, into the same file"
        ),
        pytest.param(lambda path: by_vim(path, "-c", "set backupcopy=no"), id="vim, by renaming"),
        pytest.param(by_renaming, id="step by step"),
        pytest.param(lambda path: subprocess.run(["sed", "-i", EDIT, path], check=True), id="sed"),
    ],
)
def test_an_editors_save_is_one_change(machine: Machine, save: Callable[[Path], None]) -> None:
    """However it goes about it, the new settings are in force, and no half file was believed."""
    machine.start()
    machine.until_steps("A")
    before = mains(machine.home / "runs")
    save(machine.home / "supervisor.toml")
    machine.until(lambda: machine.events("settings.changed"), "the new settings are in force")
    assert [run["name"] for run in machine.state()["runs"]] == ["A", "B", "C", "D", "F"]
    machine.until_steps("A", machine.heartbeat("A")["step"] + 50)
    assert len(machine.events("settings.changed")) == 1
    assert machine.events("settings.refused") == []
    assert mains(machine.home / "runs") == before


def gone(path: Path) -> None:
    path.unlink()


def replaced_by(make: Callable[[Path], object]) -> Callable[[Path], None]:
    def act(path: Path) -> None:
        path.unlink()
        make(path)

    return act


def edited_to(text: str) -> Callable[[Path], None]:
    return lambda path: path.write_text(text) and None


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        pytest.param(edited_to("[policy\n"), "not valid TOML", id="bad TOML"),
        pytest.param(edited_to(SETTINGS[: len(SETTINGS) // 2]), "TOML", id="half a file"),
        pytest.param(edited_to(""), "is empty", id="empty"),
        pytest.param(edited_to("\0" * 500), "TOML", id="NULs"),
        pytest.param(edited_to(f"[policy]\nstable_mins = 1\n{SETTINGS}"), "unknown key", id="key"),
        pytest.param(edited_to(f"[policy]\nstable_min = -1\n{SETTINGS}"), "-1", id="negative"),
        pytest.param(edited_to(f"[policy]\nstable_min = nan\n{SETTINGS}"), "nan", id="nan"),
        pytest.param(gone, "is gone", id="gone"),
        pytest.param(replaced_by(os.mkfifo), "supervisor.toml", id="a pipe"),
        pytest.param(replaced_by(Path.mkdir), "supervisor.toml", id="a folder"),
        pytest.param(
            replaced_by(lambda path: path.symlink_to("/nowhere/at/all")), "", id="a dangling link"
        ),
    ],
)
def test_nonsense_is_refused_and_the_last_good_settings_stay(
    machine: Machine, edit: Callable[[Path], None], said: str
) -> None:
    """The reason is said once, the same trainers train on, and the mended file is taken over."""
    machine.start()
    machine.until_steps("A")
    before = mains(machine.home / "runs")
    path = machine.home / "supervisor.toml"
    edit(path)
    machine.until(lambda: machine.events("settings.refused"), "the refusal")
    (refused,) = machine.events("settings.refused")
    assert said in refused["reason"]
    assert "the last good settings stay in force" in refused["reason"]
    machine.until_steps("A", machine.heartbeat("A")["step"] + 50)
    assert mains(machine.home / "runs") == before
    if path.is_dir() and not path.is_symlink():
        path.rmdir()
    path.unlink(missing_ok=True)
    machine.configure(SETTINGS)
    machine.until(lambda: machine.events("settings.changed"), "the mended file is taken over")
    assert len(machine.events("settings.refused")) == 1
    assert mains(machine.home / "runs") == before


def test_an_old_form_is_read_and_told_each_time_it_comes_in_force(machine: Machine) -> None:
    """Once for each start and each change, and not for each run; no trainer is disturbed by it."""
    old = SETTINGS.replace("target = { steps = 1000000 }", "target_steps = 1000000")
    assert old != SETTINGS
    machine.start()
    machine.until_steps("A")
    assert machine.events("settings.dated") == []
    before = mains(machine.home / "runs")
    machine.configure(f"{old}\n[run.B]\ntarget_steps = 1000000\n")
    machine.until(lambda: machine.events("settings.dated"), "the old form is told")
    (told,) = machine.events("settings.dated")
    assert "write target = { steps = 1000000 }; likewise in [run.B]" in told["reason"]
    machine.until_steps("A", machine.heartbeat("A")["step"] + 50)
    assert mains(machine.home / "runs") == before
    assert len(machine.events("settings.dated")) == 1
    machine.configure(SETTINGS)
    machine.until(lambda: len(machine.events("settings.changed")) == 2, "the new form is taken")
    assert len(machine.events("settings.dated")) == 1
    assert mains(machine.home / "runs") == before


def test_a_broken_mode_file_is_refused_and_a_mended_one_taken_over(machine: Machine) -> None:
    """A folder of modes that makes no sense changes nothing; what is mended, all train under."""
    machine.start()
    machine.until_steps("A")
    before = mains(machine.home / "runs")
    modes = machine.home / "modes"
    modes.mkdir()
    mode = "rung = 0\nslots = {}\nthreads = 7\n"
    (modes / "light.toml").write_text(mode.format(0))
    machine.configure(f'modes_dir = "modes"\n{SETTINGS}')
    machine.until(lambda: machine.events("settings.refused"), "the refusal")
    assert mains(machine.home / "runs") == before
    (modes / "light.toml").write_text(mode.format(3))
    machine.until(lambda: machine.events("settings.changed"), "the mended mode")
    machine.until(lambda: len(mains(machine.home / "runs") - before) == 3, "three begin anew")
    assert not before & mains(machine.home / "runs")
    specs = [json.loads(path.read_bytes()) for path in machine.home.glob("runs/*/spec.json")]
    assert [spec["threads"] for spec in specs] == [7, 7, 7]
    assert machine.events("run.died") == []


def test_a_monstrous_key_in_the_settings_stays_one_line(machine: Machine) -> None:
    """A reason has a bounded length and nothing that moves a cursor."""
    machine.start()
    machine.configure(f'"{"k" * 3_000_000}\\n\\u001b[31m" = 1\n{SETTINGS}')
    machine.until(lambda: machine.events("settings.refused"), "the refusal")
    (refused,) = machine.events("settings.refused")
    assert len(refused["reason"]) <= 2000
    assert refused["reason"].isprintable()
