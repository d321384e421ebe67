"""A home tells in which windows its runs end, from the samples of the week before."""

import json

import msgspec
import pytest

from state import windows
from state.samples import SEGMENT_BYTES, Rate, Ring, Sample
from state.store import Store
from supervisor import screen
from supervisor.config import Config
from supervisor.host.home import Home, machine_id
from supervisor.report import report
from testkit.builders import a_run
from testkit.histories import by_week, look
from testkit.written_life import WrittenLife
from trainers.contract import Target

DAY_S = 86_400.0
HOUR_S = 3600.0
QUIET = '[quiet_hours]\nzone = "UTC"\n'
TUESDAY_AT_FIVE = look(by_week(range(29, 37)), top_n_windows=1).windows
"""one window a week, of eight hours"""
PER_H = 7200
"""steps of a run in an hour"""


class Place:
    """A home on Monday, 2026-01-05, 19:27, whose supervisor is up; its run has a target."""

    def __init__(self, folder, text=QUIET, *, steps=10 * PER_H, unit="steps"):
        (folder / "supervisor.toml").write_text(text)
        life = WrittenLife()
        run = a_run()
        asked = msgspec.structs.replace(run.asked, target=Target(unit=unit, count=steps))
        self.run = msgspec.structs.replace(run, asked=asked)
        life.memory = msgspec.structs.replace(life.memory, runs=(self.run,))
        life.save(folder)
        self.home, self.clock = Home(folder), life.clock
        self.now = life.clock.read().wall

    def analysed(self):
        windows.write(self.home.windows, msgspec.structs.replace(TUESDAY_AT_FIVE, made_at=self.now))

    def trained(self, hours, rate=2.0, until=None):
        """It has trained for so long until a moment, two samples a minute."""
        ring = Ring(self.home.samples, machine=machine_id(), max_bytes=8 * SEGMENT_BYTES)
        until = self.now - 10 * HOUR_S if until is None else until
        for back in range(int(hours * 120), -1, -1):
            at = until - 30.0 * back
            rates = (Rate(run=self.run.id, steps_per_s=rate),)
            ring.write(
                Sample(
                    at=at, monotonic_s=at, boottime_s=at, boot_id="boot", running=1, covers_s=30.0,
                    rates=rates,
                )
            )  # fmt: skip
        ring.close()

    def report(self, **how):
        config = Config(self.home.settings)
        return report(self.home, config, self.clock.read(), **{"foretell": True} | how)


@pytest.fixture(autouse=True)
def up(monkeypatch):
    """A supervisor holds each home."""
    holder = msgspec.defstruct("Holder", ["pid"])(1)
    monkeypatch.setattr(Home, "holder", lambda _: holder)


def test_the_windows_and_the_end_of_a_run_and_of_all_are_told(tmp_path):
    """Ten hours of work, and in one window are 7 h 58 min of it, for it has to save, too."""
    place = Place(tmp_path)
    place.analysed()
    place.trained(4)
    found = place.report()
    (run,) = found.runs
    assert run.ends == found.campaign.ends
    assert run.ends.windows == ("2026-01-06T05:00:00.000Z", "2026-01-13T05:00:00.000Z")
    assert run.ends.at == "2026-01-13T07:02:00.000Z"
    words = "ends in 2 windows: Tue, Tue, by Tue 2026-01-13 07:02 UTC"
    assert screen.runs(found).splitlines()[2] == f"  {words}"
    assert f"          {words}" in screen.state(found).splitlines()
    told = json.loads(msgspec.json.encode(found))
    assert told["campaign"]["ends"]["words"] == words.removeprefix("ends ")


def test_pauses_bring_the_end_later_and_less_certain(tmp_path):
    place = Place(tmp_path)
    place.analysed()
    tuesday = place.now - (19 * HOUR_S + 27 * 60) - 6 * DAY_S  # 2025-12-30
    place.trained(3, until=tuesday + 8 * HOUR_S)
    place.trained(2, until=tuesday + 13 * HOUR_S, rate=0.0)
    place.trained(3, until=place.now - 8 * HOUR_S)
    assert place.report().runs[0].ends.at > "2026-01-13T09:30"


def test_a_person_who_trains_in_any_hour_brings_the_end_nearer(tmp_path):
    place = Place(tmp_path, steps=9 * PER_H)
    place.analysed()
    place.trained(4)
    store = Store(place.home.state)
    memory, _ = store.peek()
    goal = msgspec.structs.replace(memory.goal, any_hour_until_at=place.now + 2 * HOUR_S)
    store.save(msgspec.structs.replace(memory, goal=goal))
    assert place.report().runs[0].ends.windows == ("2026-01-06T05:00:00.000Z",)


@pytest.mark.parametrize(
    ("known", "hours", "rate", "why"),
    [
        (False, 4, 2.0, "no analysis of usage has succeeded yet"),
        (True, 1, 2.0, "less than 90 min of training was sampled in the last week"),
        (True, 4, 0.0, "less than 90 min of training was sampled in the last week"),
        (True, 4, 0.001, "it takes more than 400 windows"),
    ],
)
def test_what_is_not_known_is_said_to_be(tmp_path, known, hours, rate, why):
    """Once, of all runs together; and for programs of each."""
    place = Place(tmp_path)
    if known:
        place.analysed()
    place.trained(hours, rate=rate)
    found = place.report()
    for ends in (found.campaign.ends, found.runs[0].ends):
        assert (ends.windows, ends.at, ends.words) == (None, None, f"not known: {why}")
    assert screen.state(found).count("when it ends is not known") == 1
    assert f"          when it ends is not known: {why}" in screen.state(found).splitlines()


@pytest.mark.parametrize(
    ("text", "unit"),
    [
        ("# none\n", "steps"),
        (f"{QUIET}enabled = false\n", "steps"),
        (f'{QUIET}on_unknown = "train"\n', "steps"),
        (QUIET, "episodes"),
    ],
)
def test_where_nothing_has_to_be_waited_for_or_counted_it_is_as_without_quiet_hours(
    tmp_path, text, unit
):
    """Not a word more."""
    place = Place(tmp_path, text, unit=unit)
    place.trained(4)
    assert screen.state(place.report()) == screen.state(place.report(foretell=False))
    assert place.report() == place.report(foretell=False)


def test_samples_of_a_newer_version_are_named(tmp_path):
    """Nothing else breaks."""
    place = Place(tmp_path)
    place.analysed()
    place.trained(4)
    (segment,) = place.home.samples.glob("*.ring")
    content = bytearray(segment.read_bytes())
    content[8] = 99
    segment.write_bytes(content)
    assert "version 99" in place.report().campaign.ends.words


def test_windows_that_are_only_supposed_are_those_that_count(tmp_path, monkeypatch):
    """As in a dry run, with no supervisor up."""
    place = Place(tmp_path)
    place.trained(4)
    monkeypatch.setattr(Home, "holder", lambda _: None)
    assert place.report().campaign.ends is None
    by = msgspec.structs.replace(TUESDAY_AT_FIVE, made_at=place.now)
    assert len(place.report(by=by).campaign.ends.windows) == 2
