"""JSON from strangers becomes values: strictly, quickly, and with everything that is wrong told.

`read` raises the errors of this room and nothing else, whatever the bytes are.
"""

from __future__ import annotations

import difflib
import json
import math
import re
import types
import typing
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from functools import cache
from typing import Any, TypeVar

import msgspec

from supervisor.jobs.errors import (
    PROBLEMS_MAX,
    SHOWN_MAX_CHARS,
    ConfigValidationError,
    Problem,
    TooLarge,
)

BODY_MAX_BYTES = 2**20
"""none that makes sense is longer; the largest part of one is its list of features"""
DEPTH_MAX = 32
"""objects and lists within each other"""
NUMBER_MAX_CHARS = 40
FIRST_YEAR, LAST_YEAR = 1678, 2261
"""whose moments can be told in nanoseconds since 1970, as tables do"""
MOMENT_MAX_CHARS = 40
KEYS_MAX = PROBLEMS_MAX - 1
"""unknown ones that are told one by one, and then how many more there are"""
BODY = "body"
"""the field of what is wrong with a body as a whole"""

T = TypeVar("T")

KINDS = {
    "int": "a whole number",
    "float": "a number",
    "str": "a text",
    "bool": "true or false",
    "object": "an object",
    "array": "a list",
    "null": "null",
    "datetime": "a time in ISO 8601",
}
"""what the library calls a kind of value, and people do"""
NO_WORD = "Invalid enum value "
NAMED = "1 to 64 letters, digits, '-' and '_', and begin with a letter or a digit"
"""how a name must be"""
BOUNDS = {">=": "at least", "<=": "at most", "<": "less than", ">": "more than"}
_EXPECTED = re.compile(r"Expected `([^`]+)`(?:, got `([^`]+)`)?(?: (.*))?", re.DOTALL)
_PLACE = re.compile(r" - at `\$([^`]*)`$")


class _Wrong(ValueError):
    """JSON that no body may be; the message says why."""


def read(content: bytes, kind: type[T], *, bound_bytes: int = BODY_MAX_BYTES) -> T:
    """The JSON of a body as a value of `kind`.

    Raises:
        TooLarge: it is longer than `bound_bytes`.
        ConfigValidationError: it is no JSON, or not such a value; with all problems.
    """
    if len(content) > bound_bytes:
        raise TooLarge(len(content), bound_bytes)
    try:
        value = json.loads(
            content.decode("utf-8-sig"),  # Windows begins files with a mark that is no JSON
            object_pairs_hook=_object,
            parse_constant=_no_number,
            parse_float=_float,
            parse_int=_int,
        )
        _look_at(value)
    except UnicodeDecodeError:
        raise _body("Must be UTF-8") from None
    except RecursionError:
        raise _body(f"Must not be nested deeper than {DEPTH_MAX} levels") from None
    except json.JSONDecodeError as error:
        if not content.strip():
            raise _body("Must be JSON, and is empty") from None
        place = f"line {error.lineno}, column {error.colno}"
        raise _body(f"Must be JSON: {error.msg} ({place})") from None
    except _Wrong as error:
        raise _body(str(error)) from None
    return converted(value, kind)


def read_query(pairs: Iterable[tuple[str, str]], kind: type[T]) -> T:
    """What stands behind the question mark of a URL, as a value of `kind`, a struct.

    A field that holds several values may stand there several times. Words count in any case.

    Raises:
        ConfigValidationError: it is no such value; with all problems.
    """
    known: dict[str, msgspec.structs.FieldInfo] = _fields(kind)  # type: ignore[arg-type]
    given: dict[str, Any] = {}
    problems: list[Problem] = []
    for name, text in pairs:
        if name not in known:
            given[name] = text
            continue
        choices = _choices(known[name].type)
        several = [one for one in choices if typing.get_origin(one) is tuple]
        if several:
            of = _choices(typing.get_args(several[0])[0])
            given.setdefault(name, []).append(_plain(text, of))
        elif name in given:
            problems.append(problem(name, "Must stand there once"))
        else:
            given[name] = _plain(text, choices)
    if problems:
        raise ConfigValidationError(problems)
    try:
        _look_at(given)
    except _Wrong as error:
        raise _body(str(error)) from None
    return converted(given, kind)


def _plain(text: str, choices: tuple[Any, ...]) -> Any:
    """A text of a URL as JSON would have it."""
    if int in choices and re.fullmatch(r"-?[0-9]{1,18}", text):
        return int(text)
    if datetime in choices:
        # In a URL a plus is a space, which most forget before a zone.
        return re.sub(r" (?=[0-9]{2}:?[0-9]{2}$)", "+", text)
    words = (word for one in choices for word in _words(one))
    return next((word for word in words if word.lower() == text.lower()), text)


