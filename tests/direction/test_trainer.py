"""What can be asked of the trainer of directions, what it refuses, and what it leaves."""

import json
import math
import subprocess
import sys

import msgspec
import numpy as np
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
import xgboost
from PIL import Image

from testkit.tables import table_run
from trainers import direction, options
from trainers.attempt import check_fits, read_spec
from trainers.contract import EXIT_AGAIN, EXIT_DONE, BadSpec, RunFolder, Score
from trainers.direction import boosting, judging
from trainers.direction.options import V1
from trainers.direction.scoring import score
from trainers.session import Stop
from trainers.tables import DataLoadError
from trainers.tables.learning.growing import Lesson, Part
from trainers.tabular.xgb import Xgboost


class Later(Stop):
    """Asked for when the run has come so far."""

    def __init__(self, step):
        self.step = step
        self.session = None

    @property
    def requested(self):
        return self.session is not None and self.session.step >= self.step


def change(run, **fields):
    """Ask for something else; a table is put over the old one."""
    spec = json.loads((run / "spec.json").read_bytes())
    for name, value in fields.items():
        if isinstance(value, dict):
            spec["options"].setdefault(name, {})
            spec["options"][name] |= value
        else:
            spec["options"][name] = value
    (run / "spec.json").write_text(json.dumps(spec))


def check(run):
    """See that what is asked for can be trained."""
    options.validate(direction, read_spec(RunFolder(run)))


def test_the_spec_of_a_job_is_trained_as_it_stands_there(make_run, train, metrics, card):
    """It has skill, and leaves all that the page asks for."""
    run = make_run()
    check(run)
    code, session = train(run)
    assert code == EXIT_DONE
    assert session.step == 100
    told = metrics(run)
    assert told["judged_on"] == "test"
    assert told["evaluation_status"] == "ok"
    assert told["balancedAccuracy"] > 0.36
    for baseline in told["baselines"].values():
        assert told["balancedAccuracy"] > baseline["balancedAccuracy"]
    assert told["warning"] is None
    assert told["maxDrawdown"] > 0
    assert told["best_threshold"] in judging.THRESHOLDS
    assert told["validation"]["threshold_results"] != told["threshold_results"]
    assert judging.best_of(told["validation"]["threshold_results"]) == told["best_threshold"]
    its = card(run)
    beforehand = direction.rows(read_spec(RunFolder(run)), run.parent.parent)
    assert beforehand.told["split"] == its["split"]
    assert beforehand.train_rows == told["training_data_size"]
    assert its["model_type"] == "direction"
    assert its["hyperparameters"] == {"nround": 100, "maxDepth": 6, "eta": 0.1}
    assert its["options"]["dataset"]["labelHorizonSec"] == 10
    assert its["split"]["train"]["rows"] == told["training_data_size"]
    assert its["metrics"]["maxDrawdown"] == told["maxDrawdown"]
    assert session.checkpoint.manifest.score == Score(
        name="log_loss", value=session.checkpoint.manifest.score.value, better="lower"
    )
    with Image.open(run / "trades.png") as picture:
        assert picture.width > picture.height > 0
    lines = [
        msgspec.json.decode(line) for line in (run / "metrics.jsonl").read_bytes().splitlines()
    ]
    assert list(dict.fromkeys(line["pipeline_step"] for line in lines)) == [1, 2, 3, 4, 5]


def test_a_model_that_says_nothing_new_says_that(make_run, train, metrics, tmp_path):
    """Of what is always the same nothing can be foreseen."""
    run = make_run(dataset={"featurePath": "same.parquet"}, features=["one"], params={"nround": 5})
    day = pq.read_table(next((tmp_path / "quotes").rglob("*.parquet")))
    pq.write_table(day.append_column("one", [[1.0] * len(day)]), tmp_path / "same.parquet")
    train(run)
    told = metrics(run)["warning"]
    assert told.startswith("no better than always telling one class: that has a balanced accuracy")


