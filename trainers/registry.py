"""Which trainers there are: the modules of this folder that define `train(session)`."""

from __future__ import annotations

import ast
import importlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol, cast

from trainers.contract import NAME, BadSpec, Load, Spec, Tuning

if TYPE_CHECKING:
    from trainers.session import Session


class Recording(NamedTuple):
    """A film of greedy play."""

    content: bytes
    """a GIF"""
    width: int
    height: int
    pictures: int
    seconds: float
    """how long it plays, which is how long was played"""
    returns: list[float]
    """of the episodes that are over"""
    return_so_far: float | None
    """of the episode that was cut off; None: the last one is over"""


class Trainer(Protocol):
    """What a trainer's module offers. All but `check` and `train` may be absent.

    Importing the module must be cheap: heavy libraries are imported inside
    the functions that need them, so that a spec can be checked in milliseconds.
    """

    def check(self, spec: Spec) -> None:
        """Refuse what can never work, without importing anything heavy.

        Raises:
            BadSpec: the options are not this trainer's, or an extra is not installed.
        """

    def remark(self, spec: Spec) -> str | None:
        """What a person should know of a valid spec before it is trained; may take a second."""

    def train(self, session: Session) -> None:
        """Learn until the target is reached or a stop is requested."""

    def warm_up(self, specs: Sequence[Spec]) -> Iterator[None]:
        """Load what lives will need, in a process that trainers are forked from.

        First what every life needs, up to the first `yield`; then, piece by piece, what runs
        like these need. Each piece takes well under a second, since whoever asks for a trainer
        meanwhile waits for it. No thread may be left behind, and no GPU touched.
        """

    def probe(self, loads: Sequence[Load]) -> list[Tuning]:
        """Which way of calculating is the quickest here under each load, found within 20 s."""

    def evaluate(self, spec: Spec, checkpoint: Path, episodes: int) -> list[float]:
        """The undiscounted returns of `episodes` whole episodes played greedily."""

    def record(self, spec: Spec, checkpoint: Path, *, episodes: int, seconds: float) -> Recording:
        """A film of greedy play: of so many episodes, or so long, whichever is over first."""


def names() -> list[str]:
    """The trainers' names, found without importing any of them."""
    folder = Path(__file__).parent
    return sorted(path.stem for path in folder.glob("*.py") if _defines_train(path))


def load(name: str) -> Trainer:
    """The trainer called `name`.

    Raises:
        BadSpec: there is none.
    """
    path = Path(__file__).with_name(f"{name}.py") if NAME.fullmatch(name) else None
    # Not looked for in `names()`, which reads all of them.
    if path is None or not path.is_file() or not _defines_train(path):
        raise BadSpec(f"there is no trainer {name!r}; there are: {', '.join(names())}")
    return cast("Trainer", importlib.import_module(f"trainers.{name}"))


def _defines_train(path: Path) -> bool:
    tree = ast.parse(path.read_bytes())
    return any(isinstance(node, ast.FunctionDef) and node.name == "train" for node in tree.body)
