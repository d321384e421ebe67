"""What can be asked of the trainer of tables, what it refuses, and what it leaves."""

import json
import shutil
import subprocess
import sys

import msgspec
import pytest
from PIL import Image

from testkit.tables import hourly, write
from trainers import options, tabular
from trainers.attempt import check_fits, read_spec
from trainers.contract import EXIT_AGAIN, EXIT_DONE, BadSpec, Rows, RunFolder, Score, Unfit
from trainers.session import Session, Stop
from trainers.tables import ConfigValidationError, DataLoadError
from trainers.tables.learning.learner import TOLD

QUICK_START = {
    "model_type": "forecast",
    "algorithm": "lgbm",
    "hyperparameters": {
        "n_estimators": 100,
        "learning_rate": 0.1,
        "max_depth": 7,
        "num_leaves": 31,
    },
    "training_start": "2024-01-01T00:00:00",
    "training_end": "2024-12-31T23:59:59",
    "features": [
        "temperature",
        "humidity",
        "day_of_week",
        "hour_of_day",
        "load_lag_1",
        "load_lag_24",
    ],
    "target": "load",
    "validation_split": 0.2,
    "random_seed": 42,
}
SCHEMA = {
    "model_type": "forecast",
    "algorithm": "lgbm",
    "hyperparameters": {"n_estimators": 100, "learning_rate": 0.1, "max_depth": 7},
    "training_start": "2024-01-01T00:00:00",
    "training_end": "2024-12-31T23:59:59",
    "features": ["temperature", "humidity", "load_lag_1"],
    "target": "load",
    "validation_split": 0.2,
    "random_seed": 42,
    "early_stopping_rounds": 50,
    "distributed": False,
    "ray_config": {"num_workers": 4, "cpus_per_worker": 2, "memory_per_worker": "4GB"},
}


def train(run, stop=None):
    """An attempt in this process; its exit code, and its session."""
    folder = RunFolder(run)
    session = Session(folder, read_spec(folder), stop=stop)
    if stop is not None:
        stop.session = session
    tabular.train(session)
    return session.finish(), session


class Later(Stop):
    """Asked for when the run has come so far."""

    def __init__(self, step):
        self.step = step
        self.session = None

    @property
    def requested(self):
        return self.session is not None and self.session.step >= self.step


def metrics(run):
    return json.loads((run / "metrics.json").read_bytes())


def change(run, **fields):
    """Ask for something else; a value is put over the old one, options over the old options."""
    spec = json.loads((run / "spec.json").read_bytes())
    spec["options"] |= fields
    (run / "spec.json").write_text(json.dumps(spec))


def beforehand(run):
    """What it tells of its rows, asked as the supervisor does."""
    command = [sys.executable, "-m", "trainers", "tabular", "--run", str(run), "--rows"]
    said = subprocess.run(command, capture_output=True, check=True).stdout
    return msgspec.json.decode(said, type=Rows | Unfit)


def check(run):
    """See that what is asked for can be trained."""
    options.validate(tabular, read_spec(RunFolder(run)))


def test_what_a_run_would_learn_from_is_told_before_it_does(make_run):
    """By the same code: it is what its model card says of its rows, and nothing else is made."""
    run = make_run("lgbm", hyperparameters={"n_estimators": 3})
    before = sorted(run.rglob("*"))
    told = beforehand(run)
    assert sorted(run.rglob("*")) == before
    assert train(run)[0] == EXIT_DONE
    card = json.loads((run / "model_card.json").read_bytes())
    assert told.told == {"time": "time", **{name: card[name] for name in TOLD}}
    assert (told.train_rows, told.rounds) == (
        metrics(run)["training_data_size"],
        metrics(run)["training_rounds"],
    )
    assert [one.line for one in told.remarks] == card["remarks"]
    change(run, data="nowhere.csv")
    told = beforehand(run)
    assert (told.error, told.details["reason"]) == ("DataLoadError", "Table not found: nowhere.csv")


