"""Going back to an earlier checkpoint: what is later lies beside from then on, whole.

A person asks for it, and the spec carries what was asked, with an id, for as long as the supervisor
does not know that it was done. `rewound.json` in the folder of checkpoints remembers the ids, so
each is done once, however often the spec is read.

That file is also the moment in which a run has gone back. It is written before anything is renamed,
and says where to; whoever holds the run's lock next renames what is left. So the power may fail
at any point: a run has gone back, or it has not.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Literal, NamedTuple

import msgspec

from trainers import durable
from trainers.checkpoint import (
    Checkpoint,
    Checkpoints,
    DamagedCheckpoint,
    Name,
    read_manifest,
    verify,
)
from trainers.contract import START, NewerFile, Rewind, decode

MARK = "rewound.json"
DONE_MAX = 100
"""ids that are remembered, the newest"""


class Mark(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is known of going back: the content of `rewound.json`."""

    version: Literal[1] = 1
    done: tuple[str, ...] = ()
    """ids of what was asked and is settled, the newest last"""
    to: str | None = None
    """to which checkpoint the run has gone back last, as it was called then; None: to none yet"""
    under_way: bool = False
    """there may be some left to rename"""


class Returned(NamedTuple):
    """What came of going back in this attempt."""

    told: str | None
    """for people; None: there was nothing to do"""
    moved: bool
    """the run goes on from elsewhere than it would have"""
    to_start: bool
    """it has gone back to nothing, now or before: what is there from before is not for it"""


class NoSuchCheckpoint(Exception):
    """A name that no checkpoint of the run has."""

    def __init__(self, word: str, checkpoints: Checkpoints) -> None:
        there = "; ".join(reachable(checkpoints)) or "none"
        super().__init__(f"there is no checkpoint {word!r}; there are: {there}")


def reachable(checkpoints: Checkpoints) -> list[str]:
    """The names of all that a run can go back to, the oldest first."""
    return [text for text, name in checkpoints.named().items() if name.aside != "damaged"]


def meant(checkpoints: Checkpoints, word: str) -> str:
    """The name of the checkpoint that a word means: a name, or a step that lies aside, perhaps.

    Raises:
        NoSuchCheckpoint: there is none.
    """
    if word in (START, "0"):
        return START
    if word in reachable(checkpoints):
        return word
    aside = [
        (name.aside == "beside", name.copy, text)
        for text, name in checkpoints.named().items()
        if str(name.step) == word and name.aside != "damaged"
    ]
    if not aside:
        raise NoSuchCheckpoint(word, checkpoints)
    # Of several the one that was set beside last; what was withheld is second to what was not.
    return max(aside)[-1]


def later(checkpoints: Checkpoints, to: str) -> list[str]:
    """What lies beside once the run has gone back to that checkpoint, the newest first.

    Raises:
        NewerFile: one of them a newer version has written: it is left as it is.
    """
    there = checkpoints.named()
    target = Name.of(to)
    found = []
    for text, name in there.items():
        if text == to or name.aside not in (None, "withheld"):
            continue
        # What is called by the very step makes room for one that comes back.
        takes_place = name.aside is None and target and target.step == name.step and to in there
        if target is None or name.step > target.step or takes_place:
            if name.aside is None:
                _refuse_newer(checkpoints.folder / text)
            elif not checkpoints.is_ours(text):
                continue
            found.append(text)
    return found[::-1]


def ahead(checkpoints: Checkpoints, asked: Rewind | None) -> Checkpoint | None:
    """The checkpoint that the next attempt goes on from; None: it begins with nothing.

    Args:
        checkpoints: of the run; nothing of them is changed.
        asked: of that attempt, perhaps.

    Raises:
        NewerFile: only a newer version knows.
        OSError: nothing can be read now.
    """
    known = _read(checkpoints.folder / MARK)
    if asked is not None and asked.id not in known.done:
        with suppress(NoSuchCheckpoint, DamagedCheckpoint):  # it will not go back
            to = meant(checkpoints, asked.checkpoint)
            return None if to == START else verify(checkpoints.folder / to)
    return checkpoints.newest().checkpoint


def go_back(checkpoints: Checkpoints, asked: Rewind | None) -> Returned:
    """Do what is asked, if it is not done yet, and what a kill has left of what was asked before.

    Args:
        checkpoints: of the run, whose lock is held.
        asked: by the spec.

    Raises:
        NewerFile: what would have to be renamed is a newer version's.
        OSError: the disk refuses; the next attempt does it.
    """
    path = checkpoints.folder / MARK
    known = _read(path)
    told, moved = None, False
    if known.under_way:
        told, known = _rename(checkpoints, path, known)
        moved = True
    if asked is not None and asked.id not in known.done:
        done = (*known.done, asked.id)[-DONE_MAX:]
        try:
            to = meant(checkpoints, asked.checkpoint)
            if to != START:
                verify(checkpoints.folder / to)
        except (NoSuchCheckpoint, DamagedCheckpoint) as error:
            checkpoints.make_folder()
            _write(path, msgspec.structs.replace(known, done=done))
            why = f"it does not go back to checkpoint {asked.checkpoint}: {error}"
            return Returned(f"{why}; it goes on as it would have", moved, known.to == START)
        later(checkpoints, to)  # refuses what must not be renamed, before anything is
        known = Mark(done=done, to=to, under_way=True)
        checkpoints.make_folder()
        _write(path, known)
        told, known = _rename(checkpoints, path, known)
        moved = True
    return Returned(told, moved, known.to == START)


def _rename(checkpoints: Checkpoints, path: Path, known: Mark) -> tuple[str, Mark]:
    """Rename what is left to rename; what was done, in words."""
    folder, to = checkpoints.folder, known.to or START
    beside = []
    for text in later(checkpoints, to):
        name = Name.of(text)
        assert name is not None  # noqa: S101 - `later` names checkpoints
        free = checkpoints.free_name(f"beside-{name.step}")
        (folder / text).rename(folder / free)
        beside.append(free)
    target = Name.of(to)
    if target is not None and target.aside is not None and (folder / to).exists():
        (folder / to).rename(folder / str(target.step))
    durable.sync_folder(folder)
    known = msgspec.structs.replace(known, under_way=False)
    _write(path, known)
    where = "it begins anew" if target is None else f"it goes on from checkpoint {target.step}"
    kept = f"; kept beside: {', '.join(reversed(beside))}" if beside else ""
    return f"{where}, as a person asked{kept}", known


def _read(path: Path) -> Mark:
    """What is known of going back; nothing where that is damaged.

    Raises:
        NewerFile: a newer version has written it.
    """
    try:
        return decode(path, durable.read(path), Mark)
    except FileNotFoundError:
        return Mark()
    except (durable.UnreadableFile, msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return Mark()


def _write(path: Path, mark: Mark) -> None:
    durable.write(path, msgspec.json.encode(mark))


def _refuse_newer(path: Path) -> None:
    try:
        read_manifest(path)
    except NewerFile:
        raise
    except (DamagedCheckpoint, OSError):
        pass  # it is set beside as it is
