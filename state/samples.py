"""What the machine was like, time after time: a ring of files that no power cut can confuse.

The ring is a folder of segments, each named after the number of its first sample. A segment begins
as a file of zeros with a header, and samples are written into it, one behind the other, each in a
slot of its own. Since the room is there already, a sample changes nothing but its slot, and
`fdatasync` has little to do. A slot is whole or it is nothing: a checksum over all of it tells, and
its number has to be that of its place. So a torn slot costs itself alone, wherever it is.

All numbers are little-endian. The header fills the first slot: magic (8 bytes), version (u16),
bytes of a slot (u16), GPUs and runs that fit into one (u8 each), two bytes of nothing, the key of
the machine (u32), the number of the first sample (u64), and the CRC-32 of all that (u32).

A slot: the CRC-32 of all that follows in it (u32), its number (u64), wall, monotonic and boottime
clock (f64 each), boot id (16 bytes), the key of the mode (u32), how many runs trained (u16), how
many GPUs and runs follow (u8 each); then fifteen f32, as `MEASURED` lists them; for each GPU four
f16 and four f32, as in `GpuSample`; for each run its key (u32) and steps a second (f32); then
zeros. An unknown is NaN. A key is the CRC-32 of a name, which stands in the file `names`; 0 is no
name.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import math
import os
import re
import struct
import zlib
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec

from trainers import durable
from trainers.contract import NewerFile

VERSION = 1
MAGIC = b"SAMPLES\n"
SEGMENT_BYTES = 2**20
ROOM_BYTES = 32 * 2**20
"""of a disk that has less left, no segment takes any: training needs it more"""
DAY_S = 86_400.0
GPUS_MAX = RUNS_MAX = 16
"""of which a sample has more than their number"""
RUNS_LEAST = 4
"""for which there is room in any case: the queue moves all the time"""
SLOT_STEP = 32
"""slots are a multiple of so many bytes"""
NAMES = "names"
NAMES_MAX_BYTES, NAMES_KNOWN = 2**20, 64
SEGMENT = re.compile(r"\d{15}\.ring")

_HEADER = struct.Struct("<8sHHBBxxIQI")
_CHECK = struct.Struct("<I")
_BASE = struct.Struct("<Qddd16sIHBB15f")
_GPU = struct.Struct("<4e4f")
_RATE = struct.Struct("<If")
_WHEN = struct.Struct("<Qd")
_SPEED = struct.Struct("<8xd16x16x4xHBBf")
"""the parts of a slot that tell of the runs alone"""
_LEAST_BYTES = _CHECK.size + _BASE.size

FLOAT_MAX, HALF_MAX = 3.4e38, 65504.0

MEASURED = (
    "covers_s",
    "cpu_percent",
    "cpu_own_percent",
    "load_1m",
    "memory_total_mib",
    "memory_available_mib",
    "memory_own_mib",
    "swap_used_mib",
    "psi_cpu",
    "psi_memory",
    "psi_memory_full",
    "psi_io",
    "psi_io_full",
    "disk_free_mib",
    "cpu_temperature_c",
)
"""the fields of a sample in the order of its slot"""


class GpuSample(msgspec.Struct, frozen=True, kw_only=True):
    """One GPU in a sample, the fields in the order of its slot."""

    utilization_percent: float | None = None
    temperature_c: float | None = None
    power_w: float | None = None
    xid: float | None = None
    """the newest error code of the driver since the sample before; 0: none"""
    memory_used_mib: float | None = None
    memory_total_mib: float | None = None
    memory_other_mib: float | None = None
    """what no process of ours holds"""
    ecc_uncorrected: float | None = None


class Rate(msgspec.Struct, frozen=True, kw_only=True):
    """How fast a run was."""

    run: str
    """its id"""
    steps_per_s: float | None = None


class Sample(msgspec.Struct, frozen=True, kw_only=True):
    """The machine at one moment. An unknown is None, never 0."""

    at: float
    """wall time in seconds since 1970, as the clock was set then"""
    monotonic_s: float
    """seconds of running since the boot"""
    boottime_s: float
    """seconds since the boot: how long the machine was up"""
    boot_id: str
    mode: str | None = None
    running: int = 0
    """runs that trained; the first of them in `rates`"""
    covers_s: float | None = None
    """the shares below are means over so many seconds before"""
    cpu_percent: float | None = None
    """share of all cores that was busy, 0 to 100"""
    cpu_own_percent: float | None = None
    """the part of that which was ours: trainers, and the supervisor itself"""
    load_1m: float | None = None
    memory_total_mib: float | None = None
    memory_available_mib: float | None = None
    memory_own_mib: float | None = None
    swap_used_mib: float | None = None
    psi_cpu: float | None = None
    """share of the time in which some task waited for a processor, 0 to 100"""
    psi_memory: float | None = None
    psi_memory_full: float | None = None
    """that in which all tasks waited"""
    psi_io: float | None = None
    psi_io_full: float | None = None
    disk_free_mib: float | None = None
    cpu_temperature_c: float | None = None
    gpus: tuple[GpuSample, ...] = ()
    rates: tuple[Rate, ...] = ()


class Speeds(NamedTuple):
    """What a sample says of the runs alone."""

    at: float
    covers_s: float
    """how long before it has been sampled; 0: nobody has"""
    running: int
    """runs that trained"""
    rates: dict[str, float]
    """id of a run: steps a second; 0 where that is not known, as before its first steps"""


_GPU_FIELDS = GpuSample.__struct_fields__


class DamagedSegment(Exception):
    """A segment whose header is not what was written."""


class Segment(NamedTuple):
    """What the header of a segment says."""

    slot_bytes: int
    gpus: int
    runs: int
    machine: int
    first: int

    @property
    def slots(self) -> int:
        """Room for so many samples."""
        return SEGMENT_BYTES // self.slot_bytes - 1


def slot_bytes(gpus: int, runs: int) -> int:
    """How much a sample takes that has room for so many."""
    needed = _LEAST_BYTES + _GPU.size * gpus + _RATE.size * runs
    return -(-needed // SLOT_STEP) * SLOT_STEP


def key(name: str | None) -> int:
    """What stands for a name in a sample."""
    return 0 if name is None else zlib.crc32(name.encode())


class Ring:
    """Writes samples; there is one writer.

    Args:
        folder: where the segments lie; made at the first sample.
        machine: the id of this machine: a ring that was copied from another is not mixed with ours.
        max_bytes: what all segments together may take; the oldest make room.
    """

    def __init__(self, folder: Path, *, machine: str | None, max_bytes: int) -> None:
        self._folder = folder
        self._machine = key(machine)
        self.max_bytes = max_bytes
        self._file: int | None = None
        self._segment = Segment(0, 0, 0, 0, 0)
        self._next = 0
        """the slot that comes next in the segment"""
        self._named: deque[int] = deque(maxlen=NAMES_KNOWN)

    def write(self, sample: Sample) -> None:
        """Write a sample down; it has reached the disk once `sync` has returned.

        Raises:
            OSError: the disk is full, read-only or failing.
            NewerFile: a newer version has written here.
        """
        runs = len(sample.rates[:RUNS_MAX])
        gpus = len(sample.gpus[:GPUS_MAX])
        if self._file is not None and os.fstat(self._file).st_nlink == 0:
            self.close()  # somebody has removed it
        if self._file is None:
            durable.make_folder(self._folder)
            self._reopen()
        segment = self._segment
        if (
            self._file is None
            or self._next >= segment.slots
            or gpus > segment.gpus
            or runs > segment.runs
        ):
            self._begin(gpus, max(runs, RUNS_LEAST))
        self._name(sample.mode, *(rate.run for rate in sample.rates[:RUNS_MAX]))
        assert self._file is not None  # noqa: S101 - one has just begun
        content = _encoded(sample, self._segment, self._segment.first + self._next)
        offset = (self._next + 1) * self._segment.slot_bytes
        if os.pwrite(self._file, content, offset) < len(content):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self._next += 1

    def sync(self) -> None:
        """Have all that was written reach the disk.

        Raises:
            OSError: the disk is failing.
        """
        if self._file is not None:
            os.fdatasync(self._file)

    def close(self) -> None:
        """Let go of the segment, which the next writer goes on with."""
        if self._file is not None:
            os.close(self._file)
        self._file = None

    def _reopen(self) -> None:
        """Go on with the newest segment, if that can be: it is ours, and of this machine.

        Raises:
            NewerFile: a newer version has written it.
        """
        paths = _segments(self._folder)
        if not paths:
            return
        path = paths[-1]
        try:
            segment, content = _open(path)
            # One that is shorter was closed for good.
            if segment.machine == self._machine and len(content) == SEGMENT_BYTES:
                with durable.open_regular(path, writable=True) as file:
                    self._file = os.dup(file.fileno())
                self._next = 1 + max((at for at, _ in _whole(content, segment)), default=-1)
                self._segment = segment
        except (DamagedSegment, durable.UnreadableFile, FileNotFoundError):
            return  # it stays as it is, and another one begins

    def _begin(self, gpus: int, runs: int) -> None:
        """Begin a segment with room for so many in each sample; the one before is as it is.

        Raises:
            OSError: there is no room for it.
        """
        if self._file is not None:
            self._end()
        paths = _segments(self._folder)
        first = 0
        if paths:  # behind all that may stand in the newest one, readable or not
            first = int(paths[-1].stem) + SEGMENT_BYTES // slot_bytes(0, 0)
        self._make_room(paths)
        disk = os.statvfs(self._folder)
        if disk.f_bavail * disk.f_frsize < ROOM_BYTES:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        segment = Segment(slot_bytes(gpus, runs), gpus, runs, self._machine, first)
        content = bytearray(SEGMENT_BYTES)
        fields = (MAGIC, VERSION, segment.slot_bytes, gpus, runs, self._machine, first)
        header = _HEADER.pack(*fields, 0)[: -_CHECK.size]
        content[: _HEADER.size] = header + _CHECK.pack(zlib.crc32(header))
        path = self._folder / f"{first:015}.ring"
        durable.write(path, bytes(content))
        with durable.open_regular(path, writable=True) as file:
            self._file = os.dup(file.fileno())
        self._segment, self._next = segment, 0

    def _end(self) -> None:
        """Close a segment for good, and give back the room that it does not need."""
        assert self._file is not None  # noqa: S101 - it is open
        self.sync()
        if self._next < self._segment.slots:
            os.ftruncate(self._file, (self._next + 1) * self._segment.slot_bytes)
        self.close()

    def _make_room(self, paths: list[Path]) -> None:
        sizes = {path: path.lstat().st_size for path in paths}
        for path in paths:
            if sum(sizes.values()) + SEGMENT_BYTES <= self.max_bytes:
                return
            with contextlib.suppress(DamagedSegment, NewerFile, OSError):
                _open(path)
                path.unlink()
                del sizes[path]

    def _name(self, *names: str | None) -> None:
        """Write down what keys stand for; known ones are known again after a restart."""
        for name in names:
            if name is None or key(name) in self._named:
                continue
            durable.append(
                self._folder / NAMES, name.encode(), max_bytes=NAMES_MAX_BYTES, sync=True
            )
            self._named.append(key(name))


def read(
    folder: Path, since: float = -math.inf, until: float = math.inf, machine: str | None = None
) -> Iterator[Sample]:
    """The samples of a span, in the order in which they were written; a segment at a time.

    It may be read while it is written. What a power cut has torn, and files that are not ours, are
    passed over. Of a clock that was set back by more than a day, samples may be missing.

    Args:
        folder: where the segments lie; it need not exist.
        since: the wall time from which on.
        until: the wall time before which.
        machine: the id of this machine; what a copied ring has of another one is left out. None:
            all are told.

    Raises:
        NewerFile: a newer version has written a segment.
    """
    names: dict[int, str] = {}
    for slot in _slots(folder, since, until, machine):
        yield _decoded(slot, folder, names)


def speeds(folder: Path, since: float, machine: str | None = None) -> Iterator[Speeds]:
    """The same of the runs alone, which takes less than half of the time.

    Args:
        folder: where the segments lie; it need not exist.
        since: the wall time from which on.
        machine: as for `read`.

    Raises:
        NewerFile: a newer version has written a segment.
    """
    names: dict[int, str] = {}
    for slot in _slots(folder, since, math.inf, machine):
        at, running, gpus, rates, covers_s = _SPEED.unpack_from(slot, _CHECK.size)
        begin = _LEAST_BYTES + gpus * _GPU.size
        found = _RATE.iter_unpack(slot[begin : begin + rates * _RATE.size])
        yield Speeds(
            at=at,
            covers_s=_known(covers_s) or 0.0,
            running=running,
            rates={_named(run, folder, names): _known(rate) or 0.0 for run, rate in found},
        )


def _slots(
    folder: Path, since: float, until: float, machine: str | None, beyond: int = -1
) -> Iterator[bytes]:
    """The slots of a span behind a number, in the order in which they were written."""
    paths = _segments(folder)
    for path, after in itertools.pairwise((*paths, None)):
        if path is None or (after is not None and int(after.stem) <= beyond + 1):
            continue  # all that stands in it is known
        try:
            # Its time is that of its newest sample, by the same clock.
            if path.lstat().st_mtime < since - DAY_S:
                continue
            segment, content = _open(path)
        except (DamagedSegment, OSError):
            continue
        if machine is not None and segment.machine not in (0, key(machine)):
            continue
        for _, slot in _whole(content, segment, since, until, beyond):
            yield slot


def read_on(
    folder: Path, beyond: int, since: float = -math.inf, machine: str | None = None
) -> Iterator[tuple[int, Sample]]:
    """The samples behind that one, with their numbers: what came since it was read.

    Args:
        folder: where the segments lie; it need not exist.
        beyond: the number of the sample that was read last; -1: none was.
        since: the wall time from which on.
        machine: as for `read`.

    Raises:
        NewerFile: a newer version has written a segment.
    """
    names: dict[int, str] = {}
    for slot in _slots(folder, since, math.inf, machine, beyond):
        number, _ = _WHEN.unpack_from(slot, _CHECK.size)
        yield number, _decoded(slot, folder, names)


def newest(folder: Path) -> Sample | None:
    """The newest sample; None where there is none.

    Raises:
        NewerFile: a newer version has written a segment.
    """
    for path in reversed(_segments(folder)):
        try:
            segment, content = _open(path)
        except (DamagedSegment, OSError):
            continue
        found = deque(_whole(content, segment), maxlen=1)
        if found:
            return _decoded(found[0][1], folder, {})
    return None


def _segments(folder: Path) -> list[Path]:
    """The files that are called as segments are, oldest first."""
    try:
        found = [entry for entry in os.listdir(folder) if SEGMENT.fullmatch(entry)]  # noqa: PTH208
    except (FileNotFoundError, NotADirectoryError):
        return []
    return [folder / name for name in sorted(found)]


def _open(path: Path) -> tuple[Segment, bytes]:
    """A segment, with its content.

    Raises:
        NewerFile: a newer version has written it.
        DamagedSegment: it is none.
        OSError: it cannot be read.
    """
    with durable.open_regular(path) as file:
        # Before all else: one of a newer version may be of any size.
        segment = _header(path, file.read(_HEADER.size))
        file.seek(0)
        return segment, file.read(SEGMENT_BYTES)


def _header(path: Path, content: bytes) -> Segment:
    """What a segment says of itself.

    Raises:
        NewerFile: a newer version has written it.
        DamagedSegment: it says nothing that could be.
    """
    if len(content) < _HEADER.size or not content.startswith(MAGIC):
        raise DamagedSegment
    _, version, size, gpus, runs, machine, first, check = _HEADER.unpack_from(content)
    if version > VERSION:
        raise NewerFile(path, f"it has version {version}, this one knows {VERSION}")
    sound = check == zlib.crc32(content[: _HEADER.size - _CHECK.size])
    if not sound or version < 1 or size < slot_bytes(gpus, runs) or f"{first:015}" != path.stem:
        raise DamagedSegment
    return Segment(size, gpus, runs, machine, first)


def _whole(
    content: bytes,
    segment: Segment,
    since: float = -math.inf,
    until: float = math.inf,
    beyond: int = -1,
) -> Iterator[tuple[int, bytes]]:
    """The slots of a span behind a number that are whole, each with its place."""
    size = segment.slot_bytes
    for at in range(max(0, beyond + 1 - segment.first), len(content) // size - 1):
        offset = (at + 1) * size
        number, when = _WHEN.unpack_from(content, offset + _CHECK.size)
        if number != segment.first + at or not since <= when < until:
            continue
        slot = content[offset : offset + size]
        (check,) = _CHECK.unpack_from(slot)
        if check == zlib.crc32(slot[_CHECK.size :]):
            yield at, slot


def _encoded(sample: Sample, segment: Segment, number: int) -> bytes:
    gpus, rates = sample.gpus[:GPUS_MAX], sample.rates[:RUNS_MAX]
    parts = [
        _BASE.pack(
            number,
            sample.at,
            sample.monotonic_s,
            sample.boottime_s,
            _boot(sample.boot_id),
            key(sample.mode),
            min(sample.running, 65535),
            len(gpus),
            len(rates),
            *(_float(getattr(sample, name)) for name in MEASURED),
        )
    ]
    for gpu in gpus:
        values = [getattr(gpu, name) for name in _GPU_FIELDS]
        parts.append(_GPU.pack(*map(_half, values[:4]), *map(_float, values[4:])))
    parts += [_RATE.pack(key(rate.run), _float(rate.steps_per_s)) for rate in rates]
    content = b"".join(parts).ljust(segment.slot_bytes - _CHECK.size, b"\0")
    return _CHECK.pack(zlib.crc32(content)) + content


def _decoded(slot: bytes, folder: Path, names: dict[int, str]) -> Sample:
    _, at, monotonic_s, boottime_s, boot, mode, running, gpus, rates, *measured = _BASE.unpack_from(
        slot, _CHECK.size
    )
    offset = _LEAST_BYTES
    found = []
    for _ in range(gpus):
        values = map(_known, _GPU.unpack_from(slot, offset))
        found.append(GpuSample(**dict(zip(_GPU_FIELDS, values, strict=True))))
        offset += _GPU.size
    runs = []
    for _ in range(rates):
        run, rate = _RATE.unpack_from(slot, offset)
        runs.append(Rate(run=_named(run, folder, names), steps_per_s=_known(rate)))
        offset += _RATE.size
    return Sample(
        at=at,
        monotonic_s=monotonic_s,
        boottime_s=boottime_s,
        boot_id=boot.hex(),
        mode=_named(mode, folder, names) if mode else None,
        running=running,
        gpus=tuple(found),
        rates=tuple(runs),
        **dict(zip(MEASURED, map(_known, measured), strict=True)),
    )


def _named(key: int, folder: Path, names: dict[int, str]) -> str:
    """The name that a key stands for; the file of names is read once a key is not among them."""
    if key not in names:
        with contextlib.suppress(OSError):
            for line in durable.all_lines(folder / NAMES):
                names[zlib.crc32(line)] = line.decode(errors="replace")
        names.setdefault(key, f"#{key:08x}")
    return names[key]


def _boot(boot_id: str) -> bytes:
    """An id of 32 hexadecimal digits; of any other, what tells it from others."""
    try:
        boot = bytes.fromhex(boot_id)
    except ValueError:
        boot = b""
    return boot if len(boot) == 16 else key(boot_id).to_bytes(16, "big")


def _float(value: float | None) -> float:
    return math.nan if value is None or not abs(value) <= FLOAT_MAX else value


def _half(value: float | None) -> float:
    return math.nan if value is None or not abs(value) <= HALF_MAX else value


def _known(value: float) -> float | None:
    return None if value != value else round(value, 3)  # noqa: PLR0124 - it is no number
