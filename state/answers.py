"""What became of requests: one small file each, found by the id of the request.

Whoever asks reads the one file that is named like the request, however many others ask at the same
moment. The daemon alone writes here, from the lines that are saved with its memory, so that a power
cut neither loses an answer nor gives two that differ.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Any

import msgspec

from state.records import Answer
from state.renames import in_words_of_today
from trainers import durable
from trainers.contract import NAME

ANSWER_MAX_BYTES = 65536
KEPT = 1000
"""answers that stay, the newest; far more than are asked for together"""
KEPT_S = 86_400.0
"""for how long, in seconds"""


class Answers:
    """The folder of answers.

    Args:
        folder: where they lie; made with the first one.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def put(self, answer: Answer) -> None:
        """Answer a request, durably; one that is answered already stays so.

        Raises:
            OSError: the folder cannot be written to.
        """
        path = self._path(answer.request)
        if path is None or path.exists():
            return
        durable.make_folder(self._folder)
        durable.write(path, msgspec.json.encode(answer))

    def read(self, request: str) -> Answer | None:
        """What became of that request; None where nobody has answered it, or too long ago."""
        path = self._path(request)
        try:
            if path is None:
                return None
            content = msgspec.json.decode(durable.read(path, ANSWER_MAX_BYTES), type=dict[str, Any])
            answer = msgspec.convert(in_words_of_today(content), Answer)
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return None
        return answer if answer.request == request else None

    def prune(self, now: float) -> None:
        """Forget what nobody waits for any more.

        Args:
            now: wall time, seconds since 1970.
        """
        ages: list[tuple[float, Path]] = []
        with contextlib.suppress(OSError), os.scandir(self._folder) as entries:
            for entry in entries:
                name, _, kind = entry.name.rpartition(".")
                if kind == "json" and NAME.fullmatch(name):
                    with contextlib.suppress(OSError):
                        status = entry.stat(follow_symlinks=False)
                        ages.append((now - status.st_mtime, self._folder / entry.name))
        ages.sort()
        for place, (age_s, path) in enumerate(ages):
            if place >= KEPT or age_s > KEPT_S:
                with contextlib.suppress(OSError):
                    path.unlink()

    def _path(self, request: str) -> Path | None:
        """The file of the answer to that request; None where no file could be named so."""
        return self._folder / f"{request}.json" if NAME.fullmatch(request) else None
