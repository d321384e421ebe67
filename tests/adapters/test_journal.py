"""What a person reads along."""

import io

import pytest

from supervisor.follow import follow
from supervisor.journal import encode, plain, renderer, tail
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


def a_log(folder, *files):
    """A log and its older files, newest first, each with lines of these numbers."""
    path = folder / "decisions.jsonl"
    for age, numbers in enumerate(files):
        file = path.with_name(f"{path.name}.{age}") if age else path
        file.write_bytes(b"".join(encode({"seq": seq, "event": "x"}) + b"\n" for seq in numbers))
    return path


def numbers(lines):
    return [line["seq"] for line in lines]


def test_lines_that_are_asked_for_are_counted_alone(tmp_path):
    """The newest that match are shown, from as many older files as it takes, oldest first."""
    path = a_log(tmp_path, range(200, 300), range(100, 200), range(100))
    for count, expected in ((1, [290]), (12, range(180, 300, 10)), (99, range(0, 300, 10))):
        found = tail(path, count, lambda line: line["seq"] % 10 == 0)
        assert numbers(found) == list(expected)


def test_no_older_file_is_read_than_is_needed(tmp_path):
    """Where the newest file has enough, what lies behind it need not even be a log."""
    path = a_log(tmp_path, range(10))
    (tmp_path / "decisions.jsonl.1").write_bytes(b"nonsense\n")
    seen = []
    assert numbers(tail(path, 2, lambda line: seen.append(line) or True)) == [8, 9]
    assert numbers(seen) == list(range(10))
    assert numbers(tail(path, 99, lambda line: True)) == list(range(10))


@pytest.mark.parametrize("takes", [None, lambda line: True])
def test_a_log_that_is_rotated_while_it_is_read_is_told_once(tmp_path, takes):
    """The file that was read as the newest is by then the first of the older ones."""
    path = a_log(tmp_path, range(5, 9), range(5))
    (tmp_path / "decisions.jsonl.1").rename(tmp_path / "decisions.jsonl.2")
    (tmp_path / "decisions.jsonl.1").hardlink_to(path)
    assert numbers(tail(path, 99, takes)) == list(range(9))


def test_a_log_is_followed_from_when_that_is_asked(tmp_path):
    """What is written while the older lines are still being shown is not lost."""
    path = a_log(tmp_path, range(3))
    coming = follow(path)
    with path.open("ab") as log:
        log.write(b"a line that came meanwhile\n")
    assert next(coming) == b"a line that came meanwhile"
