"""What a finished run has left: the files that its `SHA256SUMS` names, the model first.

A trainer of models writes that file last of all; where a trainer writes none, its best checkpoint
is what is left. Files are called by their names alone, wherever in the folder they lie.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from trainers import durable
from trainers.contract import RunFolder

SUMS_MAX_BYTES = 2**20
LINE = re.compile(r"([0-9a-f]{64})  ((?:checkpoints/[0-9]{1,18}/)?([A-Za-z0-9_][A-Za-z0-9_.-]*))")
PIECE_BYTES = 2**20


class NotAsLeft(Exception):
    """A file is not what the run has left; the message says which, and why, in one line."""


class LeftFile(NamedTuple):
    """A file that a run has left."""

    name: str
    path: Path
    sha256: str


def files_left(folder: RunFolder) -> tuple[LeftFile, ...]:
    """What a run has left, the model first; none where it has not said so.

    Raises:
        NotAsLeft: what it has said cannot be read.
    """
    try:
        lines = durable.read(folder.sums, SUMS_MAX_BYTES).decode().splitlines()
    except FileNotFoundError:
        return ()
    except (OSError, UnicodeDecodeError) as error:
        raise NotAsLeft(f"{folder.sums.name}: {error}") from error
    found: dict[str, LeftFile] = {}
    for line in lines:
        match = LINE.fullmatch(line)
        if match is None or match[3] in found:
            raise NotAsLeft(f"{folder.sums.name} has a line that is none of its own")
        found[match[3]] = LeftFile(match[3], folder.path / match[2], match[1])
    return tuple(found.values())


def checked(one: LeftFile, piece: Callable[[bytes], object] = len) -> int:
    """Read a file that was left, and see that it is what its hash says; how large it is.

    Args:
        one: the file.
        piece: is given all of it, a piece at a time.

    Raises:
        NotAsLeft: it is another, or gone.
    """
    digest, size_bytes = hashlib.sha256(), 0
    try:
        with durable.open_regular(one.path) as file:
            while read := file.read(PIECE_BYTES):
                digest.update(read)
                size_bytes += len(read)
                piece(read)
    except FileNotFoundError:
        raise NotAsLeft(f"{one.name} is gone") from None
    except OSError as error:
        raise NotAsLeft(f"{one.name}: {error.strerror or error}") from error
    if digest.hexdigest() != one.sha256:
        raise NotAsLeft(f"{one.name} is not what was written")
    return size_bytes
