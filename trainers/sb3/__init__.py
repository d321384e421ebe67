"""Learns any environment of gymnasium with any algorithm of Stable-Baselines3.

This module is light: it validates, and imports what learns when something is to be learnt.
"""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from typing import TYPE_CHECKING

from trainers import packages
from trainers.contract import HOME, BadSpec, Spec
from trainers.sb3 import environments
from trainers.sb3.options import Load, Options
from trainers.sb3.recipe import inexact, recipe_of
from trainers.session import Session, options_of

if TYPE_CHECKING:
    from trainers.registry import Imported, Recording

__all__ = [
    "Load",
    "Options",
    "check",
    "evaluate",
    "fits",
    "import_checkpoint",
    "record",
    "remark",
    "train",
]

EXTRA = "sb3"
"""of the packages that are imported here"""
EVALUATION_ENVS = 4
"""that an evaluation plays side by side, at most"""


def check(spec: Spec) -> None:
    """Validate options, hyper-parameters and environment, and that what trains them is installed.

    Raises:
        BadSpec: one of them is not as it must be.
    """
    packages.require(EXTRA)
    environments.check(recipe_of(spec, _home_of_a_check()))
    if spec.target is None:
        raise BadSpec(
            "an environment has no end of its own: a target in steps or in episodes is needed"
        )


def remark(spec: Spec) -> str | None:
    """What cannot be as it would have been after an interruption, and what a zoo says in vain."""
    recipe = recipe_of(spec, _home_of_a_check())
    said = []
    if (why := inexact(recipe, environments.check(recipe))) is not None:
        said.append(f"a resumed run begins new episodes: {why}")
    if recipe.zoo_steps is not None and recipe.zoo_steps != spec.up_to("steps"):
        said.append(f"the zoo trains for {recipe.zoo_steps:,} steps: the target says how far here")
    return "; ".join(said) or None


def fits(spec: Spec, checkpoint: Path) -> None:
    """Refuse another algorithm or environment, another network, and other statistics."""
    recipe = recipe_of(spec, _home_of_a_check() or _home_of(checkpoint))
    from trainers.sb3 import learner  # noqa: PLC0415 - imports torch

    learner.see_fit(recipe, spec, checkpoint)


def train(session: Session) -> None:
    """Learn the environment until the target is reached or a stop is requested."""
    if session.stop_requested or session.target_reached:
        return
    recipe = recipe_of(session.spec, session.folder.path.parent.parent)
    from trainers.sb3 import learner  # noqa: PLC0415 - imports torch

    learner.learn(session, options_of(session.spec, Options), recipe)


def evaluate(spec: Spec, checkpoint: Path, episodes: int) -> list[float]:
    """The undiscounted returns of whole episodes, played greedily by a checkpoint's policy."""
    recipe = recipe_of(spec, _home_of(checkpoint))
    from trainers.sb3 import learner  # noqa: PLC0415 - imports torch

    return learner.play(recipe, spec, checkpoint, episodes, min(episodes, EVALUATION_ENVS))


def record(spec: Spec, checkpoint: Path, *, episodes: int, seconds: float) -> Recording:
    """A film of greedy play, of an environment that draws itself.

    Raises:
        BadSpec: it does not, or there is nothing here to draw with.
    """
    recipe = recipe_of(spec, _home_of(checkpoint))
    environments.make(recipe, film=True).close()
    if importlib.util.find_spec("PIL") is None:
        raise BadSpec("pillow is not installed: pip install pillow")
    from trainers.sb3 import film  # noqa: PLC0415 - imports torch

    return film.record(recipe, spec, checkpoint, episodes=episodes, seconds=seconds)


def import_checkpoint(spec: Spec, path: Path) -> Imported:
    """A model that Stable-Baselines3 has saved elsewhere; no pickle of it is opened.

    Raises:
        BadSpec: it is none, or none that this run could go on from.
    """
    recipe = recipe_of(spec, _home_of_a_check())
    from trainers.sb3 import foreign  # noqa: PLC0415 - imports torch

    return foreign.taken(recipe, spec, path)


def _home_of(checkpoint: Path) -> Path:
    """The home that a checkpoint of a run lies in."""
    return checkpoint.parents[3]


def _home_of_a_check() -> Path | None:
    home = os.environ.get(HOME)
    return Path(home) if home else None
