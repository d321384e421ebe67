"""Looks at the machine's processes as fast as it can, while something happens to them."""

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path

from testkit.processes import Process, lives, mains


class Witness:
    """Remembers every main process that it sees, and whether two of one run ever lived at once.

    Args:
        runs: the folder of run folders.
    """

    def __init__(self, runs: Path) -> None:
        self._runs = runs
        self._enough = threading.Event()
        self.seen: set[Process] = set()
        self.twins: set[tuple[Process, ...]] = set()

    @contextlib.contextmanager
    def watching(self) -> Iterator["Witness"]:
        """Look until the end of the block."""
        eyes = threading.Thread(target=self._watch)
        eyes.start()
        try:
            yield self
        finally:
            self._enough.set()
            eyes.join()

    def _watch(self) -> None:
        while not self._enough.wait(0.001):
            found = mains(self._runs)
            self.seen |= found
            # One may have died before the next was born. Those that still live, now that all
            # have been found, have lived at the same moment.
            living = sorted(one for one in found if lives(one))
            for run in {one.run for one in living}:
                these = tuple(one for one in living if one.run == run)
                if len(these) > 1:
                    self.twins.add(these)
