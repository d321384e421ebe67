"""A booster forecasts quantiles, too: each by a model of its own, as exact as that of the mean."""

import csv
import io
import json

import lightgbm
import numpy as np
import pytest
import xgboost
from lessons import grown, lesson
from PIL import Image

from testkit.mortal import told_by
from testkit.tables import hourly, write
from trainers import options, tabular
from trainers.__main__ import main
from trainers.attempt import read_spec
from trainers.contract import EXIT_AGAIN, EXIT_DONE, BadSpec, RunFolder
from trainers.session import Session, Stop
from trainers.tables import ConfigValidationError
from trainers.tables.learning import learner
from trainers.tables.learning.growing import content_sha256, pinball
from trainers.tables.learning.options import quantile_name
from trainers.tables.learning.quantiles import in_order
from trainers.tabular import lgbm, xgb

BOOSTERS = ("lgbm", "xgboost")
ROUNDS = 60
ASKED = {
    "features": ["hour_of_day", "load_lag_24", "load_lag_168"],
    "quantiles": [0.1, 0.5, 0.9],
    "hyperparameters": {"n_estimators": 40, "max_depth": 3},
}


class AfterRounds(Stop):
    """Asked for after so many rounds of whatever model."""

    def __init__(self, monkeypatch, rounds):
        self.left = rounds
        real = learner._Watch.heard

        def heard(watch, score):
            self.left -= 1
            real(watch, score)

        monkeypatch.setattr(learner._Watch, "heard", heard)

    @property
    def requested(self):
        return self.left <= 0


def train(run, stop=None):
    session = Session(RunFolder(run), read_spec(RunFolder(run)), stop=stop)
    tabular.train(session)
    return session.finish()


def change(run, **fields):
    spec = json.loads((run / "spec.json").read_bytes())
    spec["options"] |= fields
    (run / "spec.json").write_text(json.dumps(spec))


def left(run):
    """The bytes of its models, its metrics and its card: what equal runs have in common."""
    return {path.name: path.read_bytes() for path in run.glob("model.*")}, *told_by(run)


@pytest.mark.parametrize("algorithm", BOOSTERS)
@pytest.mark.parametrize("quantile", [0.1, 0.999])
def test_a_model_of_a_quantile_is_the_same_however_it_came_about(algorithm, quantile):
    """Saved and read at each segment, and with another number of threads."""
    taught = lesson(algorithm, quantile=quantile)
    whole, scores = grown(algorithm, ROUNDS, taught)
    resumed, its = grown(algorithm, ROUNDS, taught, range(1, ROUNDS))
    two, theirs = grown(algorithm, ROUNDS, lesson(algorithm, threads=2, quantile=quantile))
    assert its == theirs == scores
    assert resumed.saved() == two.saved() == whole.saved()
    assert len({content_sha256(model.arrays()) for model in (whole, resumed, two)}) == 1
    forecast = whole.predict(taught.valid.x, 1)
    assert scores[-1] == pytest.approx(pinball(forecast, taught.valid.y, quantile), rel=1e-6)


def test_lightgbm_itself_grows_the_same_model_of_a_quantile():
    """Nothing but what the library does on its own is in the model."""
    taught = lesson("lgbm", quantile=0.9)
    model, _ = grown("lgbm", ROUNDS, taught)
    booster = None
    for begins in range(0, ROUNDS, 25):
        told = lgbm.parameters(taught, begins)
        assert (told["objective"], told["alpha"]) == ("quantile", 0.9)
        rows = lightgbm.Dataset(
            taught.train.x,
            taught.train.y,
            feature_name=list(taught.names),
            categorical_feature=[5],
            free_raw_data=False,
        )
        booster = lightgbm.train(told, rows, min(25, ROUNDS - begins), init_model=booster)
    assert np.array_equal(booster.predict(taught.valid.x), model.predict(taught.valid.x, 1))


def test_xgboost_itself_grows_the_same_model_of_a_quantile():
    """Nothing but what the library does on its own is in the model."""
    taught = lesson("xgboost", quantile=0.9)
    model, _ = grown("xgboost", ROUNDS, taught)

    def matrix(part):
        kinds = ["q"] * 5 + ["c"]
        names = list(taught.names)
        return xgboost.DMatrix(
            part.x, part.y, feature_names=names, feature_types=kinds, enable_categorical=True
        )

    booster = None
    for begins in range(0, ROUNDS, 25):
        told = xgb.parameters(taught, begins)
        assert (told["objective"], told["quantile_alpha"]) == ("reg:quantileerror", 0.9)
        rounds = min(25, ROUNDS - begins)
        booster = xgboost.train(told, matrix(taught.train), rounds, xgb_model=booster)
    assert np.array_equal(booster.predict(matrix(taught.valid)), model.predict(taught.valid.x, 1))


