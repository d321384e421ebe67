"""The body: look, think, write down, want, make it so.

Every tick goes through the same five steps, whatever woke it. All thinking is
done by the pure functions of `supervisor.core`; what was decided is saved
together with its log lines before anything is done about it, so the power may
fail between any two statements here.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Collection, Iterable, Mapping
from typing import Any, NamedTuple, Protocol

import msgspec

from modes import Ladder, Mode
from state.answers import Answer
from state.boot_notes import BootNotes
from state.inbox import AT_ONCE, Inbox
from state.records import LEDGER_VERSION, Boot, BootNote, Memory, Run, Wish
from state.store import Store
from supervisor.clock import Clock, span, stamp
from supervisor.core import history, measure, policy, queue, recovery
from supervisor.core import ledger as learnt
from supervisor.core.facts import Decision, Facts, StabilityLimits
from supervisor.core.goodput import Lived
from supervisor.core.readings import Readings
from supervisor.core.reconcile import Kill, Start, Step, Stop, reconcile, wake_in_s
from supervisor.core.recovery import Life, Note, judge
from supervisor.journal import Journal
from supervisor.runners import Runner, StartFailed
from supervisor.settings import Config
from trainers.contract import Heartbeat, Spec

UNSAVED_LOOK_S = 10.0
"""how soon to look again whether the disk takes the state"""
MONITORED_MAX = 64
"""runs of which the log of looks has more than nothing, in one line"""
FIRST_STEP_LOOK_S = 15.0
"""how soon to look again whether trainers step, after a crash or a move"""
REFUSALS = ("wish.refused", "wish.unreadable")
"""events that tell of a wish that was not granted"""
WARM_SHARE_MAX = 0.25
"""of the memory that a control group may use, for each process that only waits"""


class Sensing(Protocol):
    """Whatever can read the machine."""

    def read(self) -> Readings:
        """The machine at this moment; never raises."""
        ...


class PowerSwitch(Protocol):
    """Whatever can limit the power of the GPUs."""

    def limit_power(self, watts: float | None) -> str | None:
        """Limit every GPU to `watts`, or to its default; the reason if that is impossible."""
        ...


class Machine(NamedTuple):
    """What the trainers run on, as far as no reading tells."""

    cores: int
    """of the processor, which all trainers share"""
    parts: Mapping[str, str | None]
    """what may be exchanged, such as the kernel, with its version; None: unknown. What has been
    learnt with one may not hold with another"""
    memory_mib: int | None = None
    """that our control group may use; None: all that there is"""


class Daemon:
    """One supervisor of one home.

    Args:
        config: the settings and the ladder in force.
        clock: tells the time.
        store: keeps the memory.
        inbox: where wishes come in, and answers go.
        boot_notes: what earlier boots said of themselves.
        runner: where the trainers live.
        journal: writes the logs.
        sensors: read the machine.
        power: limits the power of the GPUs.
        machine: what all this runs on.
    """

    def __init__(
        self,
        *,
        config: Config,
        clock: Clock,
        store: Store,
        inbox: Inbox,
        boot_notes: BootNotes,
        runner: Runner,
        journal: Journal,
        sensors: Sensing,
        power: PowerSwitch,
        machine: Machine,
    ) -> None:
        self._config = config
        self._clock = clock
        self._store = store
        self._inbox = inbox
        self._boot_notes = boot_notes
        self._runner = runner
        self._journal = journal
        self._sensors = sensors
        self._power = power
        self._machine = machine
        self._lives: dict[str, Life] = {}
        self._queue: list[Run] | None = None
        """every run, while the memory holds those alone that this look may be about"""
        self._places: tuple[int, ...] = ()
        """the places of these in the queue"""
        self._chosen_by: tuple[object, ...] = ()
        """what they were chosen by; as long as that stays, so do they"""
        self._running: tuple[str, ...] = ()
        """the names of the runs that are trained"""
        self._enrolled: tuple[Run, ...] | None = None
        """the campaign that the queue follows"""
        self._power_told: tuple[float | None, str | None] | None = None
        """the limit last asked for and why it was refused, as it stands in the log"""
        self._unsaved: str | None = None
        self._leaving = False
        self._first_look = True
        self._told: set[str] = set()
        """troubles of the inbox that the log holds, so that each is told once"""
        self._told_strays: set[str] = set()
        self._more_wishes = False
        self._vetoes: set[str] = set()
        """kinds of pressure that keep the next mode from being tried, as the log has them"""
        self.memory: Memory

    def start(self, lax: str | None = None) -> None:
        """Remember, and write down this boot once, before anything else happens.

        Args:
            lax: what others could do in the home, until it was closed to them just now.

        Raises:
            NewerState: a newer version wrote the state.
        """
        memory, trouble = self._store.load()
        moment = self._clock.read()
        first = memory is None
        notes, unreadable = self._noted_boots(moment.boot_id)
        memory = memory or history.first_day(
            history.noted(notes[0]) if notes else moment, self._ladder
        )
        # Lines may have reached the log in a life whose state could not be saved.
        ahead = max(0, self._journal.last - memory.decisions)
        self.memory = msgspec.structs.replace(memory, decisions=memory.decisions + ahead)
        if trouble:
            self._write("state.damaged", rule="seal", reason="; ".join(trouble))
        if ahead:
            reason = f"the state is {ahead} lines older than the log: what these tell is forgotten"
            self._write("state.lagged", rule="log", reason=reason)
        if lax:
            self._write("home.closed", rule="rights", reason=lax)
        self._check_ledger()
        self._hear_the_past()
        if self._config.newer is not None:
            self._write("settings.unkept", rule="version", reason=self._config.newer)
        if unreadable:
            self._write("boot.unreadable", rule="notes", reason=unreadable)
        if first:
            self._write_boot(self.memory.boots[0], "is the first that is known")
        self.memory, missed = history.record_missed(self.memory, notes, self._ladder, self._limits)
        for boot in missed:
            self._write_boot(boot, f"{_ended(boot)}; no supervisor came to life in it")
        self.memory, this_boot = history.record_boot(
            self.memory, moment, self._ladder, self._limits
        )
        if this_boot is not None:
            self._write_boot(this_boot, _ended(this_boot))
            self.memory = history.starting(self.memory)
        mode, left = self.memory.goal.mode, not queue.all_ended(self.memory.runs)
        self._write(
            "supervisor.started",
            rule="start",
            reason=f"going on in {mode}" if left or first else "every run has ended: resting",
            evidence={"down_s": round(self.memory.timeline.now_s - memory.timeline.now_s, 3)},
        )
        saved = self._save()
        self._tell()
        if saved:
            with contextlib.suppress(OSError):  # the next start finds them counted already
                self._boot_notes.trim(moment.boot_id)

    def tick(self, cause: str) -> float:
        """One look and all that follows from it; seconds until the next one is due."""
        self._reload()
        moment = self._clock.read()
        self.memory = history.pass_time(self.memory, moment)
        readings = self._sensors.read()
        self.memory = measure.heed(self.memory, readings)
        self._look()
        self._recognise(readings)
        answered: tuple[Wish, ...] = ()
        if not self._leaving:
            self._decide(readings)
            answered = self._answer_wishes(readings)
            if answered:  # a mode that was held may have to be left before a trainer starts
                self._decide(readings)
        steps = self._plan(readings)
        saved = self._save()
        if any("wish" in line for line in self.memory.outbox):
            self._tell()  # somebody waits; without that no start waits for the log
        if saved:
            for wish in answered:
                self._inbox.remove(wish)
        self._make_it_so(steps)
        self._keep_warm()
        self._tell()
        self._monitor(cause, readings)
        due_s = self._next_tick_s(steps)
        self._running = tuple(run.name for run in self.memory.runs if run.status == "running")
        self._widen()
        return due_s

    def leave(self) -> bool:
        """Begin or go on to stop cleanly; whether nothing lives any more.

        From the first call on nothing is started, and wishes wait for the next start.
        """
        if not self._leaving:
            self._leaving = True
            self.memory = history.pass_time(self.memory, self._clock.read())
            self._write("supervisor.stopping", rule="signal", reason="asked to stop")
        self.tick("stop")
        blocked = {run.id for run in self.memory.runs if run.status == "blocked"}
        living = {run for run, life in self._lives.items() if life.process or life.leftovers}
        if living - blocked:  # what cannot be ended is not waited for
            return False
        self.memory = msgspec.structs.replace(self.memory, clean_stop=True, running=False)
        self._write("supervisor.stopped", rule="signal", reason="every run is saved and stopped")
        self._save()
        self._tell()
        return True

    def hand_over(self) -> None:
        """Leave the trainers alive to a supervisor that will come soon and adopt them."""
        self.memory = history.pass_time(self.memory, self._clock.read())
        self._write(
            "supervisor.stopped",
            rule="hand_over",
            reason="asked to hand over: its trainers train on, and the next supervisor adopts them",
        )
        self._save()
        self._tell()

    def write_down(self, event: str, *, rule: str, reason: str, evidence: dict[str, Any]) -> None:
        """Log what somebody beside the loop has to say, and save it."""
        self._write(event, rule=rule, reason=reason, evidence=evidence or None)
        self._save()
        self._tell()

    @property
    def status(self) -> str:
        """One line for whoever asks how it is going."""
        if not self.memory.goal.trains:
            return f"{self.memory.goal.mode}: {'paused' if self.memory.goal.paused else 'idle'}"
        return f"{self.memory.goal.mode}: {', '.join(self._running) or 'nothing runs'}"

    @property
    def _ladder(self) -> Ladder:
        return self._config.ladder

    @property
    def _limits(self) -> StabilityLimits:
        return self._config.settings.policy

    # Remember

    def _noted_boots(self, boot_id: str) -> tuple[tuple[BootNote, ...], str | None]:
        """What earlier boots said of themselves, and why that cannot be read."""
        try:
            notes = self._boot_notes.read()
        except OSError as error:
            return (), str(error)
        return tuple(note for note in notes if note.boot_id != boot_id), None

    def _write_boot(self, boot: Boot, how: str) -> None:
        self._write(
            "boot.recorded",
            rule="boot",
            reason=f"boot {boot.seq} {how}",
            evidence={"boot": boot.seq, "crash": boot.crash, "mode": boot.mode},
        )

    def _check_ledger(self) -> None:
        """Begin the ledger anew if this version cannot go on with it."""
        version = self.memory.ledger.version
        if version == LEDGER_VERSION:
            return
        self.memory = history.relearn(self.memory)
        found = f"the ledger has version {version}, this program keeps version {LEDGER_VERSION}"
        found = found if version else "the state holds no ledger that this program can read"
        reason = f"{found}: what the modes are worth is learnt anew"
        self._write("ledger.begun", rule="version", reason=reason)

    def _hear_the_past(self) -> None:
        """Book what the trainers have done since the last daemon's last look."""
        # The runner has only just begun: it holds nothing whose end it could tell but once.
        self._narrow()
        self._lives = self._runner.look(self.memory.runs)
        self.memory = measure.last_words(self.memory, self._heartbeats)
        self._hear()
        # From there on nobody has seen anything run.
        self.memory = msgspec.structs.replace(self.memory, running=False)
        self._widen()

    # Look

    def _narrow(self, also: Collection[str] = ()) -> None:
        """Go on with the runs alone that this look may be about: a queue may be very long.

        Args:
            also: ids of runs at rest that it is about, too.
        """
        self._widen()
        runs = self.memory.runs

        def choice() -> tuple[object, ...]:
            return (self._ladder, *also, *(runs[place].status for place in self._places))

        if choice() != self._chosen_by:
            self._places = queue.near(runs, self._ladder, also)
            self._chosen_by = choice()
        self._queue = list(runs)
        runs_near = tuple(runs[place] for place in self._places)
        self.memory = msgspec.structs.replace(self.memory, runs=runs_near)

    def _widen(self) -> None:
        """Hold every run in the memory again."""
        self.memory, self._queue = self._whole(), None

    def _whole(self) -> Memory:
        """The memory with every run."""
        if self._queue is None:
            return self.memory
        for place, run in zip(self._places, self.memory.runs, strict=True):
            self._queue[place] = run
        return msgspec.structs.replace(self.memory, runs=tuple(self._queue))

    def _enrol(self) -> None:
        """Have the queue follow the campaign."""
        campaign, runs = self._config.campaign, self.memory.runs
        leaves = bool(runs) and runs[-1].withdrawn
        if campaign is self._enrolled and not leaves:
            return
        runs = queue.enrol(runs, campaign)
        self.memory = msgspec.structs.replace(self.memory, runs=runs)
        self._enrolled, self._places, self._chosen_by = campaign, (), ()

    @property
    def _heartbeats(self) -> dict[str, Heartbeat]:
        """What the trainers said last, as the newest look has it."""
        return {run: life.heartbeat for run, life in self._lives.items() if life.heartbeat}

    def _hear(self) -> None:
        """Take over what the trainers say of their work, and what the newest crash has cost."""
        self.memory = measure.hear(self.memory, self._heartbeats, self._ladder)
        self.memory, paid = measure.price(self.memory, self._heartbeats, self._ladder, self._limits)
        if paid is not None:
            cost, down, lost = span(paid.cost_s), span(paid.down_s), span(paid.lost_s)
            most_s = learnt.COST_MAX_H * 3600
            counted = f"; {span(most_s)} of it count" if paid.cost_s > most_s else ""
            self._write(
                "crash.priced",
                rule="outage",
                reason=f"the crash cost {cost}: {down} down, {lost} of work{counted}",
                evidence={
                    "cost_s": round(paid.cost_s, 3),
                    "down_s": round(paid.down_s, 3),
                    "lost_s": round(paid.lost_s, 3),
                },
            )

    def _reload(self) -> None:
        changed, problems = self._config.refresh()
        for problem in problems:
            self._write(
                "settings.refused",
                rule="settings",
                reason=f"{problem}; the last good settings stay in force",
            )
        if changed:
            self._write("settings.changed", rule="settings", reason="new settings are in force")
        logs = self._config.settings.logs
        self._journal.max_bytes, self._journal.kept = logs.max_bytes, logs.kept

    def _look(self) -> None:
        """Compare what is believed of each run with what lives."""
        self._enrol()
        self._narrow()
        self._lives = self._runner.look(self.memory.runs)
        others = self._lives.keys() - {run.id for run in self.memory.runs}
        if others:  # something lives of a run at rest, or of one that is in no queue
            self._narrow(others)
        self._hear()
        limits = self._config.settings.recovery
        judged: list[Run] = []
        for believed in self.memory.runs:
            life = self._lives.get(believed.id, Life())
            run, notes = judge(believed, life, self.memory.timeline, limits)
            for note in notes:
                if recovery.blames_the_load(note):
                    run = self._charge(run, note)
                self._write_notes((note,))
            judged.append(run)
            if self._first_look and life.process and life.process == believed.process:
                self._write(
                    "run.adopted",
                    rule="alive",
                    reason="its trainer lived on without a supervisor; taken over as it is",
                    run=run.id,
                    evidence={"pid": life.process.pid, "step": run.step},
                )
        self._first_look = False
        self.memory = msgspec.structs.replace(self.memory, runs=tuple(judged))

    def _charge(self, run: Run, death: Note) -> Run:
        """Let the mode pay for a death; the line that tells it will carry the entry."""
        self.memory, run = measure.record_death(
            self.memory,
            run,
            msgspec.convert(death.evidence, Lived),
            self._ladder,
            self._limits,
            out_of_memory=death.rule == "out_of_memory",
        )
        return run

    def _recognise(self, readings: Readings) -> None:
        """Notice that the machine has become another, on which what failed may work."""
        parts = dict(self._machine.parts) | {"gpus": _models(readings)}
        parts |= {f"{learnt.MODE_PART}{mode.name}": _definition(mode) for mode in self._ladder}
        self.memory, changed = measure.recognise(self.memory, parts, self._ladder, self._limits)
        if changed:
            what = "; ".join(f"{part}: {change}" for part, change in changed.items())
            afresh = "; what has failed before is tried afresh"
            reason = what + (afresh if self._limits.name == "ledger" else "")
            self._write("machine.changed", rule="fingerprint", reason=reason, evidence=changed)

    # Think

    def _answer_wishes(self, readings: Readings) -> tuple[Wish, ...]:
        """Grant or refuse what people asked; the wishes that need not wait any longer."""
        wishes, trouble = self._inbox.pending()
        for text, wish_id in dict.fromkeys(trouble):
            if text not in self._told:
                self._write("wish.unreadable", rule="inbox", reason=text, wish=wish_id)
        self._told = {text for text, _ in trouble}
        self._more_wishes = len(wishes) == AT_ONCE
        for wish in wishes:
            if wish.id in self.memory.wishes_done:
                self._answer_again(wish)
                continue
            if wish.kind == "retry":
                self._retry(wish)
                self.memory = history.answered(self.memory, wish)
                continue
            facts = history.facts(
                self.memory, self._ladder, self._limits, wish=wish, readings=readings
            )
            decision = policy.decide(facts)
            self._enact(facts, decision)
            if wish.kind == "reset":
                self._forget()
            self.memory = history.answered(self.memory, wish)
        return wishes

    def _retry(self, wish: Wish) -> None:
        """Have a run that has ended badly tried again, or say why not."""
        whole = self._whole()
        known = next((run for run in whole.runs if run.id == wish.run), None)
        again = f"there is no run {wish.run!r}" if known is None else queue.retry(known)
        asked = {"wish": wish.id, "run": wish.run, "evidence": {"wish": wish.id, "kind": "retry"}}
        if isinstance(again, str) or known is None:
            self._write("wish.refused", rule="wish", reason=str(again), **asked)
            return
        runs = tuple(again if run is known else run for run in whole.runs)
        self._widen()
        self.memory = msgspec.structs.replace(self.memory, runs=runs)
        self._chosen_by = ()
        was = f"{known.status}: {known.reason}" if known.reason else known.status
        reason = f"{wish.asker} asked: retry {known.name} ({was})"
        self._write("wish.granted", rule="wish", reason=reason, **asked)
        self._look()  # from which checkpoint it goes on

    def _answer_again(self, wish: Wish) -> None:
        """Give an answer to a wish that has been answered, in case that answer was lost."""
        told = "it was answered before; `supervisor decisions` tells how"
        with contextlib.suppress(OSError):
            self._inbox.answers.put(Answer(wish=wish.id, refused=False, reason=told))

    def _decide(self, readings: Readings) -> None:
        """Decide until nothing more follows: a fall-back may be followed by idling."""
        for _ in range(len(self._ladder.names) + 1):
            facts = history.facts(self.memory, self._ladder, self._limits, readings=readings)
            decision = policy.decide(facts)
            if not policy.acts(facts, decision):
                self._tell_veto(facts, decision)
                return
            self._enact(facts, decision)

    def _tell_veto(self, facts: Facts, decision: Decision) -> None:
        """Say once why the next mode is not tried, though it would be its time."""
        if decision.outcome != "vetoed":
            self._vetoes.clear()
            return
        kind = re.sub(r"[\d., ]+", " ", str(decision.evidence.get("pressure")))
        if kind in self._vetoes:
            return
        self._vetoes.add(kind)
        self._write_decision("climb.vetoed", facts, decision)

    def _enact(self, facts: Facts, decision: Decision) -> None:
        """Make `decision` the goal, with one line that says why."""
        old, new = facts.goal, decision.goal
        self.memory = history.enact(self.memory, decision)
        event = "wish.refused" if decision.refused else "wish.granted"
        event = "mode.proved" if decision.outcome == "proved" else event
        if new != old:
            event = "mode.changed" if new.mode != old.mode else "hold.changed"
        if new.mode != old.mode:
            self.memory = history.starting(self.memory)
        self._write_decision(
            event,
            facts,
            decision,
            old=old.mode,
            new=new.mode,
            wish=facts.wish.id if facts.wish else None,
        )

    def _write_decision(self, event: str, facts: Facts, decision: Decision, **fields: Any) -> None:
        """One line from which the decision can be made again."""
        self._write(
            event,
            rule=decision.rule,
            reason=decision.reason,
            evidence=decision.evidence,
            **fields,
            facts=msgspec.to_builtins(facts),
            decision=msgspec.to_builtins(decision),
        )

    def _forget(self) -> None:
        """Back to the first day, keeping the log's numbers and a copy of what was known."""
        moment = self._clock.read()
        try:
            self._store.back_up(f"state.before-reset-{int(moment.wall)}.json")
        except OSError as error:
            self._write("state.unsaved", rule="disk", reason=f"no backup: {error.strerror}")
        self._widen()
        campaign = self._config.campaign
        self.memory = history.forgotten(self.memory, moment, self._ladder, campaign)
        self._enrolled = None
        self._look()  # what lives is adopted, as after any other loss of memory

    def _plan(self, readings: Readings) -> tuple[Step, ...]:
        """What has to be done so that the machine agrees with the goal."""
        goal = self.memory.goal
        nothing = self._leaving or not goal.trains
        mode = None if nothing else self._ladder[goal.mode]
        wanted = queue.assign(self.memory.runs, mode) if mode is not None else ()
        runs, steps, notes = reconcile(
            runs=self.memory.runs,
            wanted=wanted,
            mode=goal.mode,
            lives=self._lives,
            gpus=readings.gpus,
            now=self.memory.timeline,
            limits=self._config.settings.recovery,
        )
        self.memory = msgspec.structs.replace(self.memory, runs=runs)
        full = mode is not None and len(wanted) == mode.slots
        self.memory = measure.plan_work(self.memory, some=bool(wanted), full=full)
        strays = {note.run for note in notes if note.rule == "stray"}
        told = strays & self._told_strays
        self._write_notes(tuple(note for note in notes if note.run not in told))
        self._told_strays = strays
        resting = queue.all_ended(runs)
        if resting and not self.memory.resting:
            runs = self._whole().runs
            failed = sum(run.status == "failed" for run in runs)
            short = sum(run.status == "done" and run.reason is not None for run in runs)
            reached = len(runs) - failed - short
            outcome = f"{reached} of {len(runs)} runs have reached their target"
            outcome += f", {short} done before it by the trainer's word" if short else ""
            outcome += f", {failed} can never work as they are set" if failed else ""
            self._write("campaign.done", rule="queue", reason=f"{outcome}; resting")
        self.memory = msgspec.structs.replace(self.memory, resting=resting)
        self._tell_slots()
        return steps

    def _tell_slots(self) -> None:
        """Say whose training is wanted, whenever that changes; goodput is measured against it."""
        goal, runs = self.memory.goal, self.memory.runs
        why = "stop" if self._leaving else "pause" if goal.paused else "queue"
        wanted = queue.wanted(runs, self._ladder[goal.mode]) if why == "queue" else ()
        if wanted == self.memory.wanted:
            return
        self.memory = msgspec.structs.replace(self.memory, wanted=wanted)
        names = ", ".join(run.name for run in runs if run.id in wanted)
        self._write(
            "slots.assigned",
            rule="rest" if why == "queue" and not wanted else why,
            reason=f"to train now: {names or 'nothing'}",
            runs=wanted,
        )

    # Write down

    def _write(self, event: str, *, rule: str, reason: str, **fields: Any) -> None:
        self.memory = history.write(self.memory, event, rule=rule, reason=reason, **fields)

    def _write_notes(self, notes: tuple[Note, ...]) -> None:
        for note in notes:
            self._write(
                note.event,
                rule=note.rule,
                reason=note.reason,
                run=note.run,
                evidence=note.evidence or None,
            )

    def _save(self) -> bool:
        """Save the memory, with the lines in its outbox.

        A disk that refuses does not end the supervision: memory goes on in
        memory, and the first save that succeeds holds everything.
        """
        try:
            self._store.save(self._whole())
        except OSError as error:
            if self._unsaved is None:
                self._unsaved = error.strerror or str(error)
                self._write(
                    "state.unsaved",
                    rule="disk",
                    reason=f"the state cannot be saved: {self._unsaved}; going on in memory",
                )
        else:
            if self._unsaved is not None:
                self._unsaved = None
                self._write("state.saved", rule="disk", reason="the state can be saved again")
        return self._unsaved is None

    def _tell(self) -> None:
        """Write the lines of the outbox into the log, and answers to where they are waited for.

        What is saved with them can wait for it.
        """
        told = [line for line in self.memory.outbox if "wish" in line]
        with contextlib.suppress(OSError):  # the log tells it, too
            for line in told:
                self._inbox.answers.put(
                    Answer(
                        wish=line["wish"],
                        refused=line["event"] in REFUSALS,
                        reason=line["reason"],
                        mode=line.get("new"),
                        line=line["seq"],
                    )
                )
        if told:
            self._inbox.answers.prune(self.memory.timeline.seen_at)
        if self._journal.deliver(self.memory.outbox):
            self.memory = msgspec.structs.replace(self.memory, outbox=())

    def _monitor(self, cause: str, readings: Readings) -> None:
        memory = self.memory
        heartbeats = {run_id: life.heartbeat for run_id, life in self._lives.items()}
        runs = {
            run.id: {
                "status": run.status,
                "step": run.step,
                "steps_per_s": getattr(heartbeats.get(run.id), "steps_per_s", None),
            }
            for run in [run for run in memory.runs if run.status != "queued"][:MONITORED_MAX]
        }
        self._journal.monitor(
            {
                "time": stamp(memory.timeline.seen_at),
                "boot": memory.timeline.boot_id,
                "cause": cause,
                "mode": memory.goal.mode,
                "stable_s": round(memory.visit.stable_s, 1),
                "crashes_last_hour": history.crashes_last_hour(memory),
                "runs": runs,
                "readings": msgspec.to_builtins(readings),
            }
        )

    # Make it so

    def _make_it_so(self, steps: tuple[Step, ...]) -> None:
        if not self._leaving:
            self._limit_power()
        for step in steps:
            match step:
                case Start(run=run_id):
                    self._start_run(run_id)
                case Stop(run=run_id, dump=dump):
                    self._runner.stop(run_id, dump=dump)
                case Kill(run=run_id):
                    self._runner.kill(run_id)
        alive = any(
            run.process and run.status in ("running", "stopping") for run in self.memory.runs
        )
        started = any(isinstance(step, Start) for step in steps)
        if started or alive != self.memory.running:
            self.memory = msgspec.structs.replace(self.memory, running=alive)
            self._save()

    def _start_run(self, run_id: str) -> None:
        (run,) = (run for run in self.memory.runs if run.id == run_id)
        mode = self._ladder[self.memory.goal.mode]
        (spec,) = self._specs((run,))
        try:
            process = self._runner.start(spec, nice=mode.nice)
        except StartFailed:
            return  # the next look tells it as the run's exit
        started = msgspec.structs.replace(
            run, process=process, started_monotonic_s=self.memory.timeline.monotonic_s
        )
        runs = tuple(started if other.id == run_id else other for other in self.memory.runs)
        self.memory = msgspec.structs.replace(self.memory, runs=runs)
        before = "the checkpoint before " if run.started_step in run.withheld else ""
        self._write(
            "run.started",
            rule="slot",
            reason=f"in {mode.name}, from {before}step {run.started_step}",
            run=run_id,
            evidence={"pid": process.pid, "step": run.started_step, "mode": mode.name},
        )

    def _keep_warm(self) -> None:
        """Have trainers that may have to start wait warm, while there is any training at all."""
        if self._leaving:
            return
        warm, goal = self._config.settings.warm, self.memory.goal
        runs = (
            run
            for run in sorted(self.memory.runs, key=lambda run: run.id not in self.memory.wanted)
            if (goal.trains or self.memory.running)
            and run.trainer in warm.trainers
            and run.status not in queue.ENDED
        )
        specs = self._specs(runs)
        most_mib = warm.memory_max_mib
        if self._machine.memory_mib is not None:
            most_mib = min(most_mib, WARM_SHARE_MAX * self._machine.memory_mib)
        for trouble in self._runner.keep_warm(specs, memory_max_mib=most_mib):
            self._write("warm.lost", rule="warm", reason=trouble)

    def _specs(self, runs: Iterable[Run]) -> list[Spec]:
        """What the trainers of `runs` are asked to do if they start now.

        They save the more often, the sooner a crash is to be expected, or a death of their own.
        """
        mode = self._ladder[self.memory.goal.mode]
        saving = self._config.settings.checkpoints
        costs = measure.savings(self.memory.runs, self._heartbeats)
        ledger = history.facts(self.memory, self._ladder, self._limits).ledger
        crashes = learnt.rate(ledger.modes.get(mode.name, learnt.NOTHING))
        now_s = self.memory.timeline.now_s
        return [
            queue.spec(
                run,
                mode,
                cores=self._machine.cores,
                checkpoint_interval_s=learnt.checkpoint_interval_s(
                    crashes.mean_per_h + recovery.deaths_per_h(run, now_s),
                    costs[run.trainer],
                    saving.interval_s,
                    bytes_per_day=1e9 * saving.writes_gb_per_day / mode.slots,
                ),
            )
            for run in runs
        ]

    def _limit_power(self) -> None:
        """Set the power limit of the goal's mode; a refusal is told once and tried again.

        A ladder without any limit never touches the cards. With one, the first call
        sets even the default: an earlier daemon may have left another limit behind.
        """
        if all(mode.power_limit_w is None for mode in self._ladder):
            return
        watts = self._ladder[self.memory.goal.mode].power_limit_w
        if self._power_told == (watts, None):
            return
        refusal = self._power.limit_power(watts)
        if self._power_told == (watts, refusal):
            return
        self._power_told = (watts, refusal)
        limit = "its default" if watts is None else f"{watts:g} W"
        event, outcome = "power.limited", f"the power limit of every GPU is {limit}"
        if refusal is not None:
            event, outcome = "power.refused", f"cannot limit every GPU to {limit}: {refusal}"
        self._write(event, rule="mode", reason=outcome)

    def _next_tick_s(self, steps: tuple[Step, ...]) -> float:
        """When the next look is due if nothing happens before."""
        memory, settings = self.memory, self._config.settings
        due = [0.0 if self._more_wishes else settings.policy.tick_s]
        if self._unsaved is not None:
            due.append(UNSAVED_LOOK_S)
        if any(isinstance(step, Start) for step in steps):
            due.append(0.2)  # see what came of it
        run_due_s = wake_in_s(memory.runs, self._lives, memory.timeline, settings.recovery)
        if run_due_s is not None:
            due.append(run_due_s)
        decidable_in_s = policy.wake_in_s(history.facts(memory, self._ladder, self._limits))
        # But for the end of idling, rules wait for running time.
        starting = memory.visit.starting_s is not None
        runs = memory.running and not starting
        if decidable_in_s is not None and (runs or memory.goal.idle_until_s is not None):
            due.append(decidable_in_s)
        if memory.running and (starting or memory.outage is not None):
            due.append(FIRST_STEP_LOOK_S)
        if memory.running:  # a boot that dies after the next look was no short one
            proven_in_s = settings.policy.short_boot_min * 60 - memory.boots[-1].trained_s
            due += [proven_in_s] if proven_in_s > 0 else []
        return max(0.05, min(due))


def _models(readings: Readings) -> str | None:
    """The models of the GPUs. Not how many: one that is in trouble is gone now and then."""
    names = {gpu.name or "" for gpu in readings.gpus}
    return ", ".join(sorted(names)) if names and "" not in names else None


def _definition(mode: Mode) -> str:
    """What a mode lays upon the machine, in words."""
    power = "no power limit" if mode.power_limit_w is None else f"{mode.power_limit_w:g} W"
    return (
        f"{mode.slots} runs of {mode.n_envs} environments in batches of {mode.batch_size}, "
        f"nice {mode.nice}, {power}"
    )


def _ended(boot: Boot) -> str:
    """How the boot before this one ended."""
    return "after a crash" if boot.crash else "as planned"
