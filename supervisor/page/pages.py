"""What each page shows, made from a look and from what is read for that page alone."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

from supervisor import decision_log, journal
from supervisor.access import Right
from supervisor.core.explain import explained
from supervisor.core.moments import since
from supervisor.core.replay import logged_decision
from supervisor.core.sought import Sought, chosen
from supervisor.host.clock import Clock
from supervisor.host.home import Home
from supervisor.output import Output
from supervisor.page.asking import Answered, Asked
from supervisor.page.lately import Series, shows
from supervisor.page.look import Look
from supervisor.page.queue import Jobs
from supervisor.page.refused import Missing, Refused
from supervisor.page.rendering import Rendering
from supervisor.report import RunReport
from trainers import durable
from trainers.contract import CHECKPOINT, RunFolder

SPANS = ("24h", "7d", "all")
"""of the ribbon"""
LINES_SHOWN = 200
"""of an output, the newest"""
LINES_AT_ONCE = 500
"""of an output that is followed"""
LINE_SHOWN_BYTES = 2000
"""of a line of it"""
DECISIONS_SHOWN = 200
"""lines of the decision log on one page"""
CHECKPOINTS_SHOWN = 50
PREVIEW_MAX_BYTES = 2 * 2**20
RECORDING_MAX_BYTES = 64 * 2**20
STILL_PIXELS = 600
"""how wide a curve is where no script asks for it"""
PIXELS = re.compile(r"[1-9][0-9]{1,3}")
POSITION = re.compile(r"[0-9]{1,18}")
ENDED = frozenset({"done", "failed", "cancelled"})


class Checkpoint(msgspec.Struct, frozen=True, kw_only=True):
    """A checkpoint of a run, as its folder tells."""

    name: str
    saved_at: float
    """wall time"""


class Pages:
    """All pages; the methods may block.

    Args:
        home: of which they tell.
        rendering: makes HTML of it.
        clock: of this machine.
        series: what is read on of the home.
        jobs: whoever takes jobs in; None: nobody does.
    """

    def __init__(
        self, home: Home, rendering: Rendering, clock: Clock, series: Series, jobs: Jobs | None
    ) -> None:
        self._home, self._rendering, self._clock = home, rendering, clock
        self._series, self._jobs = series, jobs

    def main(self, look: Look, right: Right, seen: str, query: Mapping[str, str]) -> str:
        """The page that one looks at."""
        values = {"seen": seen, "span_asked": _span(query)}
        return self._rendering.page("main.html", look, right, **values)

    def part(self, look: Look, right: Right, name: str, query: Mapping[str, str]) -> str:
        """A part of it, as somebody asks for it."""
        return self._rendering.part(name, look, right, span_asked=_span(query)).html

    def run(self, look: Look, right: Right, run_id: str) -> str:
        """A run."""
        run, folder = self._run(look, run_id)
        found = Output(folder.output).tail(LINES_SHOWN)
        return self._rendering.page(
            "run.html",
            look,
            right,
            run=run,
            checkpoints=_checkpoints(folder),
            lines=[_text(line.text) for line in found.lines],
            position=found.lines[-1].end if found.lines else 0,
            curves=self._series.curves(run_id, "step", STILL_PIXELS),
            marks=self._series.marks(run_id),
            preview=shows(folder),
            recording=_recording(folder) is not None,
        )

    def lines(self, look: Look, run_id: str, after: str) -> bytes:
        """What a run has printed after a position, and the position behind that, as JSON.

        Raises:
            Refused: that is no position.
        """
        _, folder = self._run(look, run_id)
        if not POSITION.fullmatch(after):
            raise Refused(400, "`after` is a position in the output", "")
        output, found = Output(folder.output, int(after)), list[str]()
        while len(found) < LINES_AT_ONCE and (lines := output.fresh()):
            found += [_text(line.text) for line in lines]
        return msgspec.json.encode({"position": output.position, "lines": found})

    def curves(self, look: Look, run_id: str, query: Mapping[str, str]) -> bytes:
        """What a run has measured, and what happened to it, as JSON.

        Args:
            look: what is true.
            run_id: of the run.
            query: `by`, which is step or time, and `points`: so many pixels it is wide.
        """
        self._run(look, run_id)
        points = query.get("points", "")
        pixels = int(points) if PIXELS.fullmatch(points) else STILL_PIXELS
        found = self._series.curves(run_id, "time" if query.get("by") == "time" else "step", pixels)
        marks = self._series.marks(run_id)
        return msgspec.json.encode(msgspec.structs.asdict(found) | {"marks": marks})

    def preview(self, look: Look, run_id: str) -> bytes:
        """What a run sees, as PNG.

        Raises:
            Missing: it shows nothing.
        """
        _, folder = self._run(look, run_id)
        try:
            return durable.read(folder.preview, PREVIEW_MAX_BYTES)
        except OSError:
            raise Missing("picture of", run_id) from None

    def recording(self, look: Look, run_id: str) -> tuple[BinaryIO, int]:
        """How a run plays, as an open GIF, and how many bytes that has.

        Raises:
            Missing: nobody has recorded that, or far too much.
        """
        _, folder = self._run(look, run_id)
        path = _recording(folder)
        if path is None:
            raise Missing("recording of", run_id)
        try:  # what was a file a moment ago may be a link by now
            file = durable.open_regular(path)
        except OSError:
            raise Missing("recording of", run_id) from None
        return file, os.fstat(file.fileno()).st_size

    def job(self, look: Look, right: Right, job_id: str) -> str:
        """A job.

        Raises:
            Missing: there is none of that id here.
        """
        job = None if self._jobs is None else self._jobs.job(job_id)
        if job is None:
            raise Missing("job", job_id)
        return self._rendering.page("job.html", look, right, job=job)

    def decisions(self, look: Look, right: Right, query: Mapping[str, str]) -> str:
        """The decision log, the newest of the lines that are asked for.

        Raises:
            Refused: what is asked for is no event, or no time.
        """
        asked = {key: query.get(key, "").strip() for key in ("event", "run", "since", "before")}
        now_at = self._clock.read().wall
        try:
            events = chosen([asked["event"]]) if asked["event"] else None
            since_at = since(asked["since"], now_at) if asked["since"] else None
        except ValueError as error:
            raise Refused(400, str(error), "") from error
        run = _run_called(look, asked["run"]) if asked["run"] else None
        sought = Sought(events=events, run=run, since_at=since_at)
        before = int(asked["before"]) if POSITION.fullmatch(asked["before"]) else None

        def takes(line: Mapping[str, Any]) -> bool:
            seq = line.get("seq")
            return sought.takes(line) and (
                before is None or (isinstance(seq, int) and seq < before)
            )

        narrows = sought.narrows or before is not None
        lines = journal.tail(self._home.decisions, DECISIONS_SHOWN, takes if narrows else None)
        return self._rendering.page(
            "decisions.html", look, right, lines=lines, asked=asked, shown_max=DECISIONS_SHOWN
        )

    def decision(self, look: Look, right: Right, seq: int) -> str:
        """A line of the decision log, and why that was decided, where it is a decision.

        Raises:
            Missing: there is no such line.
        """
        line = next(
            (one for one in journal.read(self._home.decisions) if one.get("seq") == seq), None
        )
        if line is None:
            raise Missing("line of the log", str(seq))
        explanation = None
        if logged_decision(line) is not None:
            with decision_log.sensible(self._home.decisions):
                logged, before = decision_log.numbered(self._home.decisions, seq)
                explanation = explained(logged, before)
        return self._rendering.page(
            "decision.html", look, right, line=line, explanation=explanation
        )

    def ledger(self, look: Look, right: Right) -> str:
        """What the machine has taught."""
        return self._rendering.page("ledger.html", look, right)

    def goodput(self, look: Look, right: Right) -> str:
        """Where the time went."""
        return self._rendering.page("goodput.html", look, right)

    def ask(self, look: Look, right: Right, asked: Asked) -> str:
        """What is asked before anything is done."""
        return self._rendering.page("ask.html", look, right, asked=asked)

    def answer(self, look: Look, right: Right, answer: Answered) -> str:
        """What became of it."""
        return self._rendering.page("answer.html", look, right, answer=answer)

    def entered(self) -> str:
        """That somebody was let in."""
        return self._rendering.page("entered.html", None, "look")

    def refused(self, error: Refused) -> str:
        """That something is refused; it tells nothing of the home."""
        return self._rendering.page("refused.html", None, "look", refused=error)

    def _run(self, look: Look, run_id: str) -> tuple[RunReport, RunFolder]:
        run = next((one for one in look.report.runs if one.id == run_id), None)
        if run is None:
            raise Missing("run", run_id)
        return run, self._home.run(run_id)


def _span(query: Mapping[str, str]) -> str:
    asked = query.get("span", "")
    return asked if asked in SPANS else SPANS[0]


def _run_called(look: Look, name: str) -> str:
    """The id of a run, by that or by what it is called.

    Raises:
        Refused: there is none.
    """
    for one in look.report.runs:
        if name in (one.id, one.called):
            return one.id
    raise Refused(400, f"there is no run {name[:80]!r}", "")


def _checkpoints(folder: RunFolder) -> list[Checkpoint]:
    """Those that are whole, newest first."""
    found = []
    try:
        with os.scandir(folder.checkpoints) as entries:
            for entry in entries:
                if re.fullmatch(CHECKPOINT, entry.name) and entry.is_dir(follow_symlinks=False):
                    saved_at = entry.stat(follow_symlinks=False).st_mtime
                    found.append(Checkpoint(name=entry.name, saved_at=saved_at))
    except OSError:
        return []
    found.sort(key=lambda one: one.saved_at, reverse=True)
    return found[:CHECKPOINTS_SHOWN]


def _recording(folder: RunFolder) -> Path | None:
    """The newest recording that lies in the folder of a run, unless nobody could look at it."""
    found = []
    try:
        for path in folder.path.glob("*.gif"):
            status = path.lstat()
            if stat.S_ISREG(status.st_mode) and status.st_size <= RECORDING_MAX_BYTES:
                found.append((status.st_mtime, path))
    except OSError:
        return None
    return max(found, default=(0.0, None))[1]


def _text(line: bytes) -> str:
    """A line of an output, or the begin of one that nobody reads to its end."""
    text = line[:LINE_SHOWN_BYTES].decode("utf-8", "replace")
    more = len(line) - LINE_SHOWN_BYTES
    return text if more <= 0 else f"{text} ... and {more} bytes more"
