"""A machine's life in a few statements, with the log that the daemon would have written."""

from pathlib import Path

import msgspec

from state.records import Kept
from state.store import Store
from supervisor.core import decisions, history, policy, told
from supervisor.core.facts import StabilityLimits
from supervisor.journal import encode
from supervisor.simulation.life import record_work
from testkit.builders import HOUR_S, a_ladder, a_request, a_run
from testkit.fakes import FakeClock

TICK_S = 300.0


class WrittenLife:
    """A machine that trains from boot to crash, looked at as the daemon looks.

    Args:
        limits: those of the policy.
        rungs: how many modes there are.
    """

    def __init__(self, limits=None, *, rungs=2):
        self.limits = limits or StabilityLimits()
        self.ladder = a_ladder(rungs)
        self.clock = FakeClock("19:27")
        self.lines = []
        self.steps_per_h = {mode.name: 1000.0 * mode.slots for mode in self.ladder}
        self.memory = history.first_day(self.clock.read(), self.ladder, (a_run(),))
        self.memory = msgspec.structs.replace(self.memory, running=True, full=True)
        self._boot_line(self.memory.boots[0])
        self._write("supervisor.started", rule="start", evidence={"down_s": 0.0})

    def train(self, hours):
        """Let time pass, and decide when the daemon would."""
        end_s = self.memory.timeline.now_s + hours * HOUR_S
        while (left_s := end_s - self.memory.timeline.now_s) > 1e-6:
            due_s = policy.wake_in_s(self.facts()) or TICK_S
            self._pass(min(left_s, TICK_S, max(due_s, 0.05)))
            self._decide()
        return self

    def crash(self, *, off_s=240.0, cost_s=300.0):
        """Go down now; the boot is decided upon, and its price told once trainers step."""
        seen_s = self.memory.timeline.now_s
        self.clock.reboot(off_s=off_s, up_s=20.0)
        self.memory, boot = history.record_boot(
            self.memory, self.clock.read(), self.ladder, self.limits
        )
        self._boot_line(boot)
        down_s = self.memory.timeline.now_s - seen_s
        self._write("supervisor.started", rule="start", evidence={"down_s": down_s})
        self._decide()
        self.memory = history.record_cost(self.memory, self.ladder, self.limits, cost_s)
        self._write("crash.priced", rule="step")
        self.memory = msgspec.structs.replace(self.memory, running=True)
        return self

    def request(self, kind, mode=None):
        """What a person asks is answered."""
        facts = decisions.facts(
            self.memory,
            self.ladder,
            self.limits,
            request=a_request(kind, mode, f"request-{len(self.lines)}"),
        )
        self._enact(facts, policy.decide(facts))
        if kind == "reset":
            self.memory = history.forgotten(
                self.memory, self.clock.read(), self.ladder, self.memory.runs
            )
        return self

    def facts(self):
        return decisions.facts(self.memory, self.ladder, self.limits)

    def save(self, home: Path) -> Path:
        """Leave the home that the daemon would have left; its log."""
        home.mkdir(parents=True, exist_ok=True)
        Store(home / "state.json").save(
            msgspec.structs.replace(self.memory, running=False, clean_stop=True)
        )
        log = home / "decisions.jsonl"
        log.write_bytes(b"".join(encode(line) + b"\n" for line in self.lines))
        return log

    def _pass(self, seconds):
        self.clock.advance(seconds)
        mode = self.memory.goal.mode
        self.memory = history.pass_time(self.memory, self.clock.read())
        hours = seconds / HOUR_S
        kept = Kept(steps=self.steps_per_h[mode] * hours, hours=hours)
        self.memory = record_work(self.memory, mode, kept)

    def _decide(self):
        while True:
            facts = self.facts()
            decision = policy.decide(facts)
            if not policy.acts(facts, decision):
                return
            self._enact(facts, decision)

    def _enact(self, facts, decision):
        old, new = facts.goal, decision.goal
        self.memory = decisions.enact(self.memory, decision)
        event = "request.refused" if decision.refused else "request.granted"
        if new != old:
            event = "mode.changed" if new.mode != old.mode else "goal.changed"
        event = "mode.proved" if decision.outcome == "proved" else event
        self._write(
            event,
            rule=decision.rule,
            reason=decision.reason,
            evidence=decision.evidence,
            old=old.mode,
            new=new.mode,
            request=facts.request.id if facts.request else None,
            facts=msgspec.to_builtins(facts),
            decision=msgspec.to_builtins(decision),
        )

    def _boot_line(self, boot):
        evidence = {"boot": boot.seq, "crash": boot.crash, "mode": boot.mode}
        self._write("boot.recorded", rule="boot", evidence=evidence)

    def _write(self, event, *, rule, reason="a sentence", **fields):
        self.memory = told.write(self.memory, event, rule=rule, reason=reason, **fields)
        # As they come back from a file.
        self.lines += [msgspec.json.decode(encode(line)) for line in self.memory.outbox]
        self.memory = msgspec.structs.replace(self.memory, outbox=())
