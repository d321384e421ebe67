"""Goodput: which share of the time in which training was demanded is kept as training.

    goodput = time of the steps that a durable checkpoint holds / time in which they were demanded

Both sides are summed over the slots, so a campaign's goodput weighs each run by the
slot-seconds that it was demanded for. It is the runtime part of Google's "ML Productivity
Goodput" (2024) together with its scheduling part, and MegaScale's "effective training time
ratio" (Jiang et al., NSDI 2024), with one sharper edge: a step counts once a checkpoint holds
it, and no longer where the next attempt had to go on from an older one.

The decision log alone tells it. `slots.assigned` says which runs are demanded, and the line that
ends an attempt of a trainer says in its evidence (`Lived`) what the attempt came to. A checkpoint
carries the training time of its steps, so what a power cut left of a run is known from where
its next attempt began, even if the heartbeat of the last one was lost. All durations lie on the
timeline; the wall clock plays no part.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from state.records import PauseOwner, Run, Timeline
from supervisor.core.events import Event
from supervisor.core.facts import Evidence
from trainers.contract import Heartbeat, Mark

SHARES = {
    "kept": "training that a checkpoint holds",
    "unsaved": "training since the newest checkpoint of a living trainer",
    "lost": "training that no checkpoint held when its trainer ended",
    "stall": "standing still while a checkpoint was written",
    "start": "from the start of a trainer to its first new step",
    "stop": "from the last step of a trainer to its end on request",
    "hung": "living without moving, until it was ended",
    "waiting": "between two trainers: backoff, quarantine, making room",
    "idle": "not trained, because the machine died of it at once",
    "machine_down": "the machine was down, or not yet up again",
    "supervisor_down": "the trainer was gone, and no supervisor there",
    "unknown": "nobody can tell",
}
"""where the time goes in which training was demanded, each second to one of them"""

PAUSED_BY: dict[PauseOwner, str] = {
    "person": "pause",
    "guard": "guard",
    "quiet_hours": "quiet_hours",
}
"""owner of a pause: the rule of `slots.assigned` under which nothing is demanded meanwhile"""

NOT_DEMANDED = {
    "pause": "paused by a person",
    "guard": "paused by the guard",
    "quiet_hours": "paused by the quiet hours",
    "stop": "the supervisor was stopped by a person",
    "rest": "every run had ended",
}
"""the rules of `slots.assigned` under which nothing is demanded"""

PRESENT = "present"
"""the event of a line that no log holds: what an attempt has come to that has not ended"""

ENDS = {
    Event.RUN_DIED: "lost",
    Event.RUN_QUARANTINED: "lost",
    Event.RUN_LOST: "machine_down",
    Event.RUN_STOPPED: "stop",
    Event.RUN_DONE: "stop",
    Event.RUN_FAILED: "stop",
    Event.RUN_CLEARED: "stop",
    PRESENT: "unknown",
}
"""events that end an attempt, and the share of the time after its last step"""

AFTER = {
    "hung": "hung",
    "vanished": "supervisor_down",
    "alive": "unsaved",
    "gone": "supervisor_down",
    "down": "machine_down",
}
"""rules under which it is another one"""


class Lived(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What one attempt of a trainer came to: evidence of the line that tells its end.

    What is absent is unknown.
    """

    lived_s: float | None = None
    start_s: float | None = None
    """from the start to the first new step; the whole attempt, if it made none"""
    began_step: int | None = None
    began_trained_s: float | None = None
    """the training behind that step, over all attempts of the run"""
    step: int | None = None
    """the furthest one"""
    trained_s: float | None = None
    checkpoint_step: int | None = None
    checkpoint_trained_s: float | None = None
    checkpoints: int | None = None
    """written in this attempt"""
    stall_s: float | None = None
    """for how long training stood still for them"""
    silent_s: float | None = None
    """since the step moved last; unknown where the machine went down"""
    stop_s: float | None = None
    """since it was asked to save and leave"""

    @property
    def began(self) -> Mark | None:
        """Where it went on from."""
        return _mark(self.began_step, self.began_trained_s)

    @property
    def reached(self) -> Mark | None:
        """How far it came."""
        return _mark(self.step, self.trained_s)

    @property
    def saved(self) -> Mark | None:
        """What its newest checkpoint holds."""
        return _mark(self.checkpoint_step, self.checkpoint_trained_s)


