"""What has been, in pictures: they stand still for a minute, and tell what the log tells."""

import msgspec
import pytest

from supervisor import report
from supervisor.config import Config
from supervisor.host.home import Home
from supervisor.page.lately import DAY_S, MINUTE_S, SPANS, Series
from supervisor.page.look import Looks
from testkit.fakes import FakeClock
from testkit.written_life import WrittenLife


@pytest.fixture
def life(tmp_path):
    """A home whose machine has crashed once, and the clock of that machine."""
    written = WrittenLife()
    written.train(5).crash().train(2)
    written.save(tmp_path)
    return Home(tmp_path), written.clock


def looks(home, clock):
    return Looks(home, lambda: Config(home.settings), clock, None)


def test_pictures_stand_still_for_a_minute(life):
    """What moved with every look would be sent anew with every look."""
    home, clock = life
    watching = looks(home, clock)
    clock.advance(-clock.read().wall % MINUTE_S)
    first = watching.look()
    clock.advance(MINUTE_S - 2)
    later = watching.look()
    assert later.at > first.at
    assert later.lately == first.lately
    clock.advance(3)
    assert watching.look().lately.until == first.lately.until + MINUTE_S


def test_another_run_is_drawn_at_once(life):
    """Nobody waits a minute for its curve."""
    home, clock = life
    told = looks(home, clock).look().report
    moment = clock.read()
    lately = Series(home).lately(Config(home.settings), moment, told.runs, up=False)
    assert lately.is_of(moment, told)
    assert not lately.is_of(moment, msgspec.structs.replace(told, runs=()))


def test_the_ribbon_says_what_the_log_says(life):
    """One crash, in words beside the picture, in each span that reaches so far."""
    home, clock = life
    ribbons = looks(home, clock).look().lately.ribbons
    assert ribbons.keys() == SPANS.keys()
    for drawn in ribbons.values():
        assert "1 crash" in drawn.words
    clock.advance(2 * DAY_S)
    ribbons = looks(home, clock).look().lately.ribbons
    assert "no crashes" in ribbons["24h"].words
    assert "1 crash" in ribbons["7d"].words


def test_a_home_in_which_nothing_was_has_pictures_that_say_so(tmp_path):
    """Nothing is drawn, and nothing fails."""
    look = looks(Home(tmp_path), FakeClock()).look()
    assert look.lately.gauges == {}
    assert look.lately.scores == {}
    assert look.lately.shots == frozenset()
    assert look.looked_at is None
    assert look.sample is None


def test_a_run_has_its_curve_and_its_picture(life):
    """The score of the last day, from what its trainer has written."""
    home, clock = life
    folder = home.run("drill-a")
    folder.path.mkdir(parents=True)
    now = clock.read().wall
    lines = [{"step": step, "at": now - 600 + step, "loss": 1 / step} for step in range(1, 300)]
    folder.metrics.write_bytes(b"".join(msgspec.json.encode(line) + b"\n" for line in lines))
    folder.preview.write_bytes(b"a picture")
    config = Config(home.settings)
    told = report.report(home, config, clock.read())
    runs = tuple(msgspec.structs.replace(run, pid=7, loss=0.1) for run in told.runs)
    series = Series(home)
    lately = series.lately(config, clock.read(), runs, up=True)
    assert "loss of a" in lately.scores["drill-a"]
    assert lately.shots == {"drill-a"}
    curves = series.curves("drill-a", "step", 50)
    assert [curve.name for curve in curves.curves] == ["loss"]
    assert 2 <= len(curves.curves[0].points.x) <= 100


def test_goodput_is_that_of_the_command(life):
    """It is read on, and comes to what `supervisor goodput` reads anew."""
    home, clock = life
    config = Config(home.settings)
    moment = clock.read()
    assert Series(home).goodput(config, moment) == report.goodput(home, config, moment)
