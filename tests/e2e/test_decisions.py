"""Looking for something in the decision log, and for what the machine went through."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from supervisor.journal import encode
from testkit.builders import TRAINERS
from testkit.machine import Machine
from testkit.patience import PATIENCE_S

AT = "2026-11-{day:02}T12:00:00.000Z"
EVENTS = ("boot.recorded", "mode.changed", "run.died", "run.done", "slots.assigned")


@pytest.fixture
def logged(machine: Machine) -> Machine:
    """A home whose log has five lines of each day of a month, in three files of ten days."""
    lines = []
    for day in range(1, 31):
        for event in EVENTS:
            about: dict[str, Any] = {"run": "drill-A"} if event == "run.died" else {}
            about = {"run": "drill-B"} if event == "run.done" else about
            about = {"runs": ["drill-A", "drill-B"]} if event == "slots.assigned" else about
            line = {"version": 1, "seq": len(lines) + 1, "time": AT.format(day=day)}
            lines.append(encode({**line, "event": event, "reason": "a sentence", **about}) + b"\n")
    for age, first in ((2, 0), (1, 50), (0, 100)):
        name = f"decisions.jsonl.{age}" if age else "decisions.jsonl"
        (machine.home / name).write_bytes(b"".join(lines[first : first + 50]))
    return machine


def found(machine: Machine, *arguments: str) -> list[tuple[int, str]]:
    """The day and the event of each line that is shown."""
    answer = machine("decisions", "--json", *arguments)
    assert (answer.returncode, answer.stderr) == (0, "")
    lines = [json.loads(line) for line in answer.stdout.splitlines()]
    return [(int(line["time"][8:10]), line["event"]) for line in lines]


def test_lines_are_chosen_by_event_run_and_time(logged: Machine) -> None:
    """Each choice narrows what is shown, in whichever file it lies; what is left is counted."""
    assert found(logged, "--event", "mode.changed", "-n", "25") == [
        (day, "mode.changed") for day in range(6, 31)
    ]
    assert found(logged, "--event", "run", "-n", "2") == [(30, "run.died"), (30, "run.done")]
    both = found(logged, "--event", "boot", "--event", "mode", "--since", "2026-11-30T11:00Z")
    assert both == [(30, "boot.recorded"), (30, "mode.changed")]
    assert found(logged, "--run", "a", "-n", "2") == [(30, "run.died"), (30, "slots.assigned")]
    assert found(logged, "--run", "drill-b", "--event", "run", "-n", "99") == [
        (day, "run.done") for day in range(1, 31)
    ]
    logged.extra = {"TZ": "XXX-2"}  # two hours ahead of UTC
    since = ("--event", "run.died", "--since")
    assert found(logged, *since, "2026-11-29T14:00") == [(29, "run.died"), (30, "run.died")]
    assert found(logged, *since, "2026-11-29T14:00:01") == [(30, "run.died")]
    assert found(logged, *since, "2026-11-29 12:00:00 UTC", "-n", "1") == [(30, "run.died")]
    assert found(logged, "--event", "campaign.done") == []


def test_a_line_of_today_is_younger_than_an_hour(machine: Machine) -> None:
    """An age counts back from now: what the daemon has just said is within it."""
    daemon = machine.start()
    assert machine.stop(daemon) == 0
    path = machine.home / "decisions.jsonl"
    old = {"version": 1, "seq": 0, "time": AT.format(day=1).replace("2026", "1999"), "event": "x"}
    path.write_bytes(encode(old) + b"\n" + path.read_bytes())
    assert len(machine("decisions", "--since", "1h", "-n", "999").stdout.splitlines()) == (
        len(machine.events()) - 1
    )


def test_what_is_asked_for_by_a_wrong_name_is_refused(logged: Machine) -> None:
    """Nobody waits for lines of an event or a run that there is not."""
    for arguments, expected in (
        (("--event", "mode.change"), "no event 'mode.change'; did you mean 'mode.changed'?"),
        (("--run", "AA"), "there is no run 'AA' (did you mean A?); the runs are: A, B, C, D, E"),
        (("--since", "yesterday"), "'yesterday' is neither a time such as"),
    ):
        answer = logged("decisions", "-f", *arguments)
        assert (answer.returncode, answer.stdout) == (2, "")
        assert answer.stderr.startswith("supervisor: ")
        assert expected in answer.stderr
        assert answer.stderr.count("\n") == 1


@pytest.fixture
def following(logged: Machine) -> Iterator[subprocess.Popen[str]]:
    """Somebody who waits for what becomes of one run, as it happens."""
    command = [sys.executable, "-m", "supervisor", "decisions", "--json", "-f", "-n", "1"]
    follower = subprocess.Popen(
        [*command, "--run", "A", "--event", "run"],
        env=logged.environment(),
        stdout=subprocess.PIPE,
        text=True,
    )
    yield follower
    follower.kill()
    follower.communicate()


def test_new_lines_are_chosen_likewise(logged: Machine, following: subprocess.Popen[str]) -> None:
    """What is there is shown at once; of what comes, what was asked for, through a rotation."""
    assert following.stdout is not None
    assert json.loads(following.stdout.readline())["time"] == AT.format(day=30)
    path = logged.home / "decisions.jsonl"

    def write(seq: int, event: str, run: str) -> None:
        with path.open("ab") as log:
            log.write(encode({"seq": seq, "event": event, "run": run}) + b"\n")

    write(151, "run.died", "drill-B")
    write(152, "mode.changed", "drill-A")
    write(153, "run.died", "drill-A")
    assert json.loads(following.stdout.readline())["seq"] == 153
    path.rename(path.with_name("decisions.jsonl.1"))
    write(154, "run.done", "drill-B")
    write(155, "run.done", "drill-A")
    assert json.loads(following.stdout.readline())["seq"] == 155


@pytest.fixture
def shell(machine: Machine, tmp_path: Path) -> Path:
    """A folder with the command `supervisor`, which is first on the path of a shell."""
    place = tmp_path / "bin"
    place.mkdir()
    (place / "supervisor").write_text(f"#!/bin/sh\nexec '{sys.executable}' -m supervisor \"$@\"\n")
    (place / "supervisor").chmod(0o755)
    machine.extra = {"PATH": f"{place}:{os.environ['PATH']}"}
    return place


def typed(machine: Machine, *program: str) -> list[str]:
    """What a shell prints."""
    answer = subprocess.run(
        program,
        env=machine.environment(),
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert (answer.returncode, answer.stderr) == (0, "")
    return answer.stdout.split()


def offered(machine: Machine, *words: str) -> list[str]:
    """What bash offers for the last of these words."""
    script = """
        eval "$(supervisor completion bash)"
        COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
        _shtab_supervisor
        printf '%s\\n' "${COMPREPLY[@]}"
    """
    return typed(machine, "bash", "-c", script, "bash", *words)


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash")
def test_bash_offers_events_runs_and_trainers(
    machine: Machine, shell: Path, tmp_path: Path
) -> None:
    """Names of events are known to the script; runs are those that there are at that moment."""
    assert offered(machine, "supervisor", "decisions", "--event", "mode") == [
        "mode", "mode.changed", "mode.proved",
    ]  # fmt: skip
    assert offered(machine, "supervisor", "decisions", "--run", "") == list("ABCDE")
    machine.configure('[campaign]\nruns = ["Pong", "MsPacman"]\n')
    assert offered(machine, "supervisor", "decisions", "--event", "run", "--run", "P") == ["Pong"]
    assert offered(machine, "supervisor", "logs", "") == ["Pong", "MsPacman"]
    other = ("supervisor", "--home", str(tmp_path / "elsewhere"), "retry", "S")
    assert offered(machine, *other) == ["Seaquest", "SpaceInvaders"]
    assert offered(machine, "supervisor", "trainers", "d") == ["direction", "drill"]


@pytest.mark.skipif(shutil.which("zsh") is None, reason="no zsh")
def test_zsh_offers_events_runs_and_trainers(machine: Machine, shell: Path) -> None:
    """The script of zsh asks for the runs, too, and knows the events."""
    script = """
        compdef() { : }
        eval "$(supervisor completion zsh)"
        compadd() { print -rl -- ${(P)@[-1]} }
        _supervisor_runs
        _supervisor_trainers
    """
    assert typed(machine, "zsh", "-fc", script) == [*"ABCDE", *TRAINERS]
    assert "mode.changed" in machine("completion", "zsh").stdout


def test_show_state_tells_the_last_boots(machine: Machine) -> None:
    """A crash, a planned boot, and the boot that lasts are told apart, with what was trained."""
    machine.start()
    machine.until_steps("A", 100)
    machine.reboot()
    daemon = machine.start()
    machine.until_steps("A", 200)
    assert machine.stop(daemon) == 0
    machine.boot = f"{int(machine.boot, 16) + 1:032x}"
    machine.start()
    first, second, third = machine.state()["boots"]
    assert [(one["seq"], one["crash"], one["lasts"]) for one in (first, second, third)] == [
        (1, False, False), (2, True, False), (3, False, True),
    ]  # fmt: skip
    assert third["boot_id"] == machine.boot
    assert {one["mode"] for one in (first, second, third)} == {"light"}
    assert second["trained_s"] > 0
    assert third["lived_s"] > 0
    lines = machine("show-state").stdout.splitlines()[-4:]
    assert lines[0].split() == ["boot", "recorded", "came", "mode", "lived", "trained"]
    assert [line[:2] for line in lines[1:]] == ["1 ", "2 ", "3 "]
    for line, said in zip(lines[1:], ("first known", "after a crash", "as planned"), strict=True):
        assert said in line
        assert " UTC " in line
    assert ["lasts" in line for line in lines[1:]] == [False, False, True]
