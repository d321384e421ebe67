"""One whole turn of thinking, pure: what was seen goes in, what follows from it comes out.

Whoever calls it looks before, and afterwards saves, acts and tells: the daemon, `stop`, and the
command line, which foresees an answer. The order of thinking stands here and nowhere else. What a
turn decides is in the memory and in its log lines before anything is done about it, so the
power may fail between any two things that are done.

What became of the actions comes back as outcomes. Where one is worth remembering, the
same `turn` runs once more at once, without a look: it only takes them down.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping
from typing import Any

import msgspec

from modes import Mode
from state.records import (
    Answer,
    Left,
    Memory,
    PowerLimit,
    Process,
    Run,
    Stretch,
)
from state.requests import AboutARun, AboutTheMode, JobsWait, Pause, Reset, Submit
from supervisor.core import (
    again,
    cards,
    changes,
    decisions,
    history,
    measure,
    policy,
    queue,
    quiet_hours,
    reconcile,
    recovery,
    slots,
    told,
)
from supervisor.core import ledger as learnt
from supervisor.core.cards import Hand
from supervisor.core.enrolment import counted, departed, enrolled
from supervisor.core.events import Event
from supervisor.core.facts import Decision, Facts, StabilityLimits
from supervisor.core.goodput import PAUSED_BY, Lived
from supervisor.core.quiet_hours import Quiet
from supervisor.core.readings import Readings
from supervisor.core.reconcile import Start
from supervisor.core.recovery import Note, Observation, judge
from supervisor.core.seen import (
    Action,
    BackUp,
    KeepWarm,
    LimitPower,
    Lost,
    PowerLimited,
    Remove,
    Removed,
    Rules,
    Seen,
    Started,
    Turn,
)
from supervisor.core.submitted import Heeded, heed
from trainers.contract import Heartbeat, Spec

UNSAVED_LOOK_S = 10.0
"""how soon to look again whether the disk takes the state"""
FIRST_STEP_LOOK_S = 15.0
"""how soon to look again whether trainers step, after a crash or a move"""
STARTED_LOOK_S = 0.2
"""how soon to see what came of a start"""
DUE_MIN_S = 0.05
NICE_MAX = 19
"""yields to everything"""
WARM_SHARE_MAX = 0.25
"""of the memory that a control group may use, for each process that only waits"""
UNREADABLE: Heeded | str = "which runs have left the queue cannot be read; ask again"


def turn(memory: Memory, seen: Seen) -> Turn:
    """What follows from what was seen. Equal arguments give equal turns."""
    thought = _Thought(memory, seen)
    thought.listen()
    if seen.observations is None:
        return Turn(memory=thought.whole(), due_s=thought.due_unsaved_s())
    thought.look()
    if seen.leaving is None:
        thought.decide()
        thought.answer()
        if seen.requests:
            thought.decide()  # a mode that was held may have to be left before a trainer starts
    thought.plan()
    due_s = thought.due_s()
    return Turn(
        memory=thought.whole(),
        before_save=tuple(thought.before_save),
        actions=tuple(thought.actions),
        due_s=due_s,
    )


def still(memory: Memory, limits: StabilityLimits) -> Memory:
    """The memory without what moves by itself while time passes and trainers train.

    Where that is what was saved last, nothing has to be saved: what trainers have done
    meanwhile is in their heartbeats, from where it is heard again.
    """
    boots = memory.boots
    if boots:
        proven = boots[-1].trained_s >= limits.short_boot_min * 60
        seen = {"lived_s": float(bool(boots[-1].lived_s)), "trained_s": float(proven)}
        boots = (*boots[:-1], msgspec.structs.replace(boots[-1], **seen))
    return msgspec.structs.replace(
        memory,
        timeline=msgspec.structs.replace(
            memory.timeline, now_s=0.0, seen_at=0.0, monotonic_s=0.0, boottime_s=0.0
        ),
        boots=boots,
        visit=msgspec.structs.replace(
            memory.visit,
            running_s=0.0,
            stable_s=0.0,
            starting_s=None if memory.visit.starting_s is None else 0.0,
        ),
        runs=tuple(
            run if run.status != "running" else run.but(step=0, episodes=0, booked=None)
            for run in memory.runs
        ),
        stretch=Stretch(),
        unsaved_s=0.0,
        gpu_error_s=0.0,
        left=(),
        answers=(),
        outbox=(),
    )


class _Thought:
    """A turn, as far as it has come.

    Args:
        memory: as the turn before has left it.
        seen: what was seen since.
    """

    def __init__(self, memory: Memory, seen: Seen) -> None:
        self.memory = memory
        self.before_save: list[BackUp] = []
        self.actions: list[Action] = []
        self._seen = seen
        self._observations: Mapping[str, Observation] = seen.observations or {}
        self._ladder = seen.rules.ladder
        self._settings = seen.rules.settings
        self._limits = seen.rules.limits
        self._rest: list[Run] | None = None
        """every run, while the memory holds those alone that this turn may be about"""
        self._places: tuple[int, ...] = ()
        """the places of these among them"""
        self._let_go_of = 0
        """runs that have left the queue in this turn"""
        self._just_ended: set[str] = set()
        """runs that this look has found at their end"""
        self._unsaved_s = measure.unsaved_s(heartbeats(self._observations))

    @property
    def _sharing(self) -> slots.Sharing:
        return slots.on_machine(self._seen.rules.sharing, self.memory)

    # Take down

    def listen(self) -> None:
        """Take down what is told beside the look."""
        seen = self._seen
        for problem in seen.refused:
            reason = f"{problem}; the last good settings stay in force"
            self._write(Event.SETTINGS_REFUSED, rule="settings", reason=reason)
        if seen.reloaded:
            self._write(Event.SETTINGS_CHANGED, rule="settings", reason="new settings are in force")
        for notice in seen.dated:
            self._write(Event.SETTINGS_DATED, rule="settings", reason=notice)
        self.memory = history.pass_time(self.memory, seen.moment)
        for said in seen.said:
            self._write(said.event, rule=said.rule, reason=said.reason, evidence=said.evidence)
        self.memory = told.disk(self.memory, seen.unsaved)
        self._count_gpus()
        for outcome in seen.outcomes:
            match outcome:
                case Started(run=run, process=process):
                    self._started(run, process)
                case PowerLimited(watts=watts, refused=refused):
                    limit = PowerLimit(watts=watts, refused=refused)
                    self.memory = told.power(self.memory, limit)
                case Removed():
                    self.memory = again.removed(self.memory, outcome)
                case Lost(event=event, rule=rule, reason=reason):
                    self._write(event, rule=rule, reason=reason)

    def _count_gpus(self) -> None:
        """Remember which GPUs there are; at a start nothing is taken for granted."""
        seen, memory = self._seen, self.memory
        named, inherited = seen.rules.settings.gpus, seen.machine.gpus
        before = None if seen.fresh else memory.gpus
        boot_id = memory.timeline.boot_id
        gone = {
            run for run, one in self._observations.items() if not (one.process or one.leftovers)
        }
        runs = [run for run in memory.runs if run.id not in gone]
        gpus = cards.known(named, inherited, seen.readings, runs, before, boot_id)
        self.memory = msgspec.structs.replace(memory, gpus=gpus)

    def _started(self, run_id: str, process: Process) -> None:
        memory = self.memory
        (run,) = (run for run in memory.runs if run.id == run_id)
        run = run.but(process=process, started_monotonic_s=memory.timeline.monotonic_s)
        runs = tuple(run if other.id == run_id else other for other in memory.runs)
        self.memory = msgspec.structs.replace(memory, runs=runs, running=True)
        self.memory = told.start(self.memory, run)

    # Look

    def look(self) -> None:
        """Compare what is believed of each run with what lives."""
        self.memory = measure.heed(self.memory, self._seen.readings)
        least_mib = max(told.DISK_LEAST_MIB, 1024 * self._settings.jobs.min_free_gib)
        self.memory = told.room(self.memory, self._seen.readings.disk_free_mib, least_mib)
        known = self._seen.leaving != "stop"  # it may go by rules that are in force nowhere
        if known:
            before, left = self.memory, self._seen.left
            after = enrolled(before, self._seen.rules, left)
            self.memory = changes.tell(before, after, departed(before, left))
            if self._seen.leaving is None:
                self._come_again()
        self._judge()
        if known:
            self._recognise()

    def _come_again(self) -> None:
        """Begin the next generation of the campaign where it is due, and let old ones go."""
        rules, zone = self._seen.rules, self._seen.machine.zone
        if zone is None:
            return
        memory = again.heed(self.memory, rules, zone, self._seen.kept)
        if memory.campaign != self.memory.campaign:
            memory = enrolled(memory, rules, self._seen.left)
        self.memory = again.dropped(memory, rules.settings.campaign)
        leaving = again.to_remove(self.memory)
        self.actions += [] if leaving is None else [Remove(run=leaving)]

    def _judge(self) -> None:
        self._narrow(self._observations.keys())
        self.memory = heard(self.memory, heartbeats(self._observations), self._seen.rules)
        judged: list[Run] = []
        for believed in self.memory.runs:
            observed = self._observations.get(believed.id)
            if observed is None:  # nobody has looked: nothing is known
                judged.append(believed)
                continue
            run, notes = judge(believed, observed, self.memory.timeline, self._settings.recovery)
            for note in notes:
                if run.local and recovery.blames_the_load(note):
                    run = self._charge(run, note)
                self.memory = told.note(self.memory, note)
            judged.append(run)
            if run.status in queue.ENDED and believed.status not in queue.ENDED:
                self._just_ended.add(run.id)
            if (
                self._seen.fresh
                and observed.process
                and observed.process == believed.attempt.process
            ):
                self._write(
                    Event.RUN_ADOPTED,
                    rule="alive",
                    reason="its trainer lived on without a supervisor; taken over as it is",
                    run=run.id,
                    evidence={"pid": observed.process.pid, "step": run.progress.step},
                )
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

    def _recognise(self) -> None:
        """Notice that the machine has become another, on which what failed may work."""
        parts = dict(self._seen.machine.parts) | {"gpus": _models(self._seen.readings)}
        parts |= {f"{learnt.MODE_PART}{mode.name}": mode.definition for mode in self._ladder}
        self.memory, changed = measure.recognise(self.memory, parts, self._ladder, self._limits)
        if changed:
            what = "; ".join(f"{part}: {change}" for part, change in changed.items())
            afresh = "; what has failed before is tried afresh"
            reason = what + (afresh if self._limits.name == "ledger" else "")
            self._write(Event.MACHINE_CHANGED, rule="fingerprint", reason=reason, evidence=changed)

    # Decide

    def decide(self) -> None:
        """Make the goal what the rules want."""
        for facts, decision, acts in policy.in_turn(self._facts):
            if acts:
                self._enact(facts, decision)
            else:
                self.memory = told.veto(self.memory, facts, decision)

    def _facts(self, request: AboutTheMode | None = None) -> Facts:
        return decisions.facts(
            self.memory,
            self._ladder,
            self._limits,
            request=request,
            readings=self._seen.readings,
            guard=self._settings.guard_in_force,
            pressure=self._seen.pressure,
            quiet=self._quiet,
        )

    @property
    def _quiet(self) -> Quiet | None:
        """Whether training disturbs nobody now; None: nobody has asked for that."""
        asked = self._settings.quiet_hours
        if asked is None or not asked.enabled:
            return None
        limits = self._settings.recovery
        graces = [reconcile.grace_s(seen, limits) for seen in self._observations.values()]
        return quiet_hours.quiet(
            asked,
            self._seen.windows,
            self.memory.timeline.seen_at,
            trouble=self._seen.no_windows,
            reserve_s=max(graces, default=limits.grace_s),
        )

    def _enact(self, facts: Facts, decision: Decision) -> None:
        """Make `decision` the goal, with one line that says why."""
        old, new = facts.goal, decision.goal
        self.memory = decisions.enact(self.memory, decision)
        if decision.rule == "guard":
            said = None if facts.pressure is None else msgspec.to_builtins(facts.pressure)
            if said is not None:
                said["since_at"] = self.memory.timeline.seen_at
            self.memory = msgspec.structs.replace(self.memory, pressed=said)
        event = Event.REQUEST_REFUSED if decision.refused else Event.REQUEST_GRANTED
        event = Event.MODE_PROVED if decision.outcome == "proved" else event
        if new != old:
            event = Event.MODE_CHANGED if new.mode != old.mode else Event.GOAL_CHANGED
        if "guard" in set(new.pauses) - set(old.pauses) and self._trains_here():
            event = Event.GUARD_EVICTED
        if new.mode != old.mode:
            self.memory = history.starting(self.memory)
        request = facts.request.id if facts.request else None
        fields = {"old": old.mode, "new": new.mode, "request": request}
        self.memory = told.decision(self.memory, event, facts, decision, **fields)
        if request is not None:
            self.memory = told.reply(self.memory, request, refused=decision.refused, mode=new.mode)

    def _trains_here(self) -> bool:
        """Whether anything trains on this machine, or stands still on it."""
        return any(run.local and run.status in ("running", "stopping") for run in self.memory.runs)

    # Answer

    def answer(self) -> None:
        """Grant or refuse what people asked."""
        troubles = tuple(dict.fromkeys(self._seen.troubles))
        for text, request_id in troubles:
            if text not in self.memory.told.inbox:
                self._write(Event.REQUEST_UNREADABLE, rule="inbox", reason=text, request=request_id)
                if request_id is not None:
                    self.memory = told.reply(self.memory, request_id, refused=True)
        inbox = tuple(text for text, _ in troubles)
        if inbox != self.memory.told.inbox:
            self.memory = told.remember(self.memory, inbox=inbox)
        for request in self._seen.requests:
            if request.id in self.memory.requests_done:
                # Its answer may have been lost; whoever has one keeps it.
                again = "it was answered before; `supervisor decisions` tells how"
                answer = Answer(request=request.id, refused=False, reason=again)
                self.memory = told.answer(self.memory, answer)
                continue
            if isinstance(request, AboutARun):
                self._heed(request)
            elif isinstance(request, JobsWait):
                max_wait_s = 3600 * self._settings.jobs.max_wait_h
                self.memory = told.waiting(self.memory, request, max_wait_s)
            else:
                self._decide_about(request)
            self.memory = decisions.answered(self.memory, request)

    def _decide_about(self, request: AboutTheMode) -> None:
        """Answer what is asked about the mode."""
        facts = self._facts(request)
        self._enact(facts, policy.decide(facts))
        if isinstance(request, Pause):
            self.memory = told.rest_elsewhere(self.memory, request, self._all_runs())
        if isinstance(request, Reset):
            self._forget()

    def _heed(self, request: AboutARun) -> None:
        """Do what is asked of one run, or say why not."""
        self._widen()
        known, outcome = self._known(request.run), UNREADABLE
        if self._seen.left is not None or known is not None:
            submitted = len(queue.submitted(self.memory.runs))
            outcome = heed(request, known, submitted, self._ladder)
            former = None if known is None else again.generation_of(known, self.memory)
            if former is not None and not isinstance(request, Submit):
                outcome = f"{request.run} is of generation {former}, which is over"
        if isinstance(outcome, str):
            self._settle(request, outcome, None)
        else:
            self._settle(request, f"{request.asker} asked: {outcome.what}", outcome.run)
        self._narrow(self._observations.keys())

    def _known(self, run_id: str) -> Run | None:
        """What became of a run, whether it is in the queue or has left it."""
        left = departed(self.memory, self._seen.left).get(run_id)
        return next(
            (run for run in self.memory.runs if run.id == run_id),
            None if left is None else left.run,
        )

    def _settle(self, request: AboutARun, reason: str, run: Run | None) -> None:
        """Answer what is asked of one run: granted, with what the run is then, or refused."""
        event = Event.REQUEST_REFUSED if run is None else Event.REQUEST_GRANTED
        evidence = {"request": request.id, "kind": request.kind}
        self._write(
            event,
            rule="request",
            reason=reason,
            request=request.id,
            run=request.run,
            evidence=evidence,
        )
        self.memory = told.reply(self.memory, request.id, refused=run is None)
        if run is None:
            return
        memory, known = self.memory, self._known(request.run)
        if known == run:
            return
        if all(one.id != run.id for one in memory.runs) and known is not None:
            memory = counted(memory, known, -1)
            gone = tuple(one for one in memory.left if one.run.id != run.id)
            memory = msgspec.structs.replace(memory, left=gone)
        campaign = again.runs_of(self._seen.rules.campaign, memory.generations)
        runs = queue.placed(memory.runs, run, campaign)
        self.memory = msgspec.structs.replace(memory, runs=runs)

    def _forget(self) -> None:
        """Back to the first day, keeping the log's numbers and a copy of what was known."""
        seen, rules = self._seen, self._seen.rules
        self.before_save.append(BackUp(name=f"state.before-reset-{int(seen.moment.wall)}.json"))
        self._widen()
        campaign = again.runs_of(rules.campaign, self.memory.generations)
        memory = history.forgotten(self.memory, seen.moment, rules.ladder, campaign)
        self.memory = msgspec.structs.replace(memory, campaign=rules.revision)
        # What lives is adopted, as after any other loss of memory. How another one ended is known.
        self._observations = {
            run: msgspec.structs.replace(observed, exit=None)
            for run, observed in self._observations.items()
        }
        self._judge()

    # Plan

    def plan(self) -> None:
        """What has to be done so that the machine agrees with the goal."""
        seen, goal, now = self._seen, self.memory.goal, self.memory.timeline
        nothing = seen.leaving is not None or not goal.trains
        mode = None if nothing else self._ladder[goal.mode]
        assigned: tuple[str, ...] = ()
        if mode is not None:
            assigned = slots.assign(self.memory.runs, mode, now, self._sharing, self._unsaved_s)
        hands = self._dealt(assigned, mode)
        if goal.still:  # what lives may live on, and nothing else starts
            hands = {run_id: hand for run_id, hand in hands.items() if self._lives(run_id)}
        runs, actions, notes = reconcile.reconcile(
            runs=self.memory.runs,
            assigned=hands,
            elsewhere=self._elsewhere(),
            mode=goal.mode,
            observations=self._observations,
            start=self._start,
            why_not=lambda run: self._why_not(run, assigned),
            readings=seen.readings,
            now=self.memory.timeline,
            limits=self._settings.recovery,
        )
        frozen = goal.frozen and not nothing
        runs, stillings = reconcile.stilled(runs, self._observations, now.now_s, frozen=frozen)
        self.memory = msgspec.structs.replace(self.memory, runs=runs)
        assigned = () if goal.frozen else assigned
        full = mode is not None and len(assigned) >= cards.room(mode, self._sharing.gpus) > 0
        self.memory = measure.plan_work(self.memory, some=bool(assigned), full=full)
        self.memory = told.notes(self.memory, notes)
        if seen.leaving is None:
            self._let_go()
        self._tell_rest()
        self._tell_slots()
        alive = any(
            run.local
            and run.attempt.process
            and run.attempt.frozen_s is None
            and run.status in ("running", "stopping")
            for run in runs
        )
        self.memory = msgspec.structs.replace(self.memory, running=alive)
        if seen.leaving is None:
            self._limit_power()
        self.actions += (*actions, *stillings)
        if seen.leaving is None:
            self._keep_warm()
        elif self._at_rest():
            self.memory = msgspec.structs.replace(self.memory, clean_stop=True, running=False)
            reason = "every run is saved and stopped"
            if seen.leaving == "stop":
                reason = f"no supervisor was running; {reason}"
            self._write(Event.SUPERVISOR_STOPPED, rule=seen.leaving, reason=reason)

    def _dealt(self, assigned: tuple[str, ...], mode: Mode | None) -> dict[str, Hand]:
        """The GPUs of each run that shall train here."""
        if mode is None:
            return {}
        here = {run.id: run for run in self.memory.runs}
        sharing = self._sharing
        runs = [here[run_id] for run_id in assigned]
        return cards.dealt(runs, mode, sharing.gpus, named=sharing.gpus_named)

    def _lives(self, run_id: str) -> bool:
        observed = self._observations.get(run_id)
        return observed is not None and observed.process is not None

    def _why_not(self, run: Run, assigned: tuple[str, ...]) -> str:
        if self._seen.leaving is not None:
            return "everything is asked to stop"
        return slots.why_not(run, self.memory.runs, assigned, self.memory.goal)

    def _elsewhere(self) -> tuple[str, ...]:
        """The runs that shall train elsewhere, whatever this machine is at."""
        if self._seen.leaving is not None or "person" in self.memory.goal.pauses:
            return ()
        return slots.elsewhere(self.memory.runs, self.memory.timeline.seen_at)

    def _let_go(self) -> None:
        """Let runs leave the queue that have ended or were withdrawn, once nothing of them is left.

        What is known of the GPUs may be older than an end: news of them is waited for.
        """
        if self._rest is None or self._seen.readings.gpu_awaited_s is not None:
            return
        held = {pid for gpu in self._seen.readings.gpus for pid in gpu.pids or ()}
        gone = [run for run in self.memory.runs if self._is_gone(run, held)]
        self._let_go_of = len(gone)
        if not gone:
            return
        memory = self.memory
        for run in gone:
            memory = counted(memory, run, +1)
        at, epoch = memory.timeline.seen_at, memory.epoch
        left = tuple(
            Left(run=run, at=at, epoch=epoch, said=self._last_words(run.id)) for run in gone
        )
        ids = {run.id for run in gone}
        rest = [(place, run) for place, run in enumerate(self._all_runs()) if run.id not in ids]
        near = {run.id for run in memory.runs} - ids
        self._rest = [run for _, run in rest]
        self._places = tuple(at for at, run in enumerate(self._rest) if run.id in near)
        self.memory = msgspec.structs.replace(
            memory,
            runs=tuple(self._rest[at] for at in self._places),
            left=(*memory.left, *left),
        )

    def _is_gone(self, run: Run, held: Collection[int]) -> bool:
        """Whether a run has left, and nothing of it is left."""
        observed = self._observations.get(run.id)
        if observed is None or observed.process is not None or observed.leftovers:
            return False
        if run.id in self._just_ended or run.attempt.memory_awaited_s is not None:
            return False
        if run.attempt.process is not None and run.attempt.process.pid in held:
            return False
        withdrawn = run.is_job and run.withdrawn
        return run.status in queue.ENDED or (withdrawn and not queue.lives_perhaps(run))

    def _last_words(self, run_id: str) -> dict[str, Any]:
        said = self._observations[run_id].heartbeat
        return {} if said is None else dict(msgspec.to_builtins(said))

    def _tell_rest(self) -> None:
        """Say once that nothing is left to train; a box for jobs waits for the next one."""
        memory, campaign = self.memory, self._seen.rules.campaign
        if self._seen.leaving == "stop":
            return  # by whatever rules
        resting = bool(campaign) and queue.all_ended(self._all_runs())
        if resting and not memory.resting:
            whole = told.end_of_campaign(msgspec.structs.replace(memory, runs=self._all_runs()))
            self.memory = msgspec.structs.replace(whole, runs=memory.runs)
        ends = memory.ends
        if memory.resting and not resting:
            ends = {origin: known for origin, known in ends.items() if origin != "job"}
        self.memory = msgspec.structs.replace(self.memory, resting=resting, ends=ends)

    def _tell_slots(self) -> None:
        """Say whose training is demanded."""
        goal, runs = self.memory.goal, self.memory.runs
        holds = goal.pauses or (("guard",) if goal.frozen else ())
        why = PAUSED_BY[holds[0]] if holds else "queue"
        if self._seen.leaving is not None:
            why = "stop"
        demanded: tuple[str, ...] = ()
        if why == "queue":
            mode, now = self._ladder[goal.mode], self.memory.timeline
            assigned = slots.assign(runs, mode, now, self._sharing, self._unsaved_s)
            demanded = slots.demanded(runs, assigned, mode)
        self.memory = told.assignment(self.memory, demanded, why, self._all_runs())

    def _at_rest(self) -> bool:
        """Whether nothing lives any more; what cannot be ended is not waited for."""
        blocked = {run.id for run in self.memory.runs if run.status == "blocked"}
        living = {
            run
            for run, observed in self._observations.items()
            if observed.process or observed.leftovers
        }
        return not living - blocked

    def _limit_power(self) -> None:
        """Have the power limit of the goal's mode in force; a refusal is tried again.

        A ladder without any limit never touches the cards. With one, the first turn sets
        even the default: an earlier supervisor, or boot, may have left another limit.
        """
        if all(mode.power_limit_w is None for mode in self._ladder):
            return
        watts = self._ladder[self.memory.goal.mode].power_limit_w
        if self._seen.fresh or self.memory.told.power != PowerLimit(watts=watts):
            self.actions.append(LimitPower(watts=watts))

    def _keep_warm(self) -> None:
        """Have trainers that may have to start wait warm, while there is any training at all."""
        memory, warm = self.memory, self._settings.warm
        runs = (
            run
            for run in sorted(memory.runs, key=lambda run: run.id not in memory.demanded)
            if (memory.goal.trains or memory.running)
            and run.local
            and run.asked.trainer in warm.trainers
            and run.status not in queue.ENDED
        )
        most_mib = warm.memory_max_mib
        if self._seen.machine.memory_mib is not None:
            most_mib = min(most_mib, WARM_SHARE_MAX * self._seen.machine.memory_mib)
        specs = tuple(self._specs(runs))
        self.actions.append(KeepWarm(specs=specs, memory_max_mib=most_mib))

    def _start(self, run: Run) -> Start:
        attempt, boot = run.attempt.number, self.memory.boots_total
        if not run.local:  # whatever this machine bears now, another one bears what it always did
            mode = self._ladder.modes[-1]
            interval_s = self._settings.checkpoints.interval_s
            cores = self._seen.machine.cores
            grace_s = self._settings.recovery.grace_s
            spec = queue.spec(
                run, mode, cores=cores, checkpoint_interval_s=interval_s, grace_s=grace_s
            )
            return Start(spec=spec, nice=0, attempt=attempt, boot=boot)
        (spec,) = self._specs((run,), starts=True)
        nice = self._ladder[self.memory.goal.mode].nice
        if self._settings.guard_in_force is not None:
            nice = NICE_MAX  # where others come first, they do so from the first step on
        return Start(spec=spec, nice=nice, attempt=attempt, boot=boot)

    def _specs(self, runs: Iterable[Run], *, starts: bool = False) -> list[Spec]:
        """What the trainers of `runs` are asked to do if they start now, or as they start.

        They save the more often, the sooner a crash is to be expected, or a death of their own.
        """
        mode = self._ladder[self.memory.goal.mode]
        saving = self._settings.checkpoints
        costs = measure.savings(self.memory.runs, heartbeats(self._observations))
        ledger = decisions.facts(self.memory, self._ladder, self._limits).ledger
        crashes = learnt.rate(ledger.modes.get(mode.name, learnt.NOTHING))
        now_s = self.memory.timeline.now_s
        return [
            queue.spec(
                run,
                mode,
                cores=self._seen.machine.cores,
                grace_s=self._settings.recovery.grace_s,
                hand=Hand(run.attempt.gpus, run.attempt.gpus_own) if starts else Hand(),
                checkpoint_interval_s=learnt.checkpoint_interval_s(
                    crashes.mean_per_h + recovery.deaths_per_h(run, now_s),
                    costs[run.asked.trainer],
                    saving.interval_s,
                    bytes_per_day=1e9 * saving.writes_gb_per_day / mode.slots,
                ),
            )
            for run in runs
        ]

    # When next

    def due_s(self) -> float:
        """When the next turn is due if nothing happens before."""
        memory, policy_set = self.memory, self._settings.policy
        due = [self.due_unsaved_s(), 0.0 if self._seen.more else policy_set.tick_s]
        if any(isinstance(action, Start) for action in self.actions):
            due.append(STARTED_LOOK_S)
        if self._seen.leaving is None and self._seen.machine.zone is not None:
            whole = msgspec.structs.replace(memory, runs=self._all_runs())
            due.append(again.due_in_s(whole, self._seen.rules))
        if self._unlooked() or self._let_go_of:
            due.append(0.0)  # more may be about to leave
        quiet = self._quiet
        if quiet is not None:
            changes_at = [quiet.changes_at, memory.goal.any_hour_until_at]
            due += [at - memory.timeline.seen_at for at in changes_at if at is not None]
        if self._seen.leaving is None:  # else nothing starts, and the mode may be on no ladder
            whose = (*memory.runs, *queue.submitted(self._all_runs()))
            mode = self._ladder[memory.goal.mode]
            appointment_in_s = slots.appointment_in_s(whose, mode, memory.timeline, self._sharing)
            due += [] if appointment_in_s is None else [appointment_in_s]
        run_due_s = reconcile.wake_in_s(
            memory.runs, self._observations, memory.timeline, self._settings.recovery
        )
        if run_due_s is not None:
            due.append(run_due_s)
        decidable_in_s = policy.wake_in_s(decisions.facts(memory, self._ladder, self._limits))
        # But for the end of idling, rules wait for running time.
        starting = memory.visit.starting_s is not None
        runs = memory.running and not starting
        if decidable_in_s is not None and (runs or memory.goal.idle_until_s is not None):
            due.append(decidable_in_s)
        if memory.running and (starting or memory.outage is not None):
            due.append(FIRST_STEP_LOOK_S)
        if memory.running:  # a boot that dies after the next look was no short one
            proven_in_s = policy_set.short_boot_min * 60 - memory.boots[-1].trained_s
            due += [proven_in_s] if proven_in_s > 0 else []
        return max(DUE_MIN_S, min(due))

    def due_unsaved_s(self) -> float:
        """When to try again to save, after a disk has refused."""
        return math.inf if self.memory.told.unsaved is None else UNSAVED_LOOK_S

    def _unlooked(self) -> bool:
        """Whether a run waits for nothing but a look: what came near in this turn had none."""
        return any(run.id not in self._observations for run in self.memory.runs)

    # The memory

    def whole(self) -> Memory:
        """The memory, with every run."""
        self._widen()
        return self.memory

    def _narrow(self, also: Collection[str]) -> None:
        """Go on with the runs alone that this turn may be about: a queue may be very long."""
        self._widen()
        runs = self.memory.runs
        self._places = slots.near(runs, self._ladder, self.memory.timeline, self._sharing, also)
        self._rest = list(runs)
        near = tuple(runs[place] for place in self._places)
        self.memory = msgspec.structs.replace(self.memory, runs=near)

    def _widen(self) -> None:
        """Hold every run in the memory again."""
        self.memory = msgspec.structs.replace(self.memory, runs=self._all_runs())
        self._rest = None

    def _all_runs(self) -> tuple[Run, ...]:
        if self._rest is None:
            return self.memory.runs
        for place, run in zip(self._places, self.memory.runs, strict=True):
            self._rest[place] = run
        return tuple(self._rest)

    def _write(self, event: Event, *, rule: str, reason: str, **fields: Any) -> None:
        self.memory = told.write(self.memory, event, rule=rule, reason=reason, **fields)


def heard(memory: Memory, heartbeats: Mapping[str, Heartbeat], rules: Rules) -> Memory:
    """The memory after what the trainers say of their work, and what the newest crash has cost."""
    memory = measure.hear(memory, heartbeats, rules.ladder)
    memory, paid = measure.price(memory, heartbeats, rules.ladder, rules.limits)
    return memory if paid is None else told.price(memory, paid)


def heartbeats(observations: Mapping[str, Observation]) -> dict[str, Heartbeat]:
    """What the trainers said last, as the look has it."""
    return {run: observed.heartbeat for run, observed in observations.items() if observed.heartbeat}


def _models(readings: Readings) -> str | None:
    """The models of the GPUs. Not how many: one that is in trouble is gone now and then."""
    names = {gpu.name or "" for gpu in readings.gpus}
    return ", ".join(sorted(names)) if names and "" not in names else None
