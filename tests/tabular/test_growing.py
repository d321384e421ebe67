"""Models grow in segments, and nothing that interrupts them changes them."""

import random

import lightgbm
import numpy as np
import pytest
import xgboost
from lessons import grown, lesson
from sklearn.ensemble import IsolationForest, RandomForestRegressor

from testkit.series import sample_of_a_series
from trainers.tables.learning.growing import Curve, content_sha256, rmse
from trainers.tabular import Options, forests, lgbm, xgb

SAMPLED = {
    "lgbm": {"feature_fraction": 0.6, "bagging_fraction": 0.7, "bagging_freq": 3},
    "xgboost": {"subsample": 0.6, "colsample_bytree": 0.7},
    "rf": {"max_depth": 8},
    "isolation_forest": {"max_samples": 0.3, "max_features": 0.5},
}
"""hyper-parameters by which rounds draw rows and features"""
ROUNDS = 85


class _TooLate(Exception):
    """Somebody cannot wait for the end of a segment."""


@pytest.mark.parametrize("algorithm", Options.ALGORITHMS)
def test_a_model_that_was_saved_and_read_at_any_segment_is_the_same_model(algorithm):
    """Its arrays, its scores and its forecasts are those of the one that grew in one go."""
    taught = lesson(algorithm, **SAMPLED[algorithm])
    whole, scores = grown(algorithm, ROUNDS, taught)
    segments = range(whole.SEGMENT, ROUNDS, whole.SEGMENT)
    count, seed = sample_of_a_series(2)
    for number in range(count):
        places = random.Random(seed + number)  # noqa: S311 - a seed that can be told
        resumed_at = places.sample(segments, places.randint(1, len(segments)))
        model, its = grown(algorithm, ROUNDS, taught, resumed_at)
        assert its == scores
        assert content_sha256(model.arrays()) == content_sha256(whole.arrays())
        assert np.array_equal(model.predict(taught.valid.x, 1), whole.predict(taught.valid.x, 1))
        if not model.FILE.endswith(
            ".skops"
        ):  # skops names the members of its files by the ids of objects
            assert model.saved() == whole.saved()


@pytest.mark.parametrize("algorithm", Options.ALGORITHMS)
def test_a_model_is_the_same_whatever_the_number_of_threads(algorithm):
    """A mode may change the threads between two segments."""
    alone, scores = grown(algorithm, ROUNDS, lesson(algorithm, **SAMPLED[algorithm]))
    two, its = grown(algorithm, ROUNDS, lesson(algorithm, threads=2, **SAMPLED[algorithm]))
    assert its == scores
    assert content_sha256(two.arrays()) == content_sha256(alone.arrays())
    if not two.FILE.endswith(".skops"):
        assert two.saved() == alone.saved()


@pytest.mark.parametrize(
    "told",
    [
        {"bagging_fraction": 0.05, "bagging_freq": 1, "min_data_in_leaf": 15},
        {"min_data_in_leaf": 400},
    ],
)
def test_a_model_that_finds_nothing_to_split_in_some_rounds_is_the_same_model(told):
    """LightGBM adds no tree then, and nothing of the round is in its file."""
    taught = lesson("lgbm", **told)
    whole, scores = grown("lgbm", ROUNDS, taught)
    resumed, its = grown("lgbm", ROUNDS, taught, range(1, ROUNDS))
    assert its == scores
    assert len(scores) == whole.rounds == type(whole)(whole.saved()).rounds
    assert resumed.saved() == whole.saved()


@pytest.mark.parametrize("algorithm", Options.ALGORITHMS)
def test_a_segment_that_is_given_up_has_never_been(algorithm):
    """A stop that cannot wait costs the rounds of a segment, and nothing else."""
    taught = lesson(algorithm, **SAMPLED[algorithm])
    kind = Options.ALGORITHMS[algorithm].model
    model, heard = kind(), []

    def give_up(score):
        heard.append(score)
        if len(heard) == 2:
            raise _TooLate

    for begun in (0, kind.SEGMENT):
        heard.clear()
        with pytest.raises(_TooLate):
            model.grow(taught, kind.SEGMENT, give_up)
        assert model.rounds == begun
        model.grow(taught, kind.SEGMENT, lambda _: None)
    whole, _ = grown(algorithm, 2 * kind.SEGMENT, taught)
    assert content_sha256(model.arrays()) == content_sha256(whole.arrays())


def test_a_model_of_xgboost_that_is_cut_off_anywhere_is_refused():
    """The library itself would end the process, or take all memory that there is."""
    model, _ = grown("xgboost", 3, lesson("xgboost", max_depth=2))
    saved = model.saved()
    for content in (*(saved[:length] for length in range(len(saved))), saved + b"}", b"{}"):
        with pytest.raises(ValueError, match="no model that XGBoost can read"):
            xgb.Xgboost(content)
    assert xgb.Xgboost(saved).rounds == 3


