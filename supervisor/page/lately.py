"""What has been, in pictures: read on as it grows, and drawn anew each minute.

A picture that moved with every look would be sent anew with every look. So all of them end at the
last full minute, and until the next one they are what they were.
"""

from __future__ import annotations

import contextlib
import stat
import threading
from functools import partial
from typing import Literal, NamedTuple

import msgspec
from markupsafe import Markup

from supervisor import report
from supervisor.config import Config
from supervisor.core.goodput import Goodput
from supervisor.core.moments import Moment
from supervisor.core.settings import Settings
from supervisor.host.home import Home, machine_id
from supervisor.page import pictures
from supervisor.page.curves import Curves, Metrics
from supervisor.page.machine import DiskLeft, Machine, known_limits
from supervisor.page.past import Mark, Past, Ribbon
from supervisor.page.pictures.ribbon import in_words
from supervisor.report import Report, RunReport
from trainers.contract import NewerFile, RunFolder

DAY_S, MINUTE_S = 86_400.0, 60.0
SPANS: dict[str, tuple[str, float | None]] = {
    "24h": ("The last 24 h", DAY_S),
    "7d": ("The last 7 days", 7 * DAY_S),
    "all": ("All that is known", None),
}
"""how far back a ribbon reaches: how that is called, in seconds; None: to the first known"""
SPARK_PIXELS = 320
RUNS_MAX = 16
"""runs of which there is a curve; those that train come first"""
SPARK_BYTES = 4 * 2**20
"""of the metrics of a run are read for its curve on the page of all"""
WHOLE_MAX = 2
"""runs of which all metrics stay in memory, some megabytes of each"""
LOSS = "loss"
"""the metric of a run that tells no score"""


class Drawn(NamedTuple):
    """A picture, and what of it stands beside it."""

    picture: Markup
    words: str


class Lately(msgspec.Struct, frozen=True, kw_only=True):
    """What has been until the last full minute."""

    until: float
    """the wall time of that minute"""
    runs: tuple[str, ...]
    """ids of the runs that were known"""
    ribbons: dict[str, Drawn]
    """name of a span, as in `SPANS`: its modes, crashes, pauses and goodput"""
    gauges: dict[str, Drawn]
    """name of a value of the machine, such as `cpu_percent`: the last day of it"""
    gauges_s: float
    """how far back these reach"""
    scores: dict[str, Markup]
    """id of a run: the last day of its score, or of its loss where it tells none"""
    disk: DiskLeft
    shots: frozenset[str]
    """ids of runs of which there is a picture of what they see"""

    def is_of(self, moment: Moment, told: Report) -> bool:
        """Whether it would be the same now."""
        runs = tuple(run.id for run in told.runs)
        return self.until <= moment.wall < self.until + MINUTE_S and self.runs == runs


