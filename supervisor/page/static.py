"""The files of the page that are the same for everybody, each at an address that has its hash.

A browser keeps them for ever: another version has another address.
"""

from __future__ import annotations

import gzip
import hashlib
from pathlib import Path
from typing import NamedTuple

FOLDER = Path(__file__).parent / "static"
KINDS = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
HASH_DIGITS = 12


class File(NamedTuple):
    """One of them."""

    address: str
    kind: str
    """its media type"""
    content: bytes
    packed: bytes
    """the same by gzip"""


def files() -> dict[str, File]:
    """Address: file."""
    found = {}
    for path in sorted(FOLDER.rglob("*")):
        if path.suffix not in KINDS:
            continue
        content = path.read_bytes()
        name = path.relative_to(FOLDER).as_posix()
        address = f"/static/{hashlib.sha256(content).hexdigest()[:HASH_DIGITS]}/{name}"
        packed = gzip.compress(content, mtime=0)
        found[address] = File(address, KINDS[path.suffix], content, packed)
    return found


def addresses() -> dict[str, str]:
    """Name of a file below the folder, such as `page.css`: its address."""
    return {address.split("/", 3)[3]: address for address in files()}
