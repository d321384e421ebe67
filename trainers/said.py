"""What a trainer says, checked and converted when it says it.

A trainer is anybody's program, and what it says goes into files that the supervisor and its next
attempt depend on. Whatever counts as a number in Python counts here: those of NumPy and torch too.
What cannot be used ends the attempt with one line that names the argument, rather than to cost
every checkpoint from then on. Words for people are the exception: they are made fit, and never
refused.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from trainers.contract import NAME, BadSpec, Failure, Score, finite

COUNT_MAX = 10**18 - 1
"""of steps and of episodes: what the name of a checkpoint has room for"""
TEXT_MAX_CHARS = 500
"""of a notice or an error: twenty of them fit into a heartbeat"""
KEY_MAX_CHARS = 200
"""of the name of a metric"""
KEYS_MAX = 1000
"""metrics in one line"""
SHOWN_MAX_CHARS = 80
FILE_NAME_MAX_BYTES = 255
"""what file systems have room for"""
FILE_NAME = f"one of 1 to {FILE_NAME_MAX_BYTES} bytes without '/' and control characters"


class Misused(BadSpec):
    """A trainer has said something that cannot be used; only a change of its code mends that."""

    def __init__(self, argument: str, expected: str, got: object) -> None:
        super().__init__(f"{argument} must be {expected}, and is {_shown(got)}")


class Told(Exception):
    """A death whose one line says all: where in our code it came up helps nobody."""


class Killed(Told):
    """Somebody has killed what the trainer had started, which has failed at nothing itself."""


def count(argument: str, value: object, *, least: int = 0) -> int:
    """A number of steps or episodes: whole, and no less than what was said before.

    Raises:
        Misused: it is not.
    """
    if type(value) is int and least <= value <= COUNT_MAX:
        return value  # what nearly all say, at every step
    number = _number(value)
    if isinstance(number, float) and number.is_integer():
        number = int(number)
    if not isinstance(number, int) or not 0 <= number <= COUNT_MAX:
        raise Misused(argument, f"a whole number from 0 to {COUNT_MAX}", value)
    if number < least:
        expected = f"no less than {least}, which was there before: it counts over all attempts"
        raise Misused(argument, expected, value)
    return number


def measure(argument: str, value: object) -> float | None:
    """A measured number; None where it is not finite, which is for the caller to tell.

    Raises:
        Misused: it is no number.
    """
    number = _number(value)
    if number is None:
        raise Misused(argument, "a number", value)
    if isinstance(number, int) and abs(number) < 2**63:
        return number
    try:
        return finite(float(number))
    except OverflowError:
        return None


def score(argument: str, value: object) -> Score:
    """A score whose value is a plain number; None where it is not finite, as in `measure`.

    Raises:
        Misused: it is none, or is not made as one must be.
    """
    if not isinstance(value, Score):
        raise Misused(argument, "a Score, such as Score(name='rmse', value=0.5)", value)
    if not isinstance(value.name, str) or not NAME.fullmatch(value.name):
        raise Misused(f"{argument}: name", "letters, digits, '-' and '_', at most 64", value.name)
    if value.better not in ("higher", "lower"):
        raise Misused(f"{argument}: better", "'higher' or 'lower'", value.better)
    number = None if value.value is None else measure(f"{argument}: value", value.value)
    if number is value.value:
        return value
    return Score(name=value.name, value=number, better=value.better)


def metrics(argument: str, values: object, taken: Iterable[str]) -> dict[str, float | None]:
    """Named numbers for one line of metrics; what is not finite, or unknown, becomes None.

    Args:
        argument: what the trainer calls them.
        values: what it said.
        taken: names that the line has already.

    Raises:
        Misused: a name or a number is not usable.
    """
    if not isinstance(values, Mapping):
        raise Misused(argument, "a mapping of names to numbers", values)
    if len(values) > KEYS_MAX:
        raise Misused(argument, f"at most {KEYS_MAX} numbers", f"{len(values)} of them")
    line: dict[str, float | None] = {}
    for key, value in values.items():
        if not isinstance(key, str) or not 0 < len(key) <= KEY_MAX_CHARS or not _is_text(key):
            raise Misused(f"a name in {argument}", f"text of 1 to {KEY_MAX_CHARS} letters", key)
        if key in taken:
            raise Misused(f"a name in {argument}", "another, since every line has this one", key)
        where = f"{argument}[{_shown(key)}]"
        line[key] = None if value is None else measure(where, value)
    return line


def files(argument: str, given: object) -> Iterator[tuple[str, memoryview | Path]]:
    """The files of a checkpoint as they are produced: name, and content as bytes or as a file.

    Nearly every name is good. Nobody's may lead elsewhere, or hide what a list of files shows.

    Raises:
        Misused: a name or a content is not usable.
    """
    pairs = given.items() if isinstance(given, Mapping) else given
    if not isinstance(pairs, Iterable):
        raise Misused(argument, "names and contents of files", given)
    for pair in pairs:
        if not isinstance(pair, tuple | list) or len(pair) != 2:
            raise Misused(f"each of {argument}", "a name and a content", pair)
        name, content = pair
        if not isinstance(name, str) or not is_file_name(name):
            raise Misused(f"a name in {argument}", FILE_NAME, name)
        where = f"{argument}: {_shown(name)}"
        yield name, content if isinstance(content, Path) else _bytes(where, content)


def is_file_name(name: str) -> bool:
    """Whether a file of a checkpoint may be called so: it leads nowhere else, and is one line."""
    if name in ("", ".", "..") or "/" in name:
        return False
    if any(sign < " " or "\x7f" <= sign < "\xa0" or "\ud800" <= sign < "\ue000" for sign in name):
        return False
    return len(name.encode("utf-8")) <= FILE_NAME_MAX_BYTES


def text(value: object) -> str:
    """Words for people in one line, whatever `value` is: never an error, never too long."""
    try:
        words = str(value)
    except BaseException:  # noqa: BLE001 - what an error says of itself may be one, too
        words = f"a {type(value).__name__} that cannot be told"
    # Only the beginning is looked at: it may be gigabytes.
    words = words[: 4 * TEXT_MAX_CHARS].encode("utf-8", "replace").decode()
    words = "".join(sign if sign.isprintable() else " " for sign in words)
    words = " ".join(words.split())
    return words if len(words) <= TEXT_MAX_CHARS else f"{words[: TEXT_MAX_CHARS - 1]}…"


def reason(error: BaseException) -> str:
    """Why an attempt has ended, in one line."""
    said = text(error)
    if isinstance(error, BadSpec | Told):
        return said
    kind = type(error).__name__
    return text(f"{kind}: {said}" if said else kind)


def failure(error: BaseException) -> Failure | None:
    """What kind of error has ended an attempt, in words that fit; None: none that has a name."""
    if not isinstance(error, BadSpec):
        return None
    try:
        told = error.failure
        field = None if told.field is None else text(told.field)
        return Failure(kind=text(told.kind), reason=text(told.reason), field=field)
    except Exception:  # noqa: BLE001 - what an error says of itself may be one, too
        return None


def _number(value: object) -> int | float | None:
    """`value` as Python's own number; None where it is none."""
    if _is_bool(value):
        return None
    if isinstance(value, int):
        return int(value)
    for convert, method in ((_index, "__index__"), (_float, "__float__")):
        if hasattr(type(value), method):
            try:
                return convert(value)
            except (TypeError, ValueError, RuntimeError):  # an array of several numbers
                continue
            except OverflowError:
                return math.inf
    return None


