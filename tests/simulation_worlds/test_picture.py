"""The picture of a life shows what happened in it."""

import xml.etree.ElementTree as ET

import pytest

from supervisor.core.facts import StabilityLimits
from supervisor.simulation import picture
from supervisor.simulation.families import draw
from supervisor.simulation.life import live
from supervisor.simulation.rivals import POLICIES
from supervisor.simulation.worlds import constant

SVG = "{http://www.w3.org/2000/svg}"


def drawn(world, policy="fixed"):
    return ET.fromstring(picture.svg(world, policy))  # noqa: S314 - we have just drawn it


def test_every_crash_is_a_tick():
    """As many ticks as crashes, each within the page."""
    world = draw("costly", 3, 1)
    life = live(world, POLICIES["fixed"](world, StabilityLimits()))
    ticks = drawn(world).findall(f"{SVG}path")[-1].get("d").split("M")[1:]
    assert life.crashes > 10
    assert len(ticks) == life.crashes
    assert all(picture.LEFT <= float(tick.split()[0]) <= picture.WIDTH for tick in ticks)


def test_every_mode_has_a_row_and_time_an_axis():
    """The names of the modes, the days and the policies stand in words."""
    words = [text.text for text in drawn(draw("three rungs", 3, 0)).findall(f"{SVG}text")]
    assert {"light", "medium", "heavy", "crash", "days", "0", "30", "fixed", "oracle"} <= set(words)


def test_the_curves_end_with_the_work_that_was_kept():
    """Who keeps 24 of 48 ends half as high as the oracle, both at the end of the day."""
    world = constant((1.0, 2.0), (0.0, 0.0), start_h=0.0, days=1.0)
    lines = drawn(world, "light only").findall(f"{SVG}polyline")
    points = [[xy.split(",") for xy in line.get("points").split()] for line in lines]
    (begin, *_, best), (*_, mine) = ([(float(x), float(y)) for x, y in line] for line in points)
    assert best[0] == mine[0] == pytest.approx(picture.WIDTH - picture.RIGHT, abs=0.1)
    assert begin[1] - mine[1] == pytest.approx((begin[1] - best[1]) / 2, abs=0.2)


def test_a_short_life_has_an_axis_too():
    """A life of some hours is marked in fractions of a day."""
    world = constant((1.0, 2.0), (0.1, 0.1), days=0.3)
    words = [text.text for text in drawn(world).findall(f"{SVG}text")]
    assert {"0", "0.1", "0.2", "0.3"} <= set(words)


def test_names_are_escaped():
    """A mode may be called whatever it likes."""
    world = constant((1.0, 2.0), (0.1, 0.1), days=1.0, modes=("a<b", "c&d"))
    words = [text.text for text in drawn(world).findall(f"{SVG}text")]
    assert {"a<b", "c&d"} <= set(words)
