"""A real daemon samples a real machine, and leaves everything else as it is."""

from __future__ import annotations

import json
import time

from state.samples import read
from testkit.machine import SETTINGS, Machine

QUIET = SETTINGS.replace('["A", "B", "C", "D", "E"]', '["A"]').replace("turns = true", "")
TWICE_S = 10.5
"""a sample is due each 10 s; two must have been taken"""


def test_the_machine_is_sampled_without_a_turn(machine: Machine) -> None:
    """While nothing happens samples are added, and neither state nor log of looks is written."""
    machine.configure(f"{QUIET}\n[samples]\ntraining_s = 10\n")
    daemon = machine.start()
    machine.until_steps("A", 100)
    folder, state = machine.home / "samples", machine.home / "state.json"

    def is_quiet() -> bool:
        """The daemon sleeps: nothing was written for two seconds."""
        before = state.stat()
        time.sleep(2)
        return state.stat().st_mtime_ns == before.st_mtime_ns

    machine.until(is_quiet, "nothing happens any more")
    known, looks = len(list(read(folder))), (machine.home / "monitor.jsonl").read_bytes()
    assert known >= 1
    before = state.stat()
    time.sleep(TWICE_S)
    machine.until(lambda: len(list(read(folder))) > known, "a further sample")
    assert state.stat().st_mtime_ns == before.st_mtime_ns
    assert (machine.home / "monitor.jsonl").read_bytes() == looks
    last = list(read(folder))[-1]
    assert (last.mode, last.running, last.boot_id) == ("light", 1, machine.boot)
    assert last.rates[0].run == "drill-A"
    assert last.rates[0].steps_per_s > 0
    assert 0 <= last.cpu_own_percent <= last.cpu_percent <= 100
    assert last.at <= machine.home.stat().st_mtime + 3600
    found = {one["what"]: one for one in json.loads(machine("doctor", "--json").stdout)}
    assert found["samples"]["verdict"] == "well"
    assert machine.stop(daemon) == 0


def test_samples_are_told_by_the_hour_and_one_by_one(machine: Machine) -> None:
    """As a table, as JSON and as CSV; of no time there is nothing, and nonsense is refused."""
    assert machine("samples").stdout == "there are no samples of that time\n"
    machine.configure(QUIET)
    machine.start()
    machine.until(lambda: list(read(machine.home / "samples")), "a sample")
    machine.until_steps("A", 100)
    head, hour, *_ = machine("samples", "--since", "1h").stdout.splitlines()
    assert head.split()[:3] == ["hour", "sampled", "cpu"]
    assert hour.endswith("drill-A")
    (one, *_) = json.loads(machine("samples", "--json").stdout)
    assert one["trained"] == ["drill-A"]
    assert one["memory_percent"]["highest"] > 0
    head, line, *_ = machine("samples", "--csv").stdout.splitlines()
    assert len(head.split(",")) == len(line.split(","))
    assert machine("samples", "--since", "tomorrow").returncode == 2
    assert machine("samples", "--csv", "--json").returncode == 2


def test_a_ring_of_a_newer_version_costs_a_sentence(machine: Machine) -> None:
    """Training goes on; the log says it once, by name, and so do the command and `doctor`."""
    machine.configure(QUIET)
    machine.start()
    machine.until(lambda: list(read(machine.home / "samples")), "a sample")
    machine.crash()
    (path,) = (machine.home / "samples").glob("*.ring")
    content = bytearray(path.read_bytes())
    content[8] += 1
    path.write_bytes(content)
    machine.configure(f"{QUIET}\n[policy]\ntick_s = 0.5\n")
    machine.start()
    machine.until(lambda: machine.events("samples.stopped"), "it is told")
    machine.until_steps("A", 300)
    (told,) = machine.events("samples.stopped")
    assert path.name in told["reason"]
    answer = machine("samples")
    assert answer.returncode != 0
    assert path.name in answer.stderr
    assert path.name in machine("doctor").stdout
    assert path.read_bytes() == content
