"""What a person reads along."""

import io

import pytest

from supervisor.journal import plain, renderer
from supervisor.terminal import MARKED, screen

MOVED = {
    "time": "2026-01-05T20:33:38.000Z",
    "event": "mode.changed",
    "old": "light",
    "new": "medium",
}
DIED = {"time": "2026-01-05T20:33:39.000Z", "event": "run.died", "run": "drill-A", "seq": 7}
LONG = {"event": "supervisor.started.with.a.long.name", "run": "atari-MontezumaRevenge"}


class Terminal(io.StringIO):
    """A screen that somebody looks at."""

    def isatty(self):
        return True


@pytest.mark.parametrize("line", [MOVED, DIED, LONG, {}])
def test_a_line_in_a_pipe_is_that_of_a_terminal_without_colour(monkeypatch, line):
    """Both say the same in the same columns, though only the terminal's is made by structlog."""
    monkeypatch.delenv("NO_COLOR", raising=False)
    line = {**line, "reason": "a sentence about it"}
    coloured = renderer(screen(Terminal()))(line)
    assert MARKED.sub("", coloured) == plain(line) == renderer(io.StringIO())(line)
    assert coloured != plain(line)


def test_who_wants_no_colour_gets_none(monkeypatch):
    """NO_COLOR holds on a terminal, too."""
    monkeypatch.setenv("NO_COLOR", "1")
    assert renderer(screen(Terminal()))(DIED) == plain(DIED)


def test_a_line_is_found_again_by_its_number_and_its_day():
    """`why 7` asks about the line that begins with 7; a log of many days says of which it is."""
    assert plain(DIED).split()[:5] == ["7", "2026-01-05", "20:33:39", "UTC", "run.died"]


@pytest.mark.parametrize("field", ["seq", "time", "event", "run", "reason"])
def test_a_log_that_somebody_has_written_into_commands_no_terminal(field):
    """Escape codes and line ends in a line are shown as something that cannot be shown."""
    said = plain({**DIED, field: "\x1b[2J\x07\r\nrun.done\u202e"})
    assert said.isprintable()