def converted(value: Any, kind: type[T], place: str = "") -> T:
    """Plain values as a value of `kind`.

    A struct may say, in a method `problems`, what no type can: each is asked once its own fields
    are right.

    Args:
        value: of JSON.
        kind: a struct, or another type.
        place: where it stands in the body, for the problems.

    Raises:
        ConfigValidationError: it is none; with all problems.
    """
    problems: list[Problem] = []
    found = _value(value, kind, place, problems)
    if problems:
        raise ConfigValidationError(problems)
    return typing.cast("T", found)


def problem(path: str, error: str) -> Problem:
    """A problem at a place of the body: what stands in `config` is called as in the document."""
    field = path.removeprefix("config.")
    return Problem(field, error) if field == path else Problem(field, error, path)


def moment(text: str) -> datetime:
    """A time in ISO 8601, in UTC; without a zone it is UTC.

    Raises:
        ValueError: it is none, or so far away that tables cannot tell it.
    """
    if len(text) > MOMENT_MAX_CHARS or not text.isascii():
        raise ValueError("no time")
    found = datetime.fromisoformat(text.upper())  # its letters may be small ones
    try:
        found = found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
    except OverflowError as error:
        raise ValueError("beyond time") from error
    if not FIRST_YEAR <= found.year <= LAST_YEAR:
        raise ValueError("beyond time")
    return found


def _body(error: str) -> ConfigValidationError:
    return ConfigValidationError([Problem(BODY, error)])


# What JSON lets pass


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise _Wrong(f"Must not have the key {_shown(key)} twice")
            seen.add(key)
    return found


def _no_number(word: str) -> float:
    raise _Wrong(f"Must not have {word}, which is no JSON: write null, or leave it out")


def _float(text: str) -> float:
    value = float(text)
    if len(text) > NUMBER_MAX_CHARS or not math.isfinite(value):
        raise _Wrong(f"Must not have the number {_shown(text)}, which no computer can hold")
    return value


def _int(text: str) -> int:
    if len(text) > NUMBER_MAX_CHARS or not -(2**63) <= (value := int(text)) < 2**63:
        raise _Wrong(f"Must not have the number {_shown(text)}, which 64 bits cannot hold")
    return value


def _look_at(value: Any) -> None:
    """See that it is not nested too deeply, and that its texts can be stored and sent."""
    level = [value]
    for _ in range(DEPTH_MAX + 1):
        deeper: list[Any] = []
        for one in level:
            if isinstance(one, str):
                _look_at_text(one)
            elif isinstance(one, dict):
                for key in one:
                    _look_at_text(key)
                deeper += one.values()
            elif isinstance(one, list):
                deeper += one
        if not deeper:
            return
        level = deeper
    raise _Wrong(f"Must not be nested deeper than {DEPTH_MAX} levels")


def _look_at_text(text: str) -> None:
    if text.isascii() and "\0" not in text:
        return
    if "\0" in text:
        raise _Wrong(f"Must not have the character NUL, as in {_shown(text)}")
    try:
        text.encode()
    except UnicodeEncodeError:
        what = f"Must not have half of a surrogate pair, as in {_shown(text)}"
        raise _Wrong(what) from None


def _shown(text: str) -> str:
    """What somebody has sent, cut and with whatever could do harm as escapes."""
    return ascii(text[:SHOWN_MAX_CHARS])


# From plain values to a type


@cache
def _fields(kind: type[msgspec.Struct]) -> dict[str, msgspec.structs.FieldInfo]:
    return {field.encode_name: field for field in msgspec.structs.fields(kind)}


def _value(value: Any, kind: Any, path: str, problems: list[Problem]) -> Any:
    if isinstance(value, dict):
        for one in _choices(kind):
            if isinstance(one, type) and issubclass(one, msgspec.Struct):
                return _struct(value, one, path, problems)
            if typing.get_origin(one) is dict and typing.get_args(one)[1] is not Any:
                of = typing.get_args(one)[1]
                items = {
                    key: _value(it, of, _within(path, key), problems) for key, it in value.items()
                }
                return _checked(items, dict[_key_of(one), Any], path, problems)  # type: ignore[misc]
    if isinstance(value, str) and datetime in _choices(kind):
        try:
            return moment(value)
        except ValueError:
            years = f"between {FIRST_YEAR} and {LAST_YEAR}"
            what = f"Must be a time in ISO 8601 {years}, such as 2024-01-01T00:00:00"
            problems.append(problem(path, f"{what}, and is {_shown(value)}"))
            return None
    return _checked(value, kind, path, problems)


