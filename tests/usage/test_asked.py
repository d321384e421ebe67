"""Each key of [quiet_hours] changes something, and what makes no sense is refused."""

import sys

import msgspec
import pytest

from modes.toml_file import InvalidFile, read_toml
from state.windows import Backtest, Promise, QuietWindow, Windows
from supervisor.core.quiet_hours import METRICS, QuietHours, UsageSource, quiet, refresh_at
from supervisor.core.settings import Settings
from supervisor.usage.analysis import History, analyse
from supervisor.usage.gathering import gather
from supervisor.usage.ring import Ring
from testkit.game_servers import GameServer
from testkit.histories import MONDAY, NOW, asked, by_week, look, source, starts, told

SERVER = GameServer(5, weeks=6)
DAY = 86_400.0
MADE = MONDAY


def changed(**keys):
    """Whether these keys make other windows of the same history."""
    of_hour = SERVER.online.__getitem__
    cpu = told(cpu=lambda n: 90.0 if n % 24 < 9 else 5.0, monsters=lambda n: n % 7,
               memory=lambda n: n % 24)  # fmt: skip
    more = {"health": cpu}
    sources = {"game": source(), "health": source("health")}
    one = look(of_hour, more=more, sources=sources)
    other = look(of_hour, more=more, **{"sources": sources, **keys})
    return one.windows != other.windows


@pytest.mark.parametrize(
    "keys",
    [
        {"window_hours": 4},
        {"top_n_windows": 2},
        {"history_days": 21},
        {"formula": "seed"},
        {"weight_players": 0.1},
        {"weight_cpu": 50.0},
        {"weight_memory": 50.0},
        {"weight_monsters": 50.0},
        {"min_data_points": 10_000},
    ],
    ids=lambda keys: next(iter(keys)),
)
def test_a_key_of_the_analysis_changes_what_is_found(keys):
    """Nothing stands in the settings that nobody reads."""
    assert not changed()
    assert changed(**keys)


def test_the_preferred_hour_wins_among_equals_and_is_what_others_are_compared_with():
    """Where the week is alike everywhere, a window begins there."""
    for day, hour in ((6, 3), (2, 17)):
        found = look(lambda _: 5.0, top_n_windows=1, preferred_day=day, preferred_start_hour=hour)
        assert starts(found) == [24 * day + hour]
    quiet = by_week(range(24, 32))
    fixed = [
        look(quiet, preferred_day=day, preferred_start_hour=0).compared["fixed"].regret_median
        for day in (1, 4)
    ]
    assert fixed == [1.0, 50.0]


def test_the_zone_is_that_of_the_clock_on_the_wall():
    """The same history has its quiet hours later where the clock is ahead."""
    settings = asked(top_n_windows=1)
    history = History(told={"game": told(players=by_week(range(24, 32)))}, now=NOW, zone="UTC")
    assert starts(analyse(settings, history)) == [24]
    ahead = msgspec.structs.replace(history, zone="Asia/Tokyo")
    assert starts(analyse(settings, ahead)) == [33]


def windows(made_at=MADE, zone="UTC"):
    """One window, on Tuesdays from 02:00 for eight hours."""
    promise = Promise(weeks_choosing=3, weeks_judging=4, kept=4, of=4, at_least=0.8)
    one = QuietWindow(
        start_weekday=1, start_hour=2, hours=8, score=0.1, players_mean=1.0, players_high=2.0,
        promise=promise,
    )  # fmt: skip
    return Windows(
        made_at=made_at, zone=zone, sources=(), weeks=4, metrics_used=("players",),
        formula="robust", windows=(one,), next=None,
        backtest=Backtest(weeks=4, regret_median=1.0, regret_p95=1.0, promise_kept=1.0),
    )  # fmt: skip


def test_training_may_go_on_in_a_window_and_nowhere_else():
    """And it is said when that ends, or begins."""
    inside = quiet(QuietHours(), windows(), MADE + DAY + 3 * 3600)
    assert (inside.open, inside.why) == (True, "window")
    assert inside.closes_at == MADE + DAY + 10 * 3600
    outside = quiet(QuietHours(), windows(), MADE)
    assert (outside.open, outside.why, outside.opens_at) == (False, "outside", MADE + DAY + 7200)


def test_without_the_table_or_with_enabled_off_training_waits_for_nothing():
    """The windows may be known all the same."""
    for settings in (None, QuietHours(enabled=False)):
        assert quiet(settings, windows(), MADE).why == "off"
        assert quiet(settings, windows(), MADE).open


