"""A trainer's own settings, refused by name where it has no such option."""

from __future__ import annotations

import difflib
from typing import Any, TypeGuard, TypeVar

import msgspec

from trainers.contract import BadSpec, Spec

SHOWN_MAX_CHARS = 80
"""of what somebody has written as the name of an option"""

T = TypeVar("T")


class NoSuchOption(BadSpec):
    """A name that none of the options has."""

    def __init__(self, name: str, known: list[str]) -> None:
        close = difflib.get_close_matches(name, known, n=1)
        if close:
            hint = f"did you mean {close[0]!r}?"
        elif known:
            hint = f"there are: {', '.join(known)}"
        else:
            hint = "this trainer takes none"
        super().__init__(f"options: no option {name[:SHOWN_MAX_CHARS]!r}; {hint}")


def converted(options: dict[str, Any], kind: type[T]) -> T:
    """Options as a value of `kind`.

    Raises:
        NoSuchOption: one of them has a name that `kind` forbids.
        BadSpec: a value is not as it must be.
    """
    if is_strict(kind):
        _refuse_others(options, [field.encode_name for field in msgspec.structs.fields(kind)])
    try:
        return msgspec.convert(options, kind)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise BadSpec(f"options: {error}") from error


def validate(trainer: object, spec: Spec) -> None:
    """Have a trainer refuse what it can never do.

    Its `Options` are held to, if it has them, and its own `check` decides the rest. What has
    neither takes no options.

    Raises:
        BadSpec: it refuses.
    """
    kind, check = getattr(trainer, "Options", None), getattr(trainer, "check", None)
    if kind is not None:
        converted(spec.options, kind)
    elif check is None:
        _refuse_others(spec.options, [])
    if check is not None:
        check(spec)


def is_strict(kind: object) -> TypeGuard[type[msgspec.Struct]]:
    """Whether it can be the `Options` of a trainer: a Struct that forbids unknown fields."""
    return (
        isinstance(kind, type)
        and issubclass(kind, msgspec.Struct)
        and bool(kind.__struct_config__.forbid_unknown_fields)
    )


def _refuse_others(options: dict[str, Any], known: list[str]) -> None:
    for name in options:
        if name not in known:
            raise NoSuchOption(name, known)
