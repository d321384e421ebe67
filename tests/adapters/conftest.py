"""What the tests of helpers share: a clock that is told the time, and no child left over."""

import psutil
import pytest

from testkit.fakes import FakeTime


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
    return FakeTime()


@pytest.fixture
def children():
    """The children of a test."""
    return Children()
