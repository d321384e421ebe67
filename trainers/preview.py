"""A small picture of what a run sees now, for people: replaced about once a second."""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from queue import Queue
from threading import Thread
from typing import TYPE_CHECKING

from trainers import durable

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

INTERVAL_S = 1.0
"""the least time between two pictures"""


class Preview:
    """The picture in the run folder.

    The training only looks at the screen. A thread encodes and writes; while the disk
    keeps it waiting, there is no new picture. Nothing depends on a preview: it is not
    forced to the disk, and one that cannot be written is passed over in silence.

    Args:
        path: the picture, a PNG; a reader finds it whole, or absent, or after a power cut empty.
        monotonic_s: CLOCK_MONOTONIC, in seconds.
    """

    def __init__(self, path: Path, *, monotonic_s: Callable[[], float] = time.monotonic) -> None:
        self._path = path
        self._monotonic_s = monotonic_s
        self._due_at_s = monotonic_s()
        self._pictures: Queue[NDArray[np.uint8]] = Queue()
        self._writing = False

    def update(self, screen: Callable[[], NDArray[np.uint8]]) -> None:
        """Show what `screen` gives, if it is time to; cheap enough for every step.

        Args:
            screen: gives `(height, width, 3) uint8`, or `(height, width)` where it is grey, and
                does not change it later.
        """
        now_s = self._monotonic_s()
        if now_s < self._due_at_s or self._pictures.unfinished_tasks:
            return
        self._due_at_s = now_s + INTERVAL_S
        self._pictures.put(screen())
        if not self._writing:
            self._writing = True
            with suppress(RuntimeError):  # no more threads
                # A daemon: a disk that hangs must not keep a trainer from leaving.
                Thread(target=self._write, daemon=True).start()

    def _write(self) -> None:
        from PIL import Image  # noqa: PLC0415 - beside the training, not before it

        while True:
            picture = self._pictures.get()
            with suppress(Exception):  # whatever it was, the next picture may be well
                content = io.BytesIO()
                Image.fromarray(picture).save(content, "PNG", compress_level=1)
                durable.write(self._path, content.getvalue(), sync=False)
            self._pictures.task_done()
