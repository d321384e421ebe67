"""What a run prints, kept within a size and read on through that: whoever looks, and whenever."""

from __future__ import annotations

import itertools
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from supervisor import output as outputs
from supervisor.output import Choice, Line, Output, mark, rotate
from trainers.contract import LEVELS, Remark

MAX_BYTES = 120
GONE = b" bytes that were printed here are no longer kept"
MOMENTS = ("before the copy has its name", "before the file is emptied", "before that is noted")


class Killed(BaseException):
    """The supervisor was killed."""


class Reader:
    """Somebody who reads on and on, and holds each line against what was printed there."""

    def __init__(self, path: Path) -> None:
        self.path, self.position = path, 0
        self.output = Output(path)

    def look(self, truth: bytes) -> None:
        """All that is there now."""
        while lines := self.output.fresh():
            self.take(lines, truth)

    def take(self, lines: list[Line], truth: bytes) -> None:
        """Lines that follow those before."""
        for line in lines:
            if line.text.endswith(GONE):
                assert line.text == b"supervisor: %d" % (line.end - self.position) + GONE
                head = outputs.HEAD.match(self.path.with_name("output.log.1").read_bytes())
                assert head is not None
                assert self.position < line.end <= int(head[1])
            else:
                assert truth[self.position : line.end] in (line.text + b"\n", line.text)
            self.position = line.end


