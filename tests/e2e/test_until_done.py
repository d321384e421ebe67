"""A supervisor that ends with its campaign, and what it runs then."""

from __future__ import annotations

import subprocess
import sys

import pytest

from state.inbox import Inbox
from state.records import Asked
from testkit.machine import SETTINGS, Machine
from testkit.patience import PATIENCE_S
from trainers.contract import Target

SHORT = SETTINGS.replace('["A", "B", "C", "D", "E"]', '["A", "B"]').replace("1000000", "20")
COMMAND = '[notify]\nwhen_done = ["sh", "-c", "echo $SUPERVISOR_OUTCOME >>ran"]\n'
NEVER = "[run.B.options]\nnonsense = 1\n"


def run(machine: Machine, *words: str) -> int:
    with machine.screen.open("a") as screen:
        return subprocess.run(
            [sys.executable, "-m", "supervisor", "run", "--until-done", *words],
            env=machine.environment(),
            stdout=screen,
            stderr=screen,
            timeout=2 * PATIENCE_S,
            check=False,
        ).returncode


@pytest.mark.parametrize(("more", "code", "outcome"), [("", 0, "done"), (NEVER, 1, "failed")])
def test_it_ends_with_the_campaign(machine: Machine, more: str, code: int, outcome: str) -> None:
    """The exit code says whether every run has reached its target; the command has run before."""
    machine.configure(SHORT + COMMAND + more)
    assert run(machine) == code
    assert (machine.home / "ran").read_text() == f"{outcome}\n"
    events = [line["event"] for line in machine.events()]
    assert events.index("campaign.done") < events.index("notify.ended")
    assert events[-1] == "supervisor.stopped"
    assert run(machine) == code, "it is done already"
    assert (machine.home / "ran").read_text() == f"{outcome}\n", "which is no further end"


def test_it_ends_with_what_was_submitted_as_well(machine: Machine) -> None:
    """The campaign is done long before: nothing is stopped that somebody has asked for since."""
    machine.configure(SHORT + "[jobs]\nmin_run_s = 0\n")
    asked = Asked(
        id="job-1",
        trainer="drill",
        name="J",
        seed=1,
        target=Target(unit="steps", count=400),
        options={"steps_per_s": 200},
    )
    Inbox(machine.home / "inbox").put("submit", by="ada", at=1.0, asked=asked)
    assert run(machine) == 0
    done = [line["run"] for line in machine.events("run.done")]
    assert done[-1] == "job-1"
    assert machine.events("campaign.done")[0]["reason"].startswith("3 of 3 runs have reached")
    assert [row["name"] for row in machine.state()["runs"]] == ["A", "B", "J"]


def test_new_work_makes_a_new_end(machine: Machine) -> None:
    """A raised target is trained for, and its end is another one."""
    machine.configure(SHORT + COMMAND)
    assert run(machine) == 0
    machine.configure(SHORT.replace("= 20", "= 40") + COMMAND)
    assert run(machine) == 0
    assert (machine.home / "ran").read_text() == "done\n" * 2


def test_a_supervisor_that_goes_on_runs_the_command_too(machine: Machine) -> None:
    """Without the option it rests afterwards, as ever."""
    machine.configure(SHORT + COMMAND)
    daemon = machine.start()
    machine.until(lambda: machine.events("notify.ended"), "the command has run")
    assert daemon.poll() is None
    assert machine.stop(daemon) == 0


def test_a_stop_before_the_end_is_no_success(machine: Machine) -> None:
    """A script that goes on after it must not take it for done."""
    machine.configure(SETTINGS)
    with machine.screen.open("a") as screen:
        daemon = subprocess.Popen(
            [sys.executable, "-m", "supervisor", "run", "--until-done"],
            env=machine.environment(),
            stdout=screen,
            stderr=screen,
            text=True,
        )
    machine.daemons.append(daemon)
    machine.until_steps("A")
    assert machine.stop(daemon) == 1
