"""Where the API of a home answers is told while the process lives that says so, and never else."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import stat

import pytest

from supervisor.host import api
from supervisor.host.home import Home
from supervisor.host.install import lines, profile
from supervisor.host.process import start_ticks
from testkit.patience import PATIENCE_S, until

URL = "http://127.0.0.1:8000/ai/training"


@pytest.fixture
def home(tmp_path):
    home = Home(tmp_path / "home")
    home.make()
    return home


@contextlib.contextmanager
def serving(home, url=URL):
    """A process of its own that serves the API of a home, as far as anybody can see; its pid."""
    pid = os.fork()
    if pid == 0:
        try:
            signal.alarm(int(PATIENCE_S))
            with api.held(home):
                api.tell(home, jobs=url)
                signal.sigwait([signal.SIGUSR1])
        finally:
            os._exit(0)
    try:
        until(lambda: (one := api.served(home)) is not None and one.url == url, "it serves")
        yield pid
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, 0)


def test_where_it_answers_is_told_while_it_lives(home):
    """A second one is refused with that; once the first is killed it is told no more."""
    assert api.served(home) is None
    with serving(home) as pid:
        assert api.served(home).pid == pid
        with pytest.raises(api.AlreadyServed, match=f"served already at {URL}"), api.held(home):
            pass
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        assert (home.api / api.TOLD).exists()
        assert api.served(home) is None
    with api.held(home):
        assert api.served(home).url is None, "it does not answer yet"
    assert not (home.api / api.TOLD).exists()


def test_a_copied_home_tells_nothing_of_the_other_one(home, tmp_path):
    """What is written there is true of the home in which the lock is held."""
    with serving(home):
        shutil.copytree(home.path, tmp_path / "copy")
        copy = Home(tmp_path / "copy")
        assert (copy.api / api.TOLD).exists()
        assert api.served(copy) is None
        with api.held(copy):
            assert api.served(copy).pid == os.getpid()


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"[]",
        b"nonsense",
        {"pid": 0, "start_ticks": 0, "url": URL},
        {"pid": os.getpid(), "start_ticks": start_ticks(os.getpid()), "url": URL},
        {"pid": None, "start_ticks": None, "url": "http://127.0.0.1:8000/\x1b[2J"},
        {"pid": None, "start_ticks": None, "url": "ftp://127.0.0.1/ai"},
    ],
)
def test_what_anybody_else_has_written_there_is_not_told(home, said):
    """Neither nonsense nor a living process that holds no lock, nor what commands a terminal."""
    with serving(home) as pid:
        if isinstance(said, dict):
            own = {"pid": pid, "start_ticks": start_ticks(pid)}
            said = json.dumps(said | (own if said["pid"] is None else {})).encode()
        (home.api / api.TOLD).write_bytes(said)
        assert api.served(home) is None


def test_whoever_serves_it_is_asked_to_end_and_waited_for(home):
    """And where nobody does, nobody is touched."""
    api.end(home)
    with serving(home) as pid:
        api.end(home)
        assert os.waitpid(pid, os.WNOHANG)[0] == pid
    api.end(home)


def test_nobody_else_can_hold_its_lock(home):
    """The folder is its owner's, and so is the lock in it."""
    with api.held(home):
        assert stat.S_IMODE((home.api / "lock").stat().st_mode) == 0o600
        assert not stat.S_IMODE(home.api.stat().st_mode) & 0o022


def test_a_profile_that_starts_it_is_known_whatever_the_home_is_called(tmp_path, monkeypatch):
    """A quote in a name is quoted by each shell anew; a line of another home is none of ours."""
    profile_file = tmp_path / ".profile"
    monkeypatch.setenv("HOME", str(tmp_path))
    place = tmp_path / "it's a home"
    line = lines.start_apart(place, lines.SERVE)
    profile_file.write_text(lines.with_lines("alias x=y\n", line))
    assert profile.serves_api(place)
    assert not profile.serves_api(tmp_path / "another")
    profile_file.write_text(lines.with_lines("alias x=y\n", lines.start_apart(place)))
    assert not profile.serves_api(place)
