"""What the tests of helpers share: a clock that is told the time, and no child left over."""

import psutil
import pytest


class Clock:
    """A monotonic clock that moves only when told."""

    def __init__(self):
        self.now_s = 1000.0

    def __call__(self):
        return self.now_s

    def advance(self, seconds):
        self.now_s += seconds


class Children:
    """The children of this process, less those of other tests."""

    def __init__(self):
        self._strangers = set(psutil.Process().children())

    def all(self):
        return [one for one in psutil.Process().children() if one not in self._strangers]

    def one(self):
        (child,) = self.all()
        return child


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def children():
    """The children of a test."""
    return Children()