@pytest.mark.parametrize("algorithm", BOOSTERS)
def test_of_a_known_noise_the_quantiles_hold_what_they_say(make_run, algorithm):
    """And beside the mean stands how good they are, on the rows by which that is judged."""
    enough = {"features": ["hour_of_day"], "hyperparameters": {"n_estimators": 80, "max_depth": 5}}
    run = make_run(algorithm, **ASKED | enough, test_split=0.2)
    write(run.parents[1] / "loads.csv", hourly(6000))
    assert train(run) == EXIT_DONE
    metrics = json.loads((run / "metrics.json").read_bytes())
    told = metrics["quantiles"]
    assert told.keys() == metrics["validation"]["quantiles"].keys()
    assert list(told["levels"]) == ["q10", "q50", "q90"]
    for level in told["levels"].values():
        assert level["coverage"] == pytest.approx(level["quantile"], abs=0.07)
        assert level["pinball"] < level["baseline_pinball"]
    assert told["interval"]["asked"] == 0.8
    assert told["interval"]["coverage"] == pytest.approx(0.8, abs=0.07)
    # The noise is normal, of 3: ten per cent of it lie below, and above, 1.28 times that.
    assert told["interval"]["width"] == pytest.approx(2 * 1.2816 * 3, rel=0.15)
    assert 0 < told["skill"] < 1
    assert told["warning"] is None


def test_quantiles_that_are_no_better_than_those_of_repeating_say_so(make_run):
    """What repeats yesterday knows how far off it is, from the training part."""
    run = make_run("lgbm", **ASKED | {"hyperparameters": {"n_estimators": 1}})
    assert train(run) == EXIT_DONE
    told = json.loads((run / "metrics.json").read_bytes())["quantiles"]
    assert told["skill"] < 0
    assert told["warning"].startswith("its quantiles are no better than repeating the last known")


def test_each_model_of_a_quantile_is_left_beside_that_of_the_mean(make_run):
    """Hashed as it is, in the card, and in the picture."""
    run, plain = make_run("lgbm", **ASKED), make_run("lgbm", "plain", **ASKED | {"quantiles": []})
    assert train(run) == train(plain) == EXIT_DONE
    assert (run / "model.txt").read_bytes() == (plain / "model.txt").read_bytes()
    sums = (run / "SHA256SUMS").read_text()
    for name in ("model.q10.txt", "model.q50.txt", "model.q90.txt"):
        assert f"  {name}\n" in sums
        assert lightgbm.Booster(model_file=run / name).current_iteration() == 40
    card = json.loads((run / "model_card.json").read_bytes())
    assert card["quantiles"]["content_sha256"].keys() == {"q10", "q50", "q90"}
    assert "sorted" in card["quantiles"]["crossing"]
    assert "quantiles" not in json.loads((plain / "model_card.json").read_bytes())
    assert len(colours(run)) > len(colours(plain))


def colours(run):
    with Image.open(run / "forecast.png") as picture:
        return {colour for _, colour in picture.getcolors(1000)}


