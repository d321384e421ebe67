"""The settings file, every key of it: all optional, validated whole, reread when it changes."""

from __future__ import annotations

import contextlib
import difflib
import re
from collections import Counter
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from modes import SHIPPED, Ladder, Mode, load_ladder
from modes.toml_file import InvalidFile, read_toml
from state.records import Run
from supervisor.core.facts import StabilityLimits
from supervisor.core.recovery import RecoveryLimits, Seconds
from supervisor.errors import SupervisorError
from trainers import durable
from trainers.contract import NAME, Name, NewerFile, Positive, decode

CAMPAIGN = (
    "MsPacman",
    "Asteroids",
    "Seaquest",
    "BeamRider",
    "SpaceInvaders",
    "Enduro",
    "Breakout",
    "Boxing",
    "Freeway",
    "Pong",
)
"""the ten games of the default campaign, in the order of the queue"""

TARGET_STEPS = 10_000_000
"""the published budget of PPO on Atari: 40 million frames"""


EVENTS = (
    "boot.recorded", "boot.unreadable", "campaign.done", "climb.vetoed", "crash.priced",
    "gpu.awaited", "gpu.leaked", "hold.changed", "home.closed", "ledger.begun",
    "machine.changed", "mode.changed", "mode.proved", "power.limited", "power.refused",
    "run.adopted", "run.blocked", "run.cleared", "run.died", "run.done", "run.failed",
    "run.held", "run.hung", "run.killed", "run.lost", "run.noticed", "run.retried",
    "run.started", "run.stopped", "settings.changed", "settings.refused", "settings.unkept",
    "slots.assigned",
    "state.damaged", "state.lagged", "state.saved", "state.unsaved", "supervisor.started",
    "supervisor.stopped", "supervisor.stopping", "warm.lost", "watch.lost", "wish.granted",
    "wish.refused", "wish.unreadable",
)  # fmt: skip
"""what the decision log tells, but for errands themselves"""


