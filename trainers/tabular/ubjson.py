"""Whether UBJSON, as XGBoost writes it, is whole: of what is cut off that ends the process."""

from __future__ import annotations

_WIDTHS = {
    **dict.fromkeys((b"Z", b"T", b"F"), 0),
    **dict.fromkeys((b"i", b"U", b"C"), 1),
    b"I": 2,
    **dict.fromkeys((b"l", b"d"), 4),
    **dict.fromkeys((b"L", b"D"), 8),
}
"""of single values, in bytes, by the marker before them"""


def is_whole(content: bytes) -> bool:
    """Whether it is one object from the first byte to the last."""
    try:
        return content[:1] == b"{" and _end(content, 0) == len(content)
    except (KeyError, ValueError, RecursionError):
        return False


def _end(content: bytes, at: int) -> int:
    """Where a value ends; behind the end of the content nothing begins."""
    marker, at = content[at : at + 1], at + 1
    if marker == b"{":
        while content[at : at + 1] != b"}":
            length, at = _count(content, at)
            at = _end(content, at + length)
        return at + 1
    if marker == b"[":
        return _array_end(content, at)
    if marker == b"S":
        length, at = _count(content, at)
        return at + length
    return at + _WIDTHS[marker]


def _array_end(content: bytes, at: int) -> int:
    kind = b""
    if content[at : at + 1] == b"$":  # of all its values, which have no markers then
        kind, at = content[at + 1 : at + 2], at + 2
    if content[at : at + 1] != b"#":
        raise ValueError
    count, at = _count(content, at + 1)
    if kind:
        return at + count * _WIDTHS[kind]
    for _ in range(count):
        at = _end(content, at)
    return at


def _count(content: bytes, at: int) -> tuple[int, int]:
    """A number of values or bytes, and where they begin."""
    count = int.from_bytes(content[at + 1 : at + 9], "big", signed=True)
    if content[at : at + 1] != b"L" or count < 0:
        raise ValueError
    return count, at + 9
