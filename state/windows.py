"""`windows.json`: what the newest analysis of usage found. Sealed, and whole or absent.

A process of its own writes it; the daemon reads it, and opens no connection.
"""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Annotated

import msgspec

from trainers import durable
from trainers.contract import NewerFile

VERSION = 1
MAX_BYTES = 1024 * 1024


class DamagedWindows(Exception):
    """A file that exists and is not what was written."""

    def __init__(self, path: Path, why: str) -> None:
        super().__init__(f"{path.name}: {why}")


class SourceReport(
    msgspec.Struct, frozen=True, kw_only=True, rename={"begin": "from", "end": "to"}
):
    """What came of one source."""

    name: str
    rows: int
    begin: float | None
    """of its first row, in seconds since 1970"""
    end: float | None
    hours_missing: int | None
    """of those of the history; None: it told nothing"""
    used: bool
    why_not: str | None
    """why it was not used; of one that is used what its reader must know"""


class Promise(msgspec.Struct, frozen=True, kw_only=True):
    """That a window will not be busier than `players_high`."""

    weeks_choosing: int
    """by which each judged week's window was chosen"""
    weeks_judging: int
    """in which windows were judged that the other weeks had chosen"""
    kept: int
    """weeks in which the window was no busier than had been promised until then"""
    of: int
    at_least: float
    """the share of later weeks in which it will be kept"""


class QuietWindow(msgspec.Struct, frozen=True, kw_only=True):
    """A stretch of the week in which training disturbs nobody, or nearly so."""

    start_weekday: Annotated[int, msgspec.Meta(ge=0, le=6)]
    """0 is Monday"""
    start_hour: Annotated[int, msgspec.Meta(ge=0, le=23)]
    hours: Annotated[int, msgspec.Meta(ge=1, le=168)]
    score: float
    """how busy it is; less is better"""
    players_mean: float | None
    """on average of the judged weeks; None: nobody counts players"""
    players_high: float | None
    """what its mean will not exceed"""
    promise: Promise


class Backtest(msgspec.Struct, frozen=True, kw_only=True):
    """What windows were worth in weeks that had no say in their choice."""

    weeks: int
    regret_median: float | None
    """players disturbed, as a multiple of the best window of that very week"""
    regret_p95: float | None
    promise_kept: float | None
    """the share of those weeks in which what had been promised was kept"""


class NextWindow(msgspec.Struct, frozen=True, kw_only=True):
    """When a window opens next, or has opened, as seen when this was made."""

    opens: float
    closes: float


class Windows(msgspec.Struct, frozen=True, kw_only=True):
    """The newest analysis of usage."""

    made_at: float
    """in seconds since 1970"""
    zone: str
    """of the clock on the wall by which windows open"""
    sources: tuple[SourceReport, ...]
    weeks: int
    metrics_used: tuple[str, ...]
    formula: str
    windows: tuple[QuietWindow, ...]
    """the best first"""
    backtest: Backtest
    next: NextWindow | None


class _Seal(msgspec.Struct, frozen=True):
    crc32: str
    version: int


class _Sealed(msgspec.Struct, frozen=True):
    seal: _Seal


def write(path: Path, windows: Windows) -> None:
    """Replace the file at once, durably.

    Raises:
        OSError: the disk is full or read-only; the file is as it was.
    """
    content = msgspec.to_builtins(windows)
    seal = {"crc32": _crc(content), "version": VERSION}
    durable.write(path, msgspec.json.format(msgspec.json.encode({**content, "seal": seal})))


def read(path: Path) -> Windows | None:
    """The newest analysis; None where there is none.

    Raises:
        DamagedWindows: the file is not what was written.
        NewerFile: a newer version has written it.
        OSError: the disk or the rights forbid reading it.
    """
    try:
        raw = durable.read(path, MAX_BYTES)
    except FileNotFoundError:
        return None
    except durable.UnreadableFile as error:
        raise DamagedWindows(path, error.strerror or "unreadable") from error
    try:
        seal = msgspec.json.decode(raw, type=_Sealed).seal
        if seal.version > VERSION:
            raise NewerFile(path, f"version {seal.version}, this one knows {VERSION}")
        content = msgspec.json.decode(raw)
        del content["seal"]
        if seal.crc32 != _crc(content):
            raise DamagedWindows(path, "the seal does not fit the content")
        return msgspec.convert(content, Windows)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise DamagedWindows(path, str(error)) from error


def known(path: Path) -> tuple[Windows | None, str | None]:
    """The newest analysis, or why it cannot be read; neither where there is none."""
    try:
        return read(path), None
    except (DamagedWindows, NewerFile) as error:
        return None, str(error)
    except OSError as error:
        return None, f"{path.name}: {error.strerror or error}"


def _crc(content: object) -> str:
    """As the memory's seal: it tells damage, not forgery."""
    return f"{zlib.crc32(msgspec.json.encode(content, order='sorted')):08x}"