@pytest.mark.parametrize("algorithm", Options.ALGORITHMS)
def test_a_model_can_be_cut_to_its_best_rounds(algorithm):
    """It forecasts then as it did after so many."""
    taught = lesson(algorithm)
    model, scores = grown(algorithm, ROUNDS, taught)
    cut = model.cut(33)
    assert cut.rounds == 33
    forecast = cut.predict(taught.valid.x, 1)
    if scores[32] is not None:
        assert rmse(forecast, taught.valid.y) == pytest.approx(scores[32])
    assert np.array_equal(forecast, grown(algorithm, 33, taught)[0].predict(taught.valid.x, 1))
    assert model.rounds == ROUNDS


def test_lightgbm_itself_grows_the_same_model_on_the_same_segments():
    """Nothing but what the library does on its own is in the model."""
    taught = lesson("lgbm", **SAMPLED["lgbm"])
    model, _ = grown("lgbm", ROUNDS, taught)
    booster = None
    for begins in range(0, ROUNDS, 25):
        booster = lightgbm.train(
            lgbm.parameters(taught, begins),
            lightgbm.Dataset(
                taught.train.x,
                taught.train.y,
                feature_name=list(taught.names),
                categorical_feature=[5],
                free_raw_data=False,
            ),
            min(25, ROUNDS - begins),
            init_model=booster,
        )
    assert np.array_equal(booster.predict(taught.valid.x), model.predict(taught.valid.x, 1))


def test_xgboost_itself_grows_the_same_model_on_the_same_segments():
    """Nothing but what the library does on its own is in the model."""
    taught = lesson("xgboost", **SAMPLED["xgboost"])
    model, _ = grown("xgboost", ROUNDS, taught)

    def matrix(part):
        return xgboost.DMatrix(
            part.x,
            part.y,
            feature_names=list(taught.names),
            feature_types=["q"] * 5 + ["c"],
            enable_categorical=True,
        )

    booster = None
    for begins in range(0, ROUNDS, 25):
        booster = xgboost.train(
            xgb.parameters(taught, begins),
            matrix(taught.train),
            min(25, ROUNDS - begins),
            xgb_model=booster,
        )
    assert np.array_equal(booster.predict(matrix(taught.valid)), model.predict(taught.valid.x, 1))


def test_scikit_learn_itself_grows_the_same_forest_in_one_go():
    """Trees in segments are the trees of one fit."""
    taught = lesson("rf")
    model, _ = grown("rf", ROUNDS, taught)
    forest = RandomForestRegressor(ROUNDS, max_features="sqrt", random_state=42)
    forest.fit(taught.train.x, taught.train.y)
    assert np.array_equal(forest.predict(taught.valid.x), model.predict(taught.valid.x, 1))


def test_scikit_learn_itself_grows_the_same_isolation_forest_in_one_go():
    """Trees in segments are the trees of one fit."""
    taught = lesson("isolation_forest")
    model, _ = grown("isolation_forest", ROUNDS, taught)
    forest = IsolationForest(n_estimators=ROUNDS, random_state=42).fit(taught.train.x)
    strange = -forest.score_samples(taught.valid.x)
    assert np.array_equal(strange, model.predict(taught.valid.x, 1))


def test_a_forest_whose_file_leads_astray_is_not_used():
    """scikit-learn follows an index wherever it leads, so it is looked at before."""
    model, _ = grown("rf", 10, lesson("rf", max_depth=3))
    tree = model._forest.estimators_[4].tree_
    state = tree.__getstate__()
    state["nodes"]["left_child"][0] = 10_000
    tree.__setstate__(state)
    with pytest.raises(ValueError, match="outside itself"):
        forests.loaded(model.saved())


def test_where_no_better_round_comes_it_is_over_and_the_best_one_is_used():
    """As if it had been asked after every round, though it is asked at the end of a segment."""
    curve = Curve([5.0, 3.0, 4.0, 3.5, 3.0, 2.0], patience=3)
    assert curve.is_over
    assert (curve.best_round, curve.used) == (2, 2)
    assert not Curve([5.0, 3.0, 4.0, 3.5], patience=3).is_over
    assert Curve([5.0, 3.0, 4.0], patience=None).used == 3
    assert not Curve([], patience=3).is_over


def test_the_same_numbers_under_other_names_are_another_content():
    one = np.array([1.0, 2.0])
    assert content_sha256([("a", one)]) == content_sha256([("a", one.astype("float32"))])
    assert content_sha256([("a", one)]) != content_sha256([("b", one)])
    assert content_sha256([("a", one)]) != content_sha256([("a", one[:, None])])
