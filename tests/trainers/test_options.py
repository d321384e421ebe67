"""An option that a trainer does not have is refused by name, with the nearest that it has."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Annotated, Literal

import msgspec
import pytest

from trainers import listing, options
from trainers.contract import EXIT_BAD_SPEC, BadSpec


class Options(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Of a trainer that learns by gradients."""

    learning_rate: Annotated[float, msgspec.Meta(gt=0, le=1)] = 0.001
    """how far a step goes"""
    layers: tuple[Annotated[int, msgspec.Meta(ge=1)], ...] = (64, 64)
    loss: Literal["huber", "squares"] = "huber"
    """what is made small;
    squares mind outliers more"""
    target: str
    patience: int | None = None
    further: dict[str, int] = {}


@pytest.fixture
def spec():
    def made(**given):
        return SimpleNamespace(options=given)

    return made


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("larning_rate", "options: no option 'larning_rate'; did you mean 'learning_rate'?"),
        ("Layers", "options: no option 'Layers'; did you mean 'layers'?"),
        ("x" * 10_000, f"options: no option '{'x' * 80}'; there are: learning_rate, layers, loss"),
    ],
)
def test_a_slip_of_the_pen_is_told_with_what_was_meant(given, said, spec):
    """One line, for a spec that starting again cannot mend."""
    trainer = SimpleNamespace(Options=Options)
    with pytest.raises(BadSpec) as refused:
        options.validate(trainer, spec(target="cpu", **{given: 1}))
    assert str(refused.value).startswith(said)
    assert refused.value.exit_code == EXIT_BAD_SPEC


def test_a_trainer_without_options_takes_none(spec):
    """What nobody would read is refused; a `check` of its own may take what it likes."""
    options.validate(SimpleNamespace(), spec())
    with pytest.raises(BadSpec, match="no option 'x'; this trainer takes none"):
        options.validate(SimpleNamespace(), spec(x=1))
    options.validate(SimpleNamespace(check=lambda spec: None), spec(x=1))


def test_a_check_decides_what_the_options_let_pass(spec):
    """Both are asked, the options first."""

    def check(spec):
        raise BadSpec("no series of that name")

    trainer = SimpleNamespace(Options=Options, check=check)
    with pytest.raises(BadSpec, match="no series"):
        options.validate(trainer, spec(target="cpu"))
    with pytest.raises(BadSpec, match=r"options: .* - at `\$.learning_rate`"):
        options.validate(trainer, spec(target="cpu", learning_rate=2))


def test_each_option_is_told_with_its_limits_and_its_documentation():
    """As it stands in the source below each of them."""
    told = {one.name: (one.type, one.default, one.about) for one in listing.table(Options)}
    assert told == {
        "learning_rate": ("a number above 0 to 1", 0.001, "how far a step goes"),
        "layers": ("a list, each a whole number from 1", (64, 64), ""),
        "loss": (
            '"huber" or "squares"',
            "huber",
            "what is made small; squares mind outliers more",
        ),
        "target": ("text", None, ""),
        "patience": ("a whole number or unset", None, ""),
        "further": ("a table", {}, ""),
    }
    assert [one.name for one in listing.table(Options) if one.required] == ["target"]