@pytest.mark.parametrize("page", [QUICK_START, SCHEMA], ids=["quick start", "schema"])
def test_what_the_page_shows_is_trained_as_it_stands_there(make_run, page):
    """Beside it stands but where the table lies."""
    run = make_run(**page, horizon=1)
    check(run)
    assert train(run)[0] == EXIT_DONE
    told = metrics(run)
    for name in ("mae", "rmse", "mape", "r2_score", "training_duration_seconds"):
        assert isinstance(told[name], float)
    assert told["training_data_size"] > 1000
    assert told["baselines"].keys() >= {"naive", "seasonal_naive_24", "drift", "mean"}
    card = json.loads((run / "model_card.json").read_bytes())
    assert card["hyperparameters"]["feature_fraction"] == 0.8
    assert card["metrics"]["rmse"] == told["rmse"]
    assert card["leakage"]["verdict"]
    with Image.open(run / "forecast.png") as picture:
        assert picture.width > picture.height > 0


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"algorithm": "lgmb"}, "there are: lgbm, xgboost, rf, isolation_forest"),
        ({"hyperparameters": {"num_leafs": 9}}, "no entry 'num_leafs'; did you mean 'num_leaves'?"),
        ({"hyperparameters": {"subsample": 0.5}}, "hyperparameters: no entry 'subsample'"),
        ({"feature": ["temperature"]}, "no option 'feature'; did you mean 'features'?"),
        ({"validation_split": 1.5}, "validation_split: Must be between 0.0 and 1.0"),
        ({"validation_split": 0.0, "test_split": 0.2}, "validation_split: Must be more than 0.0"),
        ({"early_stopping_rounds": 0}, "early_stopping_rounds"),
        ({"distributed": True}, "distributed: Must be false"),
        ({"ray_config": {"workers": 4}}, "workers"),
        ({"target": None}, "target: Must name the column that is forecast"),
    ],
)
def test_what_can_never_work_is_refused_in_one_line(make_run, asked, said):
    """Before anything is read; the line names the field."""
    run = make_run("lgbm")
    change(run, **asked)
    with pytest.raises(BadSpec) as refused:
        check(run)
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_lag_that_its_name_gives_away_is_refused_before_anything_is_read(make_run):
    """A lag of hours tells it only beside the rows, and one that is allowed is meant."""
    run = make_run("lgbm")
    change(run, horizon=24, features=["load_lag_1", "load_lag_23h", "load_lag_24"])
    with pytest.raises(ConfigValidationError) as refused:
        check(run)
    assert refused.value.details["field"] == "features"
    assert "load_lag_1 is 1 steps old" in str(refused.value)
    assert "load_lag_2" not in str(refused.value)
    change(run, allow_leakage=["load_lag_1"])
    check(run)


def test_a_hyperparameter_is_refused_with_the_details_of_an_api(make_run):
    run = make_run("rf", hyperparameters={"learning_rate": 0.1})
    with pytest.raises(ConfigValidationError) as refused:
        check(run)
    assert refused.value.details["field"] == "hyperparameters"


def test_a_table_without_the_target_fails_before_any_training(make_run):
    run = make_run("lgbm")
    change(run, target="demand")
    with pytest.raises(DataLoadError, match="demand"):
        train(run)
    assert not (run / "checkpoints").exists()


def test_where_no_round_is_better_for_so_long_the_best_one_is_used(make_run):
    """The model has as many rounds as the best of them, and the run is done before its last."""
    asked = {"early_stopping_rounds": 10, "hyperparameters": {"n_estimators": 1000}}
    run = make_run("lgbm", **asked)
    code, session = train(run)
    assert code == EXIT_DONE
    card = json.loads((run / "model_card.json").read_bytes())
    assert session.step % 25 == 0
    assert card["rounds"] + 10 <= session.step < 1000
    assert session.checkpoint.manifest.score == Score(
        name="rmse", value=pytest.approx(metrics(run)["rmse"]), better="lower"
    )


