"""What control groups let us have: made-up trees of both generations, and a real one."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from supervisor.core.readings import GpuAnswer
from supervisor.host import cgroup
from supervisor.host.cgroup import ControlGroup, Used
from supervisor.host.sensors import Sensors

MIB = 2**20
SECOND = "30 23 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n"
FIRST = (
    "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755\n"
    "32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n"
    "35 31 0:32 / /sys/fs/cgroup/memory rw shared:9 - cgroup cgroup rw,memory\n"
    "41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n"
)
NO_LIMIT = 2**63 - 4096

Tree = Callable[[dict[str, object]], Path]


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    """Writes files of control groups below a folder that stands for /."""

    def write(files: dict[str, object]) -> Path:
        for name, content in files.items():
            path = tmp_path / "sys/fs/cgroup" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"{content}\n")
        return tmp_path

    return write


@pytest.mark.parametrize(
    ("files", "quota"),
    [
        ({"a/b/cpu.max": "150000 100000"}, 1.5),
        ({"a/b/cpu.max": "max 100000"}, None),
        ({"a/b/cpu.max": "max 100000", "a/cpu.max": "50000 100000"}, 0.5),
        ({"a/b/cpu.max": "200000 100000", "cpu.max": "400000 100000"}, 2.0),
        ({"a/b/cpu.max": "", "a/cpu.max": "nonsense"}, None),
        ({"a/b/cpu.max": "0 100000"}, None),
        ({"other/cpu.max": "50000 100000"}, None),
        ({}, None),
    ],
)
def test_the_tightest_quota_up_to_the_root_holds(
    tree: Tree, files: dict[str, object], quota: float | None
) -> None:
    """A quota of any group around ours keeps us from more, and what is no number limits nothing."""
    assert ControlGroup("0::/a/b\n", SECOND, tree(files)).cpu_quota == quota


def test_a_group_tells_what_it_has_used(tree: Tree) -> None:
    """That of the name, whoever is below it; files that the kernel only keeps are not held."""
    first = tree(
        {
            "cpu,cpuacct/a/ours/cpuacct.usage": 2_500_000_000,
            "memory/a/ours/memory.usage_in_bytes": 300 * MIB,
            "memory/a/ours/memory.stat": f"total_inactive_file {100 * MIB}\ntotal_rss 7",
        }
    )
    groups = ControlGroup("3:cpu,cpuacct:/a/ours\n2:memory:/a/ours/sub\n", FIRST, first)
    assert groups.used("ours") == Used(cpu_s=2.5, memory=200 * MIB)
    assert groups.used("a") == Used(cpu_s=None, memory=None)
    assert groups.used("theirs") is None


def test_the_first_generation_tells_its_limits(tree: Tree) -> None:
    """Quota and memory of the first generation hold, beside a second one without controllers."""
    root = tree(
        {
            "cpu,cpuacct/a/cpu.cfs_quota_us": 250000,
            "cpu,cpuacct/a/cpu.cfs_period_us": 100000,
            "cpu,cpuacct/a/b/cpu.cfs_quota_us": -1,
            "cpu,cpuacct/a/b/cpu.cfs_period_us": 100000,
            "cpu,cpuacct/a/cpuacct.usage": 3_000_000_000,
            "memory/a/memory.limit_in_bytes": 100 * MIB,
            "memory/a/memory.usage_in_bytes": 80 * MIB,
            "memory/a/memory.stat": f"total_inactive_file {30 * MIB}",
            "memory/memory.limit_in_bytes": NO_LIMIT,
            "memory/memory.usage_in_bytes": 900 * MIB,
            "memory/a/memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 4",
        }
    )
    group = ControlGroup("5:cpu,cpuacct:/a/b\n4:memory:/a\n0::/elsewhere\n", FIRST, root)
    assert group.cpu_quota == 2.5
    assert group.cpu_used_s() == 3.0
    memory = group.memory()
    assert memory is not None
    assert (memory.limit, memory.available, memory.used_share) == (100 * MIB, 50 * MIB, 0.5)
    assert group.oom_kills() == 4


@pytest.mark.parametrize(
    ("limits", "left_mib"),
    [
        ({"memory.max": 100 * MIB, "memory.high": "max"}, 60),
        ({"memory.max": "max", "memory.high": 70 * MIB}, 30),
        ({"memory.max": 30 * MIB}, 0),
        ({"memory.max": "max"}, None),
        ({}, None),
    ],
)
def test_memory_is_what_the_group_may_still_use(
    tree: Tree, limits: dict[str, object], left_mib: int | None
) -> None:
    """Memory that the kernel keeps of files is given back, so it is still to be had."""
    use = {"memory.current": 90 * MIB, "memory.stat": f"anon 5\ninactive_file {50 * MIB}"}
    root = tree({f"job/{name}": content for name, content in {**use, **limits}.items()})
    memory = ControlGroup("0::/job/step\n", SECOND, root).memory()
    assert (None if memory is None else memory.available // MIB) == left_mib


@pytest.mark.parametrize(
    ("memberships", "mounts"),
    [
        # A container with a namespace of its own sees its group as the root.
        ("0::/\n", SECOND),
        # One without sees the path of the host, of which only its own part is mounted.
        ("0::/docker/abc\n", SECOND.replace("0:26 / ", "0:26 /docker/abc ")),
        # A process that was moved out of the namespace; what is seen here is all there is.
        ("0::/../other\n", SECOND),
        ("0::/x y\n", SECOND.replace("0:26 / ", "0:26 /x\\040y ")),
    ],
)
def test_a_container_finds_its_own_limits(tree: Tree, memberships: str, mounts: str) -> None:
    """However a container sees itself, what is mounted for it limits it."""
    root = tree({"cpu.max": "100000 100000"})
    assert ControlGroup(memberships, mounts, root).cpu_quota == 1.0


@pytest.mark.parametrize("text", ["", "nonsense", "0::", ":::", "\0", "0::/a\n9:"])
def test_a_kernel_that_tells_nothing_limits_nothing(tmp_path: Path, text: str) -> None:
    """Without groups, or with ones that nobody understands, all of the machine may be used."""
    for mounts in ("", text, SECOND):
        group = ControlGroup(text, mounts, tmp_path)
        assert (group.cpu_quota, group.memory(), group.oom_kills()) == (None, None, None)


@pytest.mark.parametrize(
    ("quota", "cores"), [(None, 4), (0.5, 1), (1.5, 1), (1.9999999, 2), (3.5, 3), (64.0, 4)]
)
def test_whole_processors_are_used(
    monkeypatch: pytest.MonkeyPatch, quota: float | None, cores: int
) -> None:
    """A second thread in 1.5 processors would have both wait: there is one then."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: {0, 1, 2, 3})
    monkeypatch.setattr(ControlGroup, "cpu_quota", quota)
    assert cgroup.cores() == cores


