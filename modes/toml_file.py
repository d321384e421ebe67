"""Reading a TOML file into a validated value, with every problem told at once."""

from __future__ import annotations

import codecs
import difflib
import re
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import NoneType
from typing import Any, TypeVar, get_args, get_origin

import msgspec

from trainers import durable
from trainers.contract import NAME

NAME_IN_WORDS = "letters, digits, '-' and '_', at most 64, the first a letter or a digit"
PASSWORD = re.compile(r"://[^@/\s]*@")
"""what stands in an address before the host, and may be one"""

T = TypeVar("T", bound=msgspec.Struct)


class InvalidFile(ValueError):
    """A file that a person wrote and that cannot be used as it is."""

    exit_code = 78  # EX_CONFIG

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        """one line each: file, key, value, and what is allowed"""
        super().__init__("\n".join(self.problems))


def read_toml(path: Path, kind: type[T]) -> T:
    """The content of `path` as a `kind`.

    Raises:
        InvalidFile: it cannot be read, is no TOML, or does not fit `kind`.
    """
    try:
        text = _text(durable.read(path, follow=True))
        content = tomllib.loads(text)
    except durable.UnreadableFile as error:
        raise InvalidFile([str(error)]) from error
    except OSError as error:
        raise InvalidFile([f"{path}: cannot be read: {error.strerror}"]) from error
    except _NotText as error:
        raise InvalidFile([f"{path}: {error}"]) from error
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise InvalidFile([f"{path}: is not valid TOML: {error}"]) from error
    if not text:  # nobody writes that: a power cut leaves it of a file that was just saved
        raise InvalidFile([f"{path}: is empty: write it anew, or delete it"])
    problems = [f"{path}: {problem}" for problem in _problems(content, kind, "")]
    if problems:
        raise InvalidFile(problems)
    try:
        return msgspec.convert(content, kind)
    except msgspec.ValidationError as error:  # what only the whole value shows
        raise InvalidFile([f"{path}: {_plain(error)}"]) from error


class _NotText(ValueError):
    """Bytes that are not UTF-8; the message says which, and what to do."""


def _text(raw: bytes) -> str:
    """What stands in a file, without the mark that some editors put first.

    Raises:
        _NotText: it is not UTF-8, or holds a NUL, which no text does.
    """
    if raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise _NotText("is UTF-16 text; save it as UTF-8")
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line, byte = raw.count(b"\n", 0, error.start) + 1, raw[error.start]
        raise _NotText(
            f"is not UTF-8 text: byte 0x{byte:02x} in line {line}; save it as UTF-8"
        ) from error
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise _NotText(f"is not valid TOML: a NUL byte in line {line}; write it anew, as UTF-8")
    return text


def _problems(table: dict[str, Any], kind: type[msgspec.Struct], prefix: str) -> Iterator[str]:
    fields = {field.name: field for field in msgspec.structs.fields(kind)}
    for key, value in table.items():
        if key not in fields:
            close = difflib.get_close_matches(key, fields, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"allowed: {', '.join(fields)}"
            yield f"unknown key '{prefix}{key}'; {hint}"
            continue
        wanted = _certain(fields[key].type)
        if _is_struct(wanted) and isinstance(value, dict):
            yield from _problems(value, wanted, f"{prefix}{key}.")
            continue
        if _is_table_of_structs(wanted) and isinstance(value, dict):
            within = [
                problem
                for name, inner in value.items()
                if isinstance(inner, dict)
                for problem in _problems(inner, get_args(wanted)[1], f"{prefix}{key}.{name}.")
            ]
            yield from within
            if within:  # of which the whole would only tell again, with all that stands beside it
                continue
        try:
            msgspec.convert(value, wanted)
        except msgspec.ValidationError as error:
            yield f"{prefix}{key} = {_short(value)}: {_not_a_name(value, error) or _plain(error)}"
    for name, field in fields.items():
        if field.required and name not in table:
            yield f"missing key '{prefix}{name}'"


def _certain(kind: Any) -> Any:
    """A table of its own, where a table may be missing."""
    certain = [one for one in get_args(kind) if one is not NoneType]
    return certain[0] if len(certain) == 1 and _is_struct(certain[0]) else kind


def _is_struct(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, msgspec.Struct)


def _is_table_of_structs(kind: Any) -> bool:
    return get_origin(kind) is dict and _is_struct(get_args(kind)[1])


def _short(value: object) -> str:
    text = PASSWORD.sub("://...@", repr(value))
    return text if len(text) <= 60 else f"{text[:57]}..."


def _not_a_name(value: object, error: msgspec.ValidationError) -> str | None:
    """What to tell of a value that was to be a name and is none; None: that is not its fault."""
    if NAME.pattern not in str(error):
        return None
    for text in value if isinstance(value, list | dict) else [value]:
        if isinstance(text, str) and not NAME.fullmatch(text):
            meant = _likely_name(text)
            hint = f"; did you mean {meant!r}?" if meant else ""
            return f"{_short(text)} is no name: {NAME_IN_WORDS}{hint}"
    return None


def _likely_name(text: str) -> str | None:
    """The name that was meant: `Pong` by `ALE/Pong-v5`, `SpaceInvaders` by `Space Invaders`."""
    if not text.isascii():
        return None
    plain = re.sub(r"\.[a-z0-9]{1,4}$|-v[0-9]+$", "", text.strip().rpartition("/")[2])
    first, *others = re.findall("[A-Za-z0-9_-]+", plain) or [""]
    name = first.lstrip("_-") + "".join(word[:1].upper() + word[1:] for word in others)
    return name if NAME.fullmatch(name) else None


def _plain(error: msgspec.ValidationError) -> str:
    """The library's message in the words of a settings file."""
    text = str(error).split(" - at `")[0].replace("`", "")
    text = (text[:1].lower() + text[1:]).replace(" | null", "")
    return text.replace("expected object", "expected table")