def test_a_target_stands_before_the_number_of_estimators(make_run):
    """The supervisor's word is the last."""
    run = make_run("xgboost", upto={"unit": "rounds", "count": 30})
    check(run)
    assert train(run)[0] == EXIT_DONE
    assert json.loads((run / "model_card.json").read_bytes())["rounds"] == 30
    other = make_run("xgboost", "more", upto={"unit": "episodes", "count": 30})
    with pytest.raises(BadSpec, match="this trainer counts rounds"):
        check(other)


@pytest.mark.parametrize(("grace_s", "kept"), [(120, 75), (0.0001, 50)])
def test_a_stop_is_heard_within_a_segment_and_costs_no_bit(make_run, grace_s, kept):
    """A segment that would take too long is given up; what comes of it is what had come anyway."""
    asked = {"hyperparameters": {"n_estimators": 110}, "grace_s": grace_s}
    whole, stopped = make_run("lgbm", "whole", **asked), make_run("lgbm", "stopped", **asked)
    assert train(whole)[0] == EXIT_DONE

    code, session = train(stopped, Later(step=60))
    assert code == EXIT_AGAIN
    assert session.step == kept
    assert session.step == session.checkpoint.manifest.step
    assert train(stopped)[0] == EXIT_DONE
    assert (stopped / "model.txt").read_bytes() == (whole / "model.txt").read_bytes()


def test_the_checkpoint_of_a_growing_model_has_no_score(make_run):
    """So the best one is the whole model, whatever a shorter one had been worth."""
    run = make_run("lgbm")
    train(run)
    found = sorted(
        (run / "checkpoints").glob("*/manifest.json"), key=lambda one: one.stat().st_mtime
    )
    scores = [json.loads(one.read_bytes())["score"]["value"] for one in found]
    assert scores[-1] is not None
    assert set(scores[:-1]) == {None}


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"hyperparameters": {"learning_rate": 0.2}}, "learning_rate was 0.1 so far"),
        ({"horizon": 48, "features": ["temperature", "load_lag_168"]}, "features was"),
        ({"random_seed": 1}, "random_seed was 42 so far, and is 1 now"),
        ({"algorithm": "xgboost"}, "algorithm was"),
    ],
)
def test_what_a_model_was_not_trained_with_is_refused_before_anything_stops(make_run, asked, said):
    """The line says how to begin anew."""
    run = make_run("lgbm")
    train(run)
    change(run, **asked)
    with pytest.raises(BadSpec) as refused:
        check_fits(run, read_spec(RunFolder(run)))
    assert said in str(refused.value)
    assert "supervisor rewind run start" in str(refused.value)


def test_more_rounds_are_added_to_a_model_that_is_whole(make_run):
    """What was its end is a place to go on from."""
    run = make_run("lgbm", hyperparameters={"n_estimators": 50})
    train(run)
    fifty = metrics(run)
    change(run, hyperparameters={"n_estimators": 100}, early_stopping_rounds=90)
    check_fits(run, read_spec(RunFolder(run)))
    assert train(run)[0] == EXIT_DONE
    straight = make_run("lgbm", "straight", hyperparameters={"n_estimators": 100})
    train(straight)
    assert metrics(run) != fifty
    assert (run / "model.txt").stat().st_size <= (straight / "model.txt").stat().st_size


def test_fewer_rounds_are_the_first_ones_of_a_model_that_has_more(make_run):
    """They are not trained again."""
    run, short = make_run("lgbm"), make_run("lgbm", "short", hyperparameters={"n_estimators": 50})
    train(run)
    train(short)
    change(run, hyperparameters={"n_estimators": 50})
    assert train(run)[0] == EXIT_DONE
    cards = [json.loads((one / "model_card.json").read_bytes()) for one in (run, short)]
    assert cards[0]["content_sha256"] == cards[1]["content_sha256"]
    assert cards[0]["metrics"] == cards[1]["metrics"]


