"""What somebody else writes, as it comes: the end of a file, the output of a program."""

from __future__ import annotations

import codecs
import os
import selectors
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO, TextIO

from supervisor.host.clock import pause
from trainers import durable

TAIL_BYTES = 1024 * 1024
"""of a file are searched for its last lines"""
LOOK_S = 0.2
PIECE_BYTES = 65536


def last_lines(path: Path, count: int) -> list[bytes]:
    """The last `count` lines; none where there is no such file."""
    try:
        with durable.open_regular(path) as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - TAIL_BYTES))
            return _lines(file.read(TAIL_BYTES))[-count:]
    except FileNotFoundError:
        return []


def follow(path: Path) -> Iterator[bytes]:
    """Whole lines that are appended from now on, through rotations; those too long in pieces.

    Now is when this is called, not when the first line is asked for: whoever shows first what is
    there misses nothing that comes meanwhile.

    Args:
        path: of the file, which need not be there yet.
    """
    return _followed(path, _reopened(path, at_end=True))


def _followed(path: Path, file: BinaryIO | None) -> Iterator[bytes]:
    rest = b""
    while True:
        if file is not None:
            replaced = _was_replaced(path, file)  # what came before that is still in there
            while fresh := file.read(TAIL_BYTES):
                *lines, rest = (rest + fresh).split(b"\n")
                yield from lines
                if len(rest) > durable.LINE_MAX_BYTES:
                    yield rest
                    rest = b""
            if replaced:
                yield from [rest] if rest else []
                file.close()
                file, rest = None, b""
        if file is None:
            file = _reopened(path)
            if file is not None:
                continue
        pause(LOOK_S)


def passed_on(
    command: Sequence[str], out: TextIO, errors: TextIO, environment: Mapping[str, str]
) -> int:
    """Run a program whose output goes through streams of ours, as it comes; its exit code."""
    pipe = subprocess.PIPE
    with (
        subprocess.Popen(command, env=environment, stdout=pipe, stderr=pipe) as child,
        selectors.DefaultSelector() as ready,
    ):
        for stream, to in ((child.stdout, out), (child.stderr, errors)):
            if stream is not None:
                decoder = codecs.getincrementaldecoder("utf-8")("replace")
                ready.register(stream, selectors.EVENT_READ, (to, decoder))
        while ready.get_map():
            for key, _ in ready.select():
                raw = os.read(key.fd, PIECE_BYTES)
                to, decoder = key.data
                to.write(decoder.decode(raw, final=not raw))
                to.flush()
                if not raw:
                    ready.unregister(key.fileobj)
    return child.returncode


def _lines(content: bytes) -> list[bytes]:
    """The lines of a file, which only line feeds part: a carriage return is part of a line."""
    return content.removesuffix(b"\n").split(b"\n") if content else []


def _reopened(path: Path, *, at_end: bool = False) -> BinaryIO | None:
    try:
        file = durable.open_regular(path)
    except FileNotFoundError:
        return None
    if at_end:
        file.seek(0, os.SEEK_END)
    return file


def _was_replaced(path: Path, file: BinaryIO) -> bool:
    try:
        status = path.stat()
    except FileNotFoundError:
        return True
    return status.st_ino != os.fstat(file.fileno()).st_ino or status.st_size < file.tell()
