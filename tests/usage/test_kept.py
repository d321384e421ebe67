"""What is kept of usage is whole or absent, stays small, and is read by whoever it is for."""

import json

import msgspec
import pytest

from state import windows
from supervisor.core.moments import stamp
from supervisor.helper import Helper
from supervisor.helpers.usage import Reply, Request
from supervisor.programs import program
from supervisor.usage import picture, ring, told
from supervisor.usage.grid import Point
from supervisor.usage.ring import Ring
from supervisor.usage.trained import trained
from testkit.histories import NOW, asked, by_week, look, source
from testkit.patience import PATIENCE_S
from trainers import durable
from trainers.contract import NewerFile

FOUND = look(by_week({*range(164, 168), *range(4)}))
FIELDS = {
    "made_at", "zone", "sources", "weeks", "metrics_used", "formula", "windows", "backtest", "next",
}  # fmt: skip


def test_the_windows_are_read_as_they_were_written(tmp_path):
    """With the fields that their page names, and a seal."""
    path = tmp_path / "windows.json"
    assert windows.read(path) is None
    windows.write(path, FOUND.windows)
    assert windows.read(path) == FOUND.windows
    content = json.loads(path.read_bytes())
    assert content.keys() == FIELDS | {"seal"}
    (told_of,) = content["sources"]
    assert told_of.keys() == {"name", "rows", "from", "to", "hours_missing", "used", "why_not"}
    assert content["windows"][0].keys() == {
        "start_weekday", "start_hour", "hours", "score", "players_mean", "players_high", "promise",
    }  # fmt: skip
    assert content["windows"][0]["promise"].keys() == {
        "weeks_choosing", "weeks_judging", "kept", "of", "at_least",
    }  # fmt: skip
    assert content["backtest"].keys() == {"weeks", "regret_median", "regret_p95", "promise_kept"}
    assert content["next"].keys() == {"opens", "closes"}


@pytest.mark.parametrize("damage", [b"", b"{}", b"\xff\xfe", b'{"seal": 1}'])
def test_damaged_windows_are_told_from_none(tmp_path, damage):
    """And each bit that is another one is found."""
    path = tmp_path / "windows.json"
    path.write_bytes(damage)
    with pytest.raises(windows.DamagedWindows):
        windows.read(path)
    windows.write(path, FOUND.windows)
    path.write_bytes(path.read_bytes().replace(b'"hours": 8', b'"hours": 9'))
    with pytest.raises(windows.DamagedWindows, match="seal"):
        windows.read(path)


def test_windows_of_a_newer_version_are_not_called_damaged(tmp_path):
    """They are left alone."""
    path = tmp_path / "windows.json"
    windows.write(path, FOUND.windows)
    path.write_bytes(path.read_bytes().replace(b'"version": 1', b'"version": 2'))
    with pytest.raises(NewerFile):
        windows.read(path)


def test_the_ring_keeps_what_was_sampled_and_stays_small(tmp_path, monkeypatch):
    """Older samples go, torn lines are passed over, and each source has its own."""
    kept = Ring(tmp_path)
    assert kept.read("game", 0.0) == ()
    kept.add("game", Point(1.0, 5.0))
    kept.add("other", Point(2.0, 6.0))
    (tmp_path / "online.jsonl").open("ab").write(b'{"source": "game", "at": 3')
    kept.add("game", Point(4.0, 7.0))
    assert kept.read("game", 0.0) == ((1.0, 5.0), (4.0, 7.0))
    assert kept.read("game", 2.0) == ((4.0, 7.0),)
    monkeypatch.setattr(ring, "MAX_BYTES", 500)
    for number in range(100):
        kept.add("game", Point(10.0 + number, 1.0))
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) < 8 * 500
    assert kept.read("game", 0.0)[-1] == (109.0, 1.0)


def test_the_log_tells_when_we_trained():
    """From the first trainer that lives to the last; a reboot ends them all in time."""
    lines = [
        ("run.started", "A", 100), ("run.started", "B", 150), ("run.stopped", "A", 200),
        ("run.died", "B", 300), ("mode.changed", None, 350), ("run.adopted", "A", 400),
    ]  # fmt: skip
    raw = [
        json.dumps({"event": event, "run": run, "time": stamp(at)}).encode()
        for event, run, at in lines
    ]
    assert trained([*raw, b"torn {", b"[]"], now=500.0) == ((100.0, 300.0), (400.0, 500.0))


def test_the_map_of_the_week_has_168_hours_and_its_windows():
    """In plain letters where nobody sees colours; what nobody knows is no quiet hour."""
    text = told.text(asked(), FOUND, "UTC")
    rows = [line for line in text.splitlines() if line[:3] in ("Mon", "Tue", "Sun")]
    assert [len(row) for row in rows[:2]] == [53, 53]
    assert "\x1b" not in text
    assert rows[2].rstrip().endswith(" 1 1 1 1")  # from Sunday 20:00 on
    assert rows[0].startswith("Mon   1 1 1 1")
    assert "Sun 20:00" in text
    assert "always Sun 03:00" in text
    dark = msgspec.structs.replace(FOUND, week=(None, *FOUND.week[1:]))
    assert "Mon  ?1" in told.text(asked(), dark, "UTC")


def test_the_picture_shows_quiet_and_busy_hours(tmp_path):
    """Each hour has its colour, and a window its frame."""
    image = pytest.importorskip("PIL.Image")
    path = tmp_path / "week.png"
    picture.draw(FOUND, path, "UTC")
    with image.open(path) as drawn:
        corner = {slot: picture._corner(slot) for slot in (0, 10)}
        quiet, busy = (drawn.getpixel((x + 20, y + 25)) for x, y in corner.values())
        assert busy == picture.BUSY
        assert quiet != busy
        x, y = corner[0]
        assert drawn.getpixel((x + 10, y)) == picture.FRAME


def test_the_helper_analyses_in_the_daemons_place(tmp_path):
    """It is asked with the settings, writes the file itself, and says what came of it."""
    helper = Helper(program("supervisor.helpers.usage"), reply=Reply, name="usage")
    try:
        assert helper.start()
        assert helper.receive(PATIENCE_S) == Reply()
        url = "mariadb://me@127.0.0.1:1/game"
        sources = {"game": source("online"), "log": msgspec.structs.replace(source(), url=url)}
        kept = Ring(tmp_path / "usage")
        (tmp_path / "usage").mkdir()
        request = Request(
            asked=asked(sources, min_data_points=10), zone="UTC", now=NOW, here=str(tmp_path),
            windows=str(tmp_path / "windows.json"), samples=str(tmp_path / "usage"),
            decisions=str(tmp_path / "decisions.jsonl"), machine=str(tmp_path / "samples"),
            machine_id=None,
        )  # fmt: skip
        helper.ask(request)
        said = helper.receive(PATIENCE_S)
        assert not said.written
        assert "sample-usage" in said.trouble
        for hour in range(24 * 25):
            kept.add("game", Point(NOW - 3600 * hour, 1.0 + hour % 24))
        helper.ask(request)
        said = helper.receive(PATIENCE_S)
        assert (said.written, said.trouble) == (True, None)
        assert any(note.startswith("log: ") for note in said.notes)
        assert windows.read(tmp_path / "windows.json").windows
        helper.ask(request)  # as if a timer had been quicker
        assert helper.receive(PATIENCE_S) == Reply(busy=True)
        (tmp_path / "windows.json").unlink()
        lock = durable.hold(tmp_path / "usage" / "analysis")
        helper.ask(request)
        assert helper.receive(PATIENCE_S) == Reply(busy=True)
        lock.release()
    finally:
        helper.close()
