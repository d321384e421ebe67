"""What is told of the trainers: which there are, from where, and what can be set in each."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import msgspec

from trainers import durable, options, registry
from trainers.registry import BrokenTrainer, Found

UNSET = "unset"


class Option(msgspec.Struct, frozen=True, kw_only=True):
    """One option of a trainer, as `supervisor trainers NAME` shows it."""

    name: str
    type: str
    """which values it takes, with their limits, in words"""
    required: bool
    default: Any = None
    """as JSON has it; of no meaning where the option is required"""
    about: str
    """what its documentation says; "" where there is none"""


class Listed(msgspec.Struct, frozen=True, kw_only=True):
    """One trainer, or what was meant to be one, as `supervisor trainers` shows it."""

    name: str
    origin: str
    """who has put it there: the supervisor, the settings, or a package that is installed"""
    place: str
    """its file"""
    unit: str | None = None
    """what its step is"""
    about: str = ""
    """the first sentence of its documentation"""
    problem: str | None = None
    """why it cannot be used; None: nothing is known against it"""


class Described(Listed, frozen=True, kw_only=True):
    """One trainer with its options."""

    options: tuple[Option, ...] = ()
    load: tuple[Option, ...] = ()
    """what a mode may lay upon it, in `[load.NAME]` of its file"""


def listed() -> tuple[Listed, ...]:
    """Every trainer by its name, found without importing any; then what cannot be used."""
    good, bad = [], []
    for one in registry.everything():
        if isinstance(one, Found):
            good.append(_listed(one))
        elif isinstance(one, BrokenTrainer):
            place = str(one.path)
            bad.append(Listed(name=one.name, origin=one.origin, place=place, problem=str(one)))
        else:
            place = one.filename
            bad.append(Listed(name="", origin=registry.OWN, place=place, problem=str(one)))
    return tuple(sorted(good, key=lambda one: one.name)) + tuple(bad)


def described(name: str) -> Described:
    """The trainer called `name`, with its options; it is imported for that.

    Raises:
        NoTrainer: there is none.
        BrokenTrainer: it cannot be used.
    """
    trainer = registry.load(name)
    one = msgspec.structs.asdict(_listed(registry.find(name)))
    load = getattr(trainer, "Load", options.Nothing)
    return Described(
        **one,
        options=table(getattr(trainer, "Options", options.Nothing)),
        load=() if load is dict else table(load),
    )


def in_words(trainers: Sequence[Listed]) -> str:
    """A list for people: a table of those that can be used, and a line for each other."""
    rows = [("trainer", "step", "from", "what it does")]
    rows += [
        (one.name, one.unit or "", one.origin, one.about) for one in trainers if not one.problem
    ]
    broken = [one.problem for one in trainers if one.problem]
    return "\n".join((*_columns(rows), *broken))


def one_in_words(trainer: Described) -> str:
    """One trainer for people."""
    head = [f"{trainer.name}: {trainer.about}" if trainer.about else trainer.name]
    counted = "whatever a target names" if trainer.unit == options.ANY else trainer.unit
    head += [f"from {trainer.origin}, {trainer.place}; it counts {counted}"]
    if trainer.options:
        shown = _columns([("option", "default", "takes", "meaning"), *_rows(trainer.options)])
    else:
        shown = ["It takes no options."]
    load = []
    if trainer.load:
        title = f"[load.{trainer.name}]"
        load = _columns([(title, "default", "takes", "meaning"), *_rows(trainer.load)])
        load = ["", "What the file of a mode can lay upon each of its runs:", *load]
    return "\n".join((*head, "", *shown, *load))


def _rows(table: Sequence[Option]) -> list[tuple[str, ...]]:
    return [
        (
            one.name,
            "required" if one.required else _shown(one.default),
            one.type.removesuffix(f" or {UNSET}"),
            one.about,
        )
        for one in table
    ]


def table(kind: type[msgspec.Struct]) -> tuple[Option, ...]:
    """Every option, in the order of the code."""
    said = _documentation(kind)
    types = cast("msgspec.inspect.StructType", msgspec.inspect.type_info(kind)).fields
    return tuple(
        Option(
            name=field.encode_name,
            type=_in_words(field.type),
            required=field.required,
            default=_default(field),
            about=said.get(field.name, ""),
        )
        for field in types
    )


def _listed(found: Found) -> Listed:
    return Listed(
        name=found.name,
        origin=found.origin,
        place=str(found.path),
        unit=found.unit,
        about=found.about,
    )


def _shown(value: object) -> str:
    return UNSET if value is None else msgspec.json.encode(value).decode()


def _columns(rows: Sequence[tuple[str, ...]]) -> list[str]:
    """Rows as lines; of the last column nothing is padded."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)][:-1]
    return [
        "  ".join(
            (*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[-1])
        ).rstrip()
        for row in rows
    ]


