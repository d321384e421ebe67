"""What a home tells of the machine's boots."""

import msgspec
import pytest

from state.store import Store
from supervisor import screen
from supervisor.host.home import Home
from supervisor.report import report
from testkit.written_life import WrittenLife


def told(life, tmp_path, **changes):
    """The report on the home that such a life leaves, with changes to its newest boot."""
    life.save(tmp_path)
    store = Store(tmp_path / "state.json")
    memory, _ = store.peek()
    newest = msgspec.structs.replace(memory.boots[-1], **changes)
    store.save(msgspec.structs.replace(memory, boots=(*memory.boots[:-1], newest)))
    return report(Home(tmp_path), "no settings", life.clock.read())


def table(found):
    """The cells of the boots in the text."""
    *_, text = screen.state(found).split("\n\n")
    head, *rows = text.splitlines()
    assert head.split() == ["boot", "recorded", "came", "mode", "lived", "trained"]
    return [[cell.strip() for cell in row.split("  ") if cell] for row in rows]


def test_a_first_day_has_one_boot_and_it_lasts(tmp_path):
    """Before anything happened, the present boot is the first that is known."""
    found = report(Home(tmp_path), "no settings", WrittenLife().clock.read())
    assert [(boot.seq, boot.crash, boot.lasts) for boot in found.boots] == [(1, False, True)]
    assert table(found) == [
        ["1", "2026-01-05 19:27:00 UTC", "first known", "light", "10 s, lasts", "0 s"]
    ]


def test_the_newest_boots_tell_how_they_came_and_how_long_they_lived(tmp_path):
    """Five are enough for a person; a program gets all that are known, oldest first."""
    life = WrittenLife().train(0.5).crash().train(0.25).crash().crash().train(30)
    found = told(life.crash().train(1).crash().train(0.5), tmp_path)
    assert [boot.seq for boot in found.boots] == [1, 2, 3, 4, 5, 6]
    assert [boot.crash for boot in found.boots] == [False] + 5 * [True]
    assert [boot.lasts for boot in found.boots] == 5 * [False] + [True]
    rows = table(found)
    assert [row[0] for row in rows] == ["2", "3", "4", "5", "6"]
    assert {row[2] for row in rows} == {"after a crash"}
    assert rows[1][4:] == ["never seen", "-"]
    assert [row[4] for row in rows if row[0] == "4"] == ["30.0 h"]
    assert rows[-1][4:] == ["30 min, lasts", "30 min"]
    assert found.boots[2].lived_s == 0
    assert found.boots[2].trained_s is None


def test_a_planned_boot_and_what_an_older_version_did_not_know(tmp_path):
    """What nobody wrote down is unknown, and no zero."""
    life = WrittenLife().train(0.5).crash()
    life.clock.reboot()
    found = told(life, tmp_path, crash=False, lived_s=None, trained_s=0.0)
    assert table(found)[-1] == ["2", found.boots[-1].recorded.replace("T", " ")[:19] + " UTC",
                                "as planned", "light", "-", "-"]  # fmt: skip
    assert (found.boots[-1].lived_s, found.boots[-1].trained_s) == (None, None)
    assert not any(boot.lasts for boot in found.boots)


@pytest.mark.parametrize("wall", [1e18, -1e18])
def test_a_boot_of_an_impossible_time_is_told_all_the_same(tmp_path, wall):
    """A clock that was far off when the boot was recorded costs that date alone."""
    found = told(WrittenLife().train(0.5).crash(), tmp_path, recorded_at=wall)
    assert table(found)[-1][1] == "unknown"
