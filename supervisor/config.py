"""The settings and the ladder in force: read from their files, reread when these change."""

from __future__ import annotations

import contextlib
import os
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import msgspec

from modes import SHIPPED, Ladder, Mode, load_ladder
from modes.toml_file import InvalidFile, read_toml
from state.records import Run
from supervisor.core import queue
from supervisor.core.seen import Rules
from supervisor.core.settings import Settings
from supervisor.errors import SupervisorError
from trainers import durable
from trainers.contract import NewerFile, decode

if TYPE_CHECKING:
    from supervisor.trial import Trial

START_MAX_S = 60.0
"""how long a start waits for what the trainers say of settings that were changed before it"""


class NoSettings(SupervisorError):
    """The settings file that was asked for does not exist."""

    exit_code = 78  # EX_CONFIG

    def __init__(self, path: Path) -> None:
        super().__init__(f"{path}: there is no such settings file")


def usual_rules() -> Rules:
    """What is in force where no settings can be read: the shipped modes, and nothing to train."""
    return Rules(Settings(), load_ladder(), campaign=(), revision=0)


class InForce(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is kept of good settings."""

    version: Literal[1, 2] = 2
    settings: Settings
    modes: tuple[Mode, ...]


class Config:
    """The settings and the ladder in force: always the last ones that were good.

    Args:
        path: the settings file.
        required: it was named by a person, so its absence is an error.
        last_good: where the last good ones are kept over a reboot; None: nowhere.
        keeps: they are written there, too, as the one process does whose they are.
        trial: what changes must pass before they are in force; None: the file alone is judged.

    Raises:
        InvalidFile: the settings or a mode file are not usable, and none are kept.
        NoSettings: a required file is missing.
    """

    def __init__(
        self,
        path: Path,
        *,
        required: bool = False,
        last_good: Path | None = None,
        keeps: bool = True,
        trial: Trial | None = None,
    ) -> None:
        self._path = path
        self._last_good = last_good
        self._trial = trial
        self._candidate: tuple[Settings, Ladder] | None = None
        """what is on trial"""
        self._untried: tuple[object, ...] | None = None
        """what nobody could judge, as it was told; it is tried again"""
        self._kept: InForce | None = None
        self.newer: str | None = None
        """why the settings in force are not kept: a newer version has kept its own there"""
        try:
            self._kept = _kept(last_good)
        except NewerFile as error:
            self.newer, self._last_good = str(error), None
        if not keeps:
            self._last_good = None
        if required and not path.exists():
            raise NoSettings(path)
        self._in_use = _identity(path) != ()
        self._refused = False
        self._campaign: tuple[Settings, tuple[Run, ...], int] | None = None
        self._tried = SHIPPED
        """the folder of modes that the newest readable settings ask for"""
        self._trainers_tried: str | None = None
        """the folder of trainers that they ask for"""
        self._seen: tuple[object, ...] | None
        self._from_file = True
        """whether the settings in force stand in the file, or did when they came in force"""
        try:
            self.settings, self.ladder = self._read()
            self._seen = self._fingerprint()
            self._try_at_start()
        except InvalidFile as error:
            if self.newer is not None:
                raise InvalidFile([*error.problems, self.newer]) from error
            if self._kept is None:
                raise
            self._fall_back_on(self._kept)
            self._seen = None  # the first refresh tells what is wrong

    @property
    def rules(self) -> Rules:
        """What is in force now."""
        _, campaign, revision = self._known_campaign()
        return Rules(self.settings, self.ladder, campaign, revision)

    @property
    def trainers_dir(self) -> Path | None:
        """The folder of the user's own trainers that the settings in force name; None: none."""
        named = self.settings.trainers_dir
        # Not judged again: whoever starts a trainer is told by that what has become of it.
        return None if named is None else self._place(named)

    @property
    def here(self) -> Path:
        """The folder that relative paths of the settings begin at."""
        return self._path.parent

    @property
    def folders(self) -> dict[str, Path]:
        """The folders that the settings in force name, by key."""
        named = {"modes_dir": self.settings.modes_dir, "trainers_dir": self.settings.trainers_dir}
        return {key: self._place(text) for key, text in named.items() if text is not None}

    @property
    def campaign(self) -> tuple[Run, ...]:
        """The runs of the campaign in force; the same value until other settings are."""
        return self._known_campaign()[1]

    @property
    def handles(self) -> tuple[int, ...]:
        """What becomes readable once changes have passed their trial, or failed in it."""
        return self._trial.handles if self._trial is not None else ()

    def close(self) -> None:
        """Have nothing on trial any more."""
        if self._trial is not None:
            self._trial.end()

    def changed_since(self, last_good: Path) -> tuple[Run, ...]:
        """The runs of the campaign that are not asked for as by the settings that are kept there.

        All of them, where what holds for all has changed, or nothing can be told.
        """
        try:
            kept = _kept(last_good)
        except NewerFile:
            kept = None
        return self.campaign if kept is None else _changed(kept, self.settings, self.ladder)

    @property
    def dated(self) -> tuple[str, ...]:
        """What of the settings in force is written in an old form, and what to write instead.

        Of settings that were kept there is nothing to tell: the file, which cannot be used, may
        have the new form already.
        """
        if not self._from_file:
            return ()
        modes = ((self._tried / f"{mode.name}.toml", mode.dated) for mode in self.ladder)
        return (
            *(f"{self._path}: {notice}" for notice in self.settings.dated()),
            *(f"{path}: {notice}" for path, notice in modes if notice is not None),
        )

    def _known_campaign(self) -> tuple[Settings, tuple[Run, ...], int]:
        if self._campaign is None or self._campaign[0] is not self.settings:
            runs = self.settings.queue()
            self._campaign = self.settings, runs, zlib.crc32(msgspec.json.encode(runs))
        return self._campaign

    @property
    def watched(self) -> tuple[Path, ...]:
        """The folders in which a change may change the settings or the ladder."""
        # The file may be a link, as the home of a service has one to /etc.
        folders = (self._path.parent, self._path.resolve().parent, self._tried)
        return tuple(dict.fromkeys(folders))

    def refresh(self) -> tuple[bool, tuple[str, ...]]:
        """Take over what changed on the disk since the last call.

        Returns:
            Whether what is on the disk is newly in force, and the problems that
            keep it from being so. Each change is judged once.
        """
        seen = self._fingerprint()
        if seen == self._seen:
            if self._candidate is not None:
                return self._judged(self._candidate)
            self._keep()
            return False, ()
        self._seen, self._candidate = seen, None
        self.close()  # the verdict on what is no longer there is nobody's
        problems: tuple[str, ...] = ()
        if self._in_use and not _identity(self._path):
            problems = (f"{self._path}: the settings file is gone",)
        else:
            try:
                settings, ladder = self._read()
            except InvalidFile as error:
                problems = error.problems
        self._seen = self._fingerprint()
        if problems:
            self._refused = True
            return False, problems
        now = InForce(settings=self.settings, modes=self.ladder.modes)
        if self._trial is not None and (runs := _changed(now, settings, ladder)):
            self._candidate = settings, ladder
            self._trial.begin(len(runs))
            return False, ()
        return self._taken_over(settings, ladder), ()

    def heed(self, say: Callable[[str], None]) -> None:
        """As `refresh`, and say in a line each why something is refused."""
        for problem in self.refresh()[1]:
            say(f"{problem}; the settings of before stay in force")

    def _judged(self, candidate: tuple[Settings, Ladder]) -> tuple[bool, tuple[str, ...]]:
        """What has become of what is on trial."""
        assert self._trial is not None  # noqa: S101 - it has begun
        verdict = self._trial.verdict()
        if verdict is None:
            return False, ()
        self._candidate = None
        if not verdict.problems:
            return self._taken_over(*candidate), ()
        self._refused = True
        if not verdict.passing:
            return False, verdict.problems
        told, self._untried, self._seen = self._untried == self._seen, self._seen, None
        return False, () if told else verdict.problems

    def _try_at_start(self) -> None:
        """Have settings that were changed while nobody looked pass their trial, too.

        Where that takes long, the kept ones are in force until it is over.

        Raises:
            InvalidFile: they have not.
        """
        if self._trial is None or self._kept is None:
            return
        runs = _changed(self._kept, self.settings, self.ladder)
        if not runs:
            return
        self._trial.begin(len(runs))
        verdict = self._trial.verdict(START_MAX_S)
        if verdict is None:
            self._candidate = self.settings, self.ladder
            self._fall_back_on(self._kept)
        elif verdict.problems:
            raise InvalidFile(verdict.problems)

    def _fall_back_on(self, kept: InForce) -> None:
        self.settings, self.ladder = kept.settings, Ladder(kept.modes)
        self._from_file = False

    def _taken_over(self, settings: Settings, ladder: Ladder) -> bool:
        """Have these in force; whether that is news."""
        # After a refusal the old content, put back, is news too.
        changed = self._refused or (settings, ladder) != (self.settings, self.ladder)
        self.settings, self.ladder, self._refused = settings, ladder, False
        self._from_file = True
        self._in_use = _identity(self._path) != ()
        self._keep()
        return changed

    def _keep(self) -> None:
        """Keep what is in force: an editor's save that a power cut took must cost no night."""
        if self._last_good is None or self._refused:
            return
        if self._kept is not None and self._kept.settings is self.settings:
            return  # every look asks; to compare them takes as long as the campaign is
        now = InForce(settings=self.settings, modes=self.ladder.modes)
        with contextlib.suppress(OSError):  # the next refresh tries again
            if now != self._kept:
                durable.write(self._last_good, msgspec.json.encode(now))
            self._kept = now

    def _read(self) -> tuple[Settings, Ladder]:
        settings = read_toml(self._path, Settings) if _identity(self._path) else Settings()
        self._tried = SHIPPED
        if settings.modes_dir is not None:
            self._tried = self._folder("modes_dir", settings.modes_dir)
        self._trainers_tried = settings.trainers_dir
        if settings.trainers_dir is not None:
            self._refuse_unreadable("trainers_dir", settings.trainers_dir)
        return settings, load_ladder(self._tried)

    def _folder(self, key: str, named: str) -> Path:
        """The folder that a key of the settings names."""
        try:
            folder = self._path.parent / Path(named).expanduser()
            folder.is_dir()
        except (OSError, RuntimeError) as error:  # the latter: ~somebody, who does not exist
            why = error.strerror if isinstance(error, OSError) else "there is no such user"
            raise InvalidFile([f"{self._path}: {key} = {named!r}: {why}"]) from error
        return folder

    def _place(self, named: str) -> Path:
        """Where a path of the settings leads, whatever is there."""
        # That of Path raises where it is nobody's.
        return (self._path.parent / os.path.expanduser(named)).absolute()  # noqa: PTH111 - as above

    def _refuse_unreadable(self, key: str, named: str) -> None:
        """See that a folder which the settings name can be read.

        Raises:
            InvalidFile: it is missing, or no folder, or the rights forbid it.
        """
        folder = self._folder(key, named)
        try:
            os.scandir(folder).close()
        except (OSError, ValueError) as error:  # the latter: a NUL, which no path can hold
            why = error.strerror if isinstance(error, OSError) else "no path can hold a NUL"
            raise InvalidFile([f"{self._path}: {key} = {named!r}: {why}"]) from error

    def _fingerprint(self) -> tuple[object, ...]:
        """Changes whenever a file does: identity, size and time of each.

        Of the folder of trainers only whether it is there: each trainer reads it anew.
        """
        paths = [self._path, *sorted(self._tried.glob("*.toml"))]
        found: tuple[object, ...] = tuple((path, *_identity(path)) for path in paths)
        if self._trainers_tried is None:
            return found
        try:
            there = os.access(self._place(self._trainers_tried), os.R_OK | os.X_OK)
        except ValueError:  # a NUL, which no path can hold
            there = False
        return (*found, there)


def _kept(last_good: Path | None) -> InForce | None:
    """The last good settings, where there are any.

    Raises:
        NewerFile: they are a newer version's.
    """
    if last_good is None:
        return None
    try:
        kept = decode(last_good, durable.read(last_good), InForce)
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    return kept if kept.modes else None


def _changed(before: InForce, settings: Settings, ladder: Ladder) -> tuple[Run, ...]:
    """The runs that a trainer would be asked for otherwise than before."""
    runs = settings.queue()
    everywhere = before.modes != ladder.modes
    if everywhere or before.settings.trainers_dir != settings.trainers_dir:
        return runs
    known = {run.id: queue.task(run.asked) for run in before.settings.queue()}
    return tuple(run for run in runs if known.get(run.id) != queue.task(run.asked))


def _identity(path: Path) -> tuple[int, ...]:
    """What tells one content of a file from another; nothing where there is no file."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return ()
    except OSError as error:  # there may be one: reading it will say what is wrong
        return (-(error.errno or 1),)
    return (status.st_ino, status.st_size, status.st_mtime_ns)
