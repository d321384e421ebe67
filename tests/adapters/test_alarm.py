"""An alarm ends a nap where something waits for a processor, on this very kernel."""

import os
import select
import subprocess
import sys
import time

import pytest

from supervisor.host.alarm import Alarm
from supervisor.host.watch import Watch
from testkit.patience import PATIENCE_S


@pytest.fixture
def alarm():
    """One that can be set here."""
    one = Alarm()
    if one.set() is None:
        pytest.skip("this kernel rings for nobody who runs these tests: /proc/pressure/cpu")
    yield one
    one.clear()


@pytest.fixture
def load():
    """Twice as many processes as there are processors, in sessions of their own."""
    hogs = [
        subprocess.Popen([sys.executable, "-c", "while True: pass"], start_new_session=True)
        for _ in range(2 * (os.cpu_count() or 1))
    ]
    yield hogs
    for hog in hogs:
        hog.kill()
        hog.wait()


def test_foreign_load_ends_a_nap(alarm, load):
    """Long before the time that was slept for; who sleeps on it hears what it was."""
    watch, began_s = Watch(), time.monotonic()
    assert watch.sleep(PATIENCE_S, (), (), alarm.handles) == "alarm"
    assert time.monotonic() - began_s < PATIENCE_S / 2
    watch.end()


def test_it_rings_once_in_its_window_however_hard_the_load(alarm, load):
    """Half a dozen seconds of it are no storm."""
    poll = select.poll()
    poll.register(alarm.handles[0], select.POLLPRI)
    until_s, rings = time.monotonic() + 6.0, 0
    while (left_s := until_s - time.monotonic()) > 0:
        rings += bool(poll.poll(1000 * left_s))
    assert 1 <= rings <= 7


def test_one_that_is_cleared_holds_nothing(alarm):
    """And can be set again."""
    (handle,) = alarm.handles
    alarm.clear()
    assert alarm.handles == ()
    with pytest.raises(OSError, match="Bad file"):
        os.fstat(handle)
    assert alarm.set() in (0.1, 2.0)


def test_a_kernel_without_it_has_no_alarm(tmp_path):
    """Nor one that takes no such word."""
    assert Alarm(tmp_path / "cpu").set() is None
    refusing = Alarm(os.path.realpath("/dev/full"))
    assert refusing.set() is None
    assert refusing.handles == ()