def test_the_memory_that_is_left_is_that_of_the_group(tree: Tree) -> None:
    """A group that is nearly full is a machine that is nearly full."""
    root = tree({"job/memory.max": 100 * MIB, "job/memory.current": 99 * MIB})
    readings = Sensors(root, _NoGpus(), ControlGroup("0::/job\n", SECOND, root)).read()
    assert (readings.memory_percent, readings.memory_available_mib) == (99.0, 1)


@pytest.fixture
def quota() -> Iterator[Path]:
    """A real group that may keep one processor busy."""
    own = Path("/proc/self/cgroup").read_text(encoding="ascii")
    mounts = Path("/proc/self/mountinfo").read_text(encoding="utf-8")
    (*_, root) = [None, *cgroup._folders("cpu", own, mounts, Path("/"))]
    try:
        assert root is not None
        group = root / f"training-supervisor-test-{os.getpid()}"
        group.mkdir()
    except (OSError, AssertionError):
        pytest.skip("NOT TESTED: a real quota; no group of processors can be made here")
    try:
        if (group / "cpu.max").exists():
            (group / "cpu.max").write_text("100000 100000")
        elif (group / "cpu.cfs_quota_us").exists():
            (group / "cpu.cfs_quota_us").write_text("100000")
        else:
            pytest.skip("NOT TESTED: a real quota; this kernel has none for groups")
        yield group
    finally:
        group.rmdir()


def test_a_real_quota_is_found(quota: Path) -> None:
    """Who is moved into a group of one processor has one."""
    code = (
        "import pathlib, sys\n"
        "pathlib.Path(sys.argv[1]).write_text('0')\n"
        "from supervisor.host.cgroup import cores\n"
        "print(cores())"
    )
    words = [sys.executable, "-c", code, str(quota / "cgroup.procs")]
    assert subprocess.run(words, capture_output=True, check=True, text=True).stdout == "1\n"


class _NoGpus:
    def read(self) -> GpuAnswer:
        return GpuAnswer()
