"""TensorBoard's files, written and read without TensorBoard.

A file is a row of records: the length of one, its content, and a checksum of each. The content is
an `Event` in the encoding of Protocol Buffers, of which only what curves need is known here: when,
at which step, and a summary of values by their names.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import NamedTuple

VARINT, DOUBLE, BYTES, FLOAT = 0, 1, 2, 5
"""how a field of a protocol buffer is written"""
RECORD_MAX_BYTES = 2**20
"""a larger one, of pictures perhaps, is passed over unread"""
RECORD_END = 2**40
"""no record is as large as that, whatever it says of itself"""
HEAD_BYTES, SUM_BYTES = 12, 4
"""of a record: its length with a checksum before it, and another checksum behind it"""
DT_FLOAT, DT_DOUBLE = 1, 2
"""types of a tensor, as which newer programs write a number"""


class NoRecord(ValueError):
    """What lies there is none of TensorBoard's."""


class Point(NamedTuple):
    """What an Event says of one step."""

    step: int
    values: dict[str, float]


def event(step: int, at: float, what: bytes) -> bytes:
    """A record with an Event.

    Args:
        step: that it belongs to.
        at: wall time, seconds since 1970.
        what: a field of it: `FORMAT`, `START` or a `summary`.
    """
    when = _key(1, DOUBLE) + struct.pack("<d", at)
    content = when + _key(2, VARINT) + _varint(step) + what
    length = struct.pack("<Q", len(content))
    return length + _checksum(length) + content + _checksum(content)


def summary(points: bytes) -> bytes:
    """Points, one behind the other, as what an Event tells."""
    return _bytes(5, points)


def point(name: str, value: float) -> bytes:
    """A value of a summary; nothing where TensorBoard's numbers have no room for it."""
    try:
        number = struct.pack("<f", value)
    except OverflowError:
        return b""
    return _bytes(1, _bytes(1, name.encode()) + _key(2, FLOAT) + number)


def read(content: bytes) -> tuple[list[Point], int]:
    """The points in the whole records that `content` begins with, and how many bytes these have.

    Those bytes may be more than there are, where the last record is a large one to be passed over.

    Raises:
        NoRecord: something else lies there.
    """
    points: list[Point] = []
    at = 0
    while len(content) - at >= HEAD_BYTES:
        length = content[at : at + 8]
        if content[at + 8 : at + HEAD_BYTES] != _checksum(length):
            raise NoRecord("a length does not fit its checksum")
        (size,) = struct.unpack("<Q", length)
        if size >= RECORD_END:
            raise NoRecord("a record is larger than any")
        end = at + HEAD_BYTES + size + SUM_BYTES
        if size <= RECORD_MAX_BYTES:
            if end > len(content):
                break
            with suppress(NoRecord):  # a kind of event that is unknown here
                points.append(_point_in(content[at + HEAD_BYTES : end - SUM_BYTES]))
        at = end
    return [one for one in points if one.values], at


def _point_in(content: bytes) -> Point:
    step = 0
    values: dict[str, float] = {}
    for field, value in _fields(content):
        if field == 2 and isinstance(value, int):
            step = value
        elif field == 5 and isinstance(value, bytes):
            for inner, one in _fields(value):
                if inner == 1 and isinstance(one, bytes):
                    values |= _value_in(one)
    return Point(step, values)


def _value_in(content: bytes) -> dict[str, float]:
    """The name and the number of a value; nothing where it is a picture, or text."""
    name, number = "", None
    for field, value in _fields(content):
        if field == 1 and isinstance(value, bytes):
            name = value.decode("utf-8", "replace")
        elif field == 2 and isinstance(value, float):
            number = value
        elif field == 8 and isinstance(value, bytes):
            number = _number_in(value)
    return {} if number is None else {name: number}


def _number_in(tensor: bytes) -> float | None:
    """The one number of a tensor; None where it has another type, or more of them."""
    fields = dict(_fields(tensor))
    kind, packed = fields.get(1), fields.get(4)
    form = {DT_FLOAT: "<f", DT_DOUBLE: "<d"}.get(kind) if isinstance(kind, int) else None
    if form is None:
        return None
    packed = packed if isinstance(packed, bytes) else fields.get(5 if kind == DT_FLOAT else 6)
    if isinstance(packed, float):
        return packed
    if not isinstance(packed, bytes) or len(packed) != struct.calcsize(form):
        return None
    return float(struct.unpack(form, packed)[0])


def _fields(content: bytes) -> Iterator[tuple[int, int | float | bytes]]:
    """The fields of a protocol buffer, each with its number."""
    at = 0
    while at < len(content):
        key, at = _varint_in(content, at)
        field, kind = key >> 3, key & 7
        if kind == VARINT:
            value: int | float | bytes
            value, at = _varint_in(content, at)
        elif kind == BYTES:
            size, at = _varint_in(content, at)
            value, at = content[at : at + size], at + size
        elif kind in (DOUBLE, FLOAT):
            form = "<d" if kind == DOUBLE else "<f"
            size = struct.calcsize(form)
            if at + size > len(content):
                raise NoRecord("a field is cut off")
            (value,), at = struct.unpack_from(form, content, at), at + size
        else:
            raise NoRecord("a field of an unknown kind")
        if at > len(content):
            raise NoRecord("a field is cut off")
        yield field, value


def _varint_in(content: bytes, at: int) -> tuple[int, int]:
    number = 0
    for place in range(10):
        if at + place >= len(content):
            break
        byte = content[at + place]
        number |= (byte & 0x7F) << 7 * place
        if byte < 0x80:
            return number, at + place + 1
    raise NoRecord("a number has no end")


def _bytes(field: int, content: bytes) -> bytes:
    return _key(field, BYTES) + _varint(len(content)) + content


def _key(field: int, kind: int) -> bytes:
    return _varint(field << 3 | kind)


def _varint(number: int) -> bytes:
    content = bytearray()
    while number > 0x7F:
        content.append(number & 0x7F | 0x80)
        number >>= 7
    content.append(number)
    return bytes(content)


def _remainder(byte: int) -> int:
    for _ in range(8):
        byte = byte >> 1 ^ 0x82F63B78 * (byte & 1)
    return byte


_CRC32C = tuple(map(_remainder, range(256)))


def _checksum(content: Iterable[int]) -> bytes:
    """CRC-32C, turned as TensorFlow does it, so that the checksum of a checksum is none."""
    crc = 0xFFFFFFFF
    for byte in content:
        crc = crc >> 8 ^ _CRC32C[(crc ^ byte) & 0xFF]
    crc ^= 0xFFFFFFFF
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)


FORMAT = _bytes(3, b"brain.Event:2")
START = _bytes(7, b"\x08\x01")
"""the SessionLog that tells TensorBoard to forget all that has this step or a later one"""
