"""[quiet_hours]: what is asked of them, and whether a moment lies in a window; pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Literal

import msgspec

from state.windows import Windows
from supervisor.core.moments import stamp, when
from trainers.contract import Name

if TYPE_CHECKING:
    from supervisor.core.calendar import Window

Metric = Literal["players", "cpu", "memory", "monsters"]
Kind = Literal["online", "loginlog", "last_login", "health", "machine", "query"]
DATABASES = ("mariadb", "mysql", "postgresql")
"""how the address of a source may begin"""
ADDRESS = re.compile(
    r"(?P<scheme>[a-z]+)://(?:(?P<who>[^@/?#]*)@)?[^@/?#]*(?:/[^@?#]*)?(?:\?(?P<more>[^#]*))?"
)
PASSWORD = re.compile(r"(?i)(?:^|&)(?:pass|pwd)")
"""an option of an address that is one"""
DAY_S = 86_400.0
RETRY_S = 3600.0
"""how long after an analysis that failed it is tried again"""

Share = Annotated[float, msgspec.Meta(ge=0, le=1000)]
Seconds = Annotated[float, msgspec.Meta(gt=0, le=3600)]
Word = Annotated[str, msgspec.Meta(min_length=1, max_length=4096)]

QUERIES: dict[Kind, str] = {
    "online": "SELECT COUNT(*) AS value FROM `char` WHERE online = 1",
    "loginlog": (
        "SELECT DATE_FORMAT(time, '%Y-%m-%d %H:00:00') AS hour, SUM(rcode = 100) AS count "
        "FROM loginlog WHERE time >= :since GROUP BY hour"
    ),
    "last_login": (
        "SELECT DATE_FORMAT(last_login, '%Y-%m-%d %H:00:00') AS hour, COUNT(*) AS count "
        "FROM `char` WHERE last_login >= :since GROUP BY hour"
    ),
    "health": (
        "SELECT timestamp AS at, cpu_percent AS cpu, memory_percent AS memory, "
        "active_monsters AS monsters FROM ml_system_health WHERE timestamp >= :since"
    ),
}
"""what each kind of source is asked where the settings have no query of their own"""
METRICS: tuple[Metric, ...] = ("players", "cpu", "memory", "monsters")


class UsageSource(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """[quiet_hours.sources.NAME]: where it is known how busy the machine was."""

    kind: Kind
    """`online` and `machine` are histories of our own; the others are asked of a database"""
    url: Word | None = None
    """`mariadb://user@host:port/database` or `postgresql://...`, without a password"""
    query: Word | None = None
    """instead of that of its kind: returns `at, value` or `hour, count`; `:since` is the begin"""
    metric: Metric | None = None
    """what `value` or `count` is; unset: players"""
    zone: Word | None = None
    """of times that name none; unset: that of [quiet_hours]"""
    password_env: Word | None = None
    """the environment variable that holds the password"""
    password_file: Word | None = None
    """the file that holds it, which its owner alone may read"""
    password_credential: Word | None = None
    """the credential of systemd that holds it"""
    connect_max_s: Seconds = 5.0
    """how long it may take until it answers at all"""
    query_max_s: Seconds = 60.0
    """how long a query may take"""
    allow_last_login: bool = False
    """use what holds the last login of each account only, which is biased"""

    @property
    def asked(self) -> str | None:
        """The query; None where nothing is asked."""
        return self.query or QUERIES.get(self.kind)


class QuietHours(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """[quiet_hours]: training waits for windows of the week in which it disturbs nobody."""

    enabled: bool = True
    """whether training waits for them; the analysis works all the same"""
    zone: Word | None = None
    """of the clock on the wall, such as `Europe/Berlin`; unset: that of the machine"""
    window_hours: Annotated[int, msgspec.Meta(ge=1, le=168)] = 8
    """how long a window is"""
    top_n_windows: Annotated[int, msgspec.Meta(ge=1, le=168)] = 3
    """how many windows a week has"""
    preferred_day: Annotated[int, msgspec.Meta(ge=0, le=6)] = 6
    """0 is Monday: of windows that are equally quiet the first after it; what others are
    compared with"""
    preferred_start_hour: Annotated[int, msgspec.Meta(ge=0, le=23)] = 3
    """the hour of that day"""
    history_days: Annotated[int, msgspec.Meta(ge=7, le=730)] = 30
    """how far back is looked"""
    min_data_points: Annotated[int, msgspec.Meta(ge=1, le=1_000_000_000)] = 100
    """with fewer samples nothing is claimed, and there is no window"""
    formula: Literal["robust", "seed"] = "robust"
    """how a window is found"""
    weight_players: Share = 2.0
    weight_cpu: Share = 0.5
    weight_memory: Share = 0.3
    weight_monsters: Share = 0.2
    max_age_days: Annotated[float, msgspec.Meta(gt=0, le=3650)] = 15.0
    """an older analysis is of no use"""
    refresh_days: Annotated[float, msgspec.Meta(gt=0, le=3650)] = 7.0
    """how old one is before the next is due"""
    on_unknown: Literal["wait", "train"] = "wait"
    """what becomes of training while no window is known"""
    sources: dict[Name, UsageSource] = {}

    @property
    def weights(self) -> dict[Metric, float]:
        """How much each metric counts."""
        return {
            "players": self.weight_players,
            "cpu": self.weight_cpu,
            "memory": self.weight_memory,
            "monsters": self.weight_monsters,
        }

    def __post_init__(self) -> None:
        # Whatever is wrong here may stand beside a password: no value is repeated.
        for key, zone in (("zone", self.zone), *self._zones()):
            if zone is not None:
                _check_zone(f"quiet_hours.{key}", zone)
        if not any(self.weights.values()):
            raise ValueError("quiet_hours: all weights are 0, so that nothing counts")
        if self.formula == "seed" and self.window_hours > 24:
            raise ValueError("quiet_hours: the formula seed has no window of more than 24 hours")
        for name, source in self.sources.items():
            for problem in _problems(source):
                raise ValueError(f"quiet_hours.sources.{name}: {problem}")

    def _zones(self) -> list[tuple[str, str | None]]:
        return [(f"sources.{name}.zone", source.zone) for name, source in self.sources.items()]


class Quiet(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Whether quiet hours let training go on at a moment."""

    open: bool
    why: Literal["off", "window", "outside", "unknown"]
    trouble: str | None = None
    """why no window is known"""
    opens_at: float | None = None
    """of the window that is open, or of the next"""
    closes_at: float | None = None
    """by then everything has to be saved and gone"""

    @property
    def changes_at(self) -> float | None:
        """When it will be otherwise; None: nobody knows."""
        return self.closes_at if self.why == "window" else self.opens_at

    @property
    def words(self) -> str:
        """For a person."""
        if self.why == "off":
            return "the quiet hours are off"
        if self.why == "unknown":
            return f"the quiet hours are not known: {self.trouble}"
        changes = when(stamp(self.changes_at or 0.0))
        return (
            f"a quiet window until {changes}" if self.open else f"no quiet window until {changes}"
        )


