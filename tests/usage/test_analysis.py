"""Windows lie where it is quiet, promise what they can keep, and nothing is claimed in the dark."""

import datetime as dt
import random
from zoneinfo import ZoneInfo

import msgspec
import pytest

from supervisor.usage.analysis import History, analyse
from supervisor.usage.grid import Point, Series, Span
from supervisor.usage.sources import Told
from testkit.histories import MONDAY, NOW, asked, by_week, look, measured, source, starts, told
from testkit.series import sample_of_a_series

SUNDAY = 6 * 24


@pytest.mark.parametrize(
    "quiet",
    [range(29, 37), [(SUNDAY + 20 + n) % 168 for n in range(8)], range(44, 52)],
    ids=["by day", "from Sunday to Monday", "across midnight"],
)
def test_a_window_lies_where_it_is_quiet(quiet):
    """A week is a circle: neither midnight nor its end is in the way."""
    found = look(by_week(quiet), top_n_windows=1)
    assert starts(found) == [quiet[0]]
    (window,) = found.windows.windows
    assert (window.players_mean, window.players_high) == (1.0, 1.0)
    assert found.windows.backtest.regret_median == 1.0


def test_windows_do_not_overlap_and_the_next_is_the_next_in_time():
    """The best comes first in the list, and the soonest in `next`."""
    levels = {range(30, 38): 1.0, range(100, 108): 2.0, range(8): 3.0}

    def players(number):
        return next((low for hours, low in levels.items() if number % 168 in hours), 50.0)

    found = look(players)
    assert starts(found) == [30, 100, 0]
    hour = (NOW - MONDAY) / 3600 % 168
    assert hour == 48
    assert found.windows.next.opens == NOW + 3600 * (100 - 48)
    assert found.windows.next.closes == found.windows.next.opens + 8 * 3600


def test_an_empty_night_is_quieter_than_a_busy_hour_before_it():
    """Hours without a row are hours without a player."""
    silent = told(players=lambda number: 30.0 if number % 24 >= 10 else None, counted=True)
    found = analyse(asked(), History(told={"game": silent}, now=NOW, zone="UTC"))
    assert found.windows.windows[0].players_mean == 0.0
    assert found.windows.windows[0].start_hour in range(3)


def test_a_promise_says_how_many_weeks_it_was_judged_by():
    """Each week was judged in the window that the others chose."""
    found = look(by_week(range(29, 37)), top_n_windows=1)
    promise = found.windows.windows[0].promise
    assert promise.weeks_judging == found.windows.weeks == 4
    assert promise.weeks_choosing == 3
    assert (promise.kept, promise.of, promise.at_least) == (4, 4, 0.8)


def test_a_broken_promise_widens_the_next_and_says_so():
    """A later week in which more played than had been promised."""
    quiet = range(29, 37)
    first = look(by_week(quiet), top_n_windows=1)
    week = 168 * 4

    def later(number):
        return 9.0 if number >= week and number % 168 in quiet else by_week(quiet)(number)

    end = NOW + 7 * 86_400
    second = look(later, now=end, before=first.windows, top_n_windows=1, history_days=37)
    (window,) = second.windows.windows
    assert starts(second) == [29]
    assert window.players_high >= 9.0
    assert (window.promise.kept, window.promise.of) == (4, 5)
    (said,) = [note for note in second.notes if "broken" in note]
    assert "Tue 05:00" in said
    assert "9.0 players" in said


@pytest.mark.parametrize(
    ("known", "said"),
    [
        ({"game": "Connection refused"}, "game: Connection refused"),
        ({"game": told(players=lambda _: 1, end=MONDAY + 99 * 3600)}, "99 samples"),
        ({"game": told(players=lambda _: 1, end=MONDAY + 200 * 3600)}, "2 are needed"),
    ],
)
def test_where_too_little_is_known_nothing_is_claimed(known, said):
    """The cause and the number are said, and there is no window."""
    found = analyse(asked(), History(told=known, now=NOW, zone="UTC"))
    assert found.windows is None
    assert said in found.trouble


