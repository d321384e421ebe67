"""Pictures: every name in them is text and nothing else, and they say the same in words."""

import math
import re
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from supervisor.core.explain import KnownMode
from supervisor.core.goodput import SHARES, Goodput, Times
from supervisor.page import pictures
from supervisor.page.kept import Share
from supervisor.page.machine import Limit
from supervisor.page.past import Band, Mark, Ribbon, Tick
from supervisor.page.pictures.ribbon import in_words
from supervisor.page.pictures.svg import (
    NARROW,
    WIDE,
    Scale,
    hatch,
    line,
    named,
    percent,
    short,
    ticks,
    time_ticks,
)
from supervisor.page.trace import Points

HOUR_S, DAY_S = 3600.0, 86_400.0
NOON = 1_790_000_000 // DAY_S * DAY_S + DAY_S / 2
ELEMENTS = {"svg", "g", "title", "desc", "path", "rect", "circle", "text", "a", "div"}
HOSTILE = "</title><script>alert(1)</script>\" onload='x' \u202e\x00&amp; <b"
NAMED_ONLY = re.compile(r"(ribbon|chart|ledger|goodput)$|share-|hatch-")
"""classes that say what it is, beside one that says how it looks"""
STYLE = Path(pictures.__file__).parents[1] / "static" / "pictures.css"


def a_ribbon(*, mode="medium", owner="person", ticks=(), hours=24, pauses=(), downs=(), shares=()):
    since, until = NOON - hours * HOUR_S, NOON
    middle = (since + until) / 2
    return Ribbon(
        since=since,
        until=until,
        ladder=("light", mode),
        modes=(
            Band(what="light", begin=since, end=middle, seq=None),
            Band(what=mode, begin=middle, end=until, seq=53),
        ),
        pauses=pauses or (Band(what=owner, begin=middle, end=middle + HOUR_S, seq=54),),
        downs=downs,
        ticks=ticks or (Tick(at=middle, crash=True, seq=52),),
        shares=shares
        or (Share(begin=since, end=until, demanded_s=10.0, kept_s=9.0, unknown_s=0.0),),
    )


def a_known_mode(mode="medium", **fields):
    given = {
        "hours": 40.0,
        "crashes": 3.0,
        "crashes_per_h": 0.08,
        "crashes_per_h_low": 0.04,
        "crashes_per_h_high": 0.13,
        "aftershocks_per_h": 0.1,
        "break_even_per_h": 0.5,
        "steps_per_h": {},
        "speed_ratio": 1.5,
        "compared_h": 3.0,
        "level": 0,
        "cool_down_left_s": 0.0,
        "bad": False,
        "recoveries": 0,
        "bad_hours": 0.0,
    }
    return KnownMode(mode=mode, **(given | fields))


def a_goodput(**spent_s):
    return Goodput(
        goodput=0.9,
        since=None,
        span_s=100.0,
        demanded_s=100.0,
        spent_s=dict.fromkeys(SHARES, 0.0) | spent_s,
        not_demanded_s={},
        steps_kept=1,
        steps_lost=0,
        attempts=1,
        deaths=0,
        crashes=0,
        detection=Times(),
        stop=Times(),
        start=Times(),
        checkpoint_stall=Times(),
        runs=(),
    )


def a_curve(count=50):
    return Points(
        x=tuple(NOON - 60.0 * place for place in range(count, 0, -1)),
        y=tuple(None if place == 7 else math.sin(place) for place in range(count)),
    )


def all_of(words, width=NARROW):
    """Every kind of picture, with these words wherever somebody else has chosen them."""
    marks = tuple(
        Mark(what=what, at=NOON - 60.0 * place, step=place, seq=1, words=words)
        for place, what in enumerate(("start", "move", "crash", "death"))
    )
    limits = (Limit(value=0.5, words=words),)
    shown = a_ribbon(mode=words, owner=words)
    return (
        pictures.ribbon(shown, width, called=words, to="/d/"),
        pictures.spark(
            a_curve(), called=words, unit=words, better="higher", limits=limits, behind=shown
        ),
        pictures.spark(None, called=words),
        pictures.chart(
            {words: a_curve(), f"{words}2": a_curve(9)},
            width,
            called=words,
            by="time",
            unit=words,
            marks=marks,
            limits=limits,
            behind=shown,
        ),
        pictures.chart({}, width, called=words, by="step"),
        pictures.ledger((a_known_mode("light"), a_known_mode(words)), width, mode=words),
        pictures.goodput(a_goodput(kept=90.0, lost=6.0, machine_down=4.0), width),
        pictures.goodput(a_goodput(), width),
    )


def parsed(picture):
    return ET.fromstring(str(picture))  # noqa: S314 - our own text


