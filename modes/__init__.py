"""What loads exist: every file in a folder of modes is one rung of the ladder.

The name of the file is the name of the mode. A third file is a third rung, with
no other change anywhere.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Annotated

import msgspec

from modes.toml_file import InvalidFile, read_toml
from trainers.contract import NAME, Positive

SHIPPED = Path(__file__).parent
"""the folder of the modes that come with the package: light and medium"""


EXPECTED_GAIN = 1.25
"""how much more a mode is expected to bring than the one below that has as many slots"""


class Load(msgspec.Struct, frozen=True, kw_only=True):
    """The content of a mode file: how heavily this mode loads the machine."""

    rung: Annotated[int, msgspec.Meta(ge=0)]
    """position on the ladder; the lowest is the safest"""
    slots: Positive
    """runs that train side by side"""
    n_envs: Positive
    """environments of each run"""
    batch_size: Positive
    """samples per gradient step of each run"""
    prefer: tuple[str, ...] = ()
    """names or ids of runs that get this mode's slots first; free slots go to the queue in order"""
    nice: Annotated[int, msgspec.Meta(ge=0, le=19)] = 0
    """scheduling niceness of the trainers: 0 is ordinary, 19 yields to everything"""
    power_limit_w: Annotated[float, msgspec.Meta(gt=0)] | None = None
    """power limit set on every GPU while this mode is the goal; None leaves the card's default"""


class Mode(Load, frozen=True, kw_only=True):
    """One rung of the ladder: a load with its name."""

    name: str


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
            load = read_toml(path, Load)
        except InvalidFile as error:
            problems.extend(error.problems)
            continue
        clash = next((mode for mode in modes if mode.rung == load.rung), None)
        if clash is not None:
            problems.append(
                f"{path}: rung = {load.rung} is already that of {clash.name!r}; "
                "every mode needs a rung of its own"
            )
        modes.append(Mode(name=path.stem, **msgspec.structs.asdict(load)))
    if not modes and not problems:
        problems.append(f"{folder}: no mode files (*.toml) here; at least one is needed")
    if problems:
        raise InvalidFile(problems)
    return Ladder(tuple(sorted(modes, key=lambda mode: mode.rung)))
