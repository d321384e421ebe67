"""The body: look, think, save, act, tell.

Every tick goes through the same five steps, whatever woke it. All thinking is one call of
`supervisor.core.turn.turn`; what it decided is saved together with its log lines before anything
is done about it, so the power may fail between any two statements here.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Any, Protocol

import msgspec

from state.boot_notes import BootNotes
from state.inbox import AT_ONCE, Inbox
from state.records import BootNote, Left, Memory
from state.requests import Request
from state.store import Store
from state.windows import Windows
from state.windows import known as known_windows
from supervisor.config import Config
from supervisor.core import again, history, queue
from supervisor.core.awake import Awakening, awake
from supervisor.core.enrolment import sought, watched
from supervisor.core.events import Event
from supervisor.core.guard import Guard, Verdict
from supervisor.core.moments import Moment, stamp
from supervisor.core.pauses import who
from supervisor.core.readings import Readings
from supervisor.core.reconcile import Freeze, Kill, Start, Stop, Thaw
from supervisor.core.recovery import Observation
from supervisor.core.seen import (
    Action,
    BackUp,
    KeepWarm,
    LimitPower,
    Lost,
    Machine,
    Outcome,
    PowerLimited,
    Remove,
    Removed,
    Said,
    Seen,
    Started,
    Trouble,
    Turn,
)
from supervisor.core.turn import still, turn
from supervisor.host.clock import Clock
from supervisor.journal import Journal
from supervisor.runners import Runner, StartFailed

MONITORED_MAX = 64
"""runs of which the log of looks has more than nothing, in one line"""


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


class Guarding(Protocol):
    """Whatever knows whether others need the machine."""

    def verdict(self, limits: Guard | None) -> Verdict | None:
        """What the guard wants under these limits; None: it is off."""
        ...


class Daemon:
    """One supervisor of one home.

    Args:
        config: the settings and the ladder in force.
        clock: tells the time.
        store: keeps the memory, and the runs that have left it.
        inbox: where requests come in, and answers go.
        boot_notes: what earlier boots said of themselves.
        runner: where the trainers live.
        journal: writes the logs.
        sensors: read the machine.
        power: limits the power of the GPUs.
        sentry: watches for the guard.
        machine: what all this runs on.
        windows: the file with the newest analysis of usage.
    """

    def __init__(  # noqa: PLR0913 - each is a part of the world, and named
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
        sentry: Guarding,
        machine: Machine,
        windows: Path,
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
        self._sentry = sentry
        self._machine = machine
        self._windows_file = windows
        self._leaving = False
        self._fresh = True
        self._saved: Memory | None = None
        """what the next start would load, without what moves by itself; None: nothing was saved"""
        self._saved_s = 0.0
        """when that was, on the timeline"""
        self._unsaved: str | None = None
        """why the disk did not take the memory the last time"""
        self.memory: Memory

    def start(self, lax: str | None = None) -> None:
        """Remember, and write down this boot once, before anything else happens.

        Args:
            lax: what others could do in the home, until it was closed to them just now.

        Raises:
            NewerState: a newer version wrote the state.
        """
        memory, damaged = self._store.load()
        moment, rules = self._clock.read(), self._config.rules
        notes, unreadable = self._noted_boots(moment.boot_id)
        # The runner has only just begun: it holds nothing whose end it could tell but once.
        seen = self._runner.look(watched(memory, rules)) if memory is not None else {}
        self.memory = awake(
            Awakening(
                moment=moment,
                rules=rules,
                memory=memory,
                damaged=damaged,
                lines=self._journal.last,
                notes=notes,
                unreadable=unreadable,
                lax=lax,
                newer=self._config.newer,
                dated=self._config.dated,
                observations=seen,
                place=self._machine.home,
                kept=self._runner.kept() if memory is None else (),
                fresh_id=os.urandom(8).hex(),
            )
        )
        self._save()
        self._take_down(moment)
        self._deliver()
        if self._unsaved is None:
            with contextlib.suppress(OSError):  # the next start finds them counted already
                self._boot_notes.trim(moment.boot_id)

    def tick(self, cause: str, *, last: bool = False) -> float:
        """One look and all that follows from it; seconds until the next one is due.

        Args:
            cause: what has brought it about.
            last: the present generation of the campaign is the last one here.
        """
        return self._carry_out(self._see(last=last), cause)

    def leave(self) -> bool:
        """Begin or go on to stop cleanly; whether nothing lives any more.

        From the first call on nothing is started, and requests wait for the next start.
        """
        seen = self._see(leaving=True)
        if not self._leaving:
            self._leaving = True
            asked = Said(event=Event.SUPERVISOR_STOPPING, rule="signal", reason="asked to stop")
            seen = msgspec.structs.replace(seen, said=(asked,))
        self._carry_out(seen, "stop")
        return self.memory.clean_stop

    def hand_over(self) -> None:
        """Leave the trainers alive to a supervisor that will come soon and adopt them."""
        reason = "asked to hand over: its trainers train on, and the next supervisor adopts them"
        self.write_down(Event.SUPERVISOR_STOPPED, rule="hand_over", reason=reason, evidence=None)

    def write_down(
        self, event: Event, *, rule: str, reason: str, evidence: dict[str, Any] | None
    ) -> None:
        """Log what somebody beside the loop has to say, and save it."""
        said = Said(event=event, rule=rule, reason=reason, evidence=evidence or None)
        self._take_down(self._clock.read(), said=(said,))
        self._deliver()

    @property
    def status(self) -> str:
        """One line for whoever asks how it is going."""
        goal, runs = self.memory.goal, self.memory.runs
        if not goal.trains:
            return f"{goal.mode}: {f'paused by {who(goal.pauses)}' if goal.paused else 'idle'}"
        if goal.frozen:
            return f"{goal.mode}: standing still, the machine is needed"
        running = queue.called(run for run in runs if run.status == "running")
        return f"{goal.mode}: {', '.join(running.values()) or 'nothing runs'}"

    # Look

    def _noted_boots(self, boot_id: str) -> tuple[tuple[BootNote, ...], str | None]:
        """What earlier boots said of themselves, and why that cannot be read."""
        try:
            notes = self._boot_notes.read()
        except OSError as error:
            return (), str(error)
        return tuple(note for note in notes if note.boot_id != boot_id), None

    def _see(self, *, leaving: bool = False, last: bool = False) -> Seen:
        """All that the next turn may depend on."""
        reloaded, refused = self._config.refresh()
        logs = self._config.settings.logs
        self._journal.max_bytes, self._journal.kept = logs.max_bytes, logs.kept
        moment, rules = self._clock.read(), self._config.rules
        readings = self._sensors.read()
        requests, trouble = ((), ()) if leaving else self._inbox.pending()
        left = self._left(requests)
        known, unknown = self._windows()
        observations = self._runner.look(watched(self.memory, rules, left))
        generations = self.memory.generations
        comes = generations is not None and again.is_due(generations, moment.wall)
        seen = Seen(
            moment=moment,
            rules=rules,
            machine=self._machine._replace(zone=None) if last else self._machine,
            reloaded=reloaded,
            refused=refused,
            dated=self._config.dated if reloaded else (),
            readings=readings,
            pressure=self._sentry.verdict(rules.settings.guard_in_force),
            windows=known,
            no_windows=unknown,
            observations=observations,
            left=left,
            kept=self._runner.kept() if comes else (),
            requests=requests,
            more=len(requests) == AT_ONCE,
            troubles=tuple(Trouble(*one) for one in trouble),
            unsaved=self._unsaved,
            leaving="signal" if leaving else None,
            fresh=self._fresh,
        )
        self._fresh = False
        return seen

    def _windows(self) -> tuple[Windows | None, str | None]:
        """The newest analysis of usage, or why it cannot be read."""
        asked = self._config.settings.quiet_hours
        if asked is None or not asked.enabled:
            return None, None
        return known_windows(self._windows_file)

    def _left(self, requests: tuple[Request, ...]) -> dict[str, Left] | None:
        """How runs were that have left the queue and may be back; None: that cannot be read."""
        runs = sought(self.memory, self._config.rules, requests)
        if not runs:
            return {}
        try:
            return self._store.archive.find(runs)
        except OSError:
            return None

    # Save, act, tell

    def _carry_out(self, seen: Seen, cause: str) -> float:
        decided = self._think(seen)
        outcomes = self._back_up(decided.before_save)
        self._save()
        if outcomes or self._unsaved != seen.unsaved:
            self._take_down(seen.moment, outcomes=outcomes)
        if self.memory.answers:
            self._deliver()  # somebody waits; without that no start waits for the log
        if self._unsaved is None:
            for request in seen.requests:
                self._inbox.remove(request)
        outcomes = self._act(decided.actions)
        due_s = decided.due_s
        if outcomes:
            due_s = min(due_s, self._take_down(seen.moment, outcomes=outcomes))
        self._deliver()
        self._monitor(cause, seen)
        return due_s

    def _take_down(
        self,
        moment: Moment,
        *,
        outcomes: tuple[Outcome, ...] = (),
        said: tuple[Said, ...] = (),
    ) -> float:
        """Have a turn without a look remember what is told; seconds until the next one is due."""
        seen = Seen(
            moment=moment,
            rules=self._config.rules,
            machine=self._machine,
            unsaved=self._unsaved,
            outcomes=outcomes,
            said=said,
        )
        decided = self._think(seen)
        self._save()
        return decided.due_s

    def _think(self, seen: Seen) -> Turn:
        came = turn(self.memory, seen)
        if self._config.settings.logs.turns:
            self._journal.turn(self.memory, seen, came)
        self.memory = came.memory
        return came

    def _save(self) -> None:
        """Save the memory, with the lines in its outbox, if anything but the clock has moved."""
        limits, now_s = self._config.settings.policy, self.memory.timeline.now_s
        now = still(self.memory, limits)
        recent = now_s - self._saved_s < limits.tick_s
        if self._unsaved is None and recent and now == self._saved:
            return
        try:
            self._store.save(self.memory)
        except OSError as error:
            self._unsaved = error.strerror or str(error)
        else:
            self._saved, self._saved_s, self._unsaved = now, now_s, None

    def _back_up(self, copies: tuple[BackUp, ...]) -> tuple[Outcome, ...]:
        lost: list[Outcome] = []
        for copy in copies:
            try:
                self._store.back_up(copy.name)
            except OSError as error:
                reason = f"no backup: {error.strerror}"
                lost.append(Lost(event=Event.STATE_UNSAVED, rule="disk", reason=reason))
        return tuple(lost)

    def _act(self, actions: tuple[Action, ...]) -> tuple[Outcome, ...]:
        """Carry the actions out; what became of them, as far as no look tells it."""
        outcomes: list[Outcome] = []
        for action in actions:
            match action:
                case LimitPower(watts=watts):
                    refused = self._power.limit_power(watts)
                    outcomes.append(PowerLimited(watts=watts, refused=refused))
                case Start(spec=spec, nice=nice, attempt=attempt, boot=boot):
                    with contextlib.suppress(StartFailed):  # the next look tells it
                        process = self._runner.start(spec, nice=nice, attempt=attempt, boot=boot)
                        outcomes.append(Started(run=spec.run, process=process))
                case Stop(run=run, dump=dump):
                    self._runner.stop(run, dump=dump)
                case Kill(run=run):
                    self._runner.kill(run)
                case Freeze(run=run):
                    self._runner.freeze(run)
                case Thaw(run=run):
                    self._runner.thaw(run)
                case Remove(run=run):
                    outcomes.append(Removed(run=run, refused=self._runner.remove(run)))
                case KeepWarm(specs=specs, memory_max_mib=most_mib):
                    troubles = self._runner.keep_warm(specs, memory_max_mib=most_mib)
                    outcomes += [
                        Lost(event=Event.WARM_LOST, rule="warm", reason=trouble)
                        for trouble in troubles
                    ]
        return tuple(outcomes)

    def _deliver(self) -> None:
        """Write everything to where it belongs; the memory keeps what does not fit there."""
        left, answers, outbox = self.memory.left, self.memory.answers, self.memory.outbox
        with contextlib.suppress(OSError):
            while left:
                self._store.archive.add(left[0])
                left = left[1:]
        if answers:
            with contextlib.suppress(OSError):
                for answer in answers:
                    self._inbox.answers.put(answer)
                self._inbox.answers.prune(self.memory.timeline.seen_at)
                answers = ()
        if self._journal.deliver(outbox):
            outbox = ()
        self.memory = msgspec.structs.replace(
            self.memory, left=left, answers=answers, outbox=outbox
        )

    def _monitor(self, cause: str, seen: Seen) -> None:
        memory, looked = self.memory, seen.observations or {}
        runs = {
            run.id: {
                "status": run.status,
                "step": run.progress.step,
                "steps_per_s": getattr(
                    looked.get(run.id, Observation()).heartbeat, "steps_per_s", None
                ),
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
                "readings": msgspec.to_builtins(seen.readings),
            }
        )