def lived(run: Run, heartbeat: Heartbeat | None, now: Timeline) -> Evidence:
    """The evidence of an attempt of `run` that has ended, or of what it has come to so far."""
    here = run.attempt.process is not None and run.attempt.process.boot_id == now.boot_id
    lived_s = _since(run.attempt.started_s, now.now_s)
    attempt = Lived(lived_s=lived_s, stop_s=_since(run.attempt.stop_asked_s, now.now_s))
    if not run.local:  # its heartbeat tells the time of another machine
        pass
    elif heartbeat is None:  # it never came to its first word, or the power cut took it
        attempt = msgspec.structs.replace(attempt, start_s=lived_s if here else None)
    elif heartbeat.began is not None and heartbeat.reached is not None:
        began, reached, saved = heartbeat.began, heartbeat.reached, heartbeat.saved
        start_s, silent_s = lived_s if here else None, None
        if heartbeat.stepping_at_s is not None:
            start_s = _since(run.attempt.started_monotonic_s, heartbeat.stepping_at_s)
            silent_s = _since(heartbeat.progress_at_s, now.monotonic_s) if here else None
        attempt = msgspec.structs.replace(
            attempt,
            start_s=start_s,
            began_step=began.step,
            began_trained_s=began.trained_s,
            step=reached.step,
            trained_s=reached.trained_s,
            checkpoint_step=saved.step if saved else None,
            checkpoint_trained_s=saved.trained_s if saved else None,
            checkpoints=heartbeat.checkpoints,
            stall_s=heartbeat.checkpoint_stall_s,
            silent_s=silent_s,
        )
    evidence: Evidence = msgspec.to_builtins(attempt)
    return evidence


class Times(msgspec.Struct, kw_only=True):
    """How often something took how long."""

    count: int = 0
    mean_s: float | None = None
    max_s: float | None = None

    def add(self, seconds: float | None) -> None:
        """Count one more; what is unknown is not counted."""
        if seconds is None:
            return
        self.mean_s = ((self.mean_s or 0.0) * self.count + seconds) / (self.count + 1)
        self.max_s = max(self.max_s or 0.0, seconds)
        self.count += 1


class RunGoodput(msgspec.Struct, frozen=True, kw_only=True):
    """The goodput of one run."""

    run: str
    goodput: float | None
    demanded_s: float
    """time in which it was demanded, or its trainer not yet gone"""
    spent_s: dict[str, float]
    """the same, by where it went: see `SHARES`"""
    steps_kept: int
    steps_lost: int
    attempts: int
    deaths: int
    """attempts that ended by themselves, by a kill or by a hang; not with the machine"""


class Goodput(msgspec.Struct, frozen=True, kw_only=True):
    """The goodput of a campaign, and where the rest of its time went."""

    goodput: float | None
    """None: nothing was demanded, or nothing is known"""
    since: str | None
    """wall time of the first line that counts"""
    span_s: float
    """time since then, as the supervisor counts it"""
    demanded_s: float
    """slot-seconds in which training was demanded"""
    spent_s: dict[str, float]
    """the same, by where they went: see `SHARES`"""
    not_demanded_s: dict[str, float]
    """time in which nothing was demanded, by its reason: see `NOT_DEMANDED`"""
    steps_kept: int
    steps_lost: int
    attempts: int
    deaths: int
    crashes: int
    """of the machine"""
    detection: Times
    """from the last sign of life to being noticed, where somebody had to notice: hangs, and
    deaths while no supervisor was there"""
    stop: Times
    """from being asked to save and leave to being gone"""
    start: Times
    """from the start of a trainer to its first new step"""
    checkpoint_stall: Times
    """for how long training stood still for a checkpoint; the longest is unknown"""
    runs: tuple[RunGoodput, ...]


def measure(lines: Iterable[Mapping[str, Any]]) -> Goodput:
    """The goodput that the lines of a decision log tell, in one pass over them.

    The log may begin anywhere, may have gaps, and may hold lines of other versions: time of
    which nothing is known is told as unknown. The memory needed grows with the number of
    runs, not of lines.
    """
    tally = Tally()
    for line in lines:
        try:
            tally.read(msgspec.convert(line, Line))
        except msgspec.ValidationError:
            continue  # of a version that says nothing of the timeline, or no line of ours
    return tally.told()


