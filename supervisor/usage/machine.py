"""How loaded this machine was by others, as its own samples tell."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from state import samples
from state.samples import Sample
from supervisor.usage.gathering import MachineSample, MachineSamples


def history(folder: Path, machine: str | None) -> MachineSamples | None:
    """What this machine has sampled of itself; None where it has not begun.

    Args:
        folder: where the samples lie.
        machine: the id of this machine; a copied home has samples of another, too.
    """
    if not folder.is_dir():
        return None

    def since(at: float) -> Iterator[MachineSample]:
        for one in samples.read(folder, since=at, machine=machine):
            yield MachineSample(
                at=one.at, cpu_percent=_cpu_other(one), memory_percent=_memory_other(one)
            )

    return since


def _cpu_other(one: Sample) -> float | None:
    """The share of all cores that others used; None where theirs and ours cannot be told apart."""
    if one.cpu_percent is None or one.cpu_own_percent is None:
        return None
    return max(0.0, one.cpu_percent - one.cpu_own_percent)


def _memory_other(one: Sample) -> float | None:
    """The share of all memory that others held, ours included in the whole.

    The guard leaves ours out of the whole, for it asks what is left now. Hours are compared with
    each other, which takes the same whole whether we trained or not.
    """
    total, free, own = one.memory_total_mib, one.memory_available_mib, one.memory_own_mib
    if not total or free is None or own is None:
        return None
    return min(100.0, max(0.0, 100 * (total - free - own) / total))