def _default(field: msgspec.inspect.Field) -> Any:
    value = field.default
    if field.default_factory is not msgspec.NODEFAULT:
        value = field.default_factory()
    if value is msgspec.NODEFAULT:
        return None
    return msgspec.to_builtins(value, str_keys=True)


def _documentation(kind: type[msgspec.Struct]) -> dict[str, str]:
    """What stands in a string below each field, also of those that are inherited."""
    found: dict[str, str] = {}
    for one in reversed(kind.__mro__):
        if issubclass(one, msgspec.Struct) and one is not msgspec.Struct:
            for node in _body(one):
                found.update(node)
    return found


def _body(kind: type[msgspec.Struct]) -> Iterator[dict[str, str]]:
    path = getattr(sys.modules.get(kind.__module__), "__file__", None)
    try:
        tree = ast.parse(durable.read(Path(path or ""), registry.SOURCE_MAX_BYTES, follow=True))
    except (OSError, SyntaxError, ValueError):
        return  # it was built while running, or its source is gone: there is nothing to tell
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef) and node.name == kind.__name__:
            for field, text in zip(node.body, node.body[1:], strict=False):
                if (
                    isinstance(field, ast.AnnAssign)
                    and isinstance(field.target, ast.Name)
                    and isinstance(text, ast.Expr)
                    and isinstance(text.value, ast.Constant)
                    and isinstance(text.value.value, str)
                ):
                    said = " ".join(text.value.value.split())
                    yield {field.target.id: said}


_PLAIN: dict[type[msgspec.inspect.Type], str] = {
    msgspec.inspect.BoolType: "yes or no",
    msgspec.inspect.NoneType: UNSET,
    msgspec.inspect.AnyType: "anything",
    msgspec.inspect.DictType: "a table",
    msgspec.inspect.StructType: "a table",
}
_NUMBERS: dict[type[msgspec.inspect.Type], str] = {
    msgspec.inspect.IntType: "a whole number",
    msgspec.inspect.FloatType: "a number",
}
_LISTS = (
    msgspec.inspect.ListType,
    msgspec.inspect.VarTupleType,
    msgspec.inspect.SetType,
    msgspec.inspect.FrozenSetType,
)


def _in_words(kind: msgspec.inspect.Type) -> str:
    """Which values a type takes."""
    if isinstance(kind, msgspec.inspect.Metadata):
        return _in_words(kind.type)
    if isinstance(kind, msgspec.inspect.UnionType):
        # None last: it is what an option mostly is where nobody sets it.
        ordered = sorted(kind.types, key=lambda one: isinstance(one, msgspec.inspect.NoneType))
        return " or ".join(map(_in_words, ordered))
    if isinstance(kind, msgspec.inspect.LiteralType):
        return " or ".join(msgspec.json.encode(value).decode() for value in kind.values)
    if isinstance(kind, msgspec.inspect.EnumType):
        return " or ".join(msgspec.json.encode(value).decode() for value in kind.cls)
    if isinstance(kind, _LISTS):
        return f"a list, each {_in_words(kind.item_type)}"
    if isinstance(kind, msgspec.inspect.StrType):
        return f"text like {kind.pattern}" if kind.pattern else "text"
    if type(kind) in _NUMBERS:
        limits = {"from": "ge", "above": "gt", "to": "le", "below": "lt"}
        said = [
            f"{word} {bound:g}" if isinstance(bound, float) else f"{word} {bound}"
            for word, limit in limits.items()
            if (bound := getattr(kind, limit)) is not None
        ]
        return " ".join((_NUMBERS[type(kind)], *said))
    return _PLAIN.get(type(kind), type(kind).__name__.removesuffix("Type").lower())