def test_rows_that_are_others_now_are_not_gone_on_with(make_run):
    """A model that has seen two tables is that of neither."""
    run = make_run("lgbm")
    train(run)
    write(run.parents[1] / "loads.csv", hourly(1440, seed=4))
    with pytest.raises(BadSpec, match="rows are not those"):
        train(run)


def test_a_table_that_was_moved_is_the_same_table(make_run):
    run = make_run("lgbm", hyperparameters={"n_estimators": 26})
    train(run)
    home = run.parents[1]
    shutil.move(home / "loads.csv", home / "moved.csv")
    change(run, data="moved.csv", hyperparameters={"n_estimators": 51})
    assert train(run)[0] == EXIT_DONE


def test_other_seeds_of_a_run_are_other_models(make_run):
    """The run's seed counts from `random_seed` on, so that a campaign has several."""
    one, other = make_run("lgbm", "one"), make_run("lgbm", "other", seed=2)
    same = make_run("lgbm", "same", random_seed=43)
    for run in (one, other, same):
        train(run)
    texts = [(run / "model.txt").read_bytes() for run in (one, other, same)]
    assert texts[0] != texts[1]
    assert texts[1] == texts[2]


def test_nothing_that_it_leaves_is_a_pickle(make_run):
    """Nobody runs code by reading a model."""
    run = make_run("rf", hyperparameters={"n_estimators": 20, "max_depth": 3})
    train(run)
    for path in run.rglob("*"):
        assert path.suffix not in (".pkl", ".pickle", ".joblib")
        if path.is_file():
            assert b"sklearn.ensemble\n" not in path.read_bytes()  # as a pickle names a class


def test_its_steps_are_told_one_after_the_other(make_run):
    """And how much of the whole is done."""
    run = make_run("lgbm")
    train(run)
    lines = [
        msgspec.json.decode(line) for line in (run / "metrics.jsonl").read_bytes().splitlines()
    ]
    steps = [line["pipeline_step"] for line in lines]
    percents = [line["progress_percent"] for line in lines]
    assert list(dict.fromkeys(steps)) == [1, 2, 3, 4, 5]
    assert percents == sorted(percents)
    assert percents[-1] == 100


def test_early_stopping_of_a_forest_is_told_to_be_in_vain(make_run):
    run = make_run("rf", early_stopping_rounds=5)
    assert "forest" in tabular.remark(read_spec(RunFolder(run)))
    assert tabular.remark(read_spec(RunFolder(make_run("lgbm", "other")))) is None


def test_a_run_that_goes_back_takes_back_what_it_has_left(make_run):
    """Nobody takes a model for that of a run which trains."""
    run = make_run("lgbm", grace_s=0.0001)
    train(run)
    spec = json.loads((run / "spec.json").read_bytes())
    spec["rewind"] = {"id": "one", "checkpoint": "75"}
    (run / "spec.json").write_text(json.dumps(spec))
    before = (run / "model.txt").read_bytes()
    code, session = train(run, Later(step=80))
    assert (code, session.step) == (EXIT_AGAIN, 75)
    assert not (run / "model.txt").exists()
    assert not (run / "metrics.json").exists()
    assert train(run)[0] == EXIT_DONE
    assert (run / "model.txt").read_bytes() == before


def test_a_table_outside_of_the_home_is_named_for_a_service_that_sees_less(make_run, tmp_path):
    """One within the home, or in a database, needs nothing to be shown."""

    def needed(run, data):
        change(run, data=data)
        return [need.within for need in tabular.needs(read_spec(RunFolder(run)))]

    run = make_run("lgbm")
    assert needed(run, "loads.csv") == needed(run, "postgresql://there/loads") == []
    assert needed(run, str(tmp_path / "loads.csv")) == [str(tmp_path)]
    assert needed(run, str(tmp_path)) == [str(tmp_path)]


def test_the_options_count_in_the_unit_of_the_trainer():
    """The registry reads the one, and a run's target is compared with the other."""
    assert tabular.Options.UNIT == tabular.UNIT
