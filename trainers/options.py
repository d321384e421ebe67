"""A trainer's own settings, and what a mode lays upon it, refused by name where it knows none."""

from __future__ import annotations

import difflib
import re
from typing import Any, TypeGuard, TypeVar, get_args, get_type_hints

import msgspec

from trainers.contract import EPISODES, BadSpec, Spec

OPTIONS = "options"
"""where options stand in a spec"""
SHOWN_MAX_CHARS = 80
"""of what somebody has written as the name of an option"""

ANY = "any"
"""the unit of a trainer that counts in whichever the target is"""

ENUM = re.compile(r"Invalid enum value .* - at `\$\.(\w+)`$")
"""what the library says of a word that is none of those which a field takes"""

T = TypeVar("T")


class Nothing(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What can be set where a trainer says nothing of it."""


class NoSuchOption(BadSpec):
    """A name that nothing there has."""

    def __init__(self, name: str, known: list[str], where: str) -> None:
        close = difflib.get_close_matches(name, known, n=1)
        if close:
            hint = f"did you mean {close[0]!r}?"
        elif known:
            hint = f"there are: {', '.join(known)}"
        else:
            hint = "this trainer takes none"
        what = "option" if where == OPTIONS else "entry"
        super().__init__(f"{where}: no {what} {name[:SHOWN_MAX_CHARS]!r}; {hint}")


def converted(values: dict[str, Any], kind: type[T], where: str = OPTIONS) -> T:
    """Options as a value of `kind`, or what stands `where` else.

    Raises:
        NoSuchOption: one of them has a name that `kind` forbids.
        BadSpec: a value is not as it must be.
    """
    if is_strict(kind):
        _refuse_others(values, list(kind.__struct_encode_fields__), where)
    try:
        return msgspec.convert(values, kind)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise BadSpec(f"{where}: {error}{_choices(kind, str(error))}") from error


def _choices(kind: type[Any], error: str) -> str:
    """Which words there are, where one is none of them; nothing where that is not what is wrong."""
    match = ENUM.match(error)
    field = get_type_hints(kind).get(match[1]) if match is not None else None
    words = [str(one) for one in get_args(field) if isinstance(one, str)]
    return f"; there are: {', '.join(words)}" if words else ""


def load_of(spec: Spec, kind: type[T]) -> T:
    """What the mode lays upon a run, as a value of `kind`.

    Raises:
        BadSpec: the mode file has something else.
    """
    return converted(spec.load, kind, f"[load.{spec.trainer}] of the mode {spec.mode}")


def validate(trainer: object, spec: Spec) -> None:
    """Have a trainer refuse what it can never do.

    Its `Options` and its `Load` are held to, if it has them, and its own `check` decides the rest.
    What has neither takes no options; what has no `Load` takes none.

    Raises:
        BadSpec: it refuses.
    """
    kind, check = getattr(trainer, "Options", None), getattr(trainer, "check", None)
    if kind is not None:
        converted(spec.options, kind)
    elif check is None:
        _refuse_others(spec.options, [], OPTIONS)
    load = getattr(trainer, "Load", Nothing)
    if load is not dict:
        load_of(spec, load)
    units = ("steps", getattr(trainer, "UNIT", "steps"), EPISODES)
    if spec.target is not None and spec.target.unit not in units and ANY not in units:
        known = " and ".join(dict.fromkeys(units[1:]))
        raise BadSpec(f"a target in {spec.target.unit}: this trainer counts {known}")
    if check is not None:
        check(spec)


def is_strict(kind: object) -> TypeGuard[type[msgspec.Struct]]:
    """Whether a trainer can have it as its `Options` or `Load`: unknown fields are forbidden."""
    return (
        isinstance(kind, type)
        and issubclass(kind, msgspec.Struct)
        and bool(kind.__struct_config__.forbid_unknown_fields)
    )


def _refuse_others(values: dict[str, Any], known: list[str], where: str) -> None:
    for name in values:
        if name not in known:
            raise NoSuchOption(name, known, where)