class _Account:
    """What is known of one run so far."""

    def __init__(self) -> None:
        self.spent_s = dict.fromkeys(SHARES, 0.0)
        """under `kept`, until the end of the log: all training, kept or not"""
        self.demanded = False
        self.attempt_s: float | None = None
        """the time of the present attempt; None: no trainer lives"""
        self.attempts = self.deaths = self.made_steps = 0
        self.first: Mark | None = None
        """where all training that can be kept began"""
        self.durable: Mark | None = None
        """what the newest checkpoint is known to hold"""
        self.head: Mark | None = None
        """the furthest place that the last attempt is known to have reached"""
        self.hung_s = 0.0
        """for how long the present attempt stood still when that was noticed"""
        self.tail = ("unknown", 0.0)
        """where the time after that place went"""
        self.unsaved = Mark(step=0, trained_s=0.0)
        self.goes_back = False
        """a person has asked for it: what has been kept by then lies beside, and is no loss"""
        self.beside = Mark(step=0, trained_s=0.0)
        """what lies beside, made on other ways than the present one"""

    def begin(self) -> None:
        """A trainer was started."""
        if self.attempt_s is not None:
            self.end(Lived(), "unknown")  # the line of its end is missing
        if self.goes_back:
            way = _beyond(self.first, self.durable) if self.durable else Mark(step=0, trained_s=0.0)
            self.beside = Mark(
                step=self.beside.step + way.step, trained_s=self.beside.trained_s + way.trained_s
            )
            self.goes_back, self.first, self.durable, self.head = False, None, None, None
        self.attempt_s = 0.0
        self.attempts += 1
        self.demanded = True

    def end(self, attempt: Lived, after: str) -> None:
        """Spread the time of the present attempt over the shares.

        Args:
            attempt: what it came to.
            after: the share of the time after its last step.
        """
        left_s, self.attempt_s = self.attempt_s or 0.0, None

        def spend(share: str, seconds: float) -> float:
            nonlocal left_s
            spent_s = min(max(0.0, seconds), left_s)
            left_s -= spent_s
            self.spent_s[share] += spent_s
            return spent_s

        trained_s = self._move(attempt)
        spend("start", attempt.start_s or 0.0)
        spend("stall", attempt.stall_s or 0.0)
        # Before its training: one that moved on when it was stopped takes a hang for a long step.
        spend("hung", self.hung_s)
        self.hung_s = 0.0
        spend("kept", trained_s)
        known_s = spend(after, attempt.silent_s or 0.0)
        rest = after if after == "machine_down" and attempt.began else "unknown"
        rest_s = spend(rest, left_s)
        if attempt.began is None and self.tail[0] == rest:
            rest_s += self.tail[1]  # several attempts in a row of which nothing was heard
        self.tail = (after, known_s) if known_s > rest_s else (rest, rest_s)

    def result(self, run: str) -> RunGoodput:
        """The goodput of the run."""
        made_s, unsaved = self.spent_s["kept"], self.unsaved
        unsaved_s = min(unsaved.trained_s, made_s)
        kept, first = self.durable or unsaved, self.first or self.durable or unsaved
        kept_s = self.beside.trained_s + max(0.0, kept.trained_s - first.trained_s)
        kept_s = min(kept_s, made_s - unsaved_s)
        kept_steps = self.beside.step + kept.step - first.step
        kept_steps = max(0, min(kept_steps, self.made_steps - unsaved.step))
        spent_s = {
            **self.spent_s,
            "kept": kept_s,
            "unsaved": self.spent_s["unsaved"] + unsaved_s,
            "lost": self.spent_s["lost"] + made_s - unsaved_s - kept_s,
        }
        return RunGoodput(
            run=run,
            goodput=_ratio(spent_s, known=self.first is not None),
            demanded_s=sum(spent_s.values()),
            spent_s=spent_s,
            steps_kept=kept_steps,
            steps_lost=max(0, self.made_steps - unsaved.step - kept_steps),
            attempts=self.attempts,
            deaths=self.deaths,
        )

    def _move(self, attempt: Lived) -> float:
        """Follow the run through one attempt; the training of that attempt in seconds."""
        began, reached = attempt.began, attempt.reached
        if began is None or reached is None:
            self.head = self.durable
            return 0.0
        if self.head is not None and began.step > self.head.step:
            # The last attempt had come further than it was heard to, as the checkpoint shows.
            share, tail_s = self.tail
            moved_s = min(max(0.0, began.trained_s - self.head.trained_s), tail_s)
            self.spent_s[share] -= moved_s
            self.spent_s["kept"] += moved_s
            self.made_steps += began.step - self.head.step
        if self.first is None or began.step < self.first.step:
            self.first = began
        self.durable, self.head = attempt.saved or began, reached
        self.made_steps += max(0, reached.step - began.step)
        return reached.trained_s - began.trained_s


