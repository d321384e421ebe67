"""Which trainers there are: the modules of this folder that define `train(session)`."""

from __future__ import annotations

import ast
import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, cast

from trainers.contract import BadSpec, Spec

if TYPE_CHECKING:
    from trainers.session import Session


class Trainer(Protocol):
    """What a trainer's module offers. `evaluate` and `remark` may be absent.

    Importing the module must be cheap: heavy libraries are imported inside
    `train` and `evaluate`, so that a spec can be checked in milliseconds.
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

    def evaluate(self, spec: Spec, checkpoint: Path, episodes: int) -> list[float]:
        """The undiscounted returns of `episodes` whole episodes played greedily."""


def names() -> list[str]:
    """The trainers' names, found without importing any of them."""
    folder = Path(__file__).parent
    return sorted(path.stem for path in folder.glob("*.py") if _defines_train(path))


def load(name: str) -> Trainer:
    """The trainer called `name`.

    Raises:
        BadSpec: there is none.
    """
    if name not in names():
        raise BadSpec(f"there is no trainer {name!r}; there are: {', '.join(names())}")
    return cast("Trainer", importlib.import_module(f"trainers.{name}"))


def _defines_train(path: Path) -> bool:
    tree = ast.parse(path.read_bytes())
    return any(isinstance(node, ast.FunctionDef) and node.name == "train" for node in tree.body)
