"""A run's checkpoints, as a person lists them under a real supervisor."""

from __future__ import annotations

import json
from typing import Any

from testkit.machine import Machine


def checkpoints(machine: Machine, *more: str) -> list[dict[str, Any]]:
    answer = machine("checkpoints", "A", "--json", *more)
    assert (answer.returncode, answer.stderr) == (0, "")
    known: list[dict[str, Any]] = json.loads(answer.stdout)["checkpoints"]
    return known


def saved(machine: Machine, count: int) -> None:
    machine.until(lambda: len(checkpoints(machine)) >= count, f"{count} are saved")


def test_the_checkpoints_of_a_run_are_listed(machine: Machine) -> None:
    """Before its first start, and while it trains."""
    none = machine("checkpoints", "A")
    assert (none.returncode, none.stdout) == (0, "A has no checkpoint yet\n")
    assert checkpoints(machine) == []
    machine.start()
    saved(machine, 2)
    *_, newest = checkpoints(machine, "--verify")
    assert newest["newest"]
    assert newest["whole"]
    assert newest["saved_at"].endswith("Z")
    table = machine("checkpoints", "a").stdout.splitlines()
    assert table[0].split() == ["checkpoint", "saved", "which", "score", "size", "whole"]
    assert " UTC  newest, best  return_mean " in table[-1]
    nobody = machine("checkpoints", "nobody")
    assert nobody.returncode == 2


def names(machine: Machine) -> list[str]:
    return [one["checkpoint"] for one in checkpoints(machine)]


def gone_back(machine: Machine, to: str) -> None:
    """Wait until the trainer has said that it has gone back; the log has it with the next look."""
    output = machine.home / "runs/drill-A/output.log"
    machine.until(lambda: to in output.read_text(), f"it says {to!r}")


def test_a_run_that_trains_goes_back(machine: Machine) -> None:
    """What is later lies beside, with what the stop has saved, and comes back by its step."""
    settings = (machine.home / "supervisor.toml").read_text()
    machine.configure(settings.replace("interval_s = 0.5", "interval_s = 1.5"))
    machine.start()
    saved(machine, 2)
    first = names(machine)[-2]
    answer = machine("rewind", "A", first)
    assert (answer.returncode, answer.stderr) == (0, "")
    assert f"rewind A to checkpoint {first} (running)" in answer.stdout
    assert "kept beside it: " in answer.stdout
    gone_back(machine, f"it goes on from checkpoint {first}, as a person asked")
    started = machine.events("run.started")[-1]
    assert started["evidence"]["step"] == int(first)
    beside = [name for name in names(machine) if name.startswith("beside-")]
    assert len(beside) >= 2
    assert all(one["whole"] for one in checkpoints(machine, "--verify"))

    last = max(int(name.removeprefix("beside-")) for name in beside)
    assert machine("rewind", "A", str(last)).returncode == 0
    gone_back(machine, f"it goes on from checkpoint {last}, as a person asked")
    machine.until_steps("A", last)

    assert machine("rewind", "A", "0").returncode == 0
    gone_back(machine, "it begins anew, as a person asked")
    machine.until(lambda: 0 < machine.heartbeat("A").get("step", 0) < last, "it begins anew")


def test_what_cannot_be_gone_back_to_is_refused_before_anything_stops(machine: Machine) -> None:
    """The answer lists what there is."""
    early = machine("rewind", "A", "best")
    assert early.returncode == 75
    machine.start()
    saved(machine, 1)
    pid = machine.heartbeat("A")["pid"]
    for word in ("17", "beside-17", "latest", "-1"):
        refused = (
            machine("rewind", "A", word) if word != "-1" else machine("rewind", "A", "--", word)
        )
        assert refused.returncode == 2
        assert "there are: " in refused.stderr
    assert machine("rewind", "nobody", "1").returncode == 2
    assert machine.heartbeat("A")["pid"] == pid
    assert machine.events("request.granted") == []


def test_a_run_that_is_done_goes_back_and_is_done_again(machine: Machine) -> None:
    """With the supervisor down the request waits; killed in the midst, it is done all the same."""
    settings = (machine.home / "supervisor.toml").read_text()
    machine.configure(settings.replace("steps = 1000000", "steps = 600"))
    machine.start()
    machine.until(lambda: machine.run("A")["status"] == "done", "A is done")
    machine.crash()
    first = names(machine)[0]
    asked = machine("rewind", "A", first, "--json")
    assert asked.returncode == 0
    assert json.loads(asked.stdout)["checkpoint"] == first
    assert not json.loads(asked.stdout)["decided"]
    for _ in range(3):
        machine.start()
        machine.reboot()
    machine.start()
    gone_back(machine, f"it goes on from checkpoint {first}")
    machine.until(
        lambda: [line for line in machine.events("run.done") if line["run"] == "drill-A"][1:],
        "A is done again",
    )
    assert "beside-600" in names(machine)
    assert "600" in names(machine)


def test_a_run_of_another_name_keeps_what_was_learnt(machine: Machine) -> None:
    """Its checkpoint is imported before its first start; while it trains nothing is."""
    settings = (machine.home / "supervisor.toml").read_text()
    daemon = machine.start()
    saved(machine, 1)
    machine.stop(daemon)
    newest = names(machine)[-1]
    source = machine.home / "runs/drill-A/checkpoints" / newest
    machine.configure(settings.replace('["A", "B", "C", "D", "E"]', '["Z"]'))
    again = machine("import-checkpoint", "Z", str(source))
    assert (again.returncode, again.stderr) == (0, "")
    assert f"is checkpoint {newest} of drill-Z: 2 files" in again.stdout
    assert machine("import-checkpoint", "Z", str(source)).returncode == 2
    machine.start()
    machine.until_steps("Z", int(newest))
    assert machine.heartbeat("Z")["began"]["step"] == int(newest)
    refused = machine("import-checkpoint", "Z", str(source))
    assert refused.returncode == 75
    assert "another trainer holds" in refused.stderr

    assert machine("pause").returncode == 0
    machine.until(lambda: not machine.trainers(), "nothing trains")
    assert machine("rewind", "Z", "0").returncode == 0
    answer = machine("import-checkpoint", "Z", str(source), "--json")
    assert (answer.returncode, json.loads(answer.stdout)["step"]) == (0, int(newest))
    assert machine("resume").returncode == 0
    machine.until(lambda: machine.heartbeat("Z").get("status") == "running", "it trains again")
    assert machine.heartbeat("Z")["began"]["step"] == int(newest)


def test_what_is_imported_is_judged_by_the_settings_that_there_are(machine: Machine) -> None:
    """A program may take long to stop where the settings leave it the time for that."""
    machine.configure(
        "recovery.grace_s = 600\n"
        '[run.mine]\ntrainer = "command"\n[run.mine.options]\n'
        'command = ["true"]\nresume = ["{checkpoint}"]\ncheckpoints = "*.pt"\nstop_s = 300\n'
        "progress = {}\n"
    )
    (machine.home / "ckpt-7.pt").write_bytes(b"weights")
    brought = machine("import-checkpoint", "mine", str(machine.home / "ckpt-7.pt"))
    assert (brought.returncode, brought.stderr) == (0, "")