def test_other_metrics_do_not_stand_in_for_players_that_nobody_could_ask_for():
    """An idle processor does not say that nobody plays."""
    sources = {"game": source(), "health": source("health")}
    known = {"game": "Access denied", "health": told(cpu=by_week(range(8)))}
    found = analyse(asked(sources), History(told=known, now=NOW, zone="UTC"))
    assert found.windows is None
    assert "Access denied" in found.trouble
    assert [one.why_not for one in found.sources] == ["Access denied", None]


def test_a_machine_without_players_is_quiet_when_it_is_idle():
    """Where no source is to tell of players, the load alone counts."""
    known = {"here": told(cpu=by_week(range(8)), memory=lambda _: 50.0)}
    found = analyse(asked({"here": source("machine")}), History(told=known, now=NOW, zone="UTC"))
    assert starts(found)[0] == 0
    assert found.windows.windows[0].players_mean is None
    assert any("nobody counts players" in note for note in found.notes)


def test_the_best_source_counts_and_the_others_say_why_they_do_not():
    """Our own samples go before logins, and these before last logins, which are marked."""
    sources = {"last": source("last_login"), "log": source(), "ours": source("online")}
    known = {name: told(players=by_week(range(8))) for name in sources}
    found = analyse(asked(sources), History(told=known, now=NOW, zone="UTC"))
    assert [(one.name, one.used) for one in found.sources] == [
        ("last", False),
        ("log", False),
        ("ours", True),
    ]
    assert found.sources[0].why_not == "ours tells players better"
    alone = {"last": sources["last"]}
    found = analyse(asked(alone), History(told=known, now=NOW, zone="UTC"))
    assert found.sources[0].used
    assert "biased" in found.sources[0].why_not


@pytest.mark.parametrize("evening", [0.0, 7.0])
def test_a_server_on_which_hardly_anybody_plays_is_quiet(evening):
    """Nobody ever, or a few on one evening of the week: that is known, and no lack of data."""
    found = look(lambda number: evening if number % 168 in (20, 21) else 0.0, top_n_windows=1)
    (window,) = found.windows.windows
    assert (window.players_mean, window.players_high) == (0.0, 0.0)
    assert starts(found) == [6 * 24 + 3]


def test_the_unit_of_a_metric_does_not_matter():
    """Many monsters do not outweigh 40 players, as they do in the document's formula."""
    sources = {"game": source(), "health": source("health")}
    monsters = told(monsters=lambda number: 500.0 if number % 24 < 8 else 100.0)
    known = {"game": told(players=lambda n: 0.0 if n % 24 < 8 else 40.0), "health": monsters}
    robust = analyse(asked(sources), History(told=known, now=NOW, zone="UTC"))
    seed = analyse(asked(sources, formula="seed"), History(told=known, now=NOW, zone="UTC"))
    assert robust.windows.windows[0].start_hour == 0
    assert robust.windows.metrics_used == ("players", "monsters")
    assert seed.windows.windows[0].start_hour == 0  # 0.2 * 500 = 100, and 2 * 40 + 0.2 * 100 too
    doubled = {**known, "health": told(monsters=lambda n: 1000.0 if n % 24 < 8 else 100.0)}
    history = History(told=doubled, now=NOW, zone="UTC")
    assert analyse(asked(sources), history).windows.windows[0].start_hour == 0
    seed = analyse(asked(sources, formula="seed"), history)
    assert seed.windows.windows[0].start_hour == 8


