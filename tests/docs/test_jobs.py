"""Whoever comes from the document of the training pipeline finds each trouble and each practice."""

from __future__ import annotations

import json
import re
import runpy
from pathlib import Path

import msgspec
import pytest

from supervisor.commands import build_parser
from supervisor.jobs.contract import JobRequest, ValidateAnswer
from supervisor.jobs.reading import read

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/jobs.md").read_text(encoding="utf-8")
TROUBLE = (
    "Job stuck in PENDING",
    "Training fails immediately",
    "Out of memory errors",
    "Data loading errors",
    "Configuration errors",
    "Resource errors",
)
PRACTICES = (
    "Data preparation",
    "Hyperparameter selection",
    "Resource management",
    "Model lifecycle",
    "Monitoring",
)


def part(heading: str, level: str) -> str:
    """What stands below a heading, up to the next of its level or a higher one."""
    text = PAGE.partition(f"\n{level} {heading}\n")[2]
    return re.split(rf"\n#{{1,{len(level)}}} ", text)[0]


def test_the_page_has_every_trouble_and_every_practice() -> None:
    """In the words of the document."""
    assert re.findall(r"^### (.+)$", part("Trouble", "##"), re.MULTILINE) == list(TROUBLE)
    assert re.findall(r"^### (.+)$", part("Best practices", "##"), re.MULTILINE) == list(PRACTICES)


@pytest.mark.parametrize("heading", [*TROUBLE, *PRACTICES])
def test_each_is_answered_with_a_command_of_ours(heading: str) -> None:
    """One that the command line takes as it stands there."""
    answer = " ".join(part(heading, "###").split())
    typed = re.findall(r"`supervisor ([^`]+)`", answer)
    assert typed
    for words in typed:
        build_parser().parse_args(words.split())


def test_each_command_below_jobs_is_told() -> None:
    """And no other."""
    parser = build_parser()
    (choices,) = [it.choices for it in parser._actions if it.dest == "command"]
    (below,) = [it.choices for it in choices["jobs"]._actions if it.dest == "what"]
    told = set(re.findall(r"supervisor jobs ([a-z-]+)", PAGE))
    assert told == set(below)


def test_the_first_job_is_one() -> None:
    """It is read as the API reads it."""
    body, answer = re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)
    assert read(body.encode(), JobRequest).priority == "high"
    assert json.loads(body)["tenant_id"] == "acme-corp"
    assert msgspec.json.decode(answer, type=ValidateAnswer).valid


def test_the_script_of_make_job_asks_for_one_and_makes_its_table(tmp_path: Path) -> None:
    """The same each time, with every column that the job names and does not derive."""
    script = runpy.run_path(str(ROOT / "docs/first_job.py"))
    asked = read(json.dumps(script["JOB"]).encode(), JobRequest)
    assert asked.priority == "high"
    table = tmp_path / "tables/acme-corp/features.load_forecasting.csv"
    script["make_table"](table)
    first = table.read_bytes()
    head, *rows = first.decode().splitlines()
    assert {"temperature", "humidity", "load"} < {*head.split(",")}
    assert len(rows) == 24 * 366
    script["make_table"](table)
    assert table.read_bytes() == first