class Policy(StabilityLimits, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """[policy]: when to climb, when to fall back, how often to look."""

    tick_s: Seconds = 300.0
    """longest time between two looks; events wake the supervisor sooner"""


class Campaign(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """[campaign]: what to train, in which order, how far."""

    runs: Annotated[tuple[Name, ...], msgspec.Meta(min_length=1)] = CAMPAIGN
    """names of the runs, first come first served"""
    trainer: Name = "atari"
    """the trainer of each, unless its own table says otherwise"""
    target_steps: Positive | None = None
    """environment steps of each"""
    target_episodes: Positive | None = None
    """or finished episodes of each"""
    seed: Annotated[int, msgspec.Meta(ge=0, lt=2**31)] = 1
    options: dict[str, Any] = {}
    """settings of the trainer, validated by it"""


class OneRun(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """[run.NAME]: what is different for one run of the campaign."""

    trainer: Name | None = None
    target_steps: Positive | None = None
    target_episodes: Positive | None = None
    seed: Annotated[int, msgspec.Meta(ge=0, lt=2**31)] | None = None
    options: dict[str, Any] = {}
    silent_max_s: Seconds | None = None
    """how long its step may stand still, whatever [recovery] says and the run itself shows"""


class Checkpoints(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """[checkpoints]: how often a trainer saves."""

    interval_s: Annotated[float, msgspec.Meta(gt=0, le=86_400)] = 90.0
    """longest time between two checkpoints of a run; shorter while crashes are near"""
    writes_gb_per_day: Annotated[float, msgspec.Meta(gt=0, le=1_000_000)] = 350.0
    """what all runs together may write for that; a disk made for 600 TB bears it for five years"""


class Warm(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """[warm]: processes that wait beside the training, to bring trainers back in a blink."""

    trainers: tuple[Name, ...] = ("atari",)
    """trainers that are kept warm while a run of theirs is wanted; none: all start cold"""
    memory_max_mib: Annotated[float, msgspec.Meta(gt=0, le=1_000_000)] = 1024.0
    """one that takes more is ended"""


class Logs(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """[logs]: how much disk the decision log and the monitor log may take, each."""

    max_mib: Annotated[float, msgspec.Meta(gt=0, le=1_000_000)] = 16.0
    """size at which a log is rotated"""
    kept: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 3
    """older files that are kept of each log"""

    @property
    def max_bytes(self) -> int:
        """The size at which a log is rotated, in bytes."""
        return int(self.max_mib * 1024 * 1024)


class Notify(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """[notify]: who is told elsewhere, and what is run when the campaign is done."""

    urls: Annotated[tuple[str, ...], msgspec.Meta(max_length=10)] = ()
    """where chosen lines of the decision log are posted to, as JSON"""
    events: tuple[str, ...] = (
        "campaign.done",
        "mode.changed",
        "run.done",
        "run.failed",
        "run.held",
        "run.blocked",
        "state.damaged",
    )
    """which lines those are"""
    when_done: tuple[str, ...] = ()
    """a command and its arguments, run once every run has ended"""
    when_done_max_s: Seconds = 3600.0
    """how long it may take before it is ended"""

    def __post_init__(self) -> None:
        for number, url in enumerate(self.urls, 1):
            if not re.fullmatch(r"https?://[^/?#\s]+\S*", url) or not url.isprintable():
                # An address may hold a password: it is not repeated.
                raise ValueError(
                    f"notify.urls: number {number} is no address that begins with https://"
                )
        for event in self.events:
            if event not in EVENTS:
                close = difflib.get_close_matches(event, EVENTS, n=1)
                hint = f"; did you mean {close[0]!r}?" if close else ""
                raise ValueError(f"notify.events: there is no event {event!r}{hint}")
        if self.when_done and not self.when_done[0]:
            raise ValueError("notify.when_done: the name of the command is empty")


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole of `supervisor.toml`."""

    policy: Policy = Policy()
    recovery: RecoveryLimits = RecoveryLimits()
    campaign: Campaign = Campaign()
    run: dict[str, OneRun] = {}
    checkpoints: Checkpoints = Checkpoints()
    warm: Warm = Warm()
    logs: Logs = Logs()
    notify: Notify = Notify()
    modes_dir: str | None = None
    """a folder of mode files that replaces the shipped one; relative to the settings file"""
    cost_per_hour: Annotated[float, msgspec.Meta(ge=0, le=1e6)] | None = None
    """what the machine costs an hour, in whatever currency"""

    def __post_init__(self) -> None:
        names = self.campaign.runs
        twice = {name for name, count in Counter(names).items() if count > 1}
        if twice:
            raise ValueError(f"campaign.runs names {', '.join(sorted(twice))} more than once")
        strangers = sorted(set(self.run) - set(names))
        if strangers:
            raise ValueError(f"[run.{strangers[0]}] is not in campaign.runs")
        tables: dict[str, Campaign | OneRun] = {"campaign": self.campaign, **self.run}
        for name in names:
            run_id = self._run(name).id
            if not NAME.fullmatch(run_id):
                raise ValueError(
                    f"{run_id!r} is too long; trainer and name take at most 63 letters"
                )
        for name, one in tables.items():
            if one.target_steps is not None and one.target_episodes is not None:
                raise ValueError(f"{name}: set target_steps or target_episodes, not both")

    def queue(self) -> tuple[Run, ...]:
        """The runs of the campaign, as they stand on the first day."""
        return tuple(self._run(name) for name in self.campaign.runs)

    def _run(self, name: str) -> Run:
        common, own = self.campaign, self.run.get(name, OneRun())
        trainer = own.trainer or common.trainer
        target = own if own.target_steps or own.target_episodes else common
        steps = target.target_steps
        if steps is None and target.target_episodes is None:
            steps = TARGET_STEPS
        return Run(
            id=f"{trainer}-{name}",
            trainer=trainer,
            name=name,
            seed=common.seed if own.seed is None else own.seed,
            target_steps=steps,
            target_episodes=target.target_episodes,
            # As they will stand in the spec: a date or a nan of TOML becomes what JSON has for it.
            options=msgspec.json.decode(msgspec.json.encode({**common.options, **own.options})),
            silent_max_s=own.silent_max_s,
        )


class NoSettings(SupervisorError):
    """The settings file that was asked for does not exist."""

    exit_code = 78  # EX_CONFIG

    def __init__(self, path: Path) -> None:
        super().__init__(f"{path}: there is no such settings file")


class InForce(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is kept of good settings."""

    version: Literal[1] = 1
    settings: Settings
    modes: tuple[Mode, ...]


class Config:
    """The settings and the ladder in force: always the last ones that were good.

    Args:
        path: the settings file.
        required: it was named by a person, so its absence is an error.
        last_good: where the last good ones are kept over a reboot; None: nowhere.

    Raises:
        InvalidFile: the settings or a mode file are not usable, and none are kept.
        NoSettings: a required file is missing.
    """

    def __init__(
        self, path: Path, *, required: bool = False, last_good: Path | None = None
    ) -> None:
        self._path = path
        self._last_good = last_good
        self._kept: InForce | None = None
        self.newer: str | None = None
        """why the settings in force are not kept: a newer version has kept its own there"""
        try:
            self._kept = _kept(last_good)
        except NewerFile as error:
            self.newer, self._last_good = str(error), None
        if required and not path.exists():
            raise NoSettings(path)
        self._in_use = _identity(path) != ()
        self._refused = False
        self._campaign: tuple[Settings, tuple[Run, ...]] | None = None
        self._tried = SHIPPED
        """the folder of modes that the newest readable settings ask for"""
        self._seen: tuple[object, ...] | None
        try:
            self.settings, self.ladder = self._read()
            self._seen = self._fingerprint()
        except InvalidFile as error:
            if self.newer is not None:
                raise InvalidFile([*error.problems, self.newer]) from error
            if self._kept is None:
                raise
            self.settings, self.ladder = self._kept.settings, Ladder(self._kept.modes)
            self._seen = None  # the first refresh tells what is wrong

    @property
    def campaign(self) -> tuple[Run, ...]:
        """The runs of the campaign in force; the same value until other settings are."""
        if self._campaign is None or self._campaign[0] is not self.settings:
            self._campaign = self.settings, self.settings.queue()
        return self._campaign[1]

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
            self._keep()
            return False, ()
        self._seen = seen
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
        # After a refusal the old content, put back, is news too.
        changed = self._refused or (settings, ladder) != (self.settings, self.ladder)
        self.settings, self.ladder, self._refused = settings, ladder, False
        self._in_use = _identity(self._path) != ()
        self._keep()
        return changed, ()

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
            self._tried = self._folder(settings.modes_dir)
        return settings, load_ladder(self._tried)

    def _folder(self, named: str) -> Path:
        """The folder of modes that the settings name."""
        try:
            folder = self._path.parent / Path(named).expanduser()
            folder.is_dir()
        except (OSError, RuntimeError) as error:  # the latter: ~somebody, who does not exist
            why = error.strerror if isinstance(error, OSError) else "there is no such user"
            raise InvalidFile([f"{self._path}: modes_dir = {named!r}: {why}"]) from error
        return folder

    def _fingerprint(self) -> tuple[object, ...]:
        """Changes whenever a file does: identity, size and time of each."""
        paths = [self._path, *sorted(self._tried.glob("*.toml"))]
        return tuple((path, *_identity(path)) for path in paths)


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


def _identity(path: Path) -> tuple[int, ...]:
    """What tells one content of a file from another; nothing where there is no file."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return ()
    except OSError as error:  # there may be one: reading it will say what is wrong
        return (-(error.errno or 1),)
    return (status.st_ino, status.st_size, status.st_mtime_ns)
