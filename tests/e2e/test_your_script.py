"""A script of the user's, under a real supervisor: the two minutes of the page."""

from __future__ import annotations

import json
import os
import re
import signal
from pathlib import Path
from typing import Any

import pytest

from testkit.machine import Machine
from testkit.processes import processes

PAGE = Path(__file__).parents[2] / "docs/how-to/supervise-your-script.md"
MORE = """
[policy]
tick_s = 0.5

[warm]
trainers = []
"""


def block(language: str) -> str:
    """The first block of that language on the page."""
    found = re.search(rf"```{language}\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert found
    return found[1]


@pytest.fixture
def first(machine: Machine) -> Machine:
    """The home of the page, whose script learns five times as fast, and has more to learn."""
    script = block("python").replace("sleep(2)", "sleep(0.4)").replace("< 20", "< 1000")
    (machine.home / "train.py").write_text(script)
    machine.configure(block("toml").replace("epochs = 20", "epochs = 1000") + MORE)
    return machine


def beat(machine: Machine) -> dict[str, Any]:
    return machine.heartbeat("first", "command")


def until_saved(machine: Machine, beyond: int) -> int:
    """Wait for a checkpoint that has more steps; which it has."""
    machine.until(lambda: (beat(machine).get("checkpoint_step") or 0) > beyond, "it is kept")
    return int(beat(machine)["checkpoint_step"])


def resumed(machine: Machine) -> list[int]:
    """After which epochs the script has gone on."""
    output = (machine.home / "runs/command-first/output.log").read_text()
    return [int(epoch) for epoch in re.findall(r"resumed after epoch (\d+)", output)]


def test_the_script_of_the_page_goes_on_whatever_is_killed(first: Machine) -> None:
    """The script, its trainer, or everything at once; and it is stopped cleanly."""
    checked = first("check-config")
    assert (checked.returncode, checked.stderr) == (0, "")
    first.start()
    saved = until_saved(first, 0)
    trainer = beat(first)["pid"]
    (script,) = [it.pid for it in processes(first.home / "runs") if it.pid != trainer]
    os.kill(script, signal.SIGKILL)
    first.until(lambda: len(resumed(first)) == 1, "it goes on after its own death")
    assert "signal 9" in first.events("run.died")[0]["reason"]

    saved = until_saved(first, saved)
    os.kill(beat(first)["pid"], signal.SIGKILL)
    first.until(lambda: len(resumed(first)) == 2, "it goes on after the death of its trainer")

    saved = until_saved(first, saved)
    first.reboot()
    daemon = first.start()
    first.until(lambda: len(resumed(first)) == 3, "it goes on after a power cut")
    assert resumed(first) == sorted(resumed(first))
    assert resumed(first)[-1] >= saved
    until_saved(first, saved)
    assert first.stop(daemon) == 0
    assert first.trainers() == {}
    assert first.events("run.failed") == []


def test_a_check_for_the_service_tells_what_that_would_not_see(first: Machine) -> None:
    """Once for each thing, in place of what the check of a person would say; notes are none."""
    folder = "/home/nobody-here/first"
    named = f'"{folder}/.venv/bin/python", "{folder}/train.py", "--data", "/root/mnist"'
    text = block("toml").replace('"python3", "{home}/train.py"', named)
    first.configure(text + MORE)
    checked = first("check-config", "--as-service")
    assert checked.returncode == 78
    program, script = checked.stderr.splitlines()
    assert f"run first: {folder}/.venv/bin/python (its program): the service does not" in program
    assert f"run first: {folder}/train.py (its script): the service does not see it" in script
    for line in (program, script):
        assert line.endswith(
            f": supervisor install --system --bind {folder} (or take install --user)"
        )
    first.configure(block("toml").replace('"{work}"', '"/root/out"') + MORE)
    checked = first("check-config", "--as-service")
    assert (checked.returncode, checked.stderr) == (0, "")
    assert "note: run first: /root/out (a word of its command): the service does" in checked.stdout


def test_what_is_wrong_with_a_program_is_found_before_the_start(first: Machine) -> None:
    """In one line, with what to do; and what cannot be had is said."""
    (first.home / "train.py").rename(first.home / "learn.py")
    checked = first("check-config")
    assert checked.returncode == 78
    assert f"run first: options.command: there is no file {first.home}/train.py" in checked.stderr
    first.configure('[run.first]\ntrainer = "command"\noptions = { command = ["true"] }\n')
    checked = first("check-config")
    assert checked.returncode == 0
    assert "note: run first: this program tells no progress: hangs cannot" in checked.stdout
    (found,) = [
        one for one in json.loads(first("doctor", "--json").stdout) if one["what"] == "trainers"
    ]
    assert found["verdict"] == "note"
