"""What happened, as the decision log tells it: when which mode, which crashes, what was kept.

A stretch of which nobody tells is unknown, and never taken for what was before or after it. The
log is read once, and then only what has been added.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from bisect import bisect_right
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import Literal

import msgspec

from state.records import LOG_VERSION, Boot, Goal, Memory
from supervisor import journal
from supervisor.core import goodput
from supervisor.core.events import Event
from supervisor.core.goodput import Goodput
from supervisor.core.history import GAP_MAX_S
from supervisor.core.moments import wall
from supervisor.core.replay import upgraded
from supervisor.host.home import Home
from supervisor.page.kept import Kept, Share
from supervisor.page.lines import Lines
from supervisor.page.machine import Lived
from trainers.contract import NewerFile

READ_BYTES = 256 * 1024 * 1024
"""of the log are read at first: more than there ever is"""
BANDS_MAX = 20_000
"""stretches of each kind that are remembered, the newest"""
MARKS_MAX, RUNS_MAX = 500, 2000
"""marks of a run, and runs that have some"""
AWAY_MAX_S = 366 * 86_400.0
"""a clock that says that a machine was away for longer is wrong"""
IDLE = "idle"
"""whose pause it is where the machine dies as soon as it trains"""

Downtime = Literal["crash", "planned", "supervisor", "asleep", "unknown"]
DOWNTIMES: dict[Downtime, str] = {
    "crash": "down after a crash",
    "planned": "stopped as planned",
    "supervisor": "no supervisor was there",
    "asleep": "the machine was suspended",
    "unknown": "nothing is known",
}
"""why nothing was supervised"""

Happened = Literal["start", "move", "crash", "death"]
HAPPENED: dict[Happened, str] = {
    "start": "its trainer was started again",
    "move": "it went on in another mode",
    "crash": "the machine went down",
    "death": "its trainer died",
}
"""what a mark of a run means"""


class Band(msgspec.Struct, frozen=True, kw_only=True):
    """A stretch of wall time in which something was so."""

    what: str
    """a mode, whose pause it is, or a downtime"""
    begin: float
    end: float
    seq: int | None
    """the number of the line of the log that tells it; None: none is known"""


class Tick(msgspec.Struct, frozen=True, kw_only=True):
    """A boot of the machine, at the moment at which it had gone down before."""

    at: float
    crash: bool
    """it had not been stopped cleanly; otherwise it was planned"""
    seq: int | None


class Ribbon(msgspec.Struct, frozen=True, kw_only=True):
    """A span of wall time: modes, pauses, what kept from training, and what of it is kept."""

    since: float
    until: float
    ladder: tuple[str, ...]
    """the modes, the safest first"""
    modes: tuple[Band, ...]
    """neither downtime nor what is unknown lies in any of them"""
    pauses: tuple[Band, ...]
    downs: tuple[Band, ...]
    """what they are stands in `DOWNTIMES`"""
    ticks: tuple[Tick, ...]
    shares: tuple[Share, ...]
    """equal parts of the span"""

    @property
    def goodput(self) -> float | None:
        """The share of the whole span; None: nothing was demanded, or nothing is known."""
        return Share(
            begin=self.since,
            end=self.until,
            demanded_s=sum(one.demanded_s for one in self.shares),
            kept_s=sum(one.kept_s for one in self.shares),
            unknown_s=sum(one.unknown_s for one in self.shares),
        ).goodput


class Mark(msgspec.Struct, frozen=True, kw_only=True):
    """Something that happened to a run."""

    what: Happened
    at: float
    step: int | None
    """how far the run was; None: nobody knows"""
    seq: int
    words: str
    """the sentence of the log"""


class _Known(msgspec.Struct, frozen=True):
    goal: Goal | None = None
    ladder: tuple[str, ...] = ()


class _Line(goodput.Line, frozen=True, kw_only=True):
    """What counts of a line of the log."""

    seq: int
    version: int = 1
    reason: str = ""
    facts: _Known | None = None


@dataclasses.dataclass(slots=True)
class _Stretch:
    """A band that may last still."""

    what: str
    begin: float
    end: float
    seq: int | None
    boots: tuple[Tick, ...] = ()
    """what was recorded at the end of a downtime, the oldest first"""


class _Run:
    """How far a run was, as its lines tell."""

    def __init__(self) -> None:
        self.lives = False
        self.step: int | None = None
        self.mode: str | None = None
        self.marks: deque[Mark] = deque(maxlen=MARKS_MAX)


class Past:
    """The decision log of a home, read on from where it was read last.

    Moments are told by the clock as it is set now: where it was wrong, that is put right.

    Args:
        home: whose log it is.
    """

    def __init__(self, home: Home) -> None:
        self._path = home.decisions
        self._lines = Lines(home.decisions, most_bytes=READ_BYTES)
        self._tally, self._kept = goodput.Tally(), Kept()
        self._runs: dict[str, _Run] = {}
        self._newest: _Line | None = None
        self._at = self._known_from = 0.0
        """when the newest line was written, and since when none is missing: in seconds since the
        first line, as everything that is remembered here"""
        self._now_s = 0.0
        """when the newest line was written, on the timeline"""
        self._said_at: float | None = None
        """the same by the clock"""
        self._began: float | None = None
        """where the timeline of all lines begins; None: it has begun anew among them"""
        self._unbooked_s = 0.0
        """what no supervisor has booked of the time before the newest boot"""
        self._stopped_at: float | None = None
        """when the supervisor was stopped that was there last; None: it was not"""
        self._alive_at: float | None = None
        """when a supervisor is known to have been there last; None: none is known"""
        self._ladder: tuple[str, ...] = ()
        self._mode: _Stretch | None = None
        self._pauses: dict[str, _Stretch] = {}
        self._modes: deque[_Stretch] = deque(maxlen=BANDS_MAX)
        self._paused: deque[_Stretch] = deque(maxlen=BANDS_MAX)
        self._downs: deque[_Stretch] = deque(maxlen=BANDS_MAX)
        self._boots: list[Tick] = []
        """recorded by a supervisor that has not said yet that it goes on"""

    def refresh(self) -> None:
        """Read what has been added to the log.

        Raises:
            NewerFile: a newer version has written a line of it.
        """
        for raw in self._lines.fresh():
            line = self._parsed(raw)
            if line is not None and (self._newest is None or line.seq > self._newest.seq):
                self._read(line)

    def goodput(self, present: Iterable[journal.Line] = ()) -> Goodput:
        """Where the time of the home went.

        Args:
            present: of what lives now, as `report.so_far` has it.
        """
        return self._tally.told(msgspec.convert(line, goodput.Line) for line in present)

    def marks(self, run: str) -> tuple[Mark, ...]:
        """What happened to a run, the oldest first."""
        known = self._runs.get(run)
        first = self._first
        return tuple(
            msgspec.structs.replace(mark, at=first + mark.at)
            for mark in (() if known is None else known.marks)
        )

    @property
    def _first(self) -> float:
        """The wall time of the first line, by the clock as it was set at the newest one."""
        return (self._said_at or 0.0) - self._at

    def ribbon(
        self,
        since: float | None,
        until: float,
        *,
        memory: Memory,
        up: bool,
        lived: Sequence[Lived] = (),
        present: Iterable[journal.Line] = (),
        parts: int = 96,
    ) -> Ribbon:
        """A span of wall time.

        Args:
            since: where it begins; None: with the first that is known.
            until: where it ends, mostly now.
            memory: that of the home: it knows boots that the log has forgotten.
            up: whether a supervisor is there at the end.
            lived: when there were samples, by which it is known how long somebody was there.
            present: of what lives now, as `report.so_far` has it.
            parts: into how many equal parts the share of goodput is divided.
        """
        first = self._first
        ticks = [tick for boot in memory.boots if (tick := self._of_memory(boot)) is not None]
        if since is None:
            known = [tick.at for tick in ticks] + [first] * (self._newest is not None)
            since = min(known, default=until)
        begin, end = since - first, until - first
        downs = self._told_downs(end, memory.timeline.seen_at - first, up=up, lived=lived)
        ticks += [tick for down in downs for tick in _ticks(down, first)]
        gaps = [down for down in downs if down.end > max(down.begin, begin) and down.begin < end]
        modes = (*self._modes, *filter(None, (self._mode,)))
        pauses = (*self._paused, *self._pauses.values())

        def bands(stretches: Iterable[_Stretch], gaps: Sequence[_Stretch]) -> tuple[Band, ...]:
            return tuple(
                Band(what=one.what, begin=first + one.begin, end=first + one.end, seq=one.seq)
                for one in _outside(stretches, gaps, begin, end)
            )

        return Ribbon(
            since=since,
            until=until,
            ladder=self._ladder,
            modes=bands(modes, gaps),
            pauses=bands(pauses, gaps),
            downs=bands(gaps, ()),
            ticks=tuple(tick for tick in ticks if since <= tick.at <= until),
            shares=tuple(
                msgspec.structs.replace(one, begin=first + one.begin, end=first + one.end)
                for one in self._kept.shares(begin, end, parts, present)
            ),
        )

    # Reading.

    def _parsed(self, raw: bytes) -> _Line | None:
        """A line, if it is one; facts that nobody asks for are not even made values of."""
        try:
            line = msgspec.json.decode(raw, type=_Line)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            line = None
        if line is None or line.version < LOG_VERSION:
            try:
                (known,) = journal.parse([raw])
                line = msgspec.convert(upgraded(known), _Line)
            except (msgspec.ValidationError, ValueError):
                return None  # torn, none of ours, or of a version that knows no timeline
        if line.version > LOG_VERSION:
            why = f"line {line.seq} has version {line.version}, this one knows {LOG_VERSION}"
            raise NewerFile(self._path, why)
        return line

    def _read(self, line: _Line) -> None:
        before, then = self._newest, self._at
        at = self._pass_time(line)
        if before is not None and line.seq != before.seq + 1:
            self._lose(then)
            self._downs.append(_Stretch("unknown", then, at, None))
            self._known_from = at
        self._newest = line
        self._tally.read(line)
        self._kept.read(line, at)
        self._follow(line, at)

    def _pass_time(self, line: _Line) -> float:
        """When a line was written: in seconds since the first, which never go back.

        Within a boot the timeline tells it, whatever is done to the clock.
        """
        before, said_at = self._newest, _wall(line)
        passed_s = 0.0 if said_at is None or self._said_at is None else said_at - self._said_at
        gone_s = 0.0 if before is None else line.now_s - self._now_s
        if gone_s < 0 and passed_s <= 0:
            return self._at  # of a memory that is older than the log: it tells when it was saved
        rebooted = before is not None and line.boot != before.boot
        if gone_s < 0 or (rebooted and gone_s >= GAP_MAX_S):
            # The timeline has begun anew, or books no more than that between two boots.
            booked_s = max(0.0, gone_s)
            gone_s = max(booked_s, passed_s if passed_s < AWAY_MAX_S else 0.0)
            self._unbooked_s += gone_s - booked_s
            self._kept.leave_out(self._at + booked_s, self._at + gone_s)
        if before is None:
            self._began = -line.now_s
        elif line.now_s < self._now_s:
            self._began = None
        self._at += gone_s
        self._now_s = line.now_s
        self._said_at = said_at or self._said_at
        return self._at

    def _lose(self, at: float) -> None:
        """Nobody can tell what is so from then on."""
        self._enter(None, at, None)
        self._pause((), at, None)
        self._kept.rest(at)
        self._boots.clear()
        self._alive_at = self._stopped_at = None
        self._unbooked_s = 0.0

    def _follow(self, line: _Line, at: float) -> None:
        self._decide(line, at)
        if line.event == Event.BOOT_RECORDED:
            self._recognise(line.evidence.get("mode"))
            if line.evidence.get("boot") != 1:  # of the first nobody knows what was before
                crash = line.evidence.get("crash") is True
                self._boots.append(Tick(at=at, crash=crash, seq=line.seq))
            return  # it is no sign that somebody was there before
        if line.event == Event.STATE_LAGGED:
            self._lose(at)
            self._known_from = at
        elif line.event == Event.SUPERVISOR_STARTED:
            self._start(line, at)
        elif line.event == Event.SUPERVISOR_STOPPED and line.rule != "hand_over":
            self._stopped_at = at
        elif line.run is not None:
            self._follow_run(line, line.run, at)
        self._alive_at = at

    def _decide(self, line: _Line, at: float) -> None:
        """What a line says of mode and pauses, before it and since."""
        if line.facts is not None:
            self._ladder = line.facts.ladder or self._ladder
            self._recognise(line.facts.goal.mode if line.facts.goal is not None else None)
        goal = _goal(line)
        if goal is not None:
            self._enter(goal.mode, at, line.seq)
            self._pause(_pausing(goal), at, line.seq)

    def _recognise(self, mode: object) -> None:
        """It is this mode, and has been since no line is missing."""
        if self._mode is None and isinstance(mode, str):
            self._enter(mode, self._known_from, None)

    def _enter(self, mode: str | None, at: float, seq: int | None) -> None:
        before = self._mode
        if before is not None and before.what == mode:
            return
        if before is not None:
            before.end = at
            self._modes.append(before)
        self._mode = None if mode is None else _Stretch(mode, at, math.inf, seq)

    def _pause(self, owners: Sequence[str], at: float, seq: int | None) -> None:
        for owner in [owner for owner in self._pauses if owner not in owners]:
            over = self._pauses.pop(owner)
            over.end = at
            self._paused.append(over)
        for owner in owners:
            self._pauses.setdefault(owner, _Stretch(owner, at, math.inf, seq))

    def _start(self, line: _Line, at: float) -> None:
        """A supervisor is there again: since when none was, and why."""
        gone_s = _number(line.evidence.get("down_s")) + self._unbooked_s
        boots, alive_at, stopped_at = tuple(self._boots), self._alive_at, self._stopped_at
        begin = at
        what: Downtime = "unknown"
        if alive_at is not None:
            begin = max(alive_at, at - gone_s) if stopped_at is None else stopped_at
            what = "planned" if boots or stopped_at is not None else "supervisor"
            what = "crash" if any(boot.crash for boot in boots) else what
        self._downs.append(_Stretch(what, begin, at, line.seq, boots))
        self._boots.clear()
        self._stopped_at, self._unbooked_s = None, 0.0

    def _follow_run(self, line: _Line, name: str, at: float) -> None:
        run = self._runs.get(name)
        if run is None:
            if len(self._runs) >= RUNS_MAX:
                self._runs.pop(next(iter(self._runs)))
            run = self._runs[name] = _Run()
        said, mode = line.evidence.get("step"), line.evidence.get("mode")
        step = said if type(said) is int else None
        what: Happened | None = None
        if line.event in (Event.RUN_STARTED, Event.RUN_ADOPTED):
            self._recognise(mode)
            if line.event == Event.RUN_STARTED and run.mode is not None:
                what = "start" if mode == run.mode else "move"
            run.lives, run.mode = True, mode if isinstance(mode, str) else run.mode
        elif line.event in goodput.ENDS and run.lives:
            run.lives = False
            if line.event == Event.RUN_LOST and line.rule == "boot":
                what = "crash"
                at = self._downs[-1].begin if self._downs else at
            elif line.event in (Event.RUN_DIED, Event.RUN_QUARANTINED):
                what = "death"
        else:
            return
        run.step = run.step if step is None else step
        if what is not None:
            run.marks.append(Mark(what=what, at=at, step=run.step, seq=line.seq, words=line.reason))

    # Telling.

    def _of_memory(self, boot: Boot) -> Tick | None:
        """A boot that the log does not know; of the first nobody knows what was before."""
        if boot.seq <= 1:
            return None
        if self._newest is None:
            return Tick(at=boot.recorded_at, crash=boot.crash, seq=None)
        if self._began is None or self._began + boot.recorded_s >= 0:
            return None
        return Tick(at=self._first + self._began + boot.recorded_s, crash=boot.crash, seq=None)

    def _told_downs(
        self, until: float, seen: float, *, up: bool, lived: Sequence[Lived]
    ) -> list[_Stretch]:
        """All downtime up to now, the oldest first; samples show who was there for longer."""
        known_from = math.inf if self._newest is None else 0.0
        found = [_Stretch("unknown", -math.inf, known_from, None), *self._downs]
        if not up and self._newest is not None:
            if self._stopped_at is not None:
                found.append(_Stretch("planned", self._stopped_at, math.inf, self._newest.seq))
            else:
                last = max(self._at, min(until, seen))
                found.append(_Stretch("supervisor", last, math.inf, None))
        ends = sorted(one.end - self._first for one in lived)
        for place, down in enumerate(found):
            if down.what in ("crash", "supervisor"):
                last = bisect_right(ends, min(down.end, until)) - 1
                if last >= 0 and ends[last] > down.begin:
                    found[place] = dataclasses.replace(down, begin=ends[last])
        found += [
            _Stretch("asleep", before.end - self._first, after.begin - self._first, None)
            for before, after in itertools.pairwise(lived)
            if after.slept
        ]
        return sorted(found, key=lambda one: one.begin)


def _wall(line: _Line) -> float | None:
    """When the clock said that it was; None: it said nothing that is a time."""
    try:
        return wall(line.time or "")
    except ValueError:
        return None


def _number(value: object) -> float:
    return value if isinstance(value, int | float) else 0.0


def _goal(line: _Line) -> Goal | None:
    """What was decided; None: nothing was."""
    if line.decision is None:
        return None
    try:
        return msgspec.convert(line.decision.goal, Goal)
    except msgspec.ValidationError:
        return None


def _pausing(goal: Goal) -> tuple[str, ...]:
    """Whose pauses keep everything from training; a freeze is the guard's."""
    frozen = ("guard",) if goal.frozen else ()
    idle = (IDLE,) if goal.idle_until_s is not None else ()
    return tuple(dict.fromkeys((*goal.pauses, *frozen, *idle)))


def _ticks(down: _Stretch, first: float) -> Iterator[Tick]:
    """The boots at the end of a downtime: the first tells of the moment at which it began."""
    for number, tick in enumerate(down.boots):
        at = min(max(tick.at, down.begin), down.end) if number else down.begin
        yield msgspec.structs.replace(tick, at=first + at)


def _outside(
    stretches: Iterable[_Stretch], gaps: Sequence[_Stretch], since: float, until: float
) -> Iterator[_Stretch]:
    """The parts of stretches that lie in a span and in none of the gaps, which are sorted."""
    ends = list(itertools.accumulate((gap.end for gap in gaps), max))
    for one in stretches:
        begin, end = max(one.begin, since), min(one.end, until)
        for gap in gaps[bisect_right(ends, begin) :]:
            if gap.begin >= end:
                break
            if gap.begin > begin:
                yield _Stretch(one.what, begin, gap.begin, one.seq)
            begin = max(begin, gap.end)
        if end > begin:
            yield _Stretch(one.what, begin, end, one.seq)
