"""Databases of known truth: who plays when is made up, and so it is known which windows are best.

Each holds the usage of one server as a real one may, with what goes wrong there. What an analysis
finds is compared with the truth, or it claims nothing, and says why with its number.
"""

from __future__ import annotations

import datetime as dt
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from supervisor.core.quiet_hours import UsageSource
from testkit.servers import HERE, USER, Server

HOUR_S = 3600
DAY_S = 24 * HOUR_S
LENGTH = 8
ENDS = dt.datetime(2026, 11, 2, 12, tzinfo=ZoneInfo("Europe/Berlin"))
"""when most histories end: the clocks changed eight days before"""
LOGINS = (
    "CREATE TABLE loginlog (time DATETIME NULL, ip VARCHAR(15) DEFAULT '1.2.3.4',"
    " user VARCHAR(23) DEFAULT 'somebody', rcode INT DEFAULT 100)"
)
LOGIN = "INSERT INTO loginlog (time) VALUES (%s)"
ANY_LOGIN = "INSERT INTO loginlog (time, rcode) VALUES (%s, %s)"
SAMPLES = "CREATE TABLE seen (at timestamptz, value double precision)"
SAMPLE = "INSERT INTO seen VALUES (to_timestamp(%s), %s)"
ASKED = "SELECT at, value FROM seen WHERE at >= :since"