def test_the_file_of_a_model_is_all_that_is_needed_to_score_it_again(
    make_run, train, metrics, card, tmp_path
):
    """In another process, under another name: the numbers of the run, on the rows that it names."""
    run = make_run(params={"nround": 30}, flat_bps=1.0, cost_bps=0.5)
    train(run)
    production = tmp_path / "model.bin"
    production.write_bytes((run / "model.ubj").read_bytes())
    begins = card(run)["split"]["test"]["from"]
    printed = subprocess.run(
        [
            *(sys.executable, "-m", "trainers.direction", "score"),
            *(str(production), str(tmp_path / "quotes"), "--begin", begins),
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    again, told = json.loads(printed.stdout), metrics(run)
    assert again.keys() - told.keys() == {"judged", "rows_sha256"}
    assert {name: told[name] for name in again.keys() & told.keys()} == {
        name: again[name] for name in again.keys() & told.keys()
    }
    assert again["judged"]["rows"] == card(run)["split"]["test"]["rows"]
    assert again["rows_sha256"] == score(production, tmp_path / "quotes")["rows_sha256"]


def test_what_is_exported_is_the_model_that_the_run_has_left(make_run, train, tmp_path):
    """To the byte, and XGBoost reads it alone."""
    run = make_run(params={"nround": 30}, early_stopping_rounds=5)
    _, session = train(run)
    out = tmp_path / "exported.ubj"
    direction.export(read_spec(RunFolder(run)), session.checkpoint.path, out)
    assert out.read_bytes() == (run / "model.ubj").read_bytes()
    alone = xgboost.Booster(model_file=str(out))
    assert alone.feature_names == list(V1)


def test_what_is_no_model_of_directions_is_not_scored(make_run, tmp_path):
    make_run()
    for content in (b"", b"{}", b"{L", b"PK"):
        (tmp_path / "model.ubj").write_bytes(content)
        with pytest.raises(BadSpec, match="no model that XGBoost can read"):
            score(tmp_path / "model.ubj", tmp_path / "quotes")
    plain = xgboost.train({}, xgboost.DMatrix(np.ones((4, 1)), np.arange(4)), 1)
    plain.save_model(tmp_path / "model.ubj")
    with pytest.raises(BadSpec, match="no rule is in its file"):
        score(tmp_path / "model.ubj", tmp_path / "quotes")


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".json"])
def test_what_is_predicted_are_probabilities_and_a_direction(make_run, train, tmp_path, suffix):
    """Of each quote that has all features, those whose outcome nobody knows yet, too."""
    run = make_run(params={"nround": 26})
    _, session = train(run)
    out = tmp_path / f"forecasts{suffix}"
    spec = read_spec(RunFolder(run))
    count = direction.predict(spec, session.checkpoint.path, tmp_path / "quotes", out)
    if suffix == ".csv":
        table = pyarrow.csv.read_csv(out)
    elif suffix == ".parquet":
        table = pq.read_table(out)
    else:
        table = pyarrow.Table.from_pylist(json.loads(out.read_bytes()))
    assert table.column_names == ["time", "down", "flat", "up", "direction"]
    assert len(table) == count
    sums = sum(table[name].to_numpy() for name in ("down", "flat", "up"))
    assert sums == pytest.approx(np.ones(count), abs=1e-5)
    assert set(table["direction"].to_pylist()) <= {"down", "flat", "up"}


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"horizon": 3}, "no option 'horizon'"),
        ({"dataset": {"labelHorizon": 3}}, "unknown field `labelHorizon`"),
        ({"dataset": {"featuresetVersion": "v2"}}, "featuresetVersion"),
        ({"dataset": {"labelHorizonSec": 0}}, "labelHorizonSec"),
        ({"dataset": {"dateRange": {"date": "20251301"}}}, "Must be a day such as 20251228"),
        ({"dataset": {"featurePath": None, "symbol": None}}, "dataset.symbol: Must be said"),
        ({"dataset": {"featurePath": "s3://bucket/data.parquet"}}, "Must be a path on this"),
        ({"model": {"type": "lstm"}}, "lstm"),
        ({"model": {"params": {"n_estimators": 9}}}, "unknown field `n_estimators`"),
        ({"model": {"params": {"numClass": 2}}}, "numClass"),
        ({"model": {"params": {"objective": "reg:squarederror"}}}, "objective"),
        ({"model": {"params": {"eta": 0.0}}}, "eta"),
        ({"model": {"featureParams": {"features": []}}}, "Must name at least one"),
        ({"model": {"featureParams": {"features": ["time"]}}}, "time is no feature"),
        ({"model": {"featureParams": {"features": ["a", "a"]}}}, "a stands there twice"),
        ({"validation_split": 0.5, "test_split": 0.5}, "validation_split: With test_split"),
        ({"test_split": 0.0}, "test_split"),
        ({"flat_bps": -1.0}, "flat_bps: Must be 0.0 or more"),
    ],
)
def test_what_can_never_work_is_refused_in_one_line(make_run, asked, said):
    """Before anything is read; the line names the field."""
    run = make_run()
    change(run, **asked)
    with pytest.raises(BadSpec) as refused:
        check(run)
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


def test_without_a_path_the_days_lie_where_the_page_has_them(make_run):
    """So many days, with the last one."""
    run = make_run(
        dataset={"featurePath": None, "dateRange": {"date": "20260101", "windowSize": 2}}
    )
    check(run)
    asked = msgspec.convert(read_spec(RunFolder(run)).options, direction.Options)
    place = "features/featureset=v1/exchange=binance/stream=bbo/symbol=btcusdt/date={}/data.parquet"
    assert asked.dataset.places == (place.format("20251231"), place.format("20260101"))