def _struct(
    value: dict[str, Any], kind: type[msgspec.Struct], path: str, problems: list[Problem]
) -> Any:
    before, known = len(problems), _fields(kind)
    if kind.__struct_config__.forbid_unknown_fields:
        problems += _unknown([key for key in value if key not in known], list(known), path)
    given: dict[str, Any] = {}
    for name, field in known.items():
        there = _within(path, name)
        if name in value:
            given[field.name] = _value(value[name], field.type, there, problems)
        elif field.required:
            problems.append(problem(there, "Required"))
    if len(problems) > before:
        return None
    found = kind(**given)
    more: Iterator[Problem] = getattr(found, "problems", lambda: iter(()))()
    problems += [problem(_within(path, one.field), one.error) for one in more]
    return found


def _unknown(keys: list[str], known: list[str], path: str) -> Iterator[Problem]:
    """That there are no such keys; of many only the first are looked at, which takes time."""
    listed = f"; there are: {', '.join(known)}"
    for key in keys[:KEYS_MAX]:
        shown = key if key.isprintable() else ascii(key)
        close = difflib.get_close_matches(key[:SHOWN_MAX_CHARS], known, n=1)
        hint = f"; did you mean {close[0]}?" if close else listed
        if hint is listed:
            listed = ""
        yield problem(_within(path, shown[:SHOWN_MAX_CHARS]), f"No such key{hint}")
    if len(keys) > KEYS_MAX:
        further = len(keys) - KEYS_MAX
        yield problem(path or BODY, f"Has {further} further keys that there are not")


def _checked(value: Any, kind: Any, path: str, problems: list[Problem]) -> Any:
    try:
        return msgspec.convert(value, kind)
    except (msgspec.ValidationError, RecursionError) as error:
        text = str(error)
        place = _PLACE.search(text)
        inner = place[1] if place else ""
        what = _in_words(text[: place.start()] if place else text, kind)
        problems.append(problem(f"{path}{inner}" or BODY, what))
        return None


def _in_words(text: str, kind: Any) -> str:
    """What the library says of a value, as people say it; it tells it in no other way."""
    match = _EXPECTED.match(text)
    must = _must(kind)
    if match is None or match[2] is None:
        if must is not None:
            return f"Must be {must}"
        if text.startswith(NO_WORD):
            given = text.removeprefix(NO_WORD).strip("'")
            return f"Must be one of {', '.join(_words(kind))}, and is {_shown(given)}"
    if match is None:
        return text
    expected, got, more = match.groups()
    if got is not None:
        kinds = " or ".join(KINDS.get(word, word) for word in expected.split(" | "))
        return f"Must be {kinds}, and is {KINDS.get(got, got)}"
    length = re.fullmatch(r"of length (>=|<=) (\d+)", more or "")
    if length is not None:
        of = "characters" if expected == "str" else "entries"
        return f"Must have {'at least' if length[1] == '>=' else 'at most'} {length[2]} {of}"
    if more is not None and more.startswith("matching regex"):  # which no other text has
        return f"Must be {NAMED}"
    bound = re.fullmatch(r"(>=|<=|<|>) (.+)", more or "")
    if bound is not None:
        return f"Must be {BOUNDS[bound[1]]} {bound[2]}"
    return text


def _must(kind: Any) -> str | None:
    """What a type itself says of how its values must be: `extra` of its `Meta`."""
    for one in (kind, *typing.get_args(kind)):
        for meta in getattr(one, "__metadata__", ()):
            if isinstance(meta, msgspec.Meta) and meta.extra and "must" in meta.extra:
                return str(meta.extra["must"])
    return None


def _choices(kind: Any) -> tuple[Any, ...]:
    """The types that a value may have, without what is said of them."""
    if typing.get_origin(kind) is typing.Annotated:
        return _choices(typing.get_args(kind)[0])
    if isinstance(kind, types.UnionType) or typing.get_origin(kind) is typing.Union:
        return tuple(it for one in typing.get_args(kind) for it in _choices(one))
    return (kind,)


def _words(kind: Any) -> list[str]:
    """The words among which a value is, or each value of a list."""
    found: list[str] = []
    for one in _choices(kind):
        for it in typing.get_args(one):
            found += [it] if isinstance(it, str) else _words(it)
    return found


def _key_of(kind: Any) -> Any:
    return typing.get_args(kind)[0]


def _within(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name
