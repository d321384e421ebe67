"""What is strange in a table is found by a forecast that it misses, or by how alone it stands."""

import csv
import io
import json

import numpy as np
import pytest

from testkit.tables import hourly, write
from trainers import options, tabular
from trainers.__main__ import main
from trainers.attempt import read_spec
from trainers.contract import EXIT_DONE, RunFolder
from trainers.session import Session
from trainers.tables import ConfigValidationError

ROWS, EVERY = 1440, 90
ISOLATED = {
    "algorithm": "isolation_forest",
    "features": ["load", "temperature"],
    "target": None,
    "horizon": 0,
}
MISSED = {"algorithm": "lgbm"}


@pytest.fixture
def make_anomalies(make_run, tmp_path):
    """Makes a run over a table in which every ninetieth value is off, and says so."""

    def make(asked, **more):
        told = {"model_type": "anomaly", "data": "odd.csv", **asked, **more}
        run = make_run(told.pop("algorithm"), **told)
        columns = hourly(ROWS)
        columns["broken"] = (np.arange(ROWS) % EVERY == EVERY - 1).astype(int)
        columns["load"] = columns["load"] + 60 * columns["broken"]
        write(tmp_path / "odd.csv", columns)
        return run

    return make


def train(run):
    session = Session(RunFolder(run), read_spec(RunFolder(run)))
    tabular.train(session)
    assert session.finish() == EXIT_DONE
    return json.loads((run / "metrics.json").read_bytes()), session


@pytest.mark.parametrize("asked", [ISOLATED, MISSED], ids=["isolated", "missed"])
def test_with_labels_it_is_told_how_much_better_than_chance_it_is(make_anomalies, asked):
    """On a part that has chosen no threshold."""
    found, session = train(make_anomalies(asked, labels="broken", test_split=0.2))
    assert found["judged_on"] == "test"
    assert found["base_rate"] == pytest.approx(1 / EVERY, rel=0.3)
    assert found["pr_auc"] > 0.7
    assert found["lift"] > 50
    assert found["recall"] > 0.7
    if asked is ISOLATED:
        assert session.checkpoint.manifest.score.name == "pr_auc"
        assert "mae" not in found
    else:
        assert found["mae"] > 0


@pytest.mark.parametrize("asked", [ISOLATED, MISSED], ids=["isolated", "missed"])
def test_without_labels_nothing_is_said_of_how_right_it_is(make_anomalies, asked):
    """Only how many rows it would have somebody look at."""
    found, _ = train(make_anomalies(asked))
    assert 0 < found["flagged"] < 0.05
    for name in ("pr_auc", "lift", "precision", "recall", "f1", "range_recall", "base_rate"):
        assert found[name] is None


def test_a_threshold_is_not_judged_by_the_rows_that_have_chosen_it(make_anomalies):
    """Without a test part there is only what depends on no threshold."""
    found, _ = train(make_anomalies(ISOLATED, labels="broken"))
    assert found["judged_on"] == "validation"
    assert found["pr_auc"] > 0.7
    assert found["precision"] is found["recall"] is found["f1"] is None


@pytest.mark.parametrize("asked", [ISOLATED, MISSED], ids=["isolated", "missed"])
def test_other_rows_are_told_to_be_strange_in_a_process_that_has_seen_none_of_it(
    make_anomalies, tmp_path, capsys, asked
):
    """Each with how strange it is; nothing where nobody knows what the row was."""
    run = make_anomalies(asked, labels="broken")
    train(run)
    columns = hourly(400, seed=8)
    columns["load"][250] += 80
    if asked is MISSED:
        columns["load"][-1] = np.nan
    later = write(tmp_path / "later.csv", columns)
    capsys.readouterr()
    assert main(["tabular", "--run", str(run), "--predict", str(later)]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    strangest = max(rows, key=lambda row: float(row["score"] or 0))
    assert strangest["time"] == "2024-01-11T10:00:00Z"
    assert strangest["anomaly"] == "1"
    assert sum(row["anomaly"] == "1" for row in rows) < 10
    if asked is MISSED:
        assert (rows[-1]["score"], rows[-1]["anomaly"]) == ("", "")
        assert float(rows[-1]["forecast"]) > 0


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (
            {**ISOLATED, "model_type": "forecast", "horizon": 1, "target": "load"},
            "algorithm: isolation_forest",
        ),
        ({**MISSED, "target": None}, "target: Must name the column whose forecast is compared"),
        ({**ISOLATED, "backtest": {"folds": 2}}, "backtest: isolation_forest forecasts nothing"),
    ],
)
def test_what_finds_nothing_is_refused_in_one_line(make_anomalies, asked, said):
    with pytest.raises(ConfigValidationError) as refused:
        options.validate(tabular, read_spec(RunFolder(make_anomalies(asked))))
    assert said in str(refused.value)
