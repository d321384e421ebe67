"""What a file of safetensors holds of a network: arrays, and what they are; never code."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
import numpy as np
import safetensors
import safetensors.numpy
from numpy.typing import NDArray

Arrays = dict[str, NDArray[Any]]
KEY = "network"
"""the one entry beside the arrays; of several the library does not say in which order"""
Natural = Annotated[int, msgspec.Meta(ge=0)]
_KINDS = {"F32": "<f4", "F64": "<f8"}


class Damaged(ValueError):
    """A file is none of a network of ours."""

    def __init__(self, why: str) -> None:
        super().__init__(f"this is no network of ours: {why}")


class About(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the arrays are."""

    version: Literal[1] = 1
    network: str
    features: tuple[str, ...]
    categories: dict[int, Annotated[int, msgspec.Meta(ge=1, le=65_536)]]
    """features whose numbers are names of categories, and how many names there are"""
    hyperparameters: dict[str, Any]
    epochs: Natural
    """that are whole"""
    batches: Natural = 0
    """of the next one that are done"""
    steps: Natural = 0
    best_epoch: Natural = 0
    best_score: float | None = None


def written(about: About, arrays: Arrays) -> bytes:
    """A file; the same to the byte for the same values."""
    metadata = {KEY: msgspec.json.encode(about).decode()}
    return bytes(safetensors.numpy.save(arrays, metadata))


def read(content: bytes) -> tuple[About, Arrays]:
    """What a file holds.

    Raises:
        Damaged: it cannot be read, or an array is not what a network has.
    """
    try:
        told = safetensors.deserialize(content)  # type: ignore[no-untyped-call]
        ends = 8 + int.from_bytes(content[:8], "little")
        head = msgspec.json.decode(content[8:ends], type=dict[str, Any])
        about = msgspec.json.decode(head["__metadata__"][KEY], type=About)
    except (
        safetensors.SafetensorError,
        msgspec.MsgspecError,
        LookupError,
        RecursionError,
        UnicodeDecodeError,
    ) as error:
        raise Damaged(" ".join(str(error).split())) from error
    arrays = {}
    for name, array in told:
        if array["dtype"] not in _KINDS:
            raise Damaged(f"{name} is of the type {array['dtype']}")
        values = np.frombuffer(array["data"], _KINDS[array["dtype"]]).reshape(array["shape"])
        if not np.isfinite(values).all():
            raise Damaged(f"{name} has numbers that are none")
        arrays[name] = values
    return about, arrays
