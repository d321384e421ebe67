"""What the kernel is asked to tell of a folder."""

import contextlib
import errno
import re
import signal
from pathlib import Path

import pytest
from lab import PATIENCE_S

from supervisor.watch import SETTINGS, WISHES, Watch

# From <sys/inotify.h>.
MODIFY, CLOSE_WRITE, CLOSE_NOWRITE, OPEN, MOVED_TO, DELETE = 0x2, 0x8, 0x10, 0x20, 0x80, 0x200


@pytest.fixture
def watch():
    """A watch at work; afterwards signals mean what they did."""
    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1)
    handlers = {number: signal.getsignal(number) for number in numbers}
    watch = Watch()
    watch.begin()
    yield watch
    watch.end()
    for number, handler in handlers.items():
        signal.signal(number, handler)


def masks():
    """The events of every inotify watch of this process."""
    found = []
    for path in Path("/proc/self/fdinfo").iterdir():
        with contextlib.suppress(FileNotFoundError):  # that of this very listing is gone
            found += re.findall(r"^inotify .*\bmask:(\w+)", path.read_text(), re.MULTILINE)
    return [int(mask, 16) for mask in found]


@pytest.mark.parametrize(
    ("interest", "asked"),
    [(WISHES, CLOSE_WRITE | MOVED_TO), (SETTINGS, CLOSE_WRITE | MOVED_TO | DELETE)],
    ids=["wishes", "settings"],
)
def test_readers_and_growing_logs_wake_nobody(watch, tmp_path, interest, asked):
    """Whoever reads the home, and every line of a log in it, costs the daemon nothing."""
    before = len(masks())
    watch.files({tmp_path: interest})
    (mask,) = masks()[before:]
    assert mask & asked == asked
    assert not mask & (OPEN | CLOSE_NOWRITE | MODIFY)


@pytest.mark.parametrize("how", ["written", "moved", "removed"])
def test_settings_that_change_in_any_way_wake(watch, tmp_path, how):
    """Written in place, moved over the old file as editors do, or removed."""
    path, other = tmp_path / "supervisor.toml", tmp_path / "4913"
    path.write_text("")
    watch.files({tmp_path: SETTINGS})
    if how == "written":
        path.write_text("tick_s = 1")
    elif how == "moved":
        other.write_text("tick_s = 1")
        other.replace(path)
    else:
        path.unlink()
<<<<<<< HEAD
    assert watch.sleep(PATIENCE_S, ()) == "settings"


@pytest.mark.parametrize(
    "error", [OSError(errno.EMFILE, "no more instances"), RuntimeError("can't start new thread")]
)
def test_files_that_cannot_be_watched_cost_a_sentence(watch, tmp_path, monkeypatch, error):
    """The daemon looks regularly all the same; with room again they wake it as ever."""

    def none_left():
        raise error

    with monkeypatch.context() as patched:
        patched.setattr("supervisor.watch.Observer", none_left)
        assert not watch.files({tmp_path: WISHES})
        assert watch.trouble in str(error)
        assert watch.sleep(0.0, ()) == "time"
    assert watch.files({tmp_path: WISHES})
    assert watch.trouble is None
    (tmp_path / "a.json").touch()
    assert watch.sleep(PATIENCE_S, ()) == "wish"
=======
    assert watch.sleep(30.0, ()) == "settings"


@pytest.mark.parametrize(
    "error", [OSError(24, "inotify instance limit reached"), RuntimeError("x")]
)
def test_a_folder_that_cannot_be_watched_is_told_and_watched_later(
    watch, tmp_path, monkeypatch, error
):
    """Nothing else suffers, tries that failed leave nothing behind, and the next one may do."""
    with monkeypatch.context() as patch:

        def fail(*arguments):
            raise error

        patch.setattr("watchdog.observers.inotify.InotifyEmitter.on_thread_start", fail)
        for _ in range(3):
            assert not watch.files({tmp_path: WISHES})
        assert str(tmp_path) in watch.missing
    assert watch.files({tmp_path: WISHES})
    assert watch.missing is None
    (tmp_path / "a.json").write_text("{}")
    assert watch.sleep(60.0, ()) == "wish"


def test_an_observer_that_cannot_begin_is_tried_again(tmp_path, monkeypatch):
    """With no room for one more thread the supervisor lives, and listens once there is."""
    watch = Watch()
    with monkeypatch.context() as patch:

        def fail(*arguments):
            raise RuntimeError("can't start new thread")

        patch.setattr("supervisor.watch.Observer", fail)
        assert not watch.files({tmp_path: WISHES})
        assert "new thread" in watch.missing
    try:
        assert watch.files({tmp_path: WISHES})
        assert watch.missing is None
    finally:
        watch.end()
>>>>>>> eb34e9e (Where nothing can be watched it trains, looks every tick, and says once what is missing)
