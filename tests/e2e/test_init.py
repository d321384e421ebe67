"""Settings for the program in a folder, from nothing to the end of its training."""

from __future__ import annotations

import fnmatch
import os
import pty
import re
import select
import signal
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import supervised
from supervisor.proposal import KEPT
from testkit.machine import Machine
from testkit.patience import PATIENCE_S, until

PAGE = Path(__file__).parents[2] / "docs/how-to/supervise-your-script.md"
SCRIPT = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)[0]
INTERRUPTIBLE = ("env", "--default-signal=INT")
"""whoever runs tests beside each other has made this process deaf to Ctrl-C, and what it starts"""
SOON = SCRIPT.replace("sleep(2)", "sleep(0.1)")


@pytest.fixture
def folder(machine: Machine) -> Path:
    """A folder with the script of the page, in which nobody has written settings."""
    (machine.home / "supervisor.toml").unlink()
    (machine.home / "train.py").write_text(SOON)
    return machine.home


def settings(folder: Path) -> dict[str, Any]:
    return tomllib.loads((folder / "supervisor.toml").read_text(encoding="utf-8"))


def test_a_script_in_a_fresh_folder_is_trained_to_its_end(machine: Machine, folder: Path) -> None:
    """With no word of settings from a person; and what lies there then is what git is told of."""
    written = machine("init", str(folder), "--target", "epochs=20")
    assert (written.returncode, written.stderr) == (0, "")
    assert written.stdout.splitlines()[-1] == f"next: supervisor --home {folder} run"
    run = settings(folder)["run"]["home"]
    assert run["target"] == {"epochs": 20}
    assert run["options"]["resume"] == ["--resume", "{checkpoint}"]
    checked = machine("check-config")
    assert (checked.returncode, checked.stderr) == (0, "")
    assert "note" not in checked.stdout

    ended = machine("run", "--plain", "--until-done")
    assert ended.returncode == 0, ended.stderr
    assert machine.heartbeat("home", "command")["checkpoint_step"] == 20
    assert machine.heartbeat("home", "command")["score"]["name"] == "loss"
    there = {f"/{it.name}" + ("/" if it.is_dir() else "") for it in folder.iterdir()}
    known = {name for name in there for kept in KEPT if fnmatch.fnmatch(name, kept)}
    assert there - known == {"/train.py", "/supervisor.toml"}


def test_what_is_said_is_not_guessed(machine: Machine, folder: Path) -> None:
    """Each option has its place in the settings."""
    command = f"{sys.executable} train.py --out {{work}}"
    told = machine(
        "init", str(folder), "--command", command, "--name", "mine", "--target", "epochs=3",
        "--checkpoints", "{work}/ckpt-*", "--resume", "--resume {checkpoint}",
    )  # fmt: skip
    assert told.returncode == 0, told.stderr
    (run,) = settings(folder)["run"].values()
    assert "mine" in settings(folder)["run"]
    assert run["options"]["command"] == [sys.executable, "train.py", "--out", "{work}"]
    assert run["options"]["checkpoints"] == "{work}/ckpt-*"
    assert machine("run", "--plain", "--until-done").returncode == 0
    assert machine.heartbeat("mine", "command")["step"] >= 3


