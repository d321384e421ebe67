"""Which model each algorithm grows; its library is imported when it is asked for."""

from __future__ import annotations

import importlib

from trainers.tabular.growing import Model

PLACES = {
    "lgbm": ("lgbm", "Lgbm"),
    "xgboost": ("xgb", "Xgboost"),
    "rf": ("forests", "Forest"),
    "isolation_forest": ("forests", "Isolation"),
}


def model_of(algorithm: str) -> type[Model]:
    """The kind of model that an algorithm grows."""
    module, name = PLACES[algorithm]
    kind: type[Model] = getattr(importlib.import_module(f"trainers.tabular.{module}"), name)
    return kind
