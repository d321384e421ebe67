"""A run that begins with what another one has learnt, at step 0 and with its whole target ahead."""

from __future__ import annotations

import os

from trainers import registry, said
from trainers.checkpoint import Checkpoints, Manifest
from trainers.contract import BadSpec, RunFolder, Spec
from trainers.sinks import wall_time_s


def begin(folder: RunFolder, spec: Spec) -> str | None:
    """Give a run that has no checkpoint yet one of step 0, as the spec asks; the lock is held.

    It is kept as every checkpoint is, complete or absent: what a kill leaves is done again. A run
    that has any, be it set beside or damaged, goes on as it would have.

    Returns:
        What came of it, for a person; None: there was nothing to do.

    Raises:
        NewerFile: a newer version has written the only checkpoints of the other run.
        OSError: nothing can be read or kept now; the next attempt tries it again.
    """
    if spec.begin_from is None:
        return None
    checkpoints = Checkpoints(folder.checkpoints)
    if checkpoints.named():
        return None
    begin_from = getattr(registry.load(spec.trainer), "begin_from", None)
    if begin_from is None:
        return f"it begins from scratch: {cannot(spec.trainer)}"
    other = RunFolder(folder.path.with_name(spec.begin_from))
    if other.path.is_symlink() or other.checkpoints.is_symlink():
        return f"it begins from scratch: {spec.begin_from} is a link"
    best = Checkpoints(other.checkpoints).best().checkpoint
    if best is None:
        where = "has no checkpoint" if os.path.lexists(other.path) else "is not there"
        return f"it begins from scratch: {spec.begin_from} {where}"
    try:
        files = said.files("begin_from", begin_from(spec, best.path))
        manifest = Manifest(
            run=spec.run,
            trainer=spec.trainer,
            mode=spec.mode,
            step=0,
            episodes=0,
            saved_at=round(wall_time_s(), 3),
        )
        checkpoints.save(manifest, files)
    except BadSpec as error:
        return f"it begins from scratch: {error}"
    return f"it begins with what checkpoint {best.manifest.step} of {spec.begin_from} has learnt"


def cannot(trainer: str) -> str:
    """That a trainer does not begin with what another run has learnt, in words."""
    return f"the trainer {trainer!r} cannot begin with what another run has learnt"
