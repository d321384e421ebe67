"""How much of what was demanded is kept, stretch by stretch of time.

`supervisor.core.goodput` tells the sum of a whole log, and this where in time it lies: training
after the start of an attempt, what no checkpoint holds at its end.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import msgspec

from supervisor.core.events import Event
from supervisor.core.goodput import ENDS, Line, Lived

PIECES_MAX = 50_000
"""stretches in which some run was demanded that are remembered, the newest"""
LEFT_OUT_MAX = 100
"""stretches that do not count, likewise"""
ATTEMPTS_MAX = 100
"""attempts of a run of which it may still turn out that less of them is kept"""


class Share(msgspec.Struct, frozen=True, kw_only=True):
    """How much of what was demanded in a stretch of time is kept, summed over the runs."""

    begin: float
    end: float
    demanded_s: float
    kept_s: float
    unknown_s: float
    """part of the demanded of which nobody can tell whether it was kept"""

    @property
    def goodput(self) -> float | None:
        """None: nothing was demanded, or nothing is known."""
        if self.demanded_s <= 0 or self.unknown_s >= self.demanded_s:
            return None
        return min(1.0, self.kept_s / self.demanded_s)


@dataclass(slots=True)
class _Piece:
    """A stretch in which one run was demanded."""

    begin: float
    end: float = math.inf
    attempt: bool = False
    """a trainer lived in it"""
    began_s: float | None = None
    """the training behind the run at the begin of this attempt; None: nobody can tell"""
    start_s: float = 0.0
    gained_s: float = 0.0
    """training of this attempt, kept or not"""
    kept_s: float = 0.0
    stall_s: float = 0.0

    def lived(self, lived: Lived) -> None:
        """What became of the attempt is known."""
        began, reached, saved = lived.began, lived.reached, lived.saved
        if began is None or reached is None:
            return
        self.began_s = began.trained_s
        self.start_s, self.stall_s = lived.start_s or 0.0, lived.stall_s or 0.0
        self.gained_s = max(0.0, reached.trained_s - began.trained_s)
        self.keep(0.0 if saved is None else saved.trained_s - began.trained_s)

    def keep(self, seconds: float) -> None:
        """So much of its training is kept."""
        self.kept_s = min(max(0.0, seconds), max(0.0, self.end - self.begin))
        self.gained_s = max(self.gained_s, self.kept_s)

    @property
    def unknown(self) -> bool:
        """Whether nobody can tell what of it is kept."""
        return self.attempt and self.began_s is None

    def kept_within(self, since: float, until: float) -> float:
        """How much of the training in a span is kept: what came last is what was lost."""
        begin = min(self.begin + self.start_s, self.end - self.kept_s)
        standing = 1 + self.stall_s / self.gained_s if self.gained_s else 1.0
        end = min(self.end, begin + self.kept_s * standing)
        return (
            self.kept_s * _overlap(begin, end, since, until) / (end - begin) if end > begin else 0.0
        )


class _Run:
    """One run: whether it is demanded, and its newest attempts."""

    def __init__(self) -> None:
        self.demanded = False
        self.attempts: deque[_Piece] = deque(maxlen=ATTEMPTS_MAX)
        self.goes_back = False
        """a person wants it to: what was kept until then lies beside, and is no loss"""

    def ended(self, piece: _Piece, lived: Lived) -> None:
        """An attempt is over. Where it began tells what is kept of those before it."""
        piece.lived(lived)
        if self.goes_back:
            self.attempts.clear()
        elif piece.began_s is not None:
            self._kept(piece.began_s)
        self.attempts.append(piece)
        self.goes_back = False

    def _kept(self, began_s: float) -> None:
        newest = True
        for piece in reversed(self.attempts):
            if piece.began_s is None:
                continue
            if not newest and piece.began_s + piece.kept_s <= began_s:
                return
            piece.keep(began_s - piece.began_s)
            newest = False


class Kept:
    """What each run was demanded for, and what is kept of it, line by line of the log."""

    def __init__(self) -> None:
        self._runs: dict[str, _Run] = {}
        self._lasting: dict[str, _Piece] = {}
        """what lasts of each run that is demanded, or whose trainer is not yet gone"""
        self._pieces: deque[_Piece] = deque(maxlen=PIECES_MAX)
        self._left_out: deque[tuple[float, float]] = deque(maxlen=LEFT_OUT_MAX)

    def read(self, line: Line, at: float) -> None:
        """Follow the log by one line, written at that moment."""
        if line.event == Event.SUPERVISOR_STOPPED and line.rule != "hand_over":
            self.rest(at)
        elif line.event == Event.SLOTS_ASSIGNED:
            self._assign(line.runs, at)
        elif line.run is not None:
            self._follow(line, line.run, at)

    def rest(self, at: float) -> None:
        """Nothing lives and nothing is demanded from then on, as far as anybody knows."""
        for name in tuple(self._lasting):
            self._runs[name].demanded = False
            self._close(name, at, Lived())

    def leave_out(self, begin: float, end: float) -> None:
        """A stretch of which nothing counts as demanded, since no more of it is ever booked."""
        if end > begin:
            self._left_out.append((begin, end))

    def shares(
        self, since: float, until: float, parts: int, present: Iterable[Mapping[str, object]] = ()
    ) -> tuple[Share, ...]:
        """Equal parts of a span, and what is kept of each.

        Args:
            since: where it begins.
            until: where it ends; what lasts is told up to there.
            parts: how many.
            present: lines that no log holds, of what lives now.
        """
        width = (until - since) / parts
        if width <= 0:
            return ()
        sums = [[0.0, 0.0, 0.0] for _ in range(parts)]
        for piece in (*self._ended(since), *self._up_to(until, present)):
            first = max(0, int((piece.begin - since) / width))
            last = min(parts - 1, int((min(piece.end, until) - since) / width))
            for part in range(first, last + 1):
                begin = since + part * width
                for place, seconds in enumerate(self._between(piece, begin, begin + width)):
                    sums[part][place] += seconds
        return tuple(
            Share(
                begin=since + part * width,
                end=since + (part + 1) * width,
                demanded_s=demanded_s,
                kept_s=kept_s,
                unknown_s=unknown_s,
            )
            for part, (demanded_s, kept_s, unknown_s) in enumerate(sums)
        )

    def _between(self, piece: _Piece, since: float, until: float) -> tuple[float, float, float]:
        """How long a piece was demanded in a span, what of that is kept, and what unknown."""
        begin, end = max(piece.begin, since), min(piece.end, until)
        demanded_s = max(0.0, end - begin)
        demanded_s -= sum(_overlap(begin, end, *left_out) for left_out in self._left_out)
        return demanded_s, piece.kept_within(since, until), demanded_s if piece.unknown else 0.0

    def _ended(self, since: float) -> list[_Piece]:
        return [piece for piece in self._pieces if piece.end > since]

    def _up_to(self, until: float, present: Iterable[Mapping[str, object]]) -> list[_Piece]:
        """What lasts, as if it ended then."""
        known = {line["run"]: line.get("evidence") for line in present if "run" in line}
        found = []
        for name, lasting in self._lasting.items():
            piece = _Piece(lasting.begin, max(lasting.begin, until), lasting.attempt)
            if piece.attempt:
                piece.lived(_lived(known.get(name)))
            found.append(piece)
        return found

    def _assign(self, runs: Sequence[str], at: float) -> None:
        for name in [name for name in self._lasting if name not in runs]:
            self._runs[name].demanded = False
            if not self._lasting[name].attempt:
                self._close(name, at, Lived())
        for name in runs:
            self._runs.setdefault(name, _Run()).demanded = True
            if name not in self._lasting:
                self._lasting[name] = _Piece(at)

    def _follow(self, line: Line, name: str, at: float) -> None:
        run, lasting = self._runs.setdefault(name, _Run()), self._lasting.get(name)
        lives = lasting is not None and lasting.attempt
        if line.event == Event.RUN_STARTED or (line.event == Event.RUN_ADOPTED and not lives):
            self._close(name, at, Lived())
            run.demanded = True
            self._lasting[name] = _Piece(at, attempt=True)
        elif line.event == Event.REQUEST_GRANTED and line.evidence.get("kind") == "rewind":
            run.goes_back = True
        elif line.event in ENDS and lives:
            self._close(name, at, _lived(line.evidence))
            if run.demanded:
                self._lasting[name] = _Piece(at)

    def _close(self, name: str, at: float, lived: Lived) -> None:
        piece = self._lasting.pop(name, None)
        if piece is None:
            return
        piece.end = max(at, piece.begin)
        if piece.attempt:
            self._runs[name].ended(piece, lived)
        self._pieces.append(piece)


def _lived(evidence: object) -> Lived:
    try:
        return msgspec.convert(evidence, Lived)
    except msgspec.ValidationError:
        return Lived()


def _overlap(begin: float, end: float, since: float, until: float) -> float:
    return max(0.0, min(end, until) - max(begin, since))
