"""What loads exist: every file in a folder of modes is one rung of the ladder.

The name of the file is the name of the mode. A third file is a third rung, with
no other change anywhere.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any

import msgspec

from modes.toml_file import InvalidFile, read_toml
from trainers.contract import NAME, Name, Positive

SHIPPED = Path(__file__).parent
"""the folder of the modes that come with the package: light and medium"""


OLD_FORM_OF = "atari"
"""the trainer whose load stood in a mode file before there were tables for any"""
EXPECTED_GAIN = 1.25
"""how much more a mode is expected to bring than the one below that has as many slots"""


class ModeFile(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The content of a mode file: how heavily this mode loads the machine."""

    rung: Annotated[int, msgspec.Meta(ge=0)]
    """position on the ladder; the lowest is the safest"""
    slots: Positive
    """runs that train side by side"""
    threads: Positive | None = None
    """processor threads of each run; None: the slots share the cores"""
    gpus: Annotated[int, msgspec.Meta(ge=0, le=1000)] | None = None
    """GPUs that each run has for itself; 0: it sees none; None: the runs share them all"""
    prefer: tuple[str, ...] = ()
    """names or ids of runs that get this mode's slots first; free slots go to the queue in order"""
    nice: Annotated[int, msgspec.Meta(ge=0, le=19)] = 0
    """scheduling niceness of the trainers: 0 is ordinary, 19 yields to everything"""
    power_limit_w: Annotated[float, msgspec.Meta(gt=0)] | None = None
    """power limit set on every GPU while this mode is the goal; None leaves the card's default"""
    load: dict[Name, dict[str, Any]] = {}
    """trainer: what only that one understands, and validates; see `load_of`"""
    n_envs: Positive | None = None
    """old form of `n_envs` in [load.atari]"""
    batch_size: Positive | None = None
    """old form of `batch_size` in [load.atari]"""

    def __post_init__(self) -> None:
        for key in self._old_load():
            if key in self.load.get(OLD_FORM_OF, {}):
                raise ValueError(
                    f"{key} stands in [load.{OLD_FORM_OF}] and, in its old form, above it: keep "
                    f"[load.{OLD_FORM_OF}] alone"
                )

    def load_of(self, trainer: str) -> dict[str, Any]:
        """What the mode lays upon each run of that trainer, in the trainer's own words."""
        old = self._old_load() if trainer == OLD_FORM_OF else {}
        return old | self.load.get(trainer, {})

    def _old_load(self) -> dict[str, Any]:
        old = {"n_envs": self.n_envs, "batch_size": self.batch_size}
        return {key: value for key, value in old.items() if value is not None}


class Mode(ModeFile, frozen=True, kw_only=True, omit_defaults=True):
    """One rung of the ladder: a mode file with its name."""

    name: str

    @property
    def definition(self) -> str:
        """What it lays upon the machine, in words: with another text it is another mode."""
        loads = {trainer: self.load_of(trainer) for trainer in sorted({OLD_FORM_OF, *self.load})}
        size = str(self.slots) + " runs"
        # These words are older than the tables: what was learnt of a mode is kept by them.
        games = loads[OLD_FORM_OF]
        if "n_envs" in games and "batch_size" in games:
            size += (
                f" of {games.pop('n_envs')} environments in batches of {games.pop('batch_size')}"
            )
        power = "no power limit" if self.power_limit_w is None else f"{self.power_limit_w:g} W"
        words = [size, f"nice {self.nice}", power]
        if self.threads is not None:
            words.append(f"threads {self.threads}")
        if self.gpus is not None:
            words.append(f"gpus {self.gpus}")
        words += [
            f"{trainer} {key} {value}"
            for trainer, load in loads.items()
            for key, value in load.items()
        ]
        return ", ".join(words)

    @property
    def dated(self) -> str | None:
        """What of it is written in an old form, and what to write instead; None: nothing."""
        old = self._old_load()
        if not old:
            return None
        lines = ", ".join(f"{key} = {value}" for key, value in old.items())
        what = "are the old forms" if len(old) > 1 else "is the old form"
        return (
            f"{' and '.join(old)} {what} of what one trainer alone understands: write, at the end, "
            f"[load.{OLD_FORM_OF}] and below it {lines}"
        )


class UnknownMode(ValueError):
    """A name that no mode of the ladder has."""

    def __init__(self, name: str, known: tuple[str, ...]) -> None:
        super().__init__(f"there is no mode {name!r}; the modes are {', '.join(known)}")


class Ladder:
    """The modes, safest first. Never empty."""

    def __init__(self, modes: tuple[Mode, ...]) -> None:
        self.modes = modes
        self.names = tuple(mode.name for mode in modes)
        self.speeds = _speeds(modes)
        """what each mode should bring, in units of the first, before anything is measured"""

    def __iter__(self) -> Iterator[Mode]:
        return iter(self.modes)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Ladder) and self.modes == other.modes

    __hash__ = None  # type: ignore[assignment]  # compared, never a key

    def __getitem__(self, name: str) -> Mode:
        """The mode called `name`.

        Raises:
            UnknownMode: there is none.
        """
        for mode in self.modes:
            if mode.name == name:
                return mode
        raise UnknownMode(name, self.names)

    @property
    def safest(self) -> Mode:
        """The lowest rung."""
        return self.modes[0]


def _speeds(modes: tuple[Mode, ...]) -> tuple[float, ...]:
    """As the slots grow; a heavier mode is there because somebody expects more of it."""
    speeds = [1.0]
    for lower, upper in pairwise(modes):
        speeds.append(speeds[-1] * max(upper.slots / lower.slots, EXPECTED_GAIN))
    return tuple(speeds)


def load_ladder(folder: Path = SHIPPED) -> Ladder:
    """Every `*.toml` of `folder` as a mode, in the order of their rungs.

    Raises:
        InvalidFile: a file is no mode, two share a rung, or there is none. All
            problems of all files are told at once.
    """
    modes: list[Mode] = []
    problems: list[str] = []
    for path in sorted(folder.glob("*.toml")):
        if not NAME.fullmatch(path.stem):
            problems.append(f"{path}: a mode is named by letters, digits, '-' and '_' alone")
            continue
        try:
            written = read_toml(path, ModeFile)
        except InvalidFile as error:
            problems.extend(error.problems)
            continue
        clash = next((mode for mode in modes if mode.rung == written.rung), None)
        if clash is not None:
            problems.append(
                f"{path}: rung = {written.rung} is already that of {clash.name!r}; "
                "every mode needs a rung of its own"
            )
        # As it will stand in a spec: a date or a nan of TOML becomes what JSON has for it.
        load = msgspec.json.decode(msgspec.json.encode(written.load))
        modes.append(Mode(name=path.stem, **{**msgspec.structs.asdict(written), "load": load}))
    if not modes and not problems:
        problems.append(f"{folder}: no mode files (*.toml) here; at least one is needed")
    if problems:
        raise InvalidFile(problems)
    return Ladder(tuple(sorted(modes, key=lambda mode: mode.rung)))
