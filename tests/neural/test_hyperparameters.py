"""A network is told what its page lists, and nothing else."""

import msgspec
import pytest

from trainers.contract import BadSpec
from trainers.neural import Options

COMMON = {"epochs": 100, "learning_rate": 0.001, "weight_decay": 0.0001, "dropout": 0.0}
PAGE = {
    ("forecast", "mlp"): {**COMMON, "hidden_sizes": (128, 64), "activation": "relu"},
    ("forecast", "lstm"): {**COMMON, "hidden_size": 64, "num_layers": 1, "sequence_length": 24},
    ("anomaly", "mlp"): {
        **COMMON,
        "hidden_sizes": (64,),
        "activation": "tanh",
        "code_size": None,
    },
    ("anomaly", "lstm"): {
        **COMMON,
        "hidden_size": 64,
        "num_layers": 1,
        "sequence_length": 24,
        "code_size": None,
    },
}


def hyperparameters_of(kind, told):
    model_type, algorithm = kind
    return Options(model_type=model_type, algorithm=algorithm, hyperparameters=told).told


@pytest.mark.parametrize("kind", PAGE, ids="-".join)
def test_the_defaults_are_those_of_the_page(kind):
    """What is unset is as the page has it; what stands there can be pasted."""
    assert msgspec.structs.asdict(hyperparameters_of(kind, {})) == PAGE[kind]
    pasted = {
        name: list(one) if isinstance(one, tuple) else one for name, one in PAGE[kind].items()
    }
    assert hyperparameters_of(kind, pasted) == hyperparameters_of(kind, {})


@pytest.mark.parametrize(
    ("kind", "told", "said"),
    [
        (
            ("forecast", "mlp"),
            {"hidden_size": 31},
            "no entry 'hidden_size'; did you mean 'hidden_sizes'?",
        ),
        (("forecast", "mlp"), {"hidden_sizes": [0]}, "Expected `int` >= 1"),
        (("forecast", "mlp"), {"activation": "step"}, "Invalid enum value 'step'"),
        (("forecast", "mlp"), {"code_size": 2}, "no entry 'code_size'"),
        (("forecast", "lstm"), {"n_estimators": 100}, "no entry 'n_estimators'"),
        (("forecast", "lstm"), {"sequence_length": 0}, "sequence_length"),
        (("forecast", "lstm"), {"learning_rate": 0.0}, "learning_rate"),
        (("anomaly", "lstm"), {"dropout": 1.0}, "dropout"),
        (("anomaly", "mlp"), {"epochs": 0}, "epochs"),
        (
            ("anomaly", "mlp"),
            {"weight_decay": float("inf")},
            "weight_decay must be a finite number",
        ),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(kind, told, said):
    """It names the entry."""
    with pytest.raises(BadSpec) as refused:
        hyperparameters_of(kind, told)
    where = "Invalid training configuration: hyperparameters: "
    assert str(refused.value).startswith(where)
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)
