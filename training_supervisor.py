"""The way in: each process of ours begins here, and finds our packages whatever bears their names.

`modes`, `state`, `supervisor` and `trainers` are general names. A folder of PYTHONPATH, or the
working folder, may hold others, and Python would take those. So this module, whose name nobody else
has, says where these four lie. Nothing else is looked for otherwise: a trainer imports from
PYTHONPATH what it likes.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType

ROOT = __file__.rpartition("/")[0]
OURS = frozenset(("modes", "state", "supervisor", "trainers"))


class OurPackages:
    """Finds our packages where they lie, before anybody looks elsewhere."""

    @staticmethod
    def find_spec(
        name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Where our package of that name is; None for all other names."""
        return PathFinder.find_spec(name, [ROOT], target) if path is None and name in OURS else None


sys.meta_path.insert(0, OurPackages)


def main() -> int:
    """The command `supervisor`."""
    from supervisor.cli import main as command  # noqa: PLC0415 - found from here on only

    return command()


if __name__ == "__main__":  # as supervisor.programs has it
    sys.argv = sys.argv[1:]
    sys.exit(importlib.import_module(sys.argv[0]).main())
