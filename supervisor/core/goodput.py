"""Goodput: which share of the time in which training was wanted is kept as training.

    goodput = time of the steps that a durable checkpoint holds / time in which they were wanted

Both sides are summed over the slots, so a campaign's goodput weighs each run by the
slot-seconds that it was wanted for. It is the runtime part of Google's "ML Productivity
Goodput" (2024) together with its scheduling part, and MegaScale's "effective training time
ratio" (Jiang et al., NSDI 2024), with one sharper edge: a step counts once a checkpoint holds
it, and no longer where the next life had to go on from an older one.

The decision log alone tells it. `slots.assigned` says which runs are wanted, and the line that
ends a life of a trainer says in its evidence (`Lived`) what the life came to. A checkpoint
carries the training time of its steps, so what a power cut left of a run is known from where
its next life began, even if the heartbeat of the last one was lost. All durations lie on the
timeline; the wall clock plays no part.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from state.records import Run, Timeline
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
    "waiting": "between two trainers: backoff, hold, making room",
    "idle": "not trained, because the machine died of it at once",
    "machine_down": "the machine was down, or not yet up again",
    "supervisor_down": "the trainer was gone, and no supervisor there",
    "unknown": "nobody can tell",
}
"""where the time goes in which training was wanted, each second to one of them"""

UNWANTED = {
    "pause": "paused by a person",
    "stop": "the supervisor was stopped by a person",
    "rest": "every run had ended",
}
"""the rules of `slots.assigned` under which nothing is wanted"""

PRESENT = "present"
"""the event of a line that no log holds: what a life has come to that has not ended"""

ENDS = {
    "run.died": "lost",
    "run.held": "lost",
    "run.lost": "machine_down",
    "run.stopped": "stop",
    "run.done": "stop",
    "run.failed": "stop",
    "run.cleared": "stop",
    PRESENT: "unknown",
}
"""events that end a life, and the share of the time after its last step"""

AFTER = {
    "hung": "hung",
    "vanished": "supervisor_down",
    "alive": "unsaved",
    "gone": "supervisor_down",
    "down": "machine_down",
}
"""rules under which it is another one"""


class Lived(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What one life of a trainer came to: evidence of the line that tells its end.

    What is absent is unknown.
    """

    lived_s: float | None = None
    start_s: float | None = None
    """from the start to the first new step; the whole life, if it made none"""
    began_step: int | None = None
    began_trained_s: float | None = None
    """the training behind that step, over all lives of the run"""
    step: int | None = None
    """the furthest one"""
    trained_s: float | None = None
    checkpoint_step: int | None = None
    checkpoint_trained_s: float | None = None
    checkpoints: int | None = None
    """written in this life"""
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
    """The evidence of a life of `run` that has ended, or of what it has come to so far."""
    here = run.attempt.process is not None and run.attempt.process.boot_id == now.boot_id
    lived_s = _since(run.attempt.started_s, now.now_s)
    life = Lived(lived_s=lived_s, stop_s=_since(run.attempt.stop_asked_s, now.now_s))
    if not run.local:  # its heartbeat tells the time of another machine
        pass
    elif heartbeat is None:  # it never came to its first word, or the power cut took it
        life = msgspec.structs.replace(life, start_s=lived_s if here else None)
    elif heartbeat.began is not None and heartbeat.reached is not None:
        began, reached, saved = heartbeat.began, heartbeat.reached, heartbeat.saved
        start_s, silent_s = lived_s if here else None, None
        if heartbeat.stepping_at_s is not None:
            start_s = _since(run.attempt.started_monotonic_s, heartbeat.stepping_at_s)
            silent_s = _since(heartbeat.progress_at_s, now.monotonic_s) if here else None
        life = msgspec.structs.replace(
            life,
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
    evidence: Evidence = msgspec.to_builtins(life)
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
    wanted_s: float
    """time in which it was wanted, or its trainer not yet gone"""
    spent_s: dict[str, float]
    """the same, by where it went: see `SHARES`"""
    steps_kept: int
    steps_lost: int
    lives: int
    deaths: int
    """lives that ended by themselves, by a kill or by a hang; not with the machine"""


class Goodput(msgspec.Struct, frozen=True, kw_only=True):
    """The goodput of a campaign, and where the rest of its time went."""

    goodput: float | None
    """None: nothing was wanted, or nothing is known"""
    since: str | None
    """wall time of the first line that counts"""
    span_s: float
    """time since then, as the supervisor counts it"""
    wanted_s: float
    """slot-seconds in which training was wanted"""
    spent_s: dict[str, float]
    """the same, by where they went: see `SHARES`"""
    unwanted_s: dict[str, float]
    """time in which nothing was wanted, by its reason: see `UNWANTED`"""
    steps_kept: int
    steps_lost: int
    lives: int
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
    ledger = _Ledger()
    for line in lines:
        try:
            ledger.read(msgspec.convert(line, _Line))
        except msgspec.ValidationError:
            continue  # of a version that says nothing of the timeline, or no line of ours
    return ledger.result()


class _Account:
    """What is known of one run so far."""

    def __init__(self) -> None:
        self.spent_s = dict.fromkeys(SHARES, 0.0)
        """under `kept`, until the end of the log: all training, kept or not"""
        self.wanted = False
        self.life_s: float | None = None
        """the time of the present life; None: no trainer lives"""
        self.lives = self.deaths = self.made_steps = 0
        self.first: Mark | None = None
        """where all training that can be kept began"""
        self.durable: Mark | None = None
        """what the newest checkpoint is known to hold"""
        self.head: Mark | None = None
        """the furthest place that the last life is known to have reached"""
        self.hung_s = 0.0
        """for how long the present life stood still when that was noticed"""
        self.tail = ("unknown", 0.0)
        """where the time after that place went"""
        self.unsaved = Mark(step=0, trained_s=0.0)

    def begin(self) -> None:
        """A trainer was started."""
        if self.life_s is not None:
            self.end(Lived(), "unknown")  # the line of its end is missing
        self.life_s = 0.0
        self.lives += 1
        self.wanted = True

    def end(self, life: Lived, after: str) -> None:
        """Spread the time of the present life over the shares.

        Args:
            life: what it came to.
            after: the share of the time after its last step.
        """
        left_s, self.life_s = self.life_s or 0.0, None

        def spend(share: str, seconds: float) -> float:
            nonlocal left_s
            spent_s = min(max(0.0, seconds), left_s)
            left_s -= spent_s
            self.spent_s[share] += spent_s
            return spent_s

        trained_s = self._move(life)
        spend("start", life.start_s or 0.0)
        spend("stall", life.stall_s or 0.0)
        # Before its training: one that moved on when it was stopped takes a hang for a long step.
        spend("hung", self.hung_s)
        self.hung_s = 0.0
        spend("kept", trained_s)
        known_s = spend(after, life.silent_s or 0.0)
        rest = after if after == "machine_down" and life.began else "unknown"
        rest_s = spend(rest, left_s)
        if life.began is None and self.tail[0] == rest:
            rest_s += self.tail[1]  # several lives in a row of which nothing was heard
        self.tail = (after, known_s) if known_s > rest_s else (rest, rest_s)

    def result(self, run: str) -> RunGoodput:
        """The goodput of the run."""
        made_s, unsaved = self.spent_s["kept"], self.unsaved
        unsaved_s = min(unsaved.trained_s, made_s)
        kept, first = self.durable or unsaved, self.first or self.durable or unsaved
        kept_s = min(max(0.0, kept.trained_s - first.trained_s), made_s - unsaved_s)
        kept_steps = max(0, min(kept.step - first.step, self.made_steps - unsaved.step))
        spent_s = {
            **self.spent_s,
            "kept": kept_s,
            "unsaved": self.spent_s["unsaved"] + unsaved_s,
            "lost": self.spent_s["lost"] + made_s - unsaved_s - kept_s,
        }
        return RunGoodput(
            run=run,
            goodput=_ratio(spent_s, known=self.first is not None),
            wanted_s=sum(spent_s.values()),
            spent_s=spent_s,
            steps_kept=kept_steps,
            steps_lost=max(0, self.made_steps - unsaved.step - kept_steps),
            lives=self.lives,
            deaths=self.deaths,
        )

    def _move(self, life: Lived) -> float:
        """Follow the run through one life; the training of that life in seconds."""
        began, reached = life.began, life.reached
        if began is None or reached is None:
            self.head = self.durable
            return 0.0
        if self.head is not None and began.step > self.head.step:
            # The last life had come further than it was heard to, as the checkpoint shows.
            share, tail_s = self.tail
            moved_s = min(max(0.0, began.trained_s - self.head.trained_s), tail_s)
            self.spent_s[share] -= moved_s
            self.spent_s["kept"] += moved_s
            self.made_steps += began.step - self.head.step
        if self.first is None or began.step < self.first.step:
            self.first = began
        self.durable, self.head = life.saved or began, reached
        self.made_steps += max(0, reached.step - began.step)
        return reached.trained_s - began.trained_s


class _Decided(msgspec.Struct, frozen=True):
    goal: dict[str, Any] = {}


class _Line(msgspec.Struct, frozen=True):
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


class _Ledger:
    """The accounts of all runs, kept line by line."""

    def __init__(self) -> None:
        self.accounts: dict[str, _Account] = {}
        self.first: _Line | None = None
        self.last: _Line | None = None
        self.span_s = 0.0
        self.idle = False
        self.unwanted = "rest"
        """why nothing is wanted, when nothing is"""
        self.unwanted_s = dict.fromkeys(UNWANTED, 0.0)
        self.crashes = self.checkpoints = 0
        self.stall_s = 0.0
        self.detection, self.stop, self.start = Times(), Times(), Times()

    def read(self, line: _Line) -> None:
        """Follow the log by one line."""
        if line.event in ("boot.recorded", "state.damaged"):
            # What the time before it was, only the start of the supervisor will say.
            self.crashes += line.evidence.get("crash") is True
            return
        self._pass_time(line)
        self.first, self.last = self.first or line, line
        if line.decision is not None:
            self.idle = line.decision.goal.get("idle_until_s") is not None
        if line.event == "slots.assigned":
            self._assign(line)
        elif line.event == "supervisor.stopped" and line.rule != "hand_over":
            self._stop()
        elif line.event == "run.hung":
            silent_s = line.evidence.get("silent_s")
            self.detection.add(silent_s)
            self._account(line.run or "").hung_s = silent_s or 0.0
        elif line.run is not None:
            self._follow(line, self._account(line.run))

    def result(self) -> Goodput:
        """The goodput of all runs together."""
        for account in self.accounts.values():
            if account.life_s is not None:  # the log ends before it does
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
            wanted_s=sum(spent_s.values()),
            spent_s=spent_s,
            unwanted_s=self.unwanted_s,
            steps_kept=sum(run.steps_kept for run in runs),
            steps_lost=sum(run.steps_lost for run in runs),
            lives=sum(run.lives for run in runs),
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

    def _assign(self, line: _Line) -> None:
        for run in line.runs:
            self._account(run)
        for run, account in self.accounts.items():
            account.wanted = run in line.runs
        if not line.runs:
            self.unwanted = line.rule if line.rule in UNWANTED else "rest"

    def _stop(self) -> None:
        """Nobody lives and nothing is wanted until the next start, whoever did the stopping."""
        for account in self.accounts.values():
            account.wanted = False
            if account.life_s is not None:
                account.end(Lived(), "unknown")
        self.unwanted = "stop"

    def _pass_time(self, line: _Line) -> None:
        """Book the time since the last line, which never goes back: a reset begins it anew."""
        if self.last is None:
            return
        gone_s = max(0.0, line.now_s - self.last.now_s)
        self.span_s += gone_s
        down, down_s = "supervisor_down", 0.0
        if line.event in ("supervisor.started", PRESENT):
            down = "supervisor_down" if line.boot == self.last.boot else "machine_down"
            down_s = min(gone_s, line.evidence.get("down_s") or 0.0)
        for account in self.accounts.values():
            if account.life_s is not None:
                account.life_s += gone_s
            elif account.wanted:
                account.spent_s[down] += down_s
                account.spent_s["idle" if self.idle else "waiting"] += gone_s - down_s
        if all(one.life_s is None and not one.wanted for one in self.accounts.values()):
            self.unwanted_s[self.unwanted] += gone_s

    def _follow(self, line: _Line, account: _Account) -> None:
        """What a line about one run says of its lives."""
        if line.event == "run.started" or (line.event == "run.adopted" and account.life_s is None):
            account.begin()
        elif account.life_s is not None and line.event in (*ENDS, PRESENT):
            life = _lived(line)
            account.end(life, AFTER.get(line.rule) or ENDS[line.event])
            if line.rule == "alive" and life.reached is not None:
                account.unsaved = _beyond(life.saved or life.began, life.reached)
            account.deaths += line.event in ("run.died", "run.held")
            self.stop.add(life.stop_s)
            if life.began and life.reached and life.reached.step > life.began.step:
                self.start.add(life.start_s)
            if line.rule == "vanished":
                self.detection.add(life.silent_s)
            self.checkpoints += life.checkpoints or 0
            self.stall_s += life.stall_s or 0.0


def _lived(line: _Line) -> Lived:
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
    wanted_s = sum(spent_s.values())
    return spent_s["kept"] / wanted_s if known and wanted_s > 0 else None
