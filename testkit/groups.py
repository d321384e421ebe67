"""Real control groups of the second generation, for who may make them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from testkit.patience import until


@contextmanager
def a_group() -> Iterator[Path | None]:
    """One with nobody in it; None where none can be made. What is left in it is killed."""
    mounts = Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines()
    roots = [Path(line.split()[4]) for line in mounts if " - cgroup2 " in line]
    folder = (roots[0] if roots else Path("/nowhere")) / f"game-{os.getpid()}"
    try:
        folder.mkdir()
    except OSError:
        yield None
        return
    try:
        yield folder
    finally:
        (folder / "cgroup.kill").write_text("1", encoding="ascii")
        until(lambda: "populated 0" in (folder / "cgroup.events").read_text(encoding="ascii"))
        folder.rmdir()