class Series:
    """All that is read on of a home. Its methods block, and any thread may call them.

    Args:
        home: which.
    """

    def __init__(self, home: Home) -> None:
        self._home = home
        self._lock = threading.Lock()
        self._past = Past(home)
        self._machine = Machine(home.samples, machine_id())
        self._sparks: dict[tuple[str, str], Metrics] = {}
        """id of a run and name of a metric: that metric of the run"""
        self._reading = threading.Lock()
        """of all metrics of a run, which takes seconds: nobody else waits for them"""
        self._metrics: dict[str, Metrics] = {}
        """id of a run that was looked at: all metrics of it, those asked for last at the end"""

    def goodput(self, config: Config | str, moment: Moment) -> Goodput:
        """Where the time of the home went, up to this moment."""
        with self._lock:
            self._past.refresh()
            memory = report.present(self._home, config, moment)
            return self._past.goodput(report.so_far(self._home, memory, moment))

    def lately(
        self, config: Config | str, moment: Moment, runs: tuple[RunReport, ...], *, up: bool
    ) -> Lately:
        """What has been until the last full minute.

        Args:
            config: the settings, or why they cannot be read.
            moment: now.
            runs: those of the report.
            up: whether a supervisor holds the home.
        """
        until = moment.wall - moment.wall % MINUTE_S
        with self._lock:
            self._past.refresh()
            with contextlib.suppress(OSError, NewerFile):  # the rest is known all the same
                self._machine.refresh(moment.wall)
            ribbons = self._ribbons(config, moment, until, up=up)
            gauges, since = self._gauges(config, ribbons["24h"])
            return Lately(
                until=until,
                runs=tuple(run.id for run in runs),
                ribbons={span: _drawn(span, shown) for span, shown in ribbons.items()},
                gauges=gauges,
                gauges_s=until - since,
                scores=self._scores(runs, until),
                disk=self._machine.disk_left(),
                shots=frozenset(run.id for run in runs if shows(self._home.run(run.id))),
            )

    def curves(self, run: str, by: Literal["step", "time"], pixels: int) -> Curves:
        """All metrics of a run."""
        with self._reading:
            metrics = self._metrics.pop(run, None) or Metrics(self._home.run(run))
            self._metrics[run] = metrics
            if len(self._metrics) > WHOLE_MAX:
                del self._metrics[next(iter(self._metrics))]
            metrics.refresh()
            return metrics.curves(by, pixels)

    def marks(self, run: str) -> tuple[Mark, ...]:
        """What happened to a run, as the log tells it."""
        with self._lock:
            self._past.refresh()
            return self._past.marks(run)

    def _ribbons(
        self, config: Config | str, moment: Moment, until: float, *, up: bool
    ) -> dict[str, Ribbon]:
        memory = report.present(self._home, config, moment)
        return {
            span: self._past.ribbon(
                None if seconds is None else until - seconds,
                until,
                memory=memory,
                up=up,
                lived=self._machine.lived,
                present=report.so_far(self._home, memory, moment),
            )
            for span, (_, seconds) in SPANS.items()
        }

    def _gauges(self, config: Config | str, day: Ribbon) -> tuple[dict[str, Drawn], float]:
        """Pictures of one width of time, the modes behind them, and where that begins."""
        settings = Settings() if isinstance(config, str) else config.settings
        limits = known_limits(settings.policy, settings.guard_in_force)
        known = self._machine.gauges(day.since, day.until, SPARK_PIXELS, limits)
        since = min((one.points.x[0] for one in known), default=day.since)
        found = {}
        for one in known:
            picture = pictures.spark(
                one.points,
                called=one.words,
                unit=one.unit,
                since=since,
                until=day.until,
                limits=one.limits,
                behind=day,
                width=SPARK_PIXELS,
            )
            said = [f"{limit.value:g} {one.unit}: {limit.words}" for limit in one.limits]
            found[one.name] = Drawn(picture, "; ".join([one.words, *said] if said else []))
        return found, since

    def _scores(self, runs: tuple[RunReport, ...], until: float) -> dict[str, Markup]:
        shown = sorted((run for run in runs if run.pid or run.score), key=lambda run: not run.pid)
        known, self._sparks = self._sparks, {}
        found = {}
        for run in shown[:RUNS_MAX]:
            name = run.score.name if run.score else LOSS
            metrics = known.get((run.id, name)) or Metrics(
                self._home.run(run.id), only=name, read_bytes=SPARK_BYTES
            )
            self._sparks[run.id, name] = metrics
            metrics.refresh()
            points = metrics.lately(name, until - DAY_S, until, SPARK_PIXELS)
            if points is not None:
                found[run.id] = pictures.spark(
                    points,
                    called=f"{name} of {run.called}",
                    better=run.score.better if run.score else "lower",
                    width=SPARK_PIXELS,
                )
        return found


def shows(folder: RunFolder) -> bool:
    """Whether there is a picture of what a run sees."""
    try:
        return stat.S_ISREG(folder.preview.lstat().st_mode)
    except OSError:
        return False


def _drawn(span: str, shown: Ribbon) -> Drawn:
    draw = partial(pictures.ribbon, shown, called=SPANS[span][0], to="/decisions/")
    return Drawn(pictures.for_both(draw), in_words(shown))
