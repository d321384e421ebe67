"""Files are opened in one way, whatever lies there; a folder is held by one process."""

from __future__ import annotations

import fcntl
import os
import socket
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest

from supervisor import follow, journal
from testkit.accounts import STRANGER, common_ground, living, needs_root
from trainers import durable


def _bind(path: Path) -> None:
    here = Path.cwd()
    os.chdir(path.parent)  # the path of a socket is short
    try:
        with socket.socket(socket.AF_UNIX) as place:
            place.bind(path.name)
    finally:
        os.chdir(here)


KINDS: dict[str, Callable[[Path], object]] = {
    "a pipe": os.mkfifo,
    "a socket": _bind,
    "a device": lambda path: os.mknod(path, 0o020666, os.makedev(1, 5)),  # /dev/zero
    "a folder": Path.mkdir,
    "a link": lambda path: path.symlink_to("/etc/passwd"),
    "a link that leads nowhere": lambda path: path.symlink_to("/nowhere/at/all"),
}


@pytest.fixture(params=KINDS)
def odd(request, tmp_path: Path) -> Path:
    """Something that is no file, where a file belongs."""
    if request.param == "a device" and os.geteuid() != 0:
        pytest.skip("NOT TESTED: a device; needs root")
    KINDS[request.param](tmp_path / "odd")
    return tmp_path / "odd"


def test_what_is_no_file_is_neither_read_nor_written_nor_waited_for(odd: Path):
    """Each opener refuses it at once with an error that names it."""
    for touch in (
        lambda: durable.read(odd),
        lambda: durable.open_regular(odd, writable=True).close(),
        lambda: durable.open_log(odd),
        lambda: durable.append(odd, b"line", max_bytes=100),
    ):
        with pytest.raises(durable.UnreadableFile) as caught:
            touch()
        assert (caught.value.filename, str(odd) in str(caught.value)) == (str(odd), True)
    assert os.path.lexists(odd)


def test_a_new_file_takes_the_place_of_what_is_no_file(odd: Path):
    """It is written beside it and renamed over it; the other end of a link does not change."""
    before = Path("/etc/passwd").read_bytes()
    if odd.is_dir() and not odd.is_symlink():
        with pytest.raises(IsADirectoryError):
            durable.write(odd, b"content")
        return
    durable.write(odd, b"content")
    assert durable.read(odd) == b"content"
    assert Path("/etc/passwd").read_bytes() == before


def test_what_lies_where_a_new_file_is_begun_is_never_written_into(odd: Path):
    """A temporary file is a new one."""
    temporary = odd.rename(odd.with_name(".file.new"))
    before = Path("/etc/passwd").read_bytes()
    durable.write(odd.with_name("file"), b"content")
    assert durable.read(odd.with_name("file")) == b"content"
    assert not os.path.lexists(temporary)
    assert Path("/etc/passwd").read_bytes() == before


@pytest.mark.parametrize("umask", [0o000, 0o002, 0o077])
def test_whatever_the_umask_nobody_else_writes(tmp_path: Path, umask: int):
    """Neither to a file nor to a folder, and what the umask takes away stays taken."""
    usual = os.umask(umask)
    try:
        durable.write(tmp_path / "written", b"")
        durable.append(tmp_path / "appended", b"", max_bytes=100)
        durable.make_folder(tmp_path / "folder")
        durable.hold(tmp_path / "folder").release()
    finally:
        os.umask(usual)
    made = [path.stat().st_mode for path in tmp_path.rglob("*")]
    assert len(made) == 4
    assert not any(mode & 0o022 or mode & umask & 0o777 for mode in made)
    assert (tmp_path / "folder/lock").stat().st_mode & 0o777 == 0o600


def test_an_endless_line_costs_a_bounded_amount_of_memory(tmp_path: Path):
    """A log that is one line of gigabytes is passed over, and the lines after it are read."""
    log = tmp_path / "decisions.jsonl"
    with log.open("wb") as file:
        file.truncate(400 * 2**20)
        file.seek(0, os.SEEK_END)
        file.write(b'\n{"seq":7}\n')
    tracemalloc.start()
    try:
        assert list(journal.read(log)) == [{"seq": 7}]
        assert journal.tail(log, 2) == [{"seq": 7}]
        assert follow.last_lines(log, 1) == [b'{"seq":7}']
        assert tracemalloc.get_traced_memory()[1] < 100 * 2**20
    finally:
        tracemalloc.stop()


def test_whoever_follows_gets_an_endless_line_in_pieces(tmp_path: Path, monkeypatch):
    """A trainer that never ends its line fills nobody's memory."""
    log = tmp_path / "output.log"
    log.touch()

    def write_on(_seconds: float) -> None:
        with log.open("ab") as file:
            file.write(b"x" * (durable.LINE_MAX_BYTES + 1) + b"\nnext\n")

    monkeypatch.setattr(follow, "pause", write_on)
    lines = follow.follow(log)
    most, pieces = durable.LINE_MAX_BYTES + follow.TAIL_BYTES, [b""]
    while pieces[-1] != b"next":
        pieces.append(next(lines))
        assert len(pieces[-1]) <= most


