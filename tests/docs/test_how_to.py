"""The worked examples of the how-to pages work."""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path
from types import ModuleType

import msgspec
import pytest

import supervised
from modes import SHIPPED, load_ladder
from modes.toml_file import read_toml
from supervisor.core import policy
from supervisor.core.settings import Settings
from testkit.tables import hourly, write
from trainers import options, session
from trainers.contract import TRAINERS_DIR, RunFolder, Spec, Target

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
    [
        ("add-a-mode.md", 1),
        ("add-a-trainer.md", 0),
        ("train-gymnasium.md", 0),
        ("predict-a-direction.md", 0),
        ("forecast-a-table.md", 0),
        ("train-in-quiet-hours.md", 0),
    ],
    ids=["mode", "trainer", "gymnasium", "direction", "table", "quiet hours"],
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


REPORT = "report-from-your-script.md"


def test_every_script_that_reports_is_python_and_calls_what_there_is():
    """Also those for libraries that are not installed here."""
    for code in blocks(REPORT, "python"):
        tree = ast.parse(code)
        called = {
            node.attr
            for node in ast.walk(tree)
            if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "supervised"
        }
        assert called == set(supervised.__all__)


def test_the_settings_of_a_script_that_reports_are_well(tmp_path):
    """They need no pattern."""
    (text,) = blocks(REPORT, "toml")
    path = tmp_path / "supervisor.toml"
    path.write_text(text, encoding="utf-8")
    assert read_toml(path, Settings)


@pytest.mark.parametrize(
    ("place", "steps", "names", "counts"),
    [
        (0, 20, [f"ckpt-{epoch}.json" for epoch in range(1, 21)], "epoch"),
        pytest.param(-1, 1024, ["ppo-512.zip", "ppo-1024.zip"], "step", marks=pytest.mark.slow),
    ],
    ids=["plain", "Stable-Baselines3"],
)
def test_a_script_that_reports_goes_on_from_what_it_has_saved(
    place, steps, names, counts, tmp_path
):
    """To its end, and each start tells of the rest alone."""
    code = blocks(REPORT, "python")[place].replace("40_000", "1024")
    (tmp_path / "train.py").write_text(code, encoding="utf-8")
    told = tmp_path / "progress.jsonl"

    def train(**more: str) -> list[dict[str, float]]:
        told.write_text("")
        subprocess.run(
            [sys.executable, "train.py"],
            cwd=tmp_path,
            env={
                **os.environ,
                "PYTHONPATH": str(PAGES.parents[1]),
                "SUPERVISOR_PROGRESS": str(told),
                **more,
            },
            check=True,
        )
        return [json.loads(line) for line in told.read_text().splitlines()]

    reported = [line[counts] for line in train() if counts in line]
    assert reported[-1] == steps
    assert {name for name in names if (tmp_path / name).exists()} == set(names)
    held = names[len(names) // 2 - 1]
    reached = int(re.findall(r"\d+", held)[0])
    resumed = [line[counts] for line in train(SUPERVISOR_CHECKPOINT=held) if counts in line]
    assert min(resumed) >= reached
    assert resumed[-1] == steps


def test_the_function_of_the_page_of_forecasts_makes_a_feature(tmp_path):
    """Under the settings beside it; without its lag it is refused in the words of the page."""
    (code,) = blocks("forecast-a-table.md", "python")
    (folder := tmp_path / "trainers").mkdir()
    (folder / "weather.py").write_text(code, encoding="utf-8")
    path = tmp_path / "supervisor.toml"
    path.write_text(blocks("forecast-a-table.md", "toml")[1], encoding="utf-8")
    asked = read_toml(path, Settings).campaign.options
    write(tmp_path / "weather.csv", hourly(2000))
    program = (
        "import json, sys, pathlib, msgspec; from trainers import tables; "
        "asked = msgspec.convert(json.loads(sys.argv[1]), tables.Config); "
        "print(tables.prepare(asked, pathlib.Path(sys.argv[2])).names)"
    )

    def prepared(features: list[str]) -> subprocess.CompletedProcess[str]:
        words = [sys.executable, "-c", program, json.dumps({**asked, "features": features})]
        return subprocess.run(
            [*words, str(tmp_path)],
            env={**os.environ, TRAINERS_DIR: str(folder)},
            capture_output=True,
            text=True,
            check=False,
        )

    assert "'load_x_temperature_lag_24'" in prepared(asked["features"]).stdout
    refused = prepared([*asked["features"][:-1], "load_x_temperature"]).stderr
    (line,) = (
        line.partition(" error: ")[2]
        for text in blocks("forecast-a-table.md", "text")
        for line in text.splitlines()
        if "preprocess" in line
    )
    assert line in refused
