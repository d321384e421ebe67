"""A campaign that is due again, from the command line to the folders, with real trainers."""

from __future__ import annotations

import shutil
import signal
from pathlib import Path

import msgspec

from state.records import SCHEMA_VERSION, Generations, Memory
from state.store import Store
from testkit.machine import Machine

DATA = Path(__file__).parents[1] / "data/schema-4"
"""of a home of the version before: A was done, B had been stopped"""
AGAIN = """\
[campaign]
trainer = "drill"
runs = ["A", "B"]
target = { steps = 30 }
again = "Sun 03:00"

[campaign.options]
steps_per_s = 300
"""


def remembered(machine: Machine) -> tuple[Memory, Generations]:
    memory, _ = Store(machine.home / "state.json").load()
    assert memory is not None
    assert memory.generations is not None
    return memory, memory.generations


def sleep_through(machine: Machine) -> None:
    """The machine has been off since before the instant, as far as its memory tells."""
    memory, known = remembered(machine)
    slept = msgspec.structs.replace(
        known, since_at=known.since_at - 1e6, next_at=(known.next_at or 0.0) - 1e6
    )
    Store(machine.home / "state.json").save(msgspec.structs.replace(memory, generations=slept))


def live(machine: Machine, generations: int, *, slept: bool) -> None:
    """Be up until so many generations are done."""
    if slept:
        sleep_through(machine)
    daemon = machine.start()
    machine.until(
        lambda: len(machine.events("campaign.done")) >= generations,
        f"{generations} generations are done",
    )
    assert machine.stop(daemon) == 0


def saved(folder: Path) -> dict[str, bytes]:
    """All that a run has saved."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted((folder / "checkpoints").rglob("*"))
        if path.is_file()
    }


def folders(machine: Machine) -> set[str]:
    return {path.name for path in (machine.home / "runs").iterdir()}


def test_what_was_due_while_the_machine_was_off_begins_once_it_is_back(machine: Machine) -> None:
    """Its runs have folders of their own, and those of before are as they were, to the byte."""
    machine.configure(AGAIN)
    live(machine, 1, slept=False)
    first = saved(machine.home / "runs/drill-A")
    live(machine, 2, slept=True)
    assert len(machine.events("generation.begun")) == 1
    state = machine.state()
    assert state["again"]["generation"] == 2
    assert [run["id"] for run in state["runs"]] == ["drill-A-g2", "drill-B-g2"]
    assert saved(machine.home / "runs/drill-A") == first
    assert "checkpoints/30/first.json" in saved(machine.home / "runs/drill-A-g2")
    assert "generation 2; the next is due Sun" in machine("show-state").stdout
    assert machine("checkpoints", "drill-A", "--json").stdout.count('"30"') == 1
    assert machine("checkpoints", "DRILL-a").stdout == machine("checkpoints", "drill-A").stdout
    assert machine("checkpoints", "A").returncode == 0
    live(machine, 2, slept=False)
    assert len(machine.events("generation.begun")) == 1
    assert machine("reset", "--yes").returncode == 0
    assert [run.id for run in remembered(machine)[0].runs] == ["drill-A-g2", "drill-B-g2"]


def test_a_generation_begins_with_the_best_of_the_one_before(machine: Machine) -> None:
    """It trains its whole target all the same, and tells from what it has begun."""
    machine.configure(AGAIN.replace("[campaign]\n", '[campaign]\nagain_from = "best"\n'))
    live(machine, 1, slept=False)
    live(machine, 2, slept=True)
    told = [line["reason"] for line in machine.events("run.noticed")]
    assert "it begins with what checkpoint 30 of drill-A has learnt" in told
    assert saved(machine.home / "runs/drill-A-g2").keys() >= {"checkpoints/30/first.json"}


def test_a_power_cut_in_a_removal_is_made_up_for_by_the_next_boot(machine: Machine) -> None:
    """What is to go is saved before anything goes: half a folder goes, too."""
    machine.configure(AGAIN.replace("[campaign]\n", "[campaign]\nkept_generations = 1\n"))
    live(machine, 1, slept=False)
    live(machine, 2, slept=True)
    sleep_through(machine)
    daemon = machine.start()
    machine.until(lambda: machine.events("generation.dropped"), "one is to go")
    daemon.send_signal(signal.SIGKILL)
    daemon.wait()
    shutil.rmtree(machine.home / "runs/drill-A/checkpoints", ignore_errors=True)
    live(machine, 3, slept=False)
    daemon = machine.start()
    machine.until(lambda: machine.events("generation.removed"), "it has gone")
    assert machine.stop(daemon) == 0
    assert folders(machine) == {"drill-A-g2", "drill-B-g2", "drill-A-g3", "drill-B-g3"}
    assert len(machine.events("generation.dropped")) == 1


def test_a_home_of_the_version_before_goes_on_and_comes_again(machine: Machine) -> None:
    """Its runs are those of the first generation, by the ids that they always had."""
    shutil.copy(DATA / "state.json", machine.home / "state.json")
    before, _ = Store(machine.home / "state.json").load()
    assert before is not None
    assert (before.schema, before.generations) == (SCHEMA_VERSION, None)
    assert [(run.id, run.status) for run in before.runs] == [
        ("drill-A", "done"),
        ("drill-B", "queued"),
    ]
    machine.configure(AGAIN)
    live(machine, 1, slept=False)
    assert remembered(machine)[1].number == 1
    live(machine, 2, slept=True)
    assert folders(machine) >= {"drill-B", "drill-A-g2", "drill-B-g2"}


def test_a_calendar_that_is_none_is_refused_by_its_key(machine: Machine) -> None:
    """Before anything of it is in force; a good one tells the next three instants."""
    machine.configure(AGAIN.replace("Sun 03:00", "Sun 25:00"))
    refused = machine("check-config")
    assert refused.returncode == 78
    assert "campaign.again: 'Sun 25:00' is no calendar" in refused.stderr
    machine.configure(AGAIN.replace("Sun 03:00", "Sun 03:00 Europe/Berlin"))
    assert machine("check-config").stdout.count("03:00 Europe/Berlin") == 3