def test_a_table_without_a_feature_fails_before_any_training(make_run, train):
    run = make_run(features=["return_1", "imbalance"])
    with pytest.raises(DataLoadError, match="Column not found: imbalance in data"):
        train(run)
    assert not (run / "checkpoints").exists()


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"model": {"params": {"maxDepth": 3}}}, "maxDepth was 6 so far, and is 3 now"),
        ({"dataset": {"labelHorizonSec": 5}}, "labelHorizonSec was 10 so far, and is 5 now"),
        ({"flat_bps": 2.0}, "flat_bps was null so far, and is 2.0 now"),
        ({"test_split": 0.3}, "test_split was 0.2 so far, and is 0.3 now"),
    ],
)
def test_what_a_model_was_not_trained_with_is_refused_before_anything_stops(
    make_run, train, asked, said
):
    """In the words of the job; what no round depends on may change."""
    run = make_run(params={"nround": 2})
    train(run)
    change(run, cost_bps=1.0, dataset={"metaPath": None})
    check_fits(run, read_spec(RunFolder(run)))
    change(run, **asked)
    with pytest.raises(BadSpec) as refused:
        check_fits(run, read_spec(RunFolder(run)))
    assert said in str(refused.value)


def test_a_stop_costs_no_bit_and_more_rounds_are_added_to_a_model_that_is_whole(make_run, train):
    """With the rule of a whole model in its file, or without."""
    rounds = {"maxDepth": 3, "nround": 75}
    whole, stopped = make_run("whole", params=rounds), make_run("stopped", params=rounds)
    longer = make_run("longer", params=rounds | {"nround": 50})
    assert train(whole)[0] == EXIT_DONE
    code, session = train(stopped, Later(step=30))
    assert (code, session.step) == (EXIT_AGAIN, 50)
    assert train(stopped)[0] == EXIT_DONE
    assert train(longer)[0] == EXIT_DONE
    change(longer, model={"params": rounds})
    assert train(longer)[0] == EXIT_DONE
    models = {(run / "model.ubj").read_bytes() for run in (whole, stopped, longer)}
    assert len(models) == 1


def test_both_objectives_of_the_library_grow_the_same_trees():
    """So the file may say the one that keeps its probabilities."""
    chance = np.random.default_rng(1)
    x = chance.normal(size=(400, 3))
    y = ((x[:, 0] > 0).astype(float) + (x[:, 1] + chance.normal(size=400) > 0.3)).round()
    lesson = Lesson(
        train=Part(x[:300], y[:300]),
        valid=Part(x[300:], y[300:]),
        names=("a", "b", "c"),
        hyperparameters={"max_depth": 4, "eta": 0.3},
        seed=1,
        threads=1,
    )
    heard = []
    model = boosting.Direction()
    model.grow(lesson, 10, heard.append)
    asked = model._parameters(lesson) | {"objective": "multi:softmax"}
    matrix = xgboost.DMatrix(x[:300], y[:300], feature_names=["a", "b", "c"])
    softmax = xgboost.train(asked, matrix, 10)
    told = dict(Xgboost(bytes(softmax.save_raw("ubj"))).arrays())
    for name, values in model.arrays():
        assert np.array_equal(told[name], values), name
    probabilities = model.predict(x[300:], 1)
    assert (
        probabilities.argmax(axis=1).tolist()
        == softmax.predict(xgboost.DMatrix(x[300:], feature_names=["a", "b", "c"])).tolist()
    )
    assert heard[-1] == pytest.approx(
        -np.mean([math.log(p[int(c)]) for p, c in zip(probabilities, y[300:], strict=True)])
    )


def test_a_run_that_goes_back_takes_back_what_it_has_left(make_run, train):
    """Nobody takes a model for that of a run which trains."""
    run = make_run(params={"nround": 60, "maxDepth": 3}, grace_s=0.0001)
    train(run)
    spec = json.loads((run / "spec.json").read_bytes())
    spec["rewind"] = {"id": "one", "checkpoint": "50"}
    (run / "spec.json").write_text(json.dumps(spec))
    train(run, Later(step=52))
    for name in ("model.ubj", "metrics.json", "model_card.json", "trades.png", "SHA256SUMS"):
        assert not (run / name).exists()


def test_features_outside_of_the_home_are_named_for_a_service_that_sees_less(tmp_path):
    """Those within it need nothing to be shown."""
    file = tmp_path / "data.parquet"
    run = table_run(tmp_path, "direction", dataset={"featurePath": str(file)})
    assert [need.within for need in direction.needs(read_spec(RunFolder(run)))] == [str(tmp_path)]
    change(run, dataset={"featurePath": "data.parquet"})
    assert direction.needs(read_spec(RunFolder(run))) == []


def test_the_options_count_in_the_unit_of_the_trainer():
    """The registry reads the one, and a run's target is compared with the other."""
    assert direction.Options.UNIT == direction.UNIT
