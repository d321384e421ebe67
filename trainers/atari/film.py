"""A short film of greedy play, as a GIF: the real screen in its colours, at real speed.

The console draws with 128 colours at most and a GIF with 256, so no colour is lost.
It draws 60 pictures a second, and many games draw some of their things in every
second picture only. The film merges two into one, of each pixel the brighter, which is
what a person sees.

Importing this module imports torch.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from trainers.atari.game import GAME_MAX_FRAMES, OBSERVATION, Emulator, Game
from trainers.atari.learner import greedy_policy
from trainers.atari.options import Options
from trainers.contract import Spec
from trainers.film import MAX_BYTES, Film, with_greys
from trainers.registry import Recording

if TYPE_CHECKING:
    from ale_py import Action
    from numpy.typing import NDArray
    from stable_baselines3.common.policies import BasePolicy

    Picture = NDArray[np.uint8]
    """`(height, width)`, of places in a palette"""

PICTURES_PER_S = 30
SCALE = 2
"""a pixel of the console is so many pixels high and wide"""


def record(
    spec: Spec,
    options: Options,
    rom: str,
    seed: int,
    checkpoint: Path,
    *,
    episodes: int,
    seconds: float,
) -> Recording:
    """Play until so many games are over, or for so long: whichever is first."""
    torch.set_num_threads(1)
    game = _FilmedGame(rom, seed, options.sticky_actions)
    policy = greedy_policy(checkpoint, options, rom, game.n_actions)
    film = Film(PICTURES_PER_S, SCALE)
    for view in _play(game, policy):
        over = view.nth > episodes
        if over or film.seconds >= seconds or film.size_bytes >= MAX_BYTES:
            break
        nth = f"   game {view.nth}" if episodes > 1 else ""
        text = f"{spec.name}   step {int(checkpoint.name):,}   return {view.game_return:g}"
        film.add(view.picture, text + nth)
    return Recording(
        content=film.encoded(game.palette),
        width=film.size[0],
        height=film.size[1],
        pictures=film.pictures,
        seconds=film.seconds,
        returns=game.returns[: view.nth - 1],
        return_so_far=None if over else view.game_return,
    )


def _play(game: _FilmedGame, policy: BasePolicy) -> Iterator[_View]:
    """What is seen of one game after the other, without end."""
    game.reset()
    while True:
        yield from game.take()
        actions, _ = policy.predict(game.stack[None], deterministic=True)
        game.step(int(actions[0]))


class _View(NamedTuple):
    """What a person sees for a thirtieth of a second."""

    picture: Picture
    nth: int
    """of the games"""
    game_return: float
    """of that game so far"""


class _FilmedGame(Game):
    """A game that keeps what was seen of it."""

    def __init__(self, rom: str, seed: int, sticky_actions: float) -> None:
        super().__init__(
            Emulator(rom, GAME_MAX_FRAMES),
            seed,
            sticky_actions=sticky_actions,
            stack=np.zeros(OBSERVATION, np.uint8),
            last=np.zeros(OBSERVATION, np.uint8),
        )
        # The emulator's colours have even places in the palette: the odd ones are the film's.
        self.palette = with_greys(np.zeros((256, 3), np.uint8))
        self.returns: list[float] = []
        """of the games that are over"""
        self._views: list[_View] = []
        self._before: tuple[Picture, Picture] | None = None
        self._counted = self.finished

    def take(self) -> list[_View]:
        """What was seen since the last call."""
        views, self._views = self._views, []
        return views

    def _frame(self, action: Action) -> float:
        if self.finished is not self._counted:  # a step that ends a game begins the next
            self._counted = self.finished
            if self.finished:
                self.returns.append(self.finished[0])
        reward = super()._frame(action)
        picture, grey = self._ale.getScreen(), self._ale.getScreenGrayscale()
        # The emulator tells a palette only by using it.
        self.palette[picture] = self._ale.getScreenRGB()
        if self._before is None:
            self._before = picture, grey
        else:
            picture_before, grey_before = self._before
            merged = np.where(grey_before > grey, picture_before, picture)
            self._views.append(_View(merged, len(self.returns) + 1, self._return))
            self._before = None
        return reward
