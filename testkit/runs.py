"""What is known of a run from its folder and from the decision log."""

from testkit.machine import Machine
from testkit.processes import mains
from trainers.checkpoint import Checkpoints


def saved_step(machine: Machine, name: str = "A") -> int:
    """The step of the newest checkpoint; 0 where there is none, and none is ever damaged."""
    found = Checkpoints(machine.home / f"runs/drill-{name}/checkpoints").newest()
    assert found.passed_over == ()
    return found.checkpoint.manifest.step if found.checkpoint else 0


def resumed_step(machine: Machine, name: str = "A") -> int:
    """The step that the living trainer went on from, as it says itself."""

    def speaks() -> bool:
        pids = {main.pid for main in mains(machine.home / "runs")}
        return machine.heartbeat(name).get("pid") in pids

    machine.until(speaks, f"the new life of {name} speaks")
    step: int = machine.heartbeat(name)["began"]["step"]
    return step


def story(machine: Machine, name: str = "A") -> list[str]:
    """What happened to a run, in the words of the decision log."""
    return [line["event"] for line in machine.events() if line.get("run") == f"drill-{name}"]
