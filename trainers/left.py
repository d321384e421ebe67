"""What a run that is done has left: files, each with the hash that it had when it was whole."""

from __future__ import annotations

from trainers import durable
from trainers.checkpoint import Checkpoints
from trainers.contract import RunFolder


def tell(folder: RunFolder, checkpoints: Checkpoints) -> None:
    """Write `SHA256SUMS` of a run that is done, unless its trainer has done so itself.

    A trainer that leaves no other files leaves its best checkpoint, whose hashes its manifest has.
    That is read whole here, so what is named is there and as it was saved.

    Args:
        folder: of the run, whose lock is held.
        checkpoints: of the run.

    Raises:
        NewerFile: a newer version has written all good checkpoints.
        OSError: the disk is full or failing.
    """
    if _is_told(folder):
        return
    best = checkpoints.best().checkpoint
    if best is None:
        return
    place = best.path.relative_to(folder.path)
    files = best.manifest.files.items()
    lines = (f"{file.sha256}  {place}/{name}\n" for name, file in files)
    durable.write(folder.sums, "".join(lines).encode())


def _is_told(folder: RunFolder) -> bool:
    """Whether a trainer has said itself what it leaves; what we have said may be of earlier."""
    try:
        return b"  checkpoints/" not in durable.read(folder.sums)
    except (FileNotFoundError, durable.UnreadableFile):
        return False