def test_an_older_log_that_is_no_file_ends_the_history_and_nothing_else(tmp_path: Path):
    """The lines of the newest file are read."""
    log = tmp_path / "decisions.jsonl"
    log.write_bytes(b'{"seq":2}\n')
    os.mkfifo(tmp_path / "decisions.jsonl.1")
    assert journal.tail(log, 5) == [{"seq": 2}]
    assert list(journal.read(log)) == [{"seq": 2}]


def test_a_log_that_cannot_be_rotated_does_not_grow_for_ever(tmp_path: Path):
    """At twice its size it takes no more lines, and says why."""
    log = tmp_path / "log"
    (tmp_path / "log.1/full").mkdir(parents=True)
    for _ in range(19):
        durable.append(log, b"x" * 99, max_bytes=1000)
    durable.append(log, b"x" * 99, max_bytes=1000)
    with pytest.raises(OSError, match="log"):
        durable.append(log, b"x" * 99, max_bytes=1000)
    assert log.stat().st_size == 2000


# The lock


def test_a_folder_is_held_by_one(tmp_path: Path):
    """Until it lets go."""
    lock = durable.hold(tmp_path)
    assert durable.is_held(tmp_path)
    with pytest.raises(BlockingIOError):
        durable.hold(tmp_path)
    lock.release()
    assert not durable.is_held(tmp_path)
    durable.hold(tmp_path).release()


@pytest.mark.parametrize("again", [False, True])
def test_whoever_deletes_the_lock_file_opens_no_door(tmp_path: Path, again: bool):
    """The folder is still held, and the holder makes the file anew at its next look."""
    lock = durable.hold(tmp_path)
    (tmp_path / "lock").unlink()
    if again:
        assert lock.lasts()
        assert (tmp_path / "lock").exists()
    assert durable.is_held(tmp_path)
    with pytest.raises(BlockingIOError):
        durable.hold(tmp_path)
    assert lock.lasts()
    lock.release()
    assert not durable.is_held(tmp_path)


def test_a_folder_that_was_moved_away_is_held_no_more(tmp_path: Path):
    """What lies at its path now may be another's."""
    (tmp_path / "home").mkdir()
    lock = durable.hold(tmp_path / "home")
    (tmp_path / "home").rename(tmp_path / "moved")
    assert not lock.lasts()
    (tmp_path / "home").mkdir()
    assert not lock.lasts()
    durable.hold(tmp_path / "home").release()
    lock.release()


def test_what_lies_where_the_lock_belongs_is_replaced(odd: Path):
    """But for a folder, which is told."""
    odd.rename(odd.with_name("lock"))
    if odd.with_name("lock").is_dir() and not odd.with_name("lock").is_symlink():
        with pytest.raises(IsADirectoryError):
            durable.hold(odd.parent)
        return
    durable.hold(odd.parent).release()
    assert odd.with_name("lock").is_file()


def test_a_process_of_an_older_version_is_seen(tmp_path: Path):
    """It has locked the folder alone."""
    handle = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)
    assert durable.is_held(tmp_path)
    with pytest.raises(BlockingIOError):
        durable.hold(tmp_path)
    os.close(handle)
    durable.hold(tmp_path).release()


@needs_root
@pytest.mark.parametrize("what", ["the folder", "an open lock file", "a lock file of its own"])
def test_no_stranger_keeps_the_owner_out(what: str):
    """Whatever another account locks, the owner holds the folder, and one of the owner's alone."""
    with common_ground() as folder:
        if what == "the folder":
            place = folder
        else:
            place = folder / "lock"
            place.touch()
            place.chmod(0o666)
            if what == "a lock file of its own":
                os.chown(place, STRANGER, STRANGER)
        with living(STRANGER, lambda: fcntl.flock(os.open(place, os.O_RDONLY), fcntl.LOCK_EX)):
            assert not durable.is_held(folder)
            lock = durable.hold(folder)
            assert durable.is_held(folder)
            with pytest.raises(BlockingIOError):
                durable.hold(folder)
            lock.release()


@needs_root
def test_a_strangers_lock_is_known_also_behind_a_program_that_is_setuid():
    """What counts is who has started a process, not whose rights it has."""
    with common_ground() as folder:

        def lock_and_hide() -> None:
            os.setresuid(0, 0, 0)
            fcntl.flock(os.open(folder, os.O_RDONLY), fcntl.LOCK_EX)
            os.setresuid(STRANGER, 0, 0)  # as after the start of `su`

        with living(0, lock_and_hide):
            durable.hold(folder).release()
