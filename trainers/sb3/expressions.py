"""Expressions as people write them into tables of hyper-parameters: read, and never evaluated.

`dict(net_arch=[256, 256], activation_fn=nn.ReLU)` is text in such tables, which others hand to
Python. Here it is parsed, and may hold literals, known names and calls of a few known functions.
Whatever else is there is refused by name. This module is light: a name stands for what it means
until `made` looks that up.
"""

from __future__ import annotations

import ast
import importlib
import math
from collections.abc import Callable
from typing import Any, NamedTuple

from trainers.contract import BadSpec

TEXT_MAX_CHARS = 4096
LENGTH_MAX = 10_000
"""of an array"""
SHOWN_MAX_CHARS = 60

_NN, _OPTIM = "torch.nn", "torch.optim"
_SB3 = "stable_baselines3"
_ACTIVATIONS = (
    "CELU", "ELU", "GELU", "Hardswish", "LeakyReLU", "Mish", "PReLU", "ReLU", "ReLU6", "SELU",
    "Sigmoid", "SiLU", "Softplus", "Softsign", "Tanh",
)  # fmt: skip
_PLACES = {
    **dict.fromkeys(_ACTIVATIONS, _NN),
    **dict.fromkeys(("Adam", "AdamW", "Adamax", "NAdam", "RAdam", "RMSprop", "SGD"), _OPTIM),
    "RMSpropTFLike": f"{_SB3}.common.sb2_compat.rmsprop_tf_like",
    "HerReplayBuffer": f"{_SB3}.her",
    "ReplayBuffer": f"{_SB3}.common.buffers",
    "DictReplayBuffer": f"{_SB3}.common.buffers",
    "FlattenExtractor": f"{_SB3}.common.torch_layers",
    "NatureCNN": f"{_SB3}.common.torch_layers",
    "CombinedExtractor": f"{_SB3}.common.torch_layers",
}
"""classes that may be named, and where they are"""
_PREFIXES = {
    _NN: ("nn", "th.nn", "torch.nn"),
    _OPTIM: ("optim", "th.optim", "torch.optim"),
}
_NOISES = ("NormalActionNoise", "OrnsteinUhlenbeckActionNoise")
_ARRAYS = ("zeros", "ones", "array")
_LINEAR = "linear_schedule"


class Named(NamedTuple):
    """A class that is known by its name."""

    name: str


class Noise(NamedTuple):
    """What is added to actions so that something new is tried."""

    kind: str
    values: dict[str, Any]


class Array(NamedTuple):
    """Numbers as NumPy has them."""

    values: Any


class Linear(NamedTuple):
    """A number that falls to nothing in a straight line."""

    start: float


class Unreadable(BadSpec):
    """An expression that is none of those that are known here."""

    def __init__(self, where: str, what: str) -> None:
        super().__init__(f"{where}: {what}; nothing here is evaluated")


def read(text: str, where: str) -> Any:
    """What an expression says: plain values, and the values above.

    Args:
        text: the expression.
        where: what it is the value of, for people.

    Raises:
        Unreadable: a part of it is unknown; the message names that.
    """
    if len(text) > TEXT_MAX_CHARS:
        raise Unreadable(where, f"an expression of more than {TEXT_MAX_CHARS} letters")
    try:
        tree = ast.parse(text.strip(), mode="eval")
        return _Reader(where).value(tree.body)
    except (SyntaxError, ValueError) as error:
        raise Unreadable(where, f"{_shown(text)} is no expression") from error
    except (RecursionError, MemoryError) as error:
        raise Unreadable(where, "an expression that is nested too deeply") from error


def schedule(text: str) -> float | Linear | None:
    """A number, or `lin_3e-4`: one that falls; None: the text is neither."""
    kind, _, start = text.rpartition("_")
    if kind not in ("", "lin"):
        return None
    try:
        number = float(start)
    except ValueError:
        return None
    if not math.isfinite(number):
        return None
    return Linear(number) if kind else number