def test_a_forecast_has_a_column_for_each_quantile_and_they_never_cross(make_run, tmp_path, capsys):
    """Whatever the models say of a row, its quantiles stand in their order."""
    asked = ASKED | {"quantiles": [0.025, 0.45, 0.5, 0.55, 0.975]}
    run = make_run("lgbm", **asked)
    assert train(run) == EXIT_DONE
    assert json.loads((run / "metrics.json").read_bytes())["quantiles"]["crossed"] > 0
    capsys.readouterr()
    later = write(tmp_path / "later.csv", hourly(400, seed=8))
    assert main(["tabular", "--run", str(run), "--predict", str(later)]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    names = ["q2.5", "q45", "q50", "q55", "q97.5"]
    assert list(rows[0]) == ["time", "forecast", *names]
    values = np.array([[float(row[name]) for name in names] for row in rows])
    assert np.all(np.diff(values, axis=1) >= 0)


@pytest.mark.parametrize("algorithm", BOOSTERS)
def test_a_run_that_is_stopped_in_any_model_leaves_what_one_leaves_that_is_not(
    make_run, monkeypatch, algorithm
):
    """Also where it gives up a segment, and goes on with fewer or more quantiles meanwhile."""
    asked = ASKED | {"early_stopping_rounds": 12, "grace_s": 0.0001, "backtest": {"folds": 2}}
    whole, stopped = make_run(algorithm, "whole", **asked), make_run(algorithm, "stopped", **asked)
    assert train(whole) == EXIT_DONE
    for rounds in (30, 20, 30):
        with monkeypatch.context() as patched:
            assert train(stopped, AfterRounds(patched, rounds)) == EXIT_AGAIN
    assert list((stopped / "checkpoints").glob("*/model.q10.*"))
    change(stopped, quantiles=[0.1, 0.9])
    with monkeypatch.context() as patched:
        assert train(stopped, AfterRounds(patched, 30)) == EXIT_AGAIN
    change(stopped, quantiles=[0.1, 0.5, 0.9])
    assert train(stopped) == EXIT_DONE
    assert left(stopped) == left(whole)


def test_a_quantile_that_is_added_is_learnt_and_one_that_is_not_asked_for_is_taken_back(make_run):
    """The model of the mean is as it was, and not trained again."""
    run = make_run("lgbm", **ASKED | {"quantiles": [0.1, 0.5]})
    assert train(run) == EXIT_DONE
    before = {path.name: path.read_bytes() for path in run.glob("model.*txt")}
    change(run, quantiles=[0.1, 0.9])
    assert train(run) == EXIT_DONE
    after = {path.name: path.read_bytes() for path in run.glob("model.*txt")}
    assert after.keys() == {"model.txt", "model.q10.txt", "model.q90.txt"}
    for name in ("model.txt", "model.q10.txt"):
        assert after[name] == before[name]


def test_fewer_rounds_are_those_of_the_quantiles_and_the_folds_too(make_run):
    """Whatever was grown beside the model has as many rounds as are used of it."""
    asked = ASKED | {"backtest": {"folds": 2}}
    fewer = asked | {"hyperparameters": {"n_estimators": 30, "max_depth": 3}}
    run, straight = make_run("lgbm", **asked), make_run("lgbm", "straight", **fewer)
    assert train(run) == EXIT_DONE
    change(run, hyperparameters=fewer["hyperparameters"])
    assert train(run) == train(straight) == EXIT_DONE
    (files, *told), (its, *theirs) = left(run), left(straight)
    assert told[0] == theirs[0]
    assert files["model.q10.txt"] == its["model.q10.txt"]


def test_a_model_that_still_grows_forecasts_no_quantiles(make_run, tmp_path, capsys, monkeypatch):
    """Half of what is asked for is not written as if it were all."""
    run = make_run("lgbm", **ASKED)
    assert train(run, AfterRounds(monkeypatch, 45)) == EXIT_AGAIN
    later = write(tmp_path / "later.csv", hourly(400, seed=8))
    assert main(["tabular", "--run", str(run), "--predict", str(later)]) != 0
    assert "no whole model of q10" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"algorithm": "rf"}, "rf forecasts a mean: lgbm and xgboost forecast quantiles, too"),
        ({"quantiles": [0.1, 1.0]}, "Must all be between 0.0 and 1.0"),
        ({"quantiles": [float("nan")]}, "Must all be between 0.0 and 1.0"),
        ({"quantiles": [0.9, 0.1]}, "Must stand in their order, each once"),
        ({"quantiles": [0.1, 0.1]}, "Must stand in their order, each once"),
    ],
)
def test_quantiles_that_nobody_can_forecast_are_refused_in_one_line(asked, said):
    told = {"algorithm": "lgbm", "features": ["load_lag_1"], "target": "load", **ASKED} | asked
    if told["algorithm"] == "rf":
        told["hyperparameters"] = {}
    with pytest.raises(ConfigValidationError) as refused:
        options.converted(told, tabular.Options)._refuse_bad_quantiles()
    assert said in str(refused.value)
    assert isinstance(refused.value, BadSpec)


def test_a_quantile_is_called_by_its_per_cent():
    named = [quantile_name(quantile) for quantile in (0.025, 0.07, 0.5, 0.999)]
    assert named == ["q2.5", "q7", "q50", "q99.9"]


def test_sorted_quantiles_are_no_worse():
    """Whichever way they crossed."""
    chance = np.random.default_rng(3)
    truth, asked = chance.normal(size=500), (0.2, 0.4, 0.6)
    forecast = chance.normal(size=(500, 3))

    def loss(values):
        return sum(pinball(one, truth, q) for one, q in zip(values.T, asked, strict=True))

    assert loss(in_order(forecast)) < loss(forecast)
