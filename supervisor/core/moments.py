"""Moments, spans and ages: values, and how a person writes and reads them. Reads no clock."""

from __future__ import annotations

import datetime as dt
import re

import msgspec

AGE = re.compile(r"(\d{1,9}(?:\.\d{1,9})?) ?(s|min|h|d)", re.ASCII)
AGE_UNITS_S = {"s": 1.0, "min": 60.0, "h": 3600.0, "d": 86_400.0}


class Moment(msgspec.Struct, frozen=True, kw_only=True):
    """All clocks, read together."""

    wall: float
    """seconds since 1970; may jump in either direction at any time"""
    monotonic_s: float
    """seconds of running since the boot; stands still while the machine is suspended"""
    boottime_s: float
    """seconds since the boot, suspended or not"""
    boot_id: str
    """32 hexadecimal digits, new at every boot"""


def stamp(wall: float) -> str:
    """A wall time as a person and a program can read it: ISO 8601, UTC, milliseconds."""
    try:
        moment = dt.datetime.fromtimestamp(wall, dt.UTC)
    except (OverflowError, ValueError, OSError):
        return "unknown"
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def when(stamp: str) -> str:
    """A wall time, as `stamp` has it, for a person: to the second, and of which zone it is."""
    return f"{stamp[:10]} {stamp[11:19]} UTC" if len(stamp) > 19 else stamp


def wall(text: str) -> float:
    """The wall time that a text names, in seconds since 1970; one without a zone is local.

    Args:
        text: ISO 8601, or as `when` has it.

    Raises:
        ValueError: it names none.
    """
    said = text.strip()
    said = f"{said[: -len(' UTC')]}+00:00" if said.endswith(" UTC") else said
    try:
        return dt.datetime.fromisoformat(said).timestamp()
    except (OverflowError, OSError) as error:  # of a year that the system's calendar lacks
        raise ValueError(f"{text!r} is out of range") from error


def since(text: str, now: float) -> float:
    """The wall time that a person means by a time or by an age, in seconds since 1970.

    Args:
        text: a time as `wall` takes it, or an age in one unit: 90s, 15min, 6h, 2d.
        now: the present wall time, from which an age counts back.

    Raises:
        ValueError: it is neither; the message says what is.
    """
    age = AGE.fullmatch(text.strip())
    if age:
        return now - float(age[1]) * AGE_UNITS_S[age[2]]
    try:
        return wall(text)
    except ValueError as error:
        raise ValueError(
            f"{text!r} is neither a time such as 2026-11-27T22:03:00Z (without a zone: local time) "
            "nor an age such as 90s, 15min, 6h or 2d"
        ) from error


def span(seconds: float) -> str:
    """A duration in the unit that a person would say it in."""
    for limit_s, unit_s, unit in ((100, 1, "s"), (6000, 60, "min")):
        if seconds < limit_s:
            return f"{seconds / unit_s:.0f} {unit}"
    hours = seconds / 3600
    return f"{hours:.1f} h" if hours < 72 else f"{hours / 24:.1f} d"