@pytest.mark.parametrize("make", ["file", "folder", "link"])
def test_what_is_there_stays_as_it_is(machine: Machine, folder: Path, make: str) -> None:
    """And the words to add to it are printed; a link that leads nowhere is there, too."""
    place = folder / "supervisor.toml"
    {
        "file": lambda: place.write_text("[run.other]\n"),
        "folder": place.mkdir,
        "link": lambda: place.symlink_to(folder / "nowhere"),
    }[make]()
    before = place.lstat()
    refused = machine("init", str(folder), "--name", "mine")
    assert refused.returncode == 2
    assert "stays as it is; add to it" in refused.stderr
    assert tomllib.loads(refused.stdout)["run"].keys() == {"mine"}
    assert place.lstat() == before
    assert not (folder / "nowhere").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "why"),
    [
        (["--name", "a b"], 2, "is no name"),
        (["--target", "many"], 2, "write it as epochs=50"),
        (["--command", "'"], 2, "No closing quotation"),
        (["--command", ""], 2, "name a program"),
        (["--command", "no-such-program"], 78, "there is no program 'no-such-program'"),
        (["--command", "python3 no.py"], 78, "there is no file"),
        (["--resume", "{chekpoint}"], 78, "did you mean {checkpoint}?"),
    ],
)
def test_what_cannot_work_is_refused_and_nothing_is_written(
    machine: Machine, folder: Path, arguments: list[str], code: int, why: str
) -> None:
    """In the words of `check-config`."""
    refused = machine("init", str(folder), *arguments)
    assert (refused.returncode, refused.stdout) == (code, "")
    assert why in refused.stderr
    assert {it.name for it in folder.iterdir()} == {"train.py"}


def test_an_empty_folder_and_none_are_refused(machine: Machine, tmp_path: Path) -> None:
    """With what to do."""
    (tmp_path / "empty").mkdir()
    refused = machine("init", str(tmp_path / "empty"))
    assert refused.returncode == 2
    assert "--command 'python3 train.py'" in refused.stderr
    refused = machine("init", str(tmp_path / "gone"))
    assert "there is no folder" in refused.stderr
    assert not (tmp_path / "gone").exists()


@pytest.mark.parametrize("name", ['it\'s "mine".py', "a\\b c.py", "{x} \u20ac\u4e2d.py", "-x=1.py"])
def test_a_script_of_any_name_is_found_again(machine: Machine, folder: Path, name: str) -> None:
    """By the settings that were written."""
    (folder / "train.py").rename(folder / name)
    assert machine("init", str(folder)).returncode == 0
    checked = machine("check-config")
    assert (checked.returncode, checked.stderr) == (0, "")
    command = settings(folder)["run"]["home"]["options"]["command"]
    assert command[1] == "{home}/" + name.replace("{", "{{").replace("}", "}}")


def test_hostile_files_of_a_folder_are_passed_over(machine: Machine, folder: Path) -> None:
    """Those that never end, that nobody may read or name, and folders."""
    os.mkfifo(folder / "main.py")
    (folder / "run.py").mkdir()
    (folder / os.fsdecode(b"\xff.py")).write_text("")
    (folder / "gone.py").symlink_to("nowhere")
    (folder / "bad.py").write_bytes(b"\xff\0" * 1000)
    assert machine("init", str(folder)).returncode == 0
    assert settings(folder)["run"]["home"]["options"]["command"][1] == "{home}/train.py"


def test_the_module_to_report_with_is_put_there(machine: Machine, folder: Path) -> None:
    """Another one of that name stays."""
    told = machine("init", str(folder), "--reporting")
    assert told.returncode == 0, told.stderr
    module = folder / "supervised.py"
    assert module.read_bytes() == Path(supervised.__file__).read_bytes()
    (folder / "supervisor.toml").unlink()
    module.write_text("mine = True\n")
    told = machine("init", str(folder), "--reporting")
    assert "another one than ours" in told.stdout
    assert module.read_text() == "mine = True\n"