def test_the_documents_formula_is_reproduced_to_the_last_digit():
    """Raw units, means of each hour of the week, windows within a day, and they overlap."""
    chance = random.Random(3)  # noqa: S311 - no secret
    values = [[chance.uniform(0, 90) for _ in range(720)] for _ in range(4)]
    columns = dict(zip(("players", "cpu", "memory", "monsters"), values, strict=True))
    known = told(**{name: lambda n, row=row: row[n] for name, row in columns.items()})
    sources = {"all": source("query", query="...")}
    found = analyse(
        asked(sources, formula="seed"), History(told={"all": known}, now=NOW, zone="UTC")
    )
    weights = {"players": 2.0, "cpu": 0.5, "memory": 0.3, "monsters": 0.2}
    hours = [[] for _ in range(168)]
    for number in range(720):
        hours[number % 168].append(sum(w * columns[m][number] for m, w in weights.items()))
    means = [sum(one) / len(one) for one in hours]
    expected = sorted(
        (sum(means[24 * day + begin : 24 * day + begin + 8]) / 8, 24 * day + begin)
        for day in range(7)
        for begin in range(17)
    )[:3]
    assert [(one.score, start) for one, start in zip(
        found.windows.windows, starts(found), strict=True)] == expected  # fmt: skip


def test_hours_in_which_we_trained_do_not_look_busy():
    """A processor that our own training loads, week by week in the same night, is no reason."""
    quiet = range(29, 37)
    spans = tuple(
        Span(MONDAY + 3600 * (168 * week + 29), MONDAY + 3600 * (168 * week + 37))
        for week in range(1, 4)
    )
    sources = {"game": source(), "health": source("health")}

    def cpu(number):
        ours = any(begin <= MONDAY + 3600 * number < end for begin, end in spans)
        return 100.0 if ours else 10.0 if number % 168 in quiet else 30.0

    known = {"game": told(players=lambda _: 20.0), "health": told(cpu=cpu)}
    settings = asked(sources, top_n_windows=1)
    history = History(told=known, now=NOW, zone="UTC")
    assert starts(analyse(settings, history)) != [29]
    masked = analyse(settings, msgspec.structs.replace(history, trained=spans))
    assert starts(masked) == [29]
    assert any("24 h in which we trained" in note for note in masked.notes)


@pytest.mark.parametrize(
    ("zone", "changes"),
    [
        ("Europe/Berlin", dt.datetime(2026, 10, 25, tzinfo=dt.UTC)),
        ("America/New_York", dt.datetime(2026, 3, 8, tzinfo=dt.UTC)),
        ("Australia/Lord_Howe", dt.datetime(2026, 4, 4, tzinfo=dt.UTC)),
        ("Asia/Kolkata", dt.datetime(2026, 4, 4, tzinfo=dt.UTC)),
    ],
)
def test_people_keep_to_the_clock_on_the_wall(zone, changes):
    """A history in which the clocks change has its quiet hours where people have them."""
    end = changes.timestamp() + 12 * 86_400
    begin = end - 30 * 86_400

    def players(half):
        at = dt.datetime.fromtimestamp(begin + 1800 * half, ZoneInfo(zone))
        return 1.0 if at.weekday() == 1 and 2 <= at.hour < 6 else 30.0

    points = tuple(Point(begin + 1800 * half, players(half)) for half in range(30 * 48))
    series = Series(metric="players", counted=False, points=points)
    known = Told(series=(series,), rows=len(points), begin=begin, end=end)
    found = analyse(
        asked(window_hours=4, top_n_windows=1), History(told={"game": known}, now=end, zone=zone)
    )
    assert starts(found) == [26]
    assert found.windows.windows[0].players_high == pytest.approx(1.0)


def test_servers_are_disturbed_no_more_than_hindsight_would():
    """Windows of made-up servers, beside the best that nobody could know; promises are kept.

    The seeds are none of those by which the method was found.
    """
    count, first = sample_of_a_series(40)
    figures = measured(range(100_000 * first, 100_000 * first + count))
    assert figures.mean <= 1.02, figures
    assert figures.p95 <= 1.06, figures
    luck = 0.0 if count >= 300 else 0.08  # a few servers can have a bad week
    assert figures.kept >= figures.promised - 0.03 - luck, figures
    assert figures.fixed > 2, figures
