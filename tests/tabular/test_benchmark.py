"""The benchmark of tables compares what it says that it compares."""

import json

import pytest

from testkit.benchmarks import benchmark


@pytest.fixture(scope="module")
def tabular():
    return benchmark("tabular")


def test_the_library_itself_grows_our_model_on_the_same_segments(tabular):
    """Else the times of two different things would be compared."""
    turns = tabular.cost("lgbm", 2000, 30, turns=1)
    (ours,), (same,), (once,) = turns.values()
    assert ours.content == same.content
    assert min(ours.training_s, same.training_s, once.training_s) > 0
    assert ours.steps_s.keys() == set(tabular.STEPS)
    assert ours.memory_mb > 50


def test_what_is_printed_of_a_real_series_stands_in_its_metrics(tabular, monkeypatch, capsys):
    """Skill beside what costs nothing, for people and for machines."""
    asked = ["tabular.py", "skill", "--series", "sunspots", "--algorithms", "lgbm"]
    monkeypatch.setattr(tabular.sys, "argv", [*asked, "--json"])
    assert tabular.main() == 0
    (found,) = json.loads(capsys.readouterr().out)["skill"]
    assert found["best_baseline"] == "naive"
    assert found["skill"] == pytest.approx(1 - found["mae"] / found["mae_of_it"])
