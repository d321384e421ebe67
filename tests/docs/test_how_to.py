"""The worked examples of the how-to pages work."""

from __future__ import annotations

import re
import shutil
import sys
import textwrap
from pathlib import Path
from types import ModuleType

import msgspec
import pytest

from modes import SHIPPED, load_ladder
from modes.toml_file import read_toml
from supervisor.core import policy
from supervisor.core.settings import Settings
from trainers import options, session
from trainers.contract import RunFolder, Spec, Target

PAGES = Path(__file__).parents[2] / "docs" / "how-to"


def blocks(page: str, language: str) -> list[str]:
    """The code blocks of a page, also those within a list."""
    text = (PAGES / page).read_text(encoding="utf-8")
    found = re.findall(rf"^( *)```{language}\n(.*?)^\1```$", text, re.MULTILINE | re.DOTALL)
    return [textwrap.dedent(code) for _, code in found]


def execute(code: str, *places: dict[str, object]) -> None:
    """Run the code of a page as the content of a module."""
    exec(compile(code, "page", "exec"), *places)  # noqa: S102 - the pages are ours


def test_the_example_of_a_mode_is_a_third_rung(tmp_path):
    """Two copied modes and the file of the page are a ladder of three."""
    for shipped in SHIPPED.glob("*.toml"):
        shutil.copy(shipped, tmp_path)
    (tmp_path / "heavy.toml").write_text(blocks("add-a-mode.md", "toml")[0], encoding="utf-8")
    assert load_ladder(tmp_path).names == ("light", "medium", "heavy")


@pytest.mark.parametrize(
    ("page", "first"),
    [("add-a-mode.md", 1), ("add-a-trainer.md", 0), ("train-gymnasium.md", 0)],
    ids=["mode", "trainer", "gymnasium"],
)
def test_the_settings_of_the_examples_are_well(page, first, tmp_path):
    """Each settings file that a page shows is accepted."""
    for text in blocks(page, "toml")[first:]:
        path = tmp_path / "supervisor.toml"
        path.write_text(text, encoding="utf-8")
        assert read_toml(path, Settings)


def test_the_example_of_a_trainer_resumes_where_it_was(tmp_path, monkeypatch):
    """Two lives of the estimator of pi draw the points that one life would have drawn."""
    (code,) = blocks("add-a-trainer.md", "python")
    pi = ModuleType("trainers.pi")
    monkeypatch.setitem(sys.modules, "trainers.pi", pi)
    execute(code, pi.__dict__)

    def learn(run: str, *targets: int) -> float:
        folder = RunFolder(tmp_path / run)
        folder.path.mkdir()
        for target in targets:
            spec = Spec(
                run=run,
                trainer="pi",
                name="circle",
                mode="light",
                threads=1,
                target=Target(unit="steps", count=target),
                options={"points_per_update": 1000},
            )
            folder.spec.write_bytes(msgspec.json.encode(spec))
            options.validate(pi, spec)
            life = session.Session(folder, spec)
            pi.train(life)
            assert life.finish() == 0
        assert life.checkpoint is not None
        return pi.evaluate(spec, life.checkpoint.path, 1)[0]

    whole, cut = learn("whole", 5000), learn("cut", 2000, 5000)
    assert whole == cut
    assert 3.0 < whole < 3.3


def test_the_example_of_a_rule_passes_its_own_test(monkeypatch):
    """The rule of the page, in the place that the page gives it, does what its test says."""
    rule, rules, test = blocks("add-a-rule.md", "python")
    execute(rule, policy.__dict__)
    try:
        monkeypatch.setattr(policy, "RULES", dict(policy.RULES))
        execute(rules, policy.__dict__)
        checks: dict[str, object] = {"__name__": "test_overheated"}
        execute(test, checks)
        checks["test_a_gpu_at_its_limit_takes_one_rung_down"]()
        for mode, temperature_c in [("medium", 89.0), ("medium", None), ("light", 95.0)]:
            checks["test_a_cool_or_unknown_gpu_or_the_lowest_mode_changes_nothing"](
                mode, temperature_c
            )
    finally:
        del policy.__dict__["overheated"]
