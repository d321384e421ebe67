"""An option that a trainer does not have is refused by name, with the nearest that it has."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Annotated, Literal

import msgspec
import pytest

from trainers import listing, options
from trainers.contract import EXIT_BAD_SPEC, BadSpec, Spec, Target


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
        return Spec(run="r", trainer="tft", name="n", mode="heavy", threads=1, options=given)

    return made


class Load(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a mode may lay upon it."""

    batch_size: Annotated[int, msgspec.Meta(gt=0)] = 64


@pytest.mark.parametrize(
    ("load", "said"),
    [
        ({"batchsize": 1}, "[load.tft] of the mode heavy: no entry 'batchsize'; did you mean"),
        ({"batch_size": 0}, "[load.tft] of the mode heavy: Expected `int` >= 1"),
    ],
)
def test_what_a_mode_lays_upon_a_trainer_is_judged_by_it(load, said, spec):
    """The line names the table and the mode, whose file is to be mended."""
    asked = msgspec.structs.replace(spec(), load=load)
    with pytest.raises(BadSpec) as refused:
        options.validate(SimpleNamespace(Load=Load), asked)
    assert str(refused.value).startswith(said)
    with pytest.raises(BadSpec, match=r"no entry 'batch_?size'; this trainer takes none"):
        options.validate(SimpleNamespace(), asked)


def test_a_target_is_in_a_unit_that_the_trainer_counts(spec):
    """Its own word for a step, or that word itself, or episodes."""
    trainer = SimpleNamespace(UNIT="epochs")
    for unit in ("epochs", "steps", "episodes"):
        target = Target(unit=unit, count=3)
        options.validate(trainer, msgspec.structs.replace(spec(), target=target))
    other = msgspec.structs.replace(spec(), target=Target(unit="rounds", count=3))
    with pytest.raises(
        BadSpec, match="a target in rounds: this trainer counts epochs and episodes"
    ):
        options.validate(trainer, other)


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
