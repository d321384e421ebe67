"""A short film as a GIF, which grows by a picture at a time, with a line of text below.

Pillow's own writer of films keeps all pictures until the end, hundreds of megabytes; its
writers of the parts do not.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from PIL import GifImagePlugin, Image, ImageDraw, ImageFont

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Picture = NDArray[np.uint8]
    """`(height, width)`, of places in a palette"""

CAPTION_PX = 22
MAX_BYTES = 32 * 1024 * 1024
"""a film should end when it has grown so large; as a rule a minute takes one or two megabytes"""
UNCHANGED = 1
"""a place of the palette that is ours: the pixel stays what it was"""
GREYS: Picture = np.arange(3, 35, 2, dtype=np.uint8)
"""places that are ours, too: from black to white, for the caption"""
OURS = frozenset({UNCHANGED, *map(int, GREYS)})


class Film:
    """Pictures of one size, in the colours of one palette, of which the film has its own places.

    Args:
        pictures_per_s: at most 50, which is the fastest that every player plays.
        scale: a pixel is so many pixels high and wide.
    """

    def __init__(self, pictures_per_s: float, scale: int = 1) -> None:
        self.pictures = 0
        self.size_bytes = 0
        self.size = 0, 0
        """width and height"""
        self._pictures_per_s = pictures_per_s
        self._scale = scale
        self._parts: list[bytes] = []
        self._before: Picture | None = None

    @property
    def seconds(self) -> float:
        """How long it is."""
        return self.pictures / self._pictures_per_s

    def add(self, picture: Picture, caption: str) -> None:
        """Show `picture` until the next one, with `caption` below."""
        large = picture.repeat(self._scale, axis=0).repeat(self._scale, axis=1)
        large = np.concatenate([large, _written(caption, large.shape[1])])
        before, self._before = self._before, large
        changed = np.ones(large.shape, np.bool_) if before is None else large != before
        # A picture that is the one before still needs a part: one pixel.
        changed[0, 0] |= not changed.any()
        (top, bottom), (left, right) = (
            (int(hits[0]), int(hits[-1]) + 1)
            for hits in (np.flatnonzero(changed.any(axis)) for axis in (1, 0))
        )
        part = np.where(changed, large, UNCHANGED).astype(np.uint8)[top:bottom, left:right]
        parts = GifImagePlugin.getdata(
            Image.fromarray(part),
            (left, top),
            duration=10 * (self._until_cs(self.pictures + 1) - self._until_cs(self.pictures)),
            disposal=1,  # the next part is laid over it
            transparency=UNCHANGED,
        )
        self._parts += parts
        self.size = large.shape[1], large.shape[0]
        self.size_bytes += sum(map(len, parts))
        self.pictures += 1

    def encoded(self, palette: NDArray[np.uint8]) -> bytes:
        """The whole file."""
        image = Image.new("P", self.size)
        image.putpalette(palette.tobytes())
        header, _ = GifImagePlugin.getheader(image, info={"loop": 0})
        return b"".join([*header, *self._parts, b";"])

    def _until_cs(self, pictures: int) -> int:
        """How long so many pictures are shown: a GIF counts in hundredths of a second."""
        return int(pictures * 100 / self._pictures_per_s)


def with_greys(palette: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A palette `(256, 3)` with our own colours in our own places."""
    palette[GREYS] = np.linspace(0, 255, len(GREYS)).astype(np.uint8)[:, None]
    return palette


@lru_cache(maxsize=1)
def _written(caption: str, width: int) -> Picture:
    """A line of text in places of the palette; it changes seldom."""
    image = Image.new("L", (width, CAPTION_PX))
    ImageDraw.Draw(image).text((6, 3), caption, fill=255, font=ImageFont.load_default(12))
    levels: Picture = np.asarray(image) // (256 // len(GREYS))
    return GREYS[levels]
