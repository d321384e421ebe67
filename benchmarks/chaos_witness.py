"""The witness of benchmarks/chaos.py: what must hold, and how long things took."""

from __future__ import annotations

import json
import subprocess
import time
from collections import Counter, defaultdict

from chaos_machine import Machine

from state.records import Memory
from state.store import Store
from supervisor.journal import parse
from supervisor.runners.local import read_heartbeat
from testkit.processes import Process
from trainers.contract import Heartbeat

ASK_S = 5.0
"""between two questions to `show-state`"""
STRAY_S = 60.0
"""longest time to stop a trainer that is not wanted: the grace, twice"""


class Broken(Exception):
    """Something that must always hold did not."""


class Witness:
    """Looks on, and knows what was done to the machine."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.looks = self.asked = 0
        self.detection_s: dict[str, list[float]] = defaultdict(list)
        self.return_s: dict[str, list[float]] = defaultdict(list)
        """from a fault to the first new step of the run that it hit"""
        self._log_bytes = 0
        self._seq = 0
        self._durable: dict[str, int] = {}
        """run: the newest checkpoint that its trainer has told of"""
        self._noticing: dict[str, tuple[str, float, tuple[str, ...]]] = {}
        self._returning: dict[str, tuple[str, float, int | None]] = {}
        self._question: subprocess.Popen[str] | None = None
        self._question_about = (0, 0)
        self._recorded_then = False
        self._asked_at_s = 0.0
        self._stray_since_s: dict[str, float] = {}
        self._recorded: set[str] = set()
        """boots in which a supervisor has said that it is there"""

    def expect_notice(self, run: str, fault: str, *events: str) -> None:
        """From now on somebody should notice what was done to `run`."""
        self._noticing[run] = (fault, time.monotonic(), events)

    def expect_return(self, run: str, fault: str) -> None:
        """From now on `run` should train again, in another process than now."""
        heartbeat = self._heartbeat(run)
        pid = heartbeat.pid if heartbeat else None
        self._returning.setdefault(run, (fault, time.monotonic(), pid))

    def expect_no_notice(self) -> None:
        """Whatever was to be noticed, nobody is there to do so."""
        self._noticing.clear()

    def expect_nothing(self) -> None:
        """The machine goes down now."""
        self.expect_no_notice()
        if self._question is not None:
            self._question.kill()
            self._question.communicate()
            self._question = None

    def look(self) -> None:
        """Check what must always hold.

        Raises:
            Broken: it does not.
        """
        self.looks += 1
        if self.machine.daemon_fell is not None:
            raise Broken(f"the supervisor fell, with {self.machine.daemon_fell}")
        self._read_log()
        self._check_mains()
        self._check_checkpoints()
        self._see_returns()
        self._check_state()

    def agrees(self) -> bool:
        """Whether exactly what is wanted trains."""
        memory, _ = Store(self.machine.files.state).peek()
        mains = {process.run: process.pid for process in self.machine.mains()}
        if memory is None or mains.keys() != set(memory.demanded):
            return False
        beats = [self._heartbeat(run) for run in mains]
        return all(
            beat is not None
            and (beat.status, beat.mode, beat.pid) == ("running", memory.goal.mode, mains[beat.run])
            for beat in beats
        )

    def _read_log(self) -> None:
        try:
            with self.machine.files.decisions.open("rb") as log:
                log.seek(self._log_bytes)
                raw = log.read()
        except FileNotFoundError:
            return
        whole = raw[: raw.rfind(b"\n") + 1]
        self._log_bytes += len(whole)
        for line in parse(whole.splitlines()):
            if line["seq"] != self._seq + 1:
                raise Broken(f"line {line['seq']} of the log follows line {self._seq}")
            self._seq = line["seq"]
            if line["event"] == "supervisor.started":
                self._recorded.add(line["boot"])
            if line["event"] == "slots.assigned":  # nobody waits for the others any more
                self._returning = {
                    run: told for run, told in self._returning.items() if run in line["runs"]
                }
            fault, since_s, events = self._noticing.get(line.get("run", ""), ("", 0.0, ()))
            if line["event"] in events:
                del self._noticing[line["run"]]
                self.detection_s[fault].append(time.monotonic() - since_s)

    def _check_mains(self) -> None:
        memory, _ = Store(self.machine.files.state).peek()
        mains = self.machine.mains()
        trouble = self._trouble(mains, memory)
        if trouble:
            # One may have gone while the other came: all of them must live still. And the state
            # may have been read a moment before the campaign was saved in it.
            memory, _ = Store(self.machine.files.state).peek()
            still = self.machine.mains()
            mains = [one for one in mains if one in still]
            trouble = self._trouble(mains, memory)
        if trouble:
            raise Broken(f"{trouble}: {mains}")
        self._check_goal(mains, memory)

    def _trouble(self, mains: list[Process], memory: Memory | None) -> str | None:
        runs = Counter(process.run for process in mains)
        if any(count > 1 for count in runs.values()):
            return "two trainers of one run live"
        if len({self._mode(run) for run in runs} - {None}) > 1:
            return "two modes train together"
        if memory and runs.keys() - {run.id for run in memory.runs}:
            return "a trainer lives of a run that is not in the campaign"
        return None

    def _check_goal(self, mains: list[Process], memory: Memory | None) -> None:
        """Whoever trains without being demanded is stopped, within its grace."""
        now_s, strays = time.monotonic(), set[str]()
        if memory and self.machine.daemon_lives:
            wanted = dict.fromkeys(memory.demanded, memory.goal.mode)
            strays = {one.run for one in mains if wanted.get(one.run) != self._mode(one.run)}
        self._stray_since_s = {run: self._stray_since_s.get(run, now_s) for run in strays}
        if any(now_s - since_s > STRAY_S for since_s in self._stray_since_s.values()):
            raise Broken(f"{strays} train without being demanded, and nobody stops them")

    def _check_checkpoints(self) -> None:
        for folder in self.machine.files.runs.glob("*/checkpoints"):
            run = folder.parent.name
            heartbeat = self._heartbeat(run)
            # One that is not told yet may not have reached the disk yet.
            told = (heartbeat.checkpoint_step if heartbeat else None) or 0
            self._durable[run] = max(told, self._durable.get(run, 0))
            newest = max((int(one.name) for one in folder.glob("[0-9]*")), default=0)
            if newest < self._durable[run]:
                raise Broken(f"{run}: checkpoint {self._durable[run]} is gone, {newest} is left")

    def _see_returns(self) -> None:
        for run, (fault, since_s, pid) in list(self._returning.items()):
            heartbeat = self._heartbeat(run)
            if heartbeat and heartbeat.pid != pid and heartbeat.stepping_at_s is not None:
                del self._returning[run]
                self.return_s[fault].append(time.monotonic() - since_s)

    def _check_state(self) -> None:
        """Ask `show-state` now and then, and compare its counts with what was done."""
        machine = self.machine
        if self._question is None:
            if time.monotonic() - self._asked_at_s >= ASK_S:
                self._asked_at_s = time.monotonic()
                self._question_about = (machine.boots, machine.crashes)
                self._recorded_then = machine.boot in self._recorded
                self._question = machine.ask("show-state", "--json")
            return
        if self._question.poll() is None:
            return
        answer, code = self._question.communicate()[0], self._question.returncode
        self._question = None
        if code != 0:
            raise Broken(f"show-state ended with {code}: {answer}")
        state = json.loads(answer)
        told = (state["boots_total"], state["crashes_total"])
        self.asked += 1
        settled = self._recorded_then and self._question_about == (machine.boots, machine.crashes)
        if settled and told != self._question_about:
            raise Broken(f"boots and crashes are {self._question_about}, and it says {told}")

    def _heartbeat(self, run: str) -> Heartbeat | None:
        return read_heartbeat(self.machine.files.run(run))

    def _mode(self, run: str) -> str | None:
        try:
            spec = json.loads(self.machine.files.run(run).spec.read_bytes())
        except (OSError, ValueError):
            return None
        mode: str = spec["mode"]
        return mode