class World(NamedTuple):
    """Who plays when on one server."""

    chance: random.Random
    quiet: int
    """the hour of the week at which the quietest night begins"""
    zone: str = "Europe/Berlin"
    """of those who play"""
    ends: dt.datetime = ENDS

    def usual(self, slot: int) -> float:
        """Players at an hour of ordinary weeks: few by night, fewest in one of the nights."""
        night = (slot - self.quiet) % 168 // 24
        hour = (slot - self.quiet) % 24
        if hour >= LENGTH:
            return 12.0 if hour in (LENGTH, 23) else 25.0
        return 2.0 if night == 0 else 4.0

    def hours(self, days: float = 30.0) -> Iterator[tuple[int, int, int]]:
        """Each hour: its moment, its place in the week of those who play, and how many do."""
        end = int(self.ends.timestamp())
        for at in range(end - int(days * DAY_S) // HOUR_S * HOUR_S, end, HOUR_S):
            local = dt.datetime.fromtimestamp(at, ZoneInfo(self.zone))
            slot = 24 * local.weekday() + local.hour
            yield at, slot, self.count(self.usual(slot))

    def count(self, mean: float) -> int:
        """Chance alone, around a mean."""
        return max(0, round(self.chance.gauss(mean, 0.3 * mean**0.5)))

    def age(self, at: float) -> int:
        """How many weeks before the end that is: 0 is the newest."""
        return int((self.ends.timestamp() - at - 1) // (7 * DAY_S))


class Truth(NamedTuple):
    """What is known of a database."""

    source: UsageSource
    said: str | None = None
    """why nothing can be claimed, as a pattern; None: the best windows are found"""
    besides: Callable[[int], float] = lambda _: 0.0
    """what else is usual at an hour of the week, or is not"""
    noted: str | None = None
    """what is said of the windows"""
    world: World | None = None
    """where it is another than was given"""
    busy: Callable[[], AbstractContextManager[Any]] = nullcontext
    """what goes on while it is asked"""


Maker = Callable[[Server, World], Truth]
TRUTHS: dict[str, tuple[str, Maker]] = {}
"""by name: the kind of the server, and what fills its database"""


def _on(kind: str) -> Callable[[Maker], Maker]:
    def keep(maker: Maker) -> Maker:
        TRUTHS[maker.__name__] = (kind, maker)
        return maker

    return keep


def _source(server: Server, kind: str, **more: Any) -> UsageSource:
    return UsageSource(**{"kind": kind, "url": server.url, "password_env": "READER", **more})


def _naive(at: float, zone: str) -> dt.datetime:
    return dt.datetime.fromtimestamp(at, ZoneInfo(zone)).replace(tzinfo=None)


def _logins(
    server: Server,
    world: World,
    many: Callable[[int, int, int], float] = lambda _at, _slot, count: count,
    *,
    days: float = 30.0,
    shown: Callable[[int], str] | None = None,
    **more: Any,
) -> UsageSource:
    """A log of logins.

    Args:
        server: where it lies.
        world: who plays.
        many: how many logins an hour really had.
        days: how far back it goes.
        shown: in which zone the server writes its times.
        more: of the source.
    """
    chance, rows = world.chance, []
    for at, slot, count in world.hours(days):
        zone = shown(at) if shown else world.zone
        logins = round(2 * many(at, slot, count))
        rows += [(_naive(at + chance.randrange(HOUR_S), zone),) for _ in range(logins)]
    server.run(LOGINS)
    if rows:
        server.fill(LOGIN, rows)
    return _source(server, "loginlog", **more)


def _samples(
    server: Server,
    world: World,
    many: Callable[[int, int, int], float | None] = lambda _at, _slot, count: count,
    *,
    days: float = 30.0,
    **more: Any,
) -> UsageSource:
    """What was sampled three times an hour; None: nothing was."""
    server.run(SAMPLES)
    rows = [
        (at + 1200 * step, value)
        for at, slot, count in world.hours(days)
        if (value := many(at, slot, count)) is not None
        for step in range(3)
    ]
    if rows:
        server.fill(SAMPLE, rows)
    return _source(server, "query", **{"query": ASKED, **more})


@_on("mariadb")
def plain_logins(server: Server, world: World) -> Truth:
    return Truth(_logins(server, world))


@_on("mariadb")
def two_dead_days(server: Server, world: World) -> Truth:
    begin = world.ends.timestamp() - 9.3 * DAY_S

    def many(at: int, _slot: int, count: int) -> float:
        return 0 if begin <= at < begin + 2 * DAY_S else count

    return Truth(_logins(server, world, many))


@_on("mariadb")
def nobody_at_night(server: Server, world: World) -> Truth:
    def empty(slot: int) -> float:
        return -world.usual(slot) if (slot - world.quiet) % 24 < LENGTH else 0.0

    return Truth(
        _logins(server, world, lambda _at, slot, count: count if not empty(slot) else 0),
        besides=empty,
    )


@_on("mariadb")
def an_hour_of_each_night_down(server: Server, world: World) -> Truth:
    down = (world.quiet + 5) % 24

    def without(slot: int) -> float:
        return -world.usual(slot) if slot % 24 == down else 0.0

    return Truth(
        _logins(server, world, lambda _at, slot, count: 0 if slot % 24 == down else count),
        besides=without,
    )


@_on("mariadb")
def down_in_three_nights(server: Server, world: World) -> Truth:
    """Other nights than the quietest were not there in one week each: that makes none quiet."""
    dead = {(world.quiet + 24 * day + hour) % 168 for day in (2, 4, 5) for hour in range(-3, 11)}

    def many(at: int, slot: int, count: int) -> float:
        return 0 if slot in dead and world.age(at) == 1 else count

    return Truth(_logins(server, world, many))


@_on("mariadb")
def new_york(server: Server, world: World) -> Truth:
    there = world._replace(
        zone="America/New_York", ends=dt.datetime(2026, 11, 12, 12, tzinfo=dt.UTC)
    )
    return Truth(_logins(server, there), world=there)


@_on("mariadb")
def spring_in_berlin(server: Server, world: World) -> Truth:
    there = world._replace(ends=dt.datetime(2026, 4, 9, 12, tzinfo=dt.UTC))
    return Truth(_logins(server, there), world=there)


@_on("mariadb")
def server_in_tokyo(server: Server, world: World) -> Truth:
    return Truth(_logins(server, world, shown=lambda _: "Asia/Tokyo", zone="Asia/Tokyo"))


@_on("mariadb")
def server_in_kolkata(server: Server, world: World) -> Truth:
    return Truth(_logins(server, world, shown=lambda _: "Asia/Kolkata", zone="Asia/Kolkata"))


@_on("mariadb")
def server_in_utc(server: Server, world: World) -> Truth:
    return Truth(_logins(server, world, shown=lambda _: "UTC", zone="UTC"))


@_on("mariadb")
def growth(server: Server, world: World) -> Truth:
    return Truth(_logins(server, world, lambda at, _, count: count * 1.12 ** -world.age(at)))


@_on("mariadb")
def a_festival(server: Server, world: World) -> Truth:
    """For three days, the quietest night among them, six times as many play."""

    def many(at: int, slot: int, count: int) -> float:
        there = (slot - world.quiet + 24) % 168 < 72
        return 6 * count if there and world.age(at) == 2 else count

    return Truth(_logins(server, world, many))


@_on("mariadb")
def server_moved_its_zone(server: Server, world: World) -> Truth:
    """Three weeks ago it stood in Tokyo; its times name no zone."""
    moved = world.ends.timestamp() - 21 * DAY_S
    return Truth(
        _logins(server, world, shown=lambda at: "Asia/Tokyo" if at < moved else world.zone)
    )


@_on("mariadb")
def last_logins_that_nobody_allowed(server: Server, world: World) -> Truth:
    _last_logins(server, world)
    return Truth(_source(server, "last_login"), said="allow_last_login = true")


@_on("mariadb")
def last_logins_that_are_allowed(server: Server, world: World) -> Truth:
    _last_logins(server, world)
    source = _source(server, "last_login", allow_last_login=True)
    return Truth(source, noted="biased: it holds the last login")


def _last_logins(server: Server, world: World) -> None:
    """Of many accounts, whose last logins lie all over the month."""
    server.run("CREATE TABLE `char` (online INT DEFAULT 0, last_login DATETIME)")
    rows = [(_naive(at, world.zone),) for at, _, count in world.hours() for _ in range(2 * count)]
    server.fill("INSERT INTO `char` (last_login) VALUES (%s)", rows)


@_on("mariadb")
def no_logins_at_all(server: Server, world: World) -> Truth:
    return Truth(
        _logins(server, world, lambda *_: 0), said="game: 0 samples, and min_data_points is 100"
    )


@_on("mariadb")
def one_week(server: Server, world: World) -> Truth:
    source = _logins(server, world, days=8)
    return Truth(source, said="whole weeks that are known: 1, and 2 are needed")


@_on("mariadb")
def a_few_logins(server: Server, world: World) -> Truth:
    server.run(LOGINS)
    server.fill(LOGIN, [(_naive(at, world.zone),) for at, *_ in list(world.hours())[-57:]])
    return Truth(_source(server, "loginlog"), said="game: 57 samples, and min_data_points is 100")


@_on("mariadb")
def bots_that_always_play(server: Server, world: World) -> Truth:
    return Truth(_logins(server, world, lambda _at, _, count: count + 20), besides=lambda _: 20.0)


@_on("mariadb")
def rows_without_a_time(server: Server, world: World) -> Truth:
    source = _logins(server, world)
    server.fill(ANY_LOGIN, [(None, 100)] * 500)
    server.fill(ANY_LOGIN, [(_naive(at, world.zone), None) for at, *_ in world.hours()])
    return Truth(source)


@_on("mariadb")
def times_to_come(server: Server, world: World) -> Truth:
    source = _logins(server, world)
    server.fill(LOGIN, [("2031-01-01 03:00:00",)] * 5000)
    return Truth(source)


@_on("mariadb")
def each_row_twice(server: Server, world: World) -> Truth:
    source = _logins(server, world)
    server.run("INSERT INTO loginlog SELECT * FROM loginlog")
    return Truth(source)


@_on("mariadb")
def one_week_three_times(server: Server, world: World) -> Truth:
    """It was imported again."""
    return Truth(
        _logins(server, world, lambda at, _, count: 3 * count if world.age(at) == 1 else count)
    )


@_on("mariadb")
def who_guesses_passwords_at_night(server: Server, world: World) -> Truth:
    source = _logins(server, world)
    rows = [
        (_naive(at, world.zone), 1)
        for at, slot, _ in world.hours()
        if (slot - world.quiet) % 168 < LENGTH
        for _ in range(200)
    ]
    server.fill(ANY_LOGIN, rows)
    return Truth(source)


@_on("mariadb")
def a_million_logins(server: Server, world: World) -> Truth:
    server.run(LOGINS, "CREATE TABLE hours (at DATETIME, logins INT)")
    rows = [(_naive(at, world.zone), 90 * count) for at, _, count in world.hours()]
    server.fill("INSERT INTO hours VALUES (%s, %s)", rows)
    server.run(
        "INSERT INTO loginlog SELECT at + INTERVAL seq SECOND, '1.2.3.4', 'somebody', 100"
        " FROM hours JOIN seq_0_to_3599 ON seq < logins"
    )
    return Truth(_source(server, "loginlog"))


@_on("mariadb")
def a_query_that_takes_too_long(server: Server, world: World) -> Truth:
    query = "SELECT time AS at, SLEEP(1) AS value FROM loginlog WHERE time >= :since"
    _logins(server, world)
    source = _source(server, "query", query=query, query_max_s=1.0)
    return Truth(source, said="max_statement_time|query_max_s")


@_on("mariadb")
def a_table_that_is_locked(server: Server, world: World) -> Truth:
    @contextmanager
    def locked() -> Iterator[None]:
        with server.master() as cursor:
            cursor.execute("LOCK TABLES loginlog WRITE")
            yield

    source = _logins(server, world, query_max_s=1.0)
    return Truth(source, said="max_statement_time|query_max_s", busy=locked)


@_on("mariadb")
def no_right_to_read(server: Server, world: World) -> Truth:
    source = _logins(server, world)
    whose = f"{USER}@'{HERE}'"
    server.run(
        f"REVOKE SELECT ON {server.database}.* FROM {whose}",  # noqa: S608 - of our own
        "CREATE VIEW own AS SELECT 1 AS one",
        f"GRANT SELECT ON own TO {whose}",
    )
    return Truth(source, said="SELECT command denied")


@_on("mariadb")
def no_such_table(server: Server, world: World) -> Truth:
    return Truth(_source(server, "loginlog"), said=r"loginlog' doesn't exist \(error 1146\)")


@_on("postgresql")
def plain_samples(server: Server, world: World) -> Truth:
    return Truth(_samples(server, world))


@_on("postgresql")
def naive_times_in_utc(server: Server, world: World) -> Truth:
    query = "SELECT at AT TIME ZONE 'UTC' AS at, value FROM seen"
    return Truth(_samples(server, world, query=query, zone="UTC"))


@_on("postgresql")
def a_zone_of_half_hours(server: Server, world: World) -> Truth:
    """On Lord Howe the clocks change by half an hour."""
    there = world._replace(
        zone="Australia/Lord_Howe", ends=dt.datetime(2026, 4, 15, 12, tzinfo=dt.UTC)
    )
    return Truth(_samples(server, there), world=there)


@_on("postgresql")
def gaps_in_the_samples(server: Server, world: World) -> Truth:
    def many(at: int, _slot: int, count: int) -> float | None:
        return None if at % (9 * DAY_S) < 1.5 * DAY_S else count

    return Truth(_samples(server, world, many))


@_on("postgresql")
def samples_without_a_number(server: Server, world: World) -> Truth:
    source = _samples(server, world)
    rows = [(at + 60, none) for at, *_ in world.hours() for none in (None, "NaN", "infinity")]
    server.fill(SAMPLE, rows)
    return Truth(source)


@_on("postgresql")
def counts_by_hour(server: Server, world: World) -> Truth:
    query = (
        "SELECT date_trunc('hour', at) AS hour, COUNT(*) AS count FROM logins"
        " WHERE at >= :since GROUP BY 1"
    )
    server.run("CREATE TABLE logins (at timestamptz)")
    rows = [(at + 60 * n % HOUR_S,) for at, _, count in world.hours() for n in range(2 * count)]
    server.fill("INSERT INTO logins VALUES (to_timestamp(%s))", rows)
    return Truth(_source(server, "query", query=query))


@_on("postgresql")
def two_million_samples_and_more(server: Server, world: World) -> Truth:
    server.run(
        SAMPLES,
        "INSERT INTO seen SELECT to_timestamp(1793617200 - n), 1"
        " FROM generate_series(1, 2000100) AS n",  # until the end of the history
    )
    source = _source(server, "query", query=ASKED, query_max_s=20.0)
    return Truth(source, said="more than 2000000 rows|query_max_s")


@_on("postgresql")
def a_festival_that_was_sampled(server: Server, world: World) -> Truth:
    def many(at: int, slot: int, count: int) -> float:
        there = (slot - world.quiet) % 168 < 60
        return 8 * count if there and world.age(at) == 0 else count

    return Truth(_samples(server, world, many))


@_on("postgresql")
def a_table_that_is_being_rebuilt(server: Server, world: World) -> Truth:
    @contextmanager
    def locked() -> Iterator[None]:
        with server.master() as cursor:
            cursor.execute("BEGIN")
            cursor.execute("LOCK TABLE seen IN ACCESS EXCLUSIVE MODE")
            yield

    source = _samples(server, world, query_max_s=1.0)
    return Truth(source, said="statement timeout|query_max_s", busy=locked)


@_on("postgresql")
def players_below_zero(server: Server, world: World) -> Truth:
    source = _samples(server, world)
    server.run("UPDATE seen SET value = -3 WHERE value < 3")
    return Truth(source, said="it tells -3, which is less than nothing")


@_on("postgresql")
def shrinking(server: Server, world: World) -> Truth:
    return Truth(_samples(server, world, lambda at, _, count: count * 1.15 ** world.age(at)))


def made(name: str, servers: dict[str, Server], seed: int) -> Truth:
    """The database of that name, and what is true of it."""
    kind, maker = TRUTHS[name]
    chance = random.Random(f"{name} {seed}")  # noqa: S311 - no secret
    # Nights begin between ten and three, and never where the history ends.
    world = World(chance, (24 * chance.randrange(7) + chance.choice((22, 23, 0, 1, 2, 3))) % 168)
    truth = maker(servers[kind].another(name), world)
    return truth if truth.world else truth._replace(world=world)


def best(usual: Sequence[float], count: int) -> float:
    """Players in the best windows that do not overlap."""
    means = [sum(usual[(slot + n) % 168] for n in range(LENGTH)) for slot in range(168)]
    chosen: list[int] = []
    for slot in sorted(range(168), key=means.__getitem__):
        if all(min((slot - one) % 168, (one - slot) % 168) >= LENGTH for one in chosen):
            chosen.append(slot)
    return sum(means[slot] for slot in chosen[:count])