@settings(deadline=None, max_examples=25)
@given(words=st.one_of(st.just(HOSTILE), st.text(max_size=120)))
def test_whatever_a_name_holds_it_is_text(words):
    """No name becomes an element or an attribute, and each picture is well-formed."""
    for picture in all_of(words):
        for element in parsed(picture).iter():
            assert element.tag in ELEMENTS
            for attribute, value in element.attrib.items():
                assert not attribute.startswith("on")
                assert attribute not in ("style", "id")
                if attribute == "href":
                    assert re.fullmatch(r"/d/\d+", value)


@pytest.mark.parametrize("width", [NARROW, WIDE])
def test_every_picture_says_the_same_in_words(width):
    for picture in all_of("medium", width):
        svg = parsed(picture)
        image = svg if svg.get("role") == "img" else svg.find("g")
        assert image.get("role") == "img"
        assert image.find("title").text
        assert image.find("desc").text
        assert svg.get("viewBox").startswith("0 0 ")
        assert not image.findall(".//a"), "what can be tapped is no part of an image"


def test_every_class_that_is_used_stands_in_the_stylesheet():
    told = STYLE.read_text()
    for picture in [*all_of("medium"), pictures.for_both(lambda _: all_of("medium")[0])]:
        for element in parsed(f"<div>{picture}</div>").iter():
            for name in (element.get("class") or "").split():
                if not NAMED_ONLY.match(name):
                    assert re.search(rf"\.{name}\b", told), name


def colours(theme):
    """The properties of page and pictures in a theme."""
    found = {}
    for sheet in (STYLE.with_name("page.css"), STYLE):
        dark, _, light = sheet.read_text().partition("@media (prefers-color-scheme: light)")
        light = light.partition("}\n}")[0]
        for part in (dark,) if theme == "dark" else (dark, light):
            found |= dict(re.findall(r"--([\w-]+): (#[0-9a-f]{3,6});", part))
    return found


def contrast(one, other):
    """Of two colours, as WCAG 2 has it."""

    def luminance(colour):
        digits = colour[1:] if len(colour) == 7 else "".join(2 * digit for digit in colour[1:])
        parts = [int(digits[place : place + 2], 16) / 255 for place in (0, 2, 4)]
        linear = [
            part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
        ]
        return sum(w * part for w, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))

    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("theme", ["dark", "light"])
def test_all_that_is_drawn_can_be_seen_in_both_themes(theme):
    """Text has a contrast of 4.5, also on what is filled; what is drawn has 3."""
    known = colours(theme)
    for text in ("ink", "quiet", "limit", "crash"):
        assert contrast(known[text], known["panel"]) >= 4.5, text
    fills = [name for name in known if name.startswith(("rung-", "share-"))]
    assert len(fills) >= 10
    for name in fills:
        assert contrast(known["on-fill"], known[name]) >= 4.5, name
    drawn = ("axis", "kept", "crash", "limit", "line-0", "line-1", "line-2", "line-3", *fills)
    for name in drawn:
        assert contrast(known[name], known["panel"]) >= 3, name


# The ribbon.


def links(picture):
    return {
        element.get("href"): element.get("aria-label")
        for element in parsed(picture).iter()
        if element.tag == "a"
    }


def test_a_tap_on_the_ribbon_leads_to_the_line_that_tells_it():
    """The crash to its boot, the mode to its decision; where no line is known there is no link."""
    found = links(pictures.ribbon(a_ribbon(), WIDE, called="the last 24 hours", to="#d"))
    assert found.keys() == {"#d52", "#d53", "#d54"}
    assert "crash" in found["#d52"]
    assert "medium" in found["#d53"]
    assert "a person" in found["#d54"]


def test_the_ribbon_in_words():
    downs = (Band(what="crash", begin=NOON - 12 * HOUR_S - 600, end=NOON - 12 * HOUR_S, seq=1),)
    said = in_words(a_ribbon(downs=downs))
    assert said == (
        "light for 12.0 h, medium for 12.0 h, 1 crash, paused for 60 min by a person, "
        "down after a crash for 10 min, goodput 90 %"
    )


def test_however_many_crashes_there_were_the_ribbon_stays_small():
    """What is too close to be told apart is drawn as one, with its number."""
    many = 5000
    begins = [NOON - DAY_S + DAY_S * place / many for place in range(many)]
    shown = a_ribbon(
        ticks=tuple(Tick(at=at, crash=True, seq=place) for place, at in enumerate(begins))
    )
    modes = tuple(
        Band(what=("light", "medium")[place % 2], begin=at, end=at + DAY_S / many / 2, seq=place)
        for place, at in enumerate(begins)
    )
    pauses = tuple(
        Band(what="guard", begin=at, end=at + DAY_S / many / 2, seq=place)
        for place, at in enumerate(begins)
    )
    shown = Ribbon(
        **{name: getattr(shown, name) for name in shown.__struct_fields__}
        | {"modes": modes, "pauses": pauses}
    )
    picture = pictures.ribbon(shown, NARROW, called="the last 24 hours")
    assert len(picture) < 60_000
    assert len(links(picture)) <= NARROW / 9 + 1
    counts = [
        int(element.text)
        for element in parsed(picture).iter()
        if "count" in (element.get("class") or "")
    ]
    assert sum(counts) == many


