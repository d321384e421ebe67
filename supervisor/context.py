"""What every command knows, and the answers that end one."""

from __future__ import annotations

import argparse
import difflib
import getpass
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from modes.toml_file import InvalidFile
from state.records import Run
from supervisor.config import Config
from supervisor.core import queue
from supervisor.core.moments import Moment
from supervisor.errors import SupervisorError
from supervisor.host.clock import SystemClock
from supervisor.host.home import (
    SYSTEM_HOME,
    Home,
    HomeUnusable,
    default_home,
    expanded,
    service_is_hidden,
)
from supervisor.host.owner import BeyondTheOwner, NotYours, become, owned
from supervisor.programs import program
from supervisor.report import Report, report, wanted
from supervisor.report import earlier as known_earlier
from supervisor.report import runs as known_runs
from supervisor.terminal import escaped

if TYPE_CHECKING:
    from supervisor.host.install.timers import Timer

EXIT_REFUSED = 2
"""a request was refused, or the command line makes no sense"""
OF_THE_MACHINE = ("install", "uninstall", "completion")
"""commands that touch no home but with a step for it"""
HERE = ("init",)
"""commands whose home is the present folder where none is named to them"""
DIGITS_MAX = 20
"""of a number of the command line"""
HOW_TO_ENTER = (
    "only root and its group may enter: say `sudo`, or have root add you to the group "
    "training-supervisor and log in again"
)


class NoSuchRun(SupervisorError):
    """A name that no run of the queue has."""

    exit_code = EXIT_REFUSED

    def __init__(self, name: str, runs: tuple[Run, ...]) -> None:
        names = queue.called(runs).values()
        close = {run.lower(): run for run in names}
        like = [close[match] for match in difflib.get_close_matches(name.lower(), close, n=1)]
        hint = f" (did you mean {like[0]}?)" if like else ""
        super().__init__(
            f"there is no run {name!r}{hint}; the runs are: {', '.join(names) or 'none'}"
        )


class AmbiguousRun(SupervisorError):
    """A name that several runs of the queue have."""

    exit_code = EXIT_REFUSED

    def __init__(self, name: str, runs: list[Run]) -> None:
        ids = ", ".join(run.id for run in runs)
        super().__init__(f"{len(runs)} runs are called {name!r}: say which by its id, of {ids}")


class Refused(SupervisorError):
    """A request that was not granted."""

    exit_code = EXIT_REFUSED


class NotInTheGroup(SupervisorError):
    """Somebody asks about a machine whose service keeps its home to itself."""

    exit_code = 73  # EX_CANTCREAT

    def __init__(self, own: Path) -> None:
        super().__init__(
            f"a supervisor is installed here as a service, in {SYSTEM_HOME}, which {HOW_TO_ENTER}; "
            f"you have none of your own in {own}"
        )