class Life(RuleBasedStateMachine):
    """Whatever is printed, rotated, killed and read, in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory(dir="/dev/shm")
        self.path = Path(self.folder.name) / "output.log"
        self.truth = b""
        self.numbers = itertools.count()
        self.readers: list[Reader] = []
        self.old = pytest.MonkeyPatch()
        self.old.setattr(outputs, "PIECE_BYTES", 17)
        self.old.setattr(outputs, "LINE_MAX_BYTES", 40)

    def teardown(self) -> None:
        self.old.undo()
        for reader in self.readers:
            reader.look(self.truth)
            reader.take(reader.output.rest(), self.truth)
            assert reader.position == len(self.truth), "all was told, to the last byte"
        self.folder.cleanup()

    def write(self, text: bytes) -> None:
        with self.path.open("ab") as file:
            file.write(text)
        self.truth += text

    @rule(length=st.integers(0, 90), whole=st.booleans())
    def a_line(self, length: int, whole: bool) -> None:
        """A line is printed, or a part of one."""
        self.write(b"%d." % next(self.numbers) + b"x" * length + b"\n" * whole)

    @rule()
    def somebody_comes(self) -> None:
        """A new reader."""
        if len(self.readers) < 3:
            self.readers.append(Reader(self.path))

    @precondition(lambda self: self.readers)
    @rule(which=st.integers(0, 2))
    def one_looks(self, which: int) -> None:
        """A reader sees what is there."""
        self.readers[which % len(self.readers)].look(self.truth)

    @precondition(lambda self: self.readers)
    @rule(which=st.integers(0, 2))
    def one_is_cut_off(self, which: int) -> None:
        """A reader comes again with the place of the last line."""
        reader = self.readers[which % len(self.readers)]
        reader.output = Output(self.path, reader.position)

    @rule(killed=st.sampled_from([None, *MOMENTS]), looks=st.sampled_from([None, *MOMENTS]))
    def it_is_rotated(self, killed: str | None, looks: str | None) -> None:
        """Whoever rotates may be killed at any moment, and a reader may look at any."""
        if not self.path.exists():
            return

        def comes(moment: str) -> None:
            if moment == looks:
                for reader in self.readers:
                    reader.look(self.truth)
            if moment == killed:
                raise Killed

        with interrupted(comes), suppress(Killed):
            rotate(self.path, MAX_BYTES)

    @precondition(lambda self: self.readers)
    @rule(which=st.integers(0, 2), reads=st.integers(1, 6))
    def it_is_rotated_while_one_looks(self, which: int, reads: int) -> None:
        """Between any two of the reads that a look is made of."""
        left, read = itertools.count(-reads), os.pread

        def slowly(*words: int) -> bytes:
            found = read(*words)
            if next(left) == 0:
                rotate(self.path, MAX_BYTES)
            return found

        if not self.path.exists():
            return
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(os, "pread", slowly)
            self.readers[which % len(self.readers)].look(self.truth)


@contextmanager
def interrupted(comes) -> Iterator[None]:
    """Call `comes` at each moment of a rotation."""
    with pytest.MonkeyPatch.context() as patch:

        def before(owner, name: str, moment: str) -> None:
            act = getattr(owner, name)

            def acted(*words, **more):
                comes(moment)
                return act(*words, **more)

            patch.setattr(owner, name, acted)

        before(Path, "replace", MOMENTS[0])
        before(os, "ftruncate", MOMENTS[1])
        before(os, "pwrite", MOMENTS[2])
        yield


Life.TestCase.settings = settings(max_examples=150, stateful_step_count=40)
TestOutput = Life.TestCase


def add(path: Path, text: bytes) -> None:
    with path.open("ab") as file:
        file.write(text)


def texts(lines) -> list[bytes]:
    return [line.text for line in lines]


def test_what_is_printed_in_the_instant_of_emptying_costs_nobody_what_follows(tmp_path):
    """It is lost, and whoever has seen it goes on with what comes then."""
    path = tmp_path / "output.log"
    path.write_bytes(b"first\n" * 30)
    live = Output(path)
    live.tail(None)

    def comes(moment):
        if moment == MOMENTS[1]:
            add(path, b"lost\n")
            live.fresh()

    with interrupted(comes):
        rotate(path, MAX_BYTES)
    add(path, b"what\nfollows\n")
    assert texts(live.fresh()) == [b"what", b"follows"]
    assert texts(Output(path).tail(2).lines) == [b"what", b"follows"]


def test_what_is_printed_while_the_copy_is_made_comes_along(tmp_path, monkeypatch):
    """But for a flood that goes on for ever: then two bounded files are left."""
    path, fill = tmp_path / "output.log", outputs.durable.fill
    path.write_bytes(b"first\n" * 30)

    def slowly(*words, **more):
        fill(*words, **more)
        add(path, b"meanwhile\n")

    monkeypatch.setattr(outputs.durable, "fill", slowly)
    live = Output(path)
    live.tail(None)
    rotate(path, MAX_BYTES)
    assert texts(live.fresh()) == [b"meanwhile"]

    def flood(*words):
        add(path, b"x" * 100)
        return read(*words)

    read = os.pread
    add(path, b"again\n" * 30)
    monkeypatch.setattr(os, "pread", flood)
    rotate(path, MAX_BYTES)
    assert path.stat().st_size == 0
    assert path.with_name("output.log.1").stat().st_size < 10 * MAX_BYTES


def test_an_older_file_of_a_version_before_is_read(tmp_path):
    """It does not say what was printed before it."""
    path = tmp_path / "output.log"
    path.with_name("output.log.1").write_bytes(b"old\n")
    path.write_bytes(b"new\n")
    told = Output(path).tail(None)
    assert [(line.text, line.end) for line in told.lines] == [(b"old", 4), (b"new", 8)]


def test_a_place_of_another_output_is_none_of_this(tmp_path):
    """A run that was begun anew is told from its beginning."""
    path = tmp_path / "output.log"
    path.write_bytes(b"one\ntwo\n")
    assert texts(Output(path, 4).tail(None).lines) == [b"two"]
    assert texts(Output(path, 8).tail(None).lines) == []
    assert texts(Output(path, 9).tail(None).lines) == [b"one", b"two"]


def test_a_mark_stands_in_a_line_of_its_own(tmp_path):
    """What a dead process has not ended is ended first."""
    path = tmp_path / "output.log"
    for before, after in ((b"", b""), (b"whole\n", b"whole\n"), (b"ha", b"ha\n")):
        path.write_bytes(before)
        with path.open("rb+", buffering=0) as file:
            file.seek(0, os.SEEK_END)
            mark(file.fileno(), "begun")
        assert path.read_bytes() == after + b"begun\n"


def test_lines_are_chosen_by_what_they_say_of_themselves(tmp_path):
    """A program's line has no level, and counts as `info`; its time is that of a line before."""
    path = tmp_path / "output.log"
    said = [
        Remark("supervisor", 0.0, "info", "attempt 1 begins in boot 1").line,
        "epoch 1",
        Remark("trainers", 60.0, "warning", "times have no zone").line,
        "epoch 2",
        "trainers: 2026-02-31T00:00:00Z no such day",
        Remark("trainers", 120.0, "error", "the program ended with signal 9").line,
    ]
    path.write_text("".join(f"{line}\n" for line in said))

    def chosen(**which):
        return [line.decode() for line in texts(Output(path).tail(None, Choice(**which)).lines)]

    assert chosen() == chosen(level="info") == chosen(since_at=0.0) == said
    assert chosen(level="warning") == [said[2], said[5]]
    assert chosen(level="error") == [said[5]]
    assert chosen(since_at=60.0) == said[2:]
    assert chosen(since_at=60.5) == said[5:]
    assert chosen(since_at=121.0) == []
    assert chosen(since_at=60.0, level="error") == [said[5]]


@pytest.mark.parametrize("who", ["trainers", "supervisor"])
@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("at", [None, 1_795_888_574.0])
def test_what_a_line_of_ours_says_is_read_as_it_was_meant(who, level, at):
    """Who says it, when, how grave it is, and what."""
    remark = Remark(who, at, level, "warning: of something")
    if level == "info":
        remark = remark._replace(text="something")
    assert Remark.of(remark.line.encode()) == remark
