"""The benchmark for a box with a card works without one, and no part keeps others from theirs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest.mock import MagicMock

import pytest

import testkit
from testkit.benchmarks import benchmark

GPU = Path(__file__).parents[2] / "benchmarks/gpu.py"
FAKE_NVML = Path(testkit.__file__).with_name("fake_nvml")
SMI = """\
#!/bin/sh
case $1 in
--query-compute-apps*) echo "GPU-0000-1, 4711" ;;
*) echo "NVIDIA H100 80GB HBM3, GPU-0000-1, 10240, 81920, 96, {temperature}, 401.12, 700.00" ;;
esac
"""
ON_A_CARD = ("readings", "forms", "power")


@pytest.fixture
def gpu() -> ModuleType:
    return benchmark("gpu")


@pytest.fixture
def card(gpu: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The second card of a box that has two, none of them real; returns what a part tells of it."""
    monkeypatch.setenv("PYTHONPATH", str(FAKE_NVML))
    monkeypatch.setenv("FAKE_NVML", str(tmp_path / "faults.json"))

    def run(part: str, **faults: object) -> dict[str, Any]:
        (tmp_path / "faults.json").write_text(json.dumps(faults))
        place = gpu.Place(str(tmp_path), 20.0, True, 81_000, "0000-1")
        gpu.PARTS[part].run(gpu.Told(tmp_path / "told.json"), place)
        return json.loads((tmp_path / "told.json").read_text())

    return run


def test_a_power_limit_that_was_lowered_is_put_back(card: Any) -> None:
    found = card("power")
    assert found["faults"] == []
    assert found["words"] == {
        "before": "700 W",
        "asked for": "630 W",
        "came to": "630.0 W",
        "after": "700.0 W",
    }


def test_to_be_refused_a_power_limit_is_a_result(card: Any) -> None:
    """Without root nothing of the card changes, and our helper says why."""
    found = card("power", nvmlDeviceSetPowerManagementLimit="NO_PERMISSION")
    assert found["faults"] == []
    assert "no permission: needs root" in found["words"]["came to"]
    assert found["words"]["after"] == "700.0 W"


@pytest.mark.parametrize(("temperature", "faults"), [(62, 0), (80, 1)])
def test_readings_that_differ_from_those_of_others_are_told(
    gpu: ModuleType,
    card: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    temperature: int,
    faults: int,
) -> None:
    torch = MagicMock()
    torch.cuda.mem_get_info.return_value = (70 * 2**30, 80 * 2**30)
    torch.cuda.get_device_name.return_value = "NVIDIA H100 80GB HBM3"
    monkeypatch.setitem(sys.modules, "torch", torch)
    smi = tmp_path / "bin/nvidia-smi"
    smi.parent.mkdir()
    smi.write_text(SMI.format(temperature=temperature))
    smi.chmod(0o700)
    monkeypatch.setenv("PATH", str(smi.parent), prepend=os.pathsep)
    found = card("readings", **{"pids@1": [os.getpid()]})
    # The memory of this card never grows.
    assert [fault for fault in found["faults"] if "were held" not in fault] == [
        "temperature_c is 62.0, and nvidia-smi says 80"
    ][:faults]
    name = "NVIDIA H100 80GB HBM3"
    assert found["words"]["name"] == f"{name}; nvidia-smi {name}; torch {name}"
    assert found["words"]["pids"].endswith("nvidia-smi 4711")


@pytest.mark.slow
def test_without_a_card_all_that_needs_none_passes() -> None:
    """What the processor can show, it shows; of everything else it is said that it needs a card."""
    pytest.importorskip("stable_baselines3")
    answer = subprocess.run(
        [sys.executable, str(GPU), "--quick", "--json"],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"CUDA_VISIBLE_DEVICES": ""},
    )
    assert answer.returncode == 0, f"{answer.stdout}\n{answer.stderr}"
    parts = json.loads(answer.stdout)["parts"]
    verdicts = {name: (part["verdict"], part["why"]) for name, part in parts.items()}
    assert verdicts == {
        name: ("left out", "it needs a card") if name in ON_A_CARD else ("passed", "")
        for name in verdicts
    }
    differences = {
        what: value for what, value in parts["resume"]["words"].items() if "difference" in what
    }
    assert differences
    assert not any(differences.values())
    assert "can't allocate memory" in parts["memory"]["words"]["asks for more than there is"]
    assert all(rate > 0 for rate in parts["shared"]["figures"]["each of two: steps/s"])


def test_a_part_that_hangs_is_told_and_nothing_of_it_is_left(
    gpu: ModuleType, tmp_path: Path
) -> None:
    """What it had found until then is not lost, and what it started elsewhere is ended, too."""
    told = tmp_path / "part.json"
    code = (
        "import subprocess, sys, time; from pathlib import Path\n"
        f"sys.path.insert(0, {str(GPU.parent)!r}); import gpu\n"
        f"gpu.Told(Path({str(told)!r})).figure('steps/s', 1.5)\n"
        "other = subprocess.Popen(['setsid', 'sleep', '1000'])\n"
        f"Path({str(tmp_path / 'pid')!r}).write_text(str(other.pid))\n"
        "time.sleep(1000)"
    )
    found = gpu.watch([sys.executable, "-c", code], told, 2.0, {})
    assert (found["verdict"], found["why"]) == ("failed", "it was not over within 2 s")
    assert found["figures"] == {"steps/s": [1.5]}
    # Who inherits it may be late to bury it: what is dead has no environment any more.
    with pytest.raises((FileNotFoundError, ProcessLookupError)):
        Path("/proc", (tmp_path / "pid").read_text(), "environ").read_bytes()


def test_a_part_that_hears_nothing_is_ended_all_the_same(
    gpu: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As one does that is stuck in a call to the driver."""
    monkeypatch.setattr(gpu, "TIDY_S", 0.2)
    code = (
        "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\nwhile True: signal.pause()"
    )
    began_s = time.monotonic()
    found = gpu.watch([sys.executable, "-c", code], tmp_path / "part.json", 0.5, {})
    assert found["verdict"] == "failed"
    assert time.monotonic() - began_s < 8


def test_a_part_that_falls_is_told_with_its_reason(gpu: ModuleType, tmp_path: Path) -> None:
    for code, why in (
        (
            "raise RuntimeError('no kernel image')",
            "it has ended with 1: RuntimeError: no kernel image",
        ),
        ("import os; os.kill(os.getpid(), 9)", "it has ended with -9: it has said nothing"),
        ("pass", "it has ended with 0: it has said nothing"),
    ):
        found = gpu.watch([sys.executable, "-c", code], tmp_path / "part.json", 20.0, {})
        assert (found["verdict"], found["why"]) == ("failed", why)


def test_what_lacks_is_named_and_the_others_go_on(
    gpu: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bare box has no emulators, perhaps no Stable-Baselines3."""
    bare = gpu.Part(gpu.games, 5, ("no_such_module", "json", "another_that_lacks"))
    card = gpu.Part(gpu.power, 5, ("json",), card=True)
    monkeypatch.setattr(gpu, "PARTS", {"box": bare, "power": card})
    found = gpu.measure(["power"], tmp_path, quick=True)
    assert {name: part["why"] for name, part in found.items()} == {
        "box": "it needs no_such_module, another_that_lacks",
        "power": "it needs a card",
    }
    assert {part["verdict"] for part in found.values()} == {"left out"}


def test_what_was_measured_in_haste_is_not_kept(
    gpu: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["gpu.py", "--quick", "--save"])
    with pytest.raises(SystemExit) as left:
        gpu.main()
    assert left.value.code == 2
