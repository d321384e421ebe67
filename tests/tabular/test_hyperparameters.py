"""An algorithm is told what its page lists, and nothing else."""

import msgspec
import pytest

from trainers.contract import BadSpec
from trainers.tabular import Options

PAGE = {
    "lgbm": {
        "n_estimators": 100,
        "learning_rate": 0.1,
        "max_depth": 7,
        "num_leaves": 31,
        "min_data_in_leaf": 20,
        "feature_fraction": 0.8,
        "bagging_fraction": 0.8,
        "bagging_freq": 5,
        "lambda_l1": 0.0,
        "lambda_l2": 0.0,
    },
    "xgboost": {
        "n_estimators": 100,
        "learning_rate": 0.1,
        "max_depth": 7,
        "min_child_weight": 1,
        "gamma": 0.0,
        "subsample": 0.8,
        "colsample_bytree": 0.8,
        "reg_alpha": 0.0,
        "reg_lambda": 1.0,
    },
    "rf": {
        "n_estimators": 100,
        "max_depth": None,
        "min_samples_split": 2,
        "min_samples_leaf": 1,
        "max_features": "sqrt",
        "bootstrap": True,
    },
}


def hyperparameters_of(algorithm, told):
    return Options(algorithm=algorithm, hyperparameters=told).told


@pytest.mark.parametrize("algorithm", PAGE)
def test_the_defaults_are_those_of_the_page(algorithm):
    """What is unset is as the page has it; what stands there can be pasted."""
    assert msgspec.structs.asdict(hyperparameters_of(algorithm, {})) == PAGE[algorithm]
    assert hyperparameters_of(algorithm, PAGE[algorithm]) == hyperparameters_of(algorithm, {})


@pytest.mark.parametrize(
    ("algorithm", "told", "said"),
    [
        ("lgbm", {"num_leafs": 31}, "no entry 'num_leafs'; did you mean 'num_leaves'?"),
        ("lgbm", {"subsample": 0.8}, "no entry 'subsample'"),
        ("xgboost", {"n_estimators": 0}, "Expected `int` >= 1 - at `$.n_estimators`"),
        ("xgboost", {"learning_rate": float("inf")}, "learning_rate must be a finite number"),
        ("xgboost", {"gamma": float("nan")}, "gamma"),
        ("rf", {"max_features": 1.5}, "max_features must be sqrt, log2, a share up to 1.0"),
        ("rf", {"max_features": 0}, "max_features must be sqrt, log2, a share up to 1.0"),
        ("rf", {"max_features": "all"}, "Invalid enum value 'all'"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(algorithm, told, said):
    """It names the entry."""
    with pytest.raises(BadSpec) as refused:
        hyperparameters_of(algorithm, told)
    where = "Invalid training configuration: hyperparameters: "
    assert str(refused.value).startswith(where)
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("features", ["sqrt", "log2", 0.5, 1.0, 3, None])
def test_a_forest_draws_features_in_each_of_its_ways(features):
    assert hyperparameters_of("rf", {"max_features": features}).max_features == features