@pytest.mark.parametrize(("on_unknown", "goes_on"), [("wait", False), ("train", True)])
def test_where_no_window_is_known_the_settings_decide(on_unknown, goes_on):
    """There is none yet, it is damaged, or it is too old."""
    settings = QuietHours(on_unknown=on_unknown, max_age_days=15)
    old = MADE + 15 * DAY + 1
    for found in (
        quiet(settings, None, MADE),
        quiet(settings, None, MADE, trouble="windows.json: the seal does not fit"),
        quiet(settings, windows(), old),
    ):
        assert (found.open, found.why) == (goes_on, "unknown")
        assert found.trouble
    assert quiet(QuietHours(max_age_days=16), windows(), old).why == "outside"


def test_the_next_analysis_is_due_after_some_days_and_each_hour_while_it_fails():
    """What has failed is tried again; what has not is not."""
    settings = QuietHours(refresh_days=7)
    assert refresh_at(settings, None, None) == 0
    assert refresh_at(settings, None, MADE) == MADE + 3600
    assert refresh_at(settings, windows(), MADE) == MADE + 7 * DAY
    assert refresh_at(QuietHours(refresh_days=2), windows(), MADE) == MADE + 2 * DAY
    failed = MADE + 7 * DAY + 60
    assert refresh_at(settings, windows(), failed) == failed + 3600


def read(tmp_path, text):
    path = tmp_path / "supervisor.toml"
    path.write_text(text)
    return read_toml(path, Settings).quiet_hours


def test_quiet_hours_are_off_unless_their_table_is_there(tmp_path):
    """An empty one is enough."""
    assert read(tmp_path, "cost_per_hour = 1.0\n") is None
    assert read(tmp_path, "[quiet_hours]\n") == QuietHours()


SOURCE = '[quiet_hours.sources.game]\nkind = "loginlog"\n'


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[quiet_hours]\nwindow_hour = 8\n", "did you mean 'window_hours'?"),
        ("[quiet_hours]\nzone = 'Europe/Nowhere'\n", "no time zone 'Europe/Nowhere'"),
        ("[quiet_hours]\npreferred_day = 7\n", "preferred_day"),
        (
            "".join(("[quiet_hours]\n", *(f"weight_{m} = 0\n" for m in METRICS))),
            "all weights are 0",
        ),
        (SOURCE, "sources.game: it has no url"),
        (f"{SOURCE}password = 'S3cret'\n", "did you mean"),
        (f"{SOURCE}url = 'mariadb://me:S3cret@host/game'\n", "holds a password"),
        (f"{SOURCE}url = 'sqlite:///S3cret'\n", "is no address such as"),
        (f"{SOURCE}url = 'mariadb://me@host/game?a=1&password=S3cret'\n", "holds a password"),
        (f"{SOURCE}url = 'mariadb://me:S3@cret@host/game'\n", "is no address such as"),
        ("[quiet_hours]\nformula = 'seed'\nwindow_hours = 25\n", "more than 24 hours"),
        (f"{SOURCE}url = ['mariadb://me:S3cret@host/game']\n", "sources.game.url"),
        (f"{SOURCE}url = 'mariadb://me@host/game'\nzone = 'S/3'\n", "no time zone"),
        (
            f"{SOURCE}url = 'mariadb://me@host/game'\npassword_env = 'A'\npassword_file = 'b'\n",
            "more than one place",
        ),
        ('[quiet_hours.sources.q]\nkind = "query"\nurl = "mariadb://a@b/c"\n', "no query"),
        ('[quiet_hours.sources.m]\nkind = "machine"\nquery = "SELECT"\n', "no database"),
    ],
)
def test_what_makes_no_sense_is_refused_without_a_word_of_a_secret(tmp_path, text, said):
    """Nothing that may be a password is repeated."""
    with pytest.raises(InvalidFile) as refused:
        read(tmp_path, text)
    assert said in str(refused.value)
    assert "S3cret" not in str(refused.value)


def test_a_driver_that_is_missing_is_a_line_with_what_to_install(tmp_path, monkeypatch):
    """The daemon's own installation has none of them."""
    monkeypatch.setitem(sys.modules, "pymysql", None)
    found = gather(asked({"game": source()}), "UTC", Ring(tmp_path), tmp_path, NOW)
    assert found["game"] == "pymysql is missing: pip install 'training-supervisor[usage]'"
    assert analyse(asked(), History(told=found, now=NOW, zone="UTC")).windows is None


def test_keys_of_a_source_that_need_no_database(tmp_path):
    """Last logins are asked for only where that is allowed; own samples come from the ring."""
    ring = Ring(tmp_path)
    url = "mariadb://me@127.0.0.1:1/game"
    sources = {
        "last": UsageSource(kind="last_login", url=url),
        "allowed": UsageSource(kind="last_login", url=url, allow_last_login=True),
        "ours": UsageSource(kind="online", url=url),
        "here": UsageSource(kind="machine"),
    }
    found = gather(asked(sources), "UTC", ring, tmp_path, NOW)
    assert "allow_last_login" in found["last"]
    assert "allow_last_login" not in found["allowed"]
    assert "sample-usage" in found["ours"]
    assert "no samples" in found["here"]
