"""Which trainers there are: the modules of this folder that define `train(session)`."""

from __future__ import annotations

import ast
import importlib
import os
import traceback
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol, cast

from trainers import durable
from trainers.checkpoint import EXHAUSTED
from trainers.contract import NAME, BadSpec, Load, Spec, Tuning

if TYPE_CHECKING:
    from trainers.session import Session

FOLDER = Path(__file__).parent
"""where trainers are looked for"""


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


class NoTrainer(BadSpec):
    """Nothing here trains under that name."""

    def __init__(self, name: str) -> None:
        super().__init__(f"there is no trainer {name!r}; there are: {', '.join(names())}")


class BrokenTrainer(BadSpec):
    """A file that was meant to be a trainer, and cannot be used; other trainers can."""

    def __init__(self, path: Path, why: str, line: int | None = None) -> None:
        where = f"{path}, line {line}" if line else f"{path}"
        super().__init__(f"the trainer {path.stem!r} cannot be used: {where}: {why}")


def names() -> list[str]:
    """The trainers' names, found without importing any of them; not those of broken files."""
    found = []
    for path in FOLDER.glob("*.py"):
        with suppress(BrokenTrainer):
            if "train" in _functions(path):
                found.append(path.stem)
    return sorted(found)


def load(name: str) -> Trainer:
    """The trainer called `name`.

    Raises:
        NoTrainer: there is none.
        BrokenTrainer: its file cannot be read or imported, or lacks what a trainer must have.
    """
    path = FOLDER / f"{name}.py"
    # Not looked for in `names()`, which reads all of them.
    if not NAME.fullmatch(name) or not os.path.lexists(path):
        raise NoTrainer(name)
    functions = _functions(path)
    if "train" not in functions:
        raise NoTrainer(name)
    if "check" not in functions:
        raise BrokenTrainer(path, "it defines no check(spec)")
    try:
        return cast("Trainer", importlib.import_module(f"trainers.{name}"))
    except (Exception, SystemExit) as error:
        if isinstance(error, MemoryError) or getattr(error, "errno", None) in EXHAUSTED:
            raise  # the machine's trouble, which may be over at the next start
        raise broken(name, error) from error


def broken(name: str, error: BaseException) -> BrokenTrainer:
    """What to tell of an error in the code of the trainer called `name`."""
    path = FOLDER / f"{name}.py"
    return BrokenTrainer(path, _in_words(error), _line_of(error, path))


def _functions(path: Path) -> set[str]:
    """The names of the functions that a file defines.

    Raises:
        BrokenTrainer: it cannot be read as Python.
    """
    try:
        # With links: a person may keep trainers elsewhere.
        tree = ast.parse(durable.read(path, follow=True))
    except durable.UnreadableFile as error:
        raise BrokenTrainer(path, str(error).removeprefix(f"{path}: ")) from error
    except OSError as error:
        raise BrokenTrainer(path, error.strerror or str(error)) from error
    except (SyntaxError, ValueError) as error:  # the latter: a NUL, in older Pythons
        raise BrokenTrainer(path, _in_words(error), _line_of(error, path)) from error
    except (RecursionError, MemoryError) as error:
        raise BrokenTrainer(path, "it is nested too deeply") from error
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


def _in_words(error: BaseException) -> str:
    said = error.msg if isinstance(error, SyntaxError) else str(error)
    return " ".join(f"{type(error).__name__}: {said}".split())


def _line_of(error: BaseException, path: Path) -> int | None:
    """The line of the file at which an error came up."""
    if isinstance(error, SyntaxError) and error.filename in (None, "<unknown>", str(path)):
        return error.lineno
    steps = traceback.extract_tb(error.__traceback__)
    return next((step.lineno for step in reversed(steps) if step.filename == str(path)), None)