def test_the_present_folder_is_meant_where_none_is_named(machine: Machine, folder: Path) -> None:
    """Whatever home other commands would take."""
    told = subprocess.run(
        machine.command("init"),
        cwd=folder,
        env={**machine.environment(), "SUPERVISOR_HOME": "/nonexistent"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert (told.returncode, told.stderr) == (0, "")
    assert told.stdout.splitlines()[-1] == "next: supervisor --home . run"
    assert settings(folder)["run"].keys() == {"home"}
    named = machine("--home", str(folder), "init")
    assert "stays as it is" in named.stderr


class Person:
    """Somebody at a terminal."""

    def __init__(self, command: list[str], environment: dict[str, str]) -> None:
        self.pid, self._handle = pty.fork()
        if self.pid == 0:
            os.execvpe(INTERRUPTIBLE[0], [*INTERRUPTIBLE, *command], environment)  # noqa: S606
        self.seen = ""

    def sees(self, text: str) -> None:
        """Wait for that on the screen."""
        while text not in self.seen:
            self.seen += os.read(self._handle, 4096).decode()

    def types(self, text: str) -> None:
        """Type that; what was seen before is over."""
        self.seen = ""
        os.write(self._handle, text.encode())

    def sees_the_end(self, again: str = "") -> int:
        """Read all that is still told; the exit code.

        Args:
            again: what is typed again while nothing happens: Python, which has just begun to wait
                for an answer, may not notice the first Ctrl-C.
        """
        try:
            while True:
                if not select.select([self._handle], [], [], 1.0)[0]:
                    os.write(self._handle, again.encode())
                elif piece := os.read(self._handle, 4096):
                    self.seen += piece.decode()
                else:
                    break
        except OSError:  # nobody has the terminal open any more
            pass
        os.close(self._handle)
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


@pytest.fixture
def person(machine: Machine, folder: Path) -> Callable[..., Person]:
    """Somebody who types a command."""
    return lambda *words: Person(
        machine.command("init", str(folder), *words), machine.environment()
    )


def test_three_questions_are_asked_on_a_terminal(
    person: Callable[..., Person], folder: Path
) -> None:
    """Each shows what is guessed, which an empty answer takes; nonsense is asked again."""
    somebody = person()
    somebody.sees("Which program? [python3 '{home}/train.py' --out '{work}'] ")
    somebody.types("\n")
    somebody.sees("What does it save? [{work}/ckpt-*.json] ")
    somebody.types("{work}/ckpt-1*.json\n")
    somebody.sees("and which words resume from it? [--resume '{checkpoint}'] ")
    somebody.types("-\n")
    somebody.sees("How far? [until it ends] ")
    somebody.types("far\n")
    somebody.sees("write it as epochs=50")
    somebody.sees("How far? [until it ends] ")
    somebody.types("12 epochs\n")
    assert somebody.sees_the_end() == 0
    (run,) = settings(folder)["run"].values()
    assert run["target"] == {"epochs": 12}
    assert run["options"]["checkpoints"] == "{work}/ckpt-1*.json"
    assert "resume" not in run["options"]
    assert run["options"]["command"] == ["python3", "{home}/train.py", "--out", "{work}"]


def test_what_is_said_is_not_asked(person: Callable[..., Person], folder: Path) -> None:
    """With nothing left to ask, nothing is."""
    somebody = person(
        "--command", "python3 train.py", "--checkpoints", "-", "--target", "epochs=20"
    )  # fmt: skip
    assert somebody.sees_the_end() == 0
    assert "?" not in somebody.seen
    assert "checkpoints" not in settings(folder)["run"]["home"]["options"]


@pytest.mark.parametrize("answer", ["\x03", "\x04"], ids=["Ctrl-C", "Ctrl-D"])
@pytest.mark.parametrize("questions", [0, 3])
def test_who_goes_away_leaves_nothing_behind(
    person: Callable[..., Person], folder: Path, answer: str, questions: int
) -> None:
    """At whichever question."""
    somebody = person()
    for _ in range(questions):
        somebody.sees("] ")
        somebody.types("\n")
    somebody.sees("] ")
    somebody.types(answer)
    assert somebody.sees_the_end(again=answer) == (130 if answer == "\x03" else 2)
    assert {it.name for it in folder.iterdir()} == {"train.py"}


def test_who_goes_away_while_it_is_checked_leaves_nothing_behind(
    machine: Machine, folder: Path
) -> None:
    """The file is the last thing that is made."""
    asked = subprocess.Popen(
        [*INTERRUPTIBLE, *machine.command("init", str(folder))],
        env=machine.environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    children = Path(f"/proc/{asked.pid}/task/{asked.pid}/children")
    until(lambda: children.read_text() or asked.poll() is not None, "it is checked")
    asked.send_signal(signal.SIGINT)
    asked.communicate(timeout=PATIENCE_S)
    assert asked.returncode == 130
    assert {it.name for it in folder.iterdir()} == {"train.py"}