def _index(value: Any) -> int:
    return int(value.__index__())


def _float(value: Any) -> float:
    return float(value)


def _is_bool(value: object) -> bool:
    """Whether it is true or false, in the words of Python, NumPy or torch."""
    kind = str(getattr(value, "dtype", type(value).__name__)).removeprefix("torch.")
    return isinstance(value, bool) or kind in ("bool", "bool_")


def _is_text(words: str) -> bool:
    """Whether it can be written down, and shown on one line."""
    return words.isprintable() and words == words.encode("utf-8", "replace").decode()


def _bytes(argument: str, content: object) -> memoryview:
    try:
        return memoryview(content).cast("B")  # type: ignore[arg-type]  # refused if it is none
    except (TypeError, ValueError):
        raise Misused(argument, "bytes, or the path of a file", content) from None


def _shown(value: object) -> str:
    """`value` as a person recognises it, in a few letters."""
    if isinstance(value, str):
        shown = ascii(value[: SHOWN_MAX_CHARS + 1])
    elif isinstance(value, int | float):
        shown = "far too large" if abs(value) > COUNT_MAX else text(value)
    else:
        shown = f"{text(value)} ({type(value).__name__})"
    return shown if len(shown) <= SHOWN_MAX_CHARS else f"{shown[: SHOWN_MAX_CHARS - 1]}…"