class Context:
    """What a command knows: its options, the home, and the settings once asked for.

    Root is the owner of the home from here on, but for commands that are about the machine.

    Raises:
        NotYours: root may not be the supervisor of another account's home.
        BeyondTheOwner: the owner may not read the settings that root has named.
    """

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.login = _login()
        """who asks, as far as the login tells"""
        here = "." if options.command in HERE else None
        self.named_home = _named_home(options.home or here)
        named = options.config or os.environ.get("SUPERVISOR_CONFIG")
        config = expanded(named).absolute() if named else None
        path = self.named_home or default_home()
        root = os.geteuid() == 0
        there = config is not None and config.exists()
        if root and options.command not in OF_THE_MACHINE:
            path = _as_owner(path, options.command)
        self.became = root and os.geteuid() != 0
        """whether we are the owner of the home, and were root before"""
        if self.became and there and config and not os.access(config, os.R_OK):
            raise BeyondTheOwner(config)
        self.home = Home(path)
        self._config_path = config or self.home.settings
        self.config_named = bool(named)
        """whether a person has said where the settings are"""

    def greet_stranger(self, *, begins: bool) -> None:
        """Tell somebody who may not enter the home of the machine's service that there is one.

        Args:
            begins: whether the command makes sense with a home that holds nothing yet.

        Raises:
            NotInTheGroup: it makes none, and there is no home of their own.
        """
        if self.named_home is not None or not service_is_hidden():
            return
        if not begins and not self.home.state.exists() and self.home.holder() is None:
            raise NotInTheGroup(self.home.path)
        print(
            f"supervisor: this is your own home, {self.home.path}; the machine has a service, too, "
            f"in {SYSTEM_HOME}, which {HOW_TO_ENTER}",
            file=sys.stderr,
        )

    @property
    def config(self) -> Config:
        """The settings and modes.

        Raises:
            InvalidFile: they cannot be used.
            NoSettings: the file that was named is missing.
        """
        return Config(self._config_path, required=self.config_named)

    @property
    def kept_config(self) -> Config:
        """The settings and modes, or the last good ones that a daemon has kept here.

        Raises:
            InvalidFile: they cannot be used, and none are kept.
            NoSettings: the file that was named is missing.
        """
        kept = self.home.last_settings
        return Config(self._config_path, required=self.config_named, last_good=kept, keeps=False)

    def command(self, *words: str) -> list[str]:
        """A command about the same home, by the same settings."""
        command = [*program("supervisor.cli"), "--home", str(self.home.path)]
        if self.config_named:
            command += ["--config", str(self._config_path)]
        return [*command, *words]

    @property
    def config_on_trial(self) -> Config:
        """The same for a daemon: what changes has to be found right by the trainers, too.

        Raises:
            InvalidFile: they cannot be used, and none are kept.
            NoSettings: the file that was named is missing.
        """
        from supervisor.trial import Trial  # noqa: PLC0415 - other commands stay quick

        return Config(
            self._config_path,
            required=self.config_named,
            last_good=self.home.last_settings,
            trial=Trial(self.command("check-config", "--changed", "--json")),
        )

    @property
    def config_or_why(self) -> Config | str:
        """The settings, or in one line why they cannot be read: reading commands go on."""
        try:
            return self.config
        except (InvalidFile, SupervisorError) as error:
            return str(error).splitlines()[0]

    def now(self) -> Moment:
        """All clocks of this machine."""
        return SystemClock().read()

    def report(self, timers: Sequence[Timer] = (), *, foretell: bool = False) -> Report:
        """What is true now; where it is asked for, with the windows in which runs end.

        Args:
            timers: what was found of them.
            foretell: tell those windows, too.
        """
        return report(self.home, self.config_or_why, self.now(), timers, foretell=foretell)

    def run(self, name: str) -> Run:
        """The run of that id, name or label, in whatever case.

        Raises:
            NoSuchRun: there is none.
            AmbiguousRun: there are several.
        """
        known = self._runs()
        earlier = known_earlier(self.home, self.config_or_why, self.now())
        by_id = [run for run in earlier if run.id.lower() == name.lower()]
        return by_id[0] if len(by_id) == 1 else _one(name, known)

    def wanted(self, name: str) -> Run:
        """The run of that id, name or label as the settings want it: none may have queued it yet.

        Raises:
            NoSuchRun: there is none.
            AmbiguousRun: there are several.
        """
        campaign = {run.id: run for run in wanted(self.home, self.kept_config, self.now())}
        known = self._runs()
        here = {run.id for run in known}
        run = _one(name, (*known, *(run for run in campaign.values() if run.id not in here)))
        return run.but(asked=campaign[run.id].asked) if run.id in campaign else run

    def called(self, run: Run) -> str:
        """What tells `run` from all others: its name, or its id where others have that name."""
        return queue.called(self._runs()).get(run.id, run.id)

    def _runs(self) -> tuple[Run, ...]:
        return known_runs(self.home, self.config_or_why, self.now())


def print_json(value: object) -> None:
    """Print a value for machines."""
    print(escaped(msgspec.json.format(msgspec.json.encode(value)).decode()))


def whole_number(text: str, most: int = 1_000_000) -> int:
    """A word of the command line that counts something."""
    digits = text.isascii() and text.isdigit() and len(text) <= DIGITS_MAX
    if not digits or not 0 < int(text) <= most:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 to {most}")
    return int(text)


def _one(name: str, runs: tuple[Run, ...]) -> Run:
    """The one run that a word means, in whatever case."""
    found = _meant(name, runs)
    if not found:
        raise NoSuchRun(name, runs)
    if len(found) > 1:
        raise AmbiguousRun(name, found)
    return found[0]


def _meant(word: str, runs: tuple[Run, ...]) -> list[Run]:
    """The runs that a word may mean: ids go before names and labels, then the very same letters."""
    for names in (lambda run: (run.id,), lambda run: (run.name, queue.label(run))):
        for folded in (str, str.lower):
            found = [run for run in runs if folded(word) in map(folded, names(run))]
            if found:
                return found
    return []


def _as_owner(path: Path, command: str) -> Path:
    """Become the owner of that home; where it lies."""
    try:
        # What others may write to is closed by a start, and no place for root before that.
        owner, place, first = owned(path, itself=command != "run")
    except OSError as error:
        raise HomeUnusable(path, error) from error
    if owner == 0:
        return path
    if command == "run":
        raise NotYours(path, owner)
    try:
        become(owner, first, _shown() if path == SYSTEM_HOME else ())
    except OSError as error:
        raise NotYours(path, owner) from error
    return place


def _shown() -> tuple[Path, ...]:
    """What the service of the machine sees beside its home, and may enter."""
    from supervisor.host.install import eyes  # noqa: PLC0415 - only root needs it

    seen = eyes.of_service()
    return tuple(
        place
        for place in seen.shown
        if os.access(place, os.F_OK) and seen.closed(place, eyes.READ | eyes.ENTER) is None
    )


def _login() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid {os.getuid()}"


def _named_home(named: str | None) -> Path | None:
    chosen = named or os.environ.get("SUPERVISOR_HOME")
    return expanded(chosen) if chosen else None