class _Decided(msgspec.Struct, frozen=True):
    goal: dict[str, Any] = {}


class Line(msgspec.Struct, frozen=True):
    """What counts of a line of the log."""

    event: str
    now_s: float
    time: str | None = None
    boot: str | None = None
    rule: str = ""
    run: str | None = None
    runs: tuple[str, ...] = ()
    evidence: dict[str, Any] = {}
    decision: _Decided | None = None


class Tally:
    """The accounts of all runs, kept line by line: for whoever reads on where the log has grown."""

    def __init__(self) -> None:
        self.accounts: dict[str, _Account] = {}
        self.open: dict[str, _Account] = {}
        """those whose time passes: demanded, or with a trainer that is not yet gone"""
        self.first: Line | None = None
        self.last: Line | None = None
        self.span_s = 0.0
        self.idle = False
        self.not_demanded = "rest"
        """why nothing is demanded, when nothing is"""
        self.not_demanded_s = dict.fromkeys(NOT_DEMANDED, 0.0)
        self.crashes = self.checkpoints = 0
        self.stall_s = 0.0
        self.detection, self.stop, self.start = Times(), Times(), Times()

    def read(self, line: Line) -> None:
        """Follow the log by one line."""
        if line.event in (Event.BOOT_RECORDED, Event.STATE_DAMAGED):
            # What the time before it was, only the start of the supervisor will say.
            self.crashes += line.evidence.get("crash") is True
            return
        self._pass_time(line)
        self.first, self.last = self.first or line, line
        if line.decision is not None:
            self.idle = line.decision.goal.get("idle_until_s") is not None
        if line.event == Event.SLOTS_ASSIGNED:
            self._assign(line)
        elif line.event == Event.SUPERVISOR_STOPPED and line.rule != "hand_over":
            self._stop()
        elif line.event == Event.RUN_HUNG:
            silent_s = line.evidence.get("silent_s")
            self.detection.add(silent_s)
            self._account(line.run or "").hung_s = silent_s or 0.0
        elif line.run is not None:
            account = self._account(line.run)
            self._follow(line, account)
            self._settle(line.run, account)

    def told(self, present: Iterable[Line] = ()) -> Goodput:
        """The goodput of all runs together, if the log ended here.

        Args:
            present: lines that no log holds, of what lives now.
        """
        copied = copy.copy(self)
        copied.open = copy.deepcopy(self.open)
        copied.accounts = self.accounts | copied.open
        copied.not_demanded_s = dict(self.not_demanded_s)
        copied.detection, copied.stop, copied.start = map(
            copy.copy, (self.detection, self.stop, self.start)
        )
        return copied._ended(present)

    def _ended(self, present: Iterable[Line]) -> Goodput:
        for line in present:
            self.read(line)
        for account in self.open.values():
            if account.attempt_s is not None:  # the log ends before it does
                account.end(Lived(), "unknown")
        runs = tuple(account.result(run) for run, account in self.accounts.items())
        spent_s = {share: sum(run.spent_s[share] for run in runs) for share in SHARES}
        stall = Times(count=self.checkpoints)
        if self.checkpoints:
            stall.mean_s = self.stall_s / self.checkpoints
        return Goodput(
            goodput=_ratio(spent_s, known=any(run.goodput is not None for run in runs)),
            since=self.first.time if self.first else None,
            span_s=self.span_s,
            demanded_s=sum(spent_s.values()),
            spent_s=spent_s,
            not_demanded_s=self.not_demanded_s,
            steps_kept=sum(run.steps_kept for run in runs),
            steps_lost=sum(run.steps_lost for run in runs),
            attempts=sum(run.attempts for run in runs),
            deaths=sum(run.deaths for run in runs),
            crashes=self.crashes,
            detection=self.detection,
            stop=self.stop,
            start=self.start,
            checkpoint_stall=stall,
            runs=runs,
        )

    def _account(self, run: str) -> _Account:
        return self.accounts.setdefault(run, _Account())

    def _assign(self, line: Line) -> None:
        for run, account in list(self.open.items()):
            account.demanded = run in line.runs
            self._settle(run, account)
        for run in line.runs:
            account = self._account(run)
            account.demanded = True
            self._settle(run, account)
        if not line.runs:
            self.not_demanded = line.rule if line.rule in NOT_DEMANDED else "rest"

    def _settle(self, run: str, account: _Account) -> None:
        """Whether its time passes: there may have been many runs, of which few are open."""
        if account.demanded or account.attempt_s is not None:
            self.open[run] = account
        else:
            self.open.pop(run, None)

    def _stop(self) -> None:
        """Nobody lives and nothing is demanded until the next start, whoever did the stopping."""
        for account in self.open.values():
            account.demanded = False
            if account.attempt_s is not None:
                account.end(Lived(), "unknown")
        self.open.clear()
        self.not_demanded = "stop"

    def _pass_time(self, line: Line) -> None:
        """Book the time since the last line, which never goes back: a reset begins it anew."""
        if self.last is None:
            return
        gone_s = max(0.0, line.now_s - self.last.now_s)
        self.span_s += gone_s
        down, down_s = "supervisor_down", 0.0
        if line.event in (Event.SUPERVISOR_STARTED, PRESENT):
            down = "supervisor_down" if line.boot == self.last.boot else "machine_down"
            down_s = min(gone_s, line.evidence.get("down_s") or 0.0)
        for account in self.open.values():
            if account.attempt_s is not None:
                account.attempt_s += gone_s
            else:
                account.spent_s[down] += down_s
                account.spent_s["idle" if self.idle else "waiting"] += gone_s - down_s
        if not self.open:
            self.not_demanded_s[self.not_demanded] += gone_s

    def _follow(self, line: Line, account: _Account) -> None:
        """What a line about one run says of its attempts."""
        if line.event == Event.RUN_STARTED or (
            line.event == Event.RUN_ADOPTED and account.attempt_s is None
        ):
            account.begin()
        elif line.event == Event.REQUEST_GRANTED and line.evidence.get("kind") == "rewind":
            account.goes_back = True
        elif account.attempt_s is not None and line.event in (*ENDS, PRESENT):
            attempt = _lived(line)
            account.end(attempt, AFTER.get(line.rule) or ENDS[line.event])
            if line.rule == "alive" and attempt.reached is not None:
                account.unsaved = _beyond(attempt.saved or attempt.began, attempt.reached)
            account.deaths += line.event in (Event.RUN_DIED, Event.RUN_QUARANTINED)
            self.stop.add(attempt.stop_s)
            if attempt.began and attempt.reached and attempt.reached.step > attempt.began.step:
                self.start.add(attempt.start_s)
            if line.rule == "vanished":
                self.detection.add(attempt.silent_s)
            self.checkpoints += attempt.checkpoints or 0
            self.stall_s += attempt.stall_s or 0.0


def _lived(line: Line) -> Lived:
    try:
        return msgspec.convert(line.evidence, Lived)
    except msgspec.ValidationError:
        return Lived()


def _beyond(here: Mark | None, there: Mark) -> Mark:
    """What lies between two places."""
    here = here or there
    return Mark(
        step=max(0, there.step - here.step), trained_s=max(0.0, there.trained_s - here.trained_s)
    )


def _mark(step: int | None, trained_s: float | None) -> Mark | None:
    if step is None or trained_s is None:
        return None
    return Mark(step=step, trained_s=trained_s)


def _since(then_s: float | None, now_s: float) -> float | None:
    return None if then_s is None else round(max(0.0, now_s - then_s), 3)


def _ratio(spent_s: Mapping[str, float], *, known: bool) -> float | None:
    demanded_s = sum(spent_s.values())
    return spent_s["kept"] / demanded_s if known and demanded_s > 0 else None