def quiet(
    asked: QuietHours | None,
    known: Windows | None,
    at: float,
    trouble: str | None = None,
    reserve_s: float = 0.0,
) -> Quiet:
    """Whether training may go on.

    Args:
        asked: the settings; None: there are none.
        known: the newest analysis; None: there is none that can be read.
        at: wall time, in seconds since 1970.
        trouble: why none can be read.
        reserve_s: what it takes to save and leave: so much earlier a window counts as closed.
    """
    if asked is None or not asked.enabled:
        return Quiet(open=True, why="off")
    why = unusable(asked, known, at) if trouble is None else trouble
    if known is None or why is not None:
        return Quiet(open=asked.on_unknown == "train", why="unknown", trouble=why)
    from supervisor.core import calendar  # noqa: PLC0415 - loads zones, and only where they matter

    week, zone = stretches(known), calendar.zone_of(known.zone)
    found = calendar.opening(week, zone, at)
    if found is not None and found.closes_at - reserve_s <= at:
        found = calendar.opening(week, zone, found.closes_at + 1.0)
    if found is None:
        return Quiet(open=asked.on_unknown == "train", why="unknown", trouble="no window")
    inside = found.opens_at <= at
    return Quiet(
        open=inside,
        why="window" if inside else "outside",
        opens_at=found.opens_at,
        closes_at=found.closes_at - reserve_s,
    )


def stretches(known: Windows) -> tuple[Window, ...]:
    """The windows of an analysis, as the calendar has them."""
    from supervisor.core.calendar import Window  # noqa: PLC0415 - as above

    return tuple(
        Window(start_weekday=one.start_weekday, start_hour=one.start_hour, hours=one.hours)
        for one in known.windows
    )


def unusable(asked: QuietHours, known: Windows | None, at: float) -> str | None:
    """Why an analysis opens no window; None: it does."""
    if known is None:
        return "no analysis of usage has succeeded yet"
    age_s = abs(at - known.made_at)  # a clock that was set back makes none young for ever
    if age_s > asked.max_age_days * DAY_S:
        days = f"{age_s / DAY_S:.1f} days"
        return f"the newest analysis is {days} old, and max_age_days is {asked.max_age_days:g}"
    return None if known.windows else "the newest analysis has found no window"


def is_late(asked: QuietHours, known: Windows, at: float) -> bool:
    """Whether the next analysis should have been made a day ago, though this one is still of use.

    By the defaults that is on day 8: there is a week left to see what is wrong.
    """
    return at - known.made_at > (asked.refresh_days + 1) * DAY_S


def refresh_at(asked: QuietHours, known: Windows | None, tried_at: float | None) -> float:
    """When the next analysis is due, in seconds since 1970; what is past is due now.

    Args:
        asked: the settings.
        known: the newest analysis.
        tried_at: when one was tried last, whatever came of it.
    """
    due = 0.0 if known is None else known.made_at + asked.refresh_days * DAY_S
    failed = tried_at is not None and (known is None or tried_at > known.made_at)
    return max(due, (tried_at or 0.0) + RETRY_S) if failed else due


def _check_zone(key: str, name: str) -> None:
    from supervisor.core import calendar  # noqa: PLC0415 - loads zones, and only where they matter

    try:
        calendar.zone_of(name)
    except calendar.BadCalendar as error:
        raise ValueError(f"{key}: {error}") from None


def _problems(source: UsageSource) -> list[str]:
    """What is wrong with a source, without a word of what may be a secret."""
    found = []
    if source.url is None and source.kind != "machine":
        found.append("it has no url")
    if source.url is not None:
        match = ADDRESS.fullmatch(source.url)
        if match is None or match["scheme"] not in DATABASES or not source.url.isprintable():
            allowed = ", ".join(f"{scheme}://user@host/database" for scheme in DATABASES)
            found.append(f"its url is no address such as {allowed}")
        elif ":" in (match["who"] or "") or PASSWORD.search(match["more"] or ""):
            found.append("its url holds a password: use password_file, and change that password")
    if source.kind == "machine" and (source.url or source.query):
        found.append("the machine's own samples are asked of no database")
    if source.kind == "query" and source.query is None:
        found.append("it has no query")
    ways = (source.password_env, source.password_file, source.password_credential)
    if sum(way is not None for way in ways) > 1:
        found.append("its password is said to be in more than one place")
    return found
