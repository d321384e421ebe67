"""What the boots said of themselves, whether or not a supervisor came to life.

Early in each boot a one-shot service appends a line to this file, and another
one at an orderly end. A shell writes them: they need neither Python nor a
healthy installation. The daemon takes them into the memory at its start.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from state.records import BootNote
from trainers import durable


class BootNotes:
    """The file of notes.

    Args:
        path: the file; it need not exist.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> tuple[BootNote, ...]:
        """The notes that are whole, oldest first; a power cut may have torn one.

        Raises:
            OSError: the file exists and cannot be read.
        """
        try:
            lines = durable.read(self._path).splitlines()
        except FileNotFoundError:
            return ()
        notes: list[BootNote] = []
        for line in lines:
            try:
                notes.append(msgspec.json.decode(line, type=BootNote))
            except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
                continue
        return tuple(notes)

    def trim(self, boot_id: str) -> None:
        """Forget what was noted of other boots: the memory holds it by now.

        Raises:
            OSError: the disk is full or read-only; the notes are as they were.
        """
        kept = [note for note in self.read() if note.boot_id == boot_id]
        lines = b"".join(msgspec.json.encode(note) + b"\n" for note in kept)
        if self._path.exists() and durable.read(self._path) != lines:
            durable.write(self._path, lines)
