"""What a run has learnt forecasts other rows, in a process that has seen none of it."""

import csv
import io
import json

import lightgbm
import numpy as np
import pyarrow.parquet as pq
import pytest
import xgboost

from testkit.tables import hourly, write
from trainers import tabular
from trainers.__main__ import main
from trainers.attempt import read_spec
from trainers.contract import EXIT_BAD_SPEC, EXIT_DONE, BadSpec, RunFolder
from trainers.session import Session


@pytest.fixture(params=["lgbm", "xgboost", "rf"])
def run(make_run, request):
    """A run that is done, of each algorithm."""
    told = {"n_estimators": 20, **({"max_depth": 4} if request.param == "rf" else {})}
    run = make_run(request.param, hyperparameters=told)
    assert train(run) == EXIT_DONE
    return run


@pytest.fixture
def rows(tmp_path):
    """A later table, of which the last day is not known yet."""
    columns = hourly(300, seed=9)
    columns["load"][-24:] = np.nan
    return write(tmp_path / "later.csv", columns)


def train(run):
    session = Session(RunFolder(run), read_spec(RunFolder(run)))
    tabular.train(session)
    return session.finish()


@pytest.mark.parametrize("content", [b"", b"{L"])
def test_a_checkpoint_whose_model_is_damaged_forecasts_nothing_and_says_so(
    make_run, rows, content, tmp_path
):
    """In a line, in which its place stands."""
    run = make_run("xgboost", hyperparameters={"n_estimators": 2})
    assert train(run) == EXIT_DONE
    (checkpoint,) = (run / "checkpoints").glob("2")
    (checkpoint / "model.ubj").write_bytes(content)
    with pytest.raises(BadSpec, match=r"model\.ubj: the file is no model that XGBoost can read"):
        tabular.predict(read_spec(RunFolder(run)), checkpoint, rows, tmp_path / "told.csv")


def algorithm(run):
    return read_spec(RunFolder(run)).options["algorithm"]


def predict(run, rows, *arguments):
    return main(["tabular", "--run", str(run), "--predict", str(rows), *arguments])


def test_each_row_whose_past_is_known_has_a_forecast(run, rows, capsys):
    """Printed as CSV or JSON, or written to a file: the same numbers."""
    assert predict(run, rows) == 0
    printed = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert len(printed) == 300 - 168  # as far back as a feature looks
    assert printed[-1]["time"] == "2024-01-13T11:00:00Z"
    out = rows.with_name("out.parquet")
    assert predict(run, rows, "--out", str(out), "--json") == 0
    assert json.loads(capsys.readouterr().out)["rows"] == len(printed)
    written = pq.read_table(out)["forecast"].to_pylist()
    assert written == [float(row["forecast"]) for row in printed]
    assert predict(run, rows, "--json") == 0
    assert [row["forecast"] for row in json.loads(capsys.readouterr().out)] == written


def test_a_row_is_forecast_as_the_library_itself_would_by_the_exported_file(run, rows, capsys):
    """What is exported is what forecasts, and needs nothing of ours."""
    kind = tabular.Options.ALGORITHMS[algorithm(run)].model
    out = rows.with_name(kind.FILE)
    assert main(["tabular", "--run", str(run), "--export", str(out)]) == 0
    capsys.readouterr()
    if kind.FILE != "model.skops":
        assert out.read_bytes() == (run / kind.FILE).read_bytes()
    assert predict(run, rows) == 0
    printed = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    columns = hourly(300, seed=9)
    at = slice(168, None)
    hours = np.arange(300)
    x = np.column_stack(
        [
            columns["temperature"][at],
            hours[at] // 24 % 7,
            hours[at] % 24,
            columns["load"][at.start - 24 : -24],
            columns["load"][: -at.start],
        ]
    )
    if algorithm(run) == "lgbm":
        expected = lightgbm.Booster(model_file=out).predict(x)
    elif algorithm(run) == "xgboost":
        booster = xgboost.Booster(model_file=out)
        expected = booster.predict(xgboost.DMatrix(x, feature_names=booster.feature_names))
    else:
        expected = kind(out.read_bytes()).predict(x, 1)
    assert [float(row["forecast"]) for row in printed] == pytest.approx(list(expected), rel=1e-12)


def test_a_format_that_nobody_reads_is_refused(run, rows, capsys):
    assert predict(run, rows, "--out", str(rows.with_name("out.xlsx"))) == EXIT_BAD_SPEC
    assert "forecasts are written as .csv, .json, .parquet" in capsys.readouterr().err


def test_a_table_without_what_a_feature_is_made_of_is_refused(run, tmp_path, capsys):
    """In one line that names the column."""
    columns = hourly(300)
    del columns["temperature"]
    assert predict(run, write(tmp_path / "poor.csv", columns)) == EXIT_BAD_SPEC
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1
    assert "Column not found: temperature" in said[0]


@pytest.mark.parametrize("algorithm", ["lgbm", "xgboost", "rf"])
def test_text_is_a_category_and_one_that_nobody_has_seen_is_forecast_too(
    make_run, tmp_path, capsys, algorithm
):
    """Where the algorithm knows categories it is told which these are."""
    columns = hourly(900)
    columns["sky"] = np.array(["clear", "rain", "snow"])[np.arange(900) // 7 % 3]
    columns["load"] = columns["load"] + 30 * (columns["sky"] == "rain")
    write(tmp_path / "skies.csv", columns)
    told = {"features": ["sky", "hour_of_day"], "hyperparameters": {"n_estimators": 40}}
    run = make_run(algorithm, data="skies.csv", **told)
    assert train(run) == EXIT_DONE
    later = hourly(20, seed=5) | {"sky": np.array(["rain", "clear", "hail", "snow"] * 5)}
    capsys.readouterr()
    assert predict(run, write(tmp_path / "later.csv", later), "--json") == 0
    forecast = [row["forecast"] for row in json.loads(capsys.readouterr().out)]
    assert len(forecast) == 20
    assert forecast[0] - forecast[1] > 15
