"""What can be set in the trainer of networks; light, as nothing that learns is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

from trainers.contract import Spec
from trainers.neural.hyperparameters import Lstm, LstmAutoencoder, Mlp, MlpAutoencoder, Network
from trainers.tables import ConfigValidationError, learning
from trainers.tables.learning import Algorithm

MODELS = "trainers.neural.models"


def _learnt(told: type[Network]) -> Algorithm:
    """What is known of a network before torch is imported."""
    return Algorithm(
        told,
        f"{MODELS}:{told.__name__}",
        ("torch", "numpy"),
        0.9,  # a copy in single precision of all parts, and once more of what is judged
        stops_early=True,
        bound_to_threads=True,
        cuts=False,
    )


class Options(learning.Options, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is learnt from a table, and how."""

    UNIT: ClassVar[str] = "epochs"
    """each looks at all rows, and `epochs` of them are the whole model"""
    ALGORITHMS: ClassVar[Mapping[str, Algorithm]] = {"mlp": _learnt(Mlp), "lstm": _learnt(Lstm)}
    AUTOENCODERS: ClassVar[Mapping[str, Algorithm]] = {
        "mlp": _learnt(MlpAutoencoder),
        "lstm": _learnt(LstmAutoencoder),
    }

    algorithm: Literal["mlp", "lstm"] = "mlp"
    """a multi-layer perceptron, or a network that reads the last rows one by one; of anomalies an
    autoencoder of that kind tells by how badly it reconstructs the features of a row"""
    device: Literal["auto", "cpu", "cuda"] = "cpu"
    """auto: a GPU where one was dealt to the run, on which the last bits may differ"""

    @property
    def forecasts(self) -> bool:
        """Whether the model forecasts the target."""
        return self.model_type == "forecast"

    @property
    def learns(self) -> Algorithm:
        """The algorithm."""
        return (self.ALGORITHMS if self.forecasts else self.AUTOENCODERS)[self.algorithm]

    def on(self, spec: Spec) -> str:
        """Where it is learnt, as torch calls it."""
        if self.device == "cpu" or (self.device == "auto" and not spec.gpus):
            return "cpu"
        import torch  # noqa: PLC0415 - heavy

        if not torch.cuda.is_available():
            if self.device == "auto":
                return "cpu"
            # Not a bad spec: a driver may be back after the next reboot.
            raise RuntimeError("the options ask for CUDA, and torch finds no usable GPU")
        return "cuda"

    def refuse_bad(self, spec: Spec) -> None:
        """Refuse what can never work, whatever is in the table.

        Raises:
            BadSpec: it cannot.
        """
        super().refuse_bad(spec)
        if self.forecasts:
            return
        if self.target is not None:
            why = (
                "Must be unset: an autoencoder reconstructs its features, and compares no forecast"
            )
            raise ConfigValidationError("target", why)
        if self.backtest is not None:
            why = "Must be unset: an autoencoder forecasts nothing to test back"
            raise ConfigValidationError("backtest", why)
