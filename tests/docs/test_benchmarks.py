"""The benchmarks ask the trainers for what trainers of today are asked for."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from modes import load_ladder
from testkit.benchmarks import BENCHMARKS, benchmark
from trainers import attempt
from trainers.contract import RunFolder


def test_a_run_beside_stock_has_the_load_of_its_mode(tmp_path: Path) -> None:
    """What is compared with stock is what a mode asks of a trainer."""
    mode = load_ladder()["medium"]
    folder = benchmark("atari")._run_folder(tmp_path, "Pong", mode, target_steps=8)
    spec = attempt.read_spec(folder)
    assert (spec.name, spec.up_to("steps")) == ("Pong", 8)
    assert spec.load == mode.load_of("atari")


def test_a_run_that_is_to_learn_has_no_end_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is stopped from outside, at the step at which stock is stopped."""
    learning = benchmark("learning")
    monkeypatch.setattr(learning.subprocess, "Popen", lambda *_, **__: None)
    folder = RunFolder(tmp_path)
    learning._start(folder, "Pong", 3, learning.LIGHT)
    spec = attempt.read_spec(folder)
    assert (spec.seed, spec.up_to("episodes")) == (3, learning.ENDLESS)


@pytest.mark.parametrize(
    "name", ["beside", "chaos", "fairness", "long_queue", "restart", "samples", "windows"]
)
def test_a_benchmark_needs_nothing_that_only_tests_need(name: str) -> None:
    """On a box that trains there is no pytest: what it takes of the kit does without."""
    code = "import runpy, sys; sys.modules['pytest'] = None; sys.path.insert(0, sys.argv[1]); "
    code += "runpy.run_path(sys.argv.pop(2), run_name='there')"
    command = [sys.executable, "-c", code, str(BENCHMARKS), str(BENCHMARKS / f"{name}.py")]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stderr