def made(value: Any) -> Any:
    """The value with what its names mean; this imports what they are of."""
    if isinstance(value, Named):
        return getattr(importlib.import_module(_PLACES[value.name]), value.name)
    if isinstance(value, Linear):
        return _class("utils", "LinearSchedule")(value.start, 0.0, 1.0)
    if isinstance(value, Noise):
        return _class("noise", value.kind)(**made(value.values))
    if isinstance(value, Array):
        import numpy as np  # noqa: PLC0415 - only for what is to learn

        return np.asarray(value.values, dtype=np.float64)
    if isinstance(value, dict):
        return {key: made(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(made(part) for part in value)
    return value


def named(text: str) -> Named | None:
    """The class that a text names, with or without its module; None: none that is known."""
    prefix, _, name = text.strip().rpartition(".")
    place = _PLACES.get(name)
    if place is None or prefix not in ("", place, *_PREFIXES.get(place, ())):
        return None
    return Named(name)


class _Reader:
    """Reads the parts of one expression."""

    def __init__(self, where: str) -> None:
        self._where = where

    def value(self, node: ast.expr) -> Any:
        """What a part says."""
        if isinstance(node, ast.Constant):
            return self._constant(node)
        if isinstance(node, ast.List):
            return [self.value(part) for part in node.elts]
        if isinstance(node, ast.Tuple):
            return tuple(self.value(part) for part in node.elts)
        if isinstance(node, ast.Dict):
            return self._dict(node)
        if isinstance(node, ast.Name | ast.Attribute):
            if (known := named(ast.unparse(node))) is not None:
                return known
        elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.UAdd):
            number = self._number(node.operand)
            return -number if isinstance(node.op, ast.USub) else number
        elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mult):
            return self._times(self.value(node.left), self.value(node.right), node)
        elif isinstance(node, ast.Call):
            return self._call(node)
        raise self._unknown(node)

    def _constant(self, node: ast.Constant) -> Any:
        if node.value is None or isinstance(node.value, bool | int | float | str):
            return node.value
        raise self._unknown(node)

    def _dict(self, node: ast.Dict) -> dict[Any, Any]:
        keys = [self.value(key) if key is not None else None for key in node.keys]
        if not all(isinstance(key, str) for key in keys):
            raise self._unknown(node)
        return dict(zip(keys, map(self.value, node.values), strict=True))

    def _call(self, node: ast.Call) -> Any:
        name = ast.unparse(node.func)
        plain = name.removeprefix("np.").removeprefix("numpy.")
        keywords = {word.arg: self.value(word.value) for word in node.keywords if word.arg}
        if len(keywords) != len(node.keywords):
            raise self._unknown(node)
        given = [self.value(argument) for argument in node.args]
        match name, given:
            case "dict", []:
                return keywords
            case _, [] if name in _NOISES:
                return Noise(name, keywords)
            case _, [one] if name == _LINEAR and not keywords and _is_number(one):
                return Linear(float(one))
            case _, [one] if plain in _ARRAYS and plain != name and not keywords:
                return self._array(plain, one, node)
        raise self._unknown(node)

    def _array(self, kind: str, one: Any, node: ast.expr) -> Array:
        if kind == "array":
            if isinstance(one, list) and all(map(_is_number, one)):
                return Array(one)
        elif isinstance(one, int) and not isinstance(one, bool) and 0 < one <= LENGTH_MAX:
            return Array([0.0 if kind == "zeros" else 1.0] * one)
        raise self._unknown(node)

    def _times(self, left: Any, right: Any, node: ast.expr) -> Any:
        if isinstance(right, Array):
            left, right = right, left
        if not _is_number(right):
            raise self._unknown(node)
        if isinstance(left, Array):
            return Array([right * number for number in left.values])
        if _is_number(left):
            return left * right
        raise self._unknown(node)

    def _number(self, node: ast.expr) -> Any:
        number = self.value(node)
        if not _is_number(number):
            raise self._unknown(node)
        return number

    def _unknown(self, node: ast.expr) -> Unreadable:
        return Unreadable(self._where, f"{_shown(ast.unparse(node))} is not known here")


def _class(module: str, name: str) -> Callable[..., Any]:
    found: Callable[..., Any] = getattr(importlib.import_module(f"{_SB3}.common.{module}"), name)
    return found


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _shown(text: str) -> str:
    line = " ".join(text.split())
    return repr(line if len(line) <= SHOWN_MAX_CHARS else f"{line[: SHOWN_MAX_CHARS - 1]}…")
