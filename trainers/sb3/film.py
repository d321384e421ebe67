"""A film of greedy play in any environment that draws itself.

Importing this module imports torch.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from trainers.contract import BadSpec, Spec
from trainers.film import MAX_BYTES, OURS, Film, with_greys
from trainers.registry import Recording
from trainers.sb3 import environments
from trainers.sb3.learner import Greedy
from trainers.sb3.recipe import Recipe

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Picture = NDArray[np.uint8]

PICTURES_PER_S = 30.0
"""of an environment that does not say how many it draws"""
PICTURES_PER_S_MAX = 50.0
SEEN_FIRST = 80
"""colours that are those of the first picture; what it lacks gets the nearest of a cube"""
CUBE = np.array(
    [
        (red, green, blue)
        for red in np.linspace(0, 255, 5)
        for green in np.linspace(0, 255, 6)
        for blue in np.linspace(0, 255, 5)
    ],
    dtype=np.uint8,
)


def record(
    recipe: Recipe, spec: Spec, checkpoint: Path, *, episodes: int, seconds: float
) -> Recording:
    """Play until so many episodes are over, or for so long: whichever is first."""
    greedy = Greedy(recipe, spec, checkpoint, 1, film=True)
    try:
        return _filmed(greedy, spec, checkpoint, episodes=episodes, seconds=seconds)
    finally:
        environments.close(greedy.env)


def _filmed(
    greedy: Greedy, spec: Spec, checkpoint: Path, *, episodes: int, seconds: float
) -> Recording:
    venv: Any = greedy.env.unwrapped
    env = venv.envs[0]
    drawn_per_s = float(env.metadata.get("render_fps") or PICTURES_PER_S)
    each = max(1, math.ceil(drawn_per_s / PICTURES_PER_S_MAX))
    film, colours = Film(drawn_per_s / each), None
    returns: list[float] = []
    so_far, played = 0.0, 0
    while True:
        if played % each == 0:
            picture = _drawn(env)
            colours = colours or _Colours(picture)
            nth = f"   episode {len(returns) + 1}" if episodes > 1 else ""
            text = f"{spec.name}   step {int(checkpoint.name):,}   return {so_far:g}"
            film.add(colours.places_of(picture), text + nth)
        if film.seconds >= seconds or film.size_bytes >= MAX_BYTES:
            break
        (told,) = greedy.step()
        played += 1
        if "episode" in told:
            returns.append(float(told["episode"]["r"]))
            if len(returns) == episodes:
                break
        so_far = sum(env.get_wrapper_attr("rewards"))
    assert colours is not None  # noqa: S101 - the first picture has made them
    return Recording(
        content=film.encoded(colours.palette),
        width=film.size[0],
        height=film.size[1],
        pictures=film.pictures,
        seconds=film.seconds,
        returns=returns,
        return_so_far=None if len(returns) == episodes else so_far,
    )


def _drawn(env: object) -> Picture:
    """What the environment looks like now: `(height, width, 3)`.

    Raises:
        BadSpec: it cannot draw itself here.
    """
    import gymnasium  # noqa: PLC0415 - as everywhere

    try:
        picture: Picture = np.asarray(env.render())  # type: ignore[attr-defined] # it is one
    except (gymnasium.error.Error, ImportError) as error:
        raise BadSpec(f"it cannot be recorded: {' '.join(str(error).split())}") from error
    if picture.ndim != 3 or picture.shape[2] != 3 or picture.dtype != np.uint8:
        raise BadSpec("it draws something else than a picture (rgb_array): it cannot be recorded")
    return picture


class _Colours:
    """A palette for a film, made of its first picture and of a cube of all colours."""

    def __init__(self, first: Picture) -> None:
        seen = Image.fromarray(first).quantize(SEEN_FIRST, Image.Quantize.MEDIANCUT)
        own = np.array((seen.getpalette() or [])[: 3 * SEEN_FIRST], dtype=np.uint8).reshape(-1, 3)
        known = np.concatenate([own, CUBE])
        free = np.array([place for place in range(256) if place not in OURS][: len(known)])
        self._place_of = np.zeros(256, np.uint8)
        self._place_of[: len(known)] = free
        self.palette = with_greys(np.zeros((256, 3), np.uint8))
        self.palette[free] = known
        self._image = Image.new("P", (1, 1))
        self._image.putpalette(known.tobytes())

    def places_of(self, picture: Picture) -> Picture:
        """The nearest colours of a picture, as places in the palette."""
        image = Image.fromarray(picture).quantize(palette=self._image, dither=Image.Dither.NONE)
        places: Picture = self._place_of[np.asarray(image)]
        return places
