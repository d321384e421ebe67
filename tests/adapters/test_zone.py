"""The zone of the machine, in whatever way it was set, is one that calendars know."""

import pytest

from supervisor.core.calendar import zone_of
from supervisor.host import clock

KOLKATA = "Asia/Kolkata"


@pytest.mark.parametrize(
    ("said", "zone"),
    [
        (KOLKATA, KOLKATA),
        (f":{KOLKATA}", KOLKATA),
        (f"/usr/share/zoneinfo/{KOLKATA}", KOLKATA),
        (f":/usr/share/zoneinfo/{KOLKATA}", KOLKATA),
        (":/etc/localtime", "Europe/Berlin"),
        ("", "Europe/Berlin"),
        ("CET-1CEST", "Europe/Berlin"),
        ("Asia", "Europe/Berlin"),
        ("Asia//Kolkata", KOLKATA),
        ("../zoneinfo/Asia/Kolkata", "Europe/Berlin"),
        ("zone.tab", "Europe/Berlin"),
    ],
)
def test_what_is_no_name_of_a_zone_is_passed_over(tmp_path, monkeypatch, said, zone):
    """A path is one where it leads to a zone; else what counts is the link of the machine."""
    link = tmp_path / "localtime"
    link.symlink_to("../usr/share/zoneinfo/Europe/Berlin")
    monkeypatch.setattr(clock, "LOCALTIME", link)
    monkeypatch.setenv("TZ", said)
    assert clock.zone_name() == zone
    assert zone_of(zone).key == zone


def test_a_machine_that_names_no_zone_has_that_of_the_world(tmp_path, monkeypatch):
    """As a small container, which has no such link."""
    monkeypatch.setattr(clock, "LOCALTIME", tmp_path / "localtime")
    monkeypatch.setenv("TZ", "CET-1CEST")
    assert clock.zone_name() == "UTC"