def test_almost_all_is_not_all_and_almost_nothing_not_nothing():
    told = [percent(share) for share in (0, 0.0004, 0.00185, 0.004, 0.5, 0.985, 0.99996, 1)]
    assert told == ["0 %", "<0.1 %", "0.2 %", "0.4 %", "50 %", "98 %", "99.9 %", "100 %"]


# Lines, axes, hatches.


def test_over_a_gap_no_line_leads_and_a_lonely_point_is_seen():
    drawn = line([(0, 1.0), (1, 2.0), (2, None), (3, 4.0), (4, None), (5, 1.0), (6, 1.0)])
    assert drawn == "M0.0 1.0L1.0 2.0M3.0 4.0h.1M5.0 1.0L6.0 1.0"


@given(
    low=st.floats(-1e9, 1e9),
    width=st.floats(1e-6, 1e9),
    most=st.integers(2, 12),
)
def test_ticks_are_few_round_and_within(low, width, most):
    high = low + width
    if not high > low:
        return
    found = ticks(low, high, most)
    assert len(found) <= most
    assert found == sorted(found)
    for value in found:
        assert low - width * 1e-6 <= value <= high + width * 1e-6


def test_ticks_are_numbers_that_people_count_in():
    assert ticks(0, 100, 6) == [0, 20, 40, 60, 80, 100]
    assert ticks(0.3, 0.9, 4) == pytest.approx([0.4, 0.6, 0.8])
    assert ticks(0, 7, 4) == [0, 2, 4, 6]
    assert ticks(5, 5, 4) == [5]
    assert [said for _, said in time_ticks(NOON, NOON + DAY_S, 4)] == ["12:00", "22 Sep", "12:00"]


def test_numbers_are_short():
    told = [short(value) for value in (0, 0.00123, 12.34, 999, 5000, 12_345, 3.2e6, -4e9, 1e30)]
    assert told == ["0", "0.00123", "12.3", "999", "5k", "12.3k", "3.2M", "-4G", "1e+30"]


def test_numbers_on_an_axis_have_as_many_digits_as_tell_them_apart():
    assert named([0, 5000, 10_000]) == [(0, "0"), (5000, "5k"), (10_000, "10k")]
    assert [said for _, said in named([300.01, 300.02, 300.03])] == ["300.01", "300.02", "300.03"]
    assert named([]) == []


@given(x=st.floats(0, 500), width=st.floats(0.5, 500), falls=st.booleans())
def test_a_hatch_stays_within_its_rectangle(x, width, falls):
    found = re.findall(r"[ML](-?[\d.]+) (-?[\d.]+)", hatch(x, 10, width, 40, 6, falls=falls))
    for at, up in found:
        assert x - 0.1 <= float(at) <= x + width + 0.1
        assert 9.9 <= float(up) <= 50.1
    assert found or width < 6


def test_the_ledger_has_a_logarithmic_axis_where_rates_are_far_apart():
    near = pictures.ledger((a_known_mode("light"), a_known_mode()), NARROW, mode="light")
    far = pictures.ledger(
        (a_known_mode("light", crashes_per_h_low=0.0005), a_known_mode()), NARROW, mode="light"
    )
    assert "logarithmic" not in near
    assert "logarithmic" in far


@pytest.mark.parametrize("worth", [None, 0.0, -1.0, math.inf, 0.5])
def test_the_ledger_draws_what_policies_come_to(worth):
    """A break-even that no rate exceeds, or that none reaches, stands at the edge, and is told."""
    modes = (
        a_known_mode("light", break_even_per_h=None, crashes_per_h_low=0.0),
        a_known_mode(break_even_per_h=worth, crashes_per_h_high=math.inf),
    )
    svg = parsed(pictures.ledger(modes, NARROW, mode="medium"))
    for element in svg.iter():
        for value in element.attrib.values():
            assert "nan" not in value
            assert "inf" not in value


def test_a_scale_keeps_what_lies_outside_at_its_edge():
    assert [Scale(0, 10, 0, 100)(value) for value in (-5, 0, 5, 20)] == [0, 0, 50, 100]
    assert Scale(1, 100, 0, 100, log=True)(10) == pytest.approx(50)
    assert Scale(1, 100, 0, 100, log=True)(0) == 0
    assert Scale(5, 5, 0, 100)(5) == 50
