"""Whoever comes from the scheduler finds each setting, script and question of its document."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from supervisor.scheduler_config import KEYS, NEEDLESS

DOCS = Path(__file__).parents[2] / "docs"
MAP = (
    (DOCS / "operating.md")
    .read_text(encoding="utf-8")
    .partition("### Settings of a scheduler\n")[2]
    .partition("\n### ")[0]
)
SETTINGS, _, SCRIPTS = MAP.partition("And its scripts:")
PAGE = (DOCS / "how-to/come-from-a-scheduler.md").read_text(encoding="utf-8")
SCRIPTS_THERE = (
    "install_scheduler.sh", "trigger_training_now.sh", "view_scheduler_status.sh", "auto_deploy.sh",
    "scheduler_main.py", "scheduler_main.py --dry-run", "usage_analyzer.py",
    "training_scheduler.py", "train_all_models.py", "tail -f scheduler.log",
    "tail -f training_*.log", "journalctl -u ml-training-scheduler",
    "systemctl list-timers ml-training-scheduler",
    "ml-training-scheduler.timer", "ml-training-scheduler.service",
)  # fmt: skip
TROUBLE = (
    "Timer not running",
    "Training not starting",
    "Training fails",
    "Deployment fails",
    "Database connection issues",
)
QUESTIONS = (
    "How often does training run?",
    "What if the server is off at the scheduled time?",
    "Can I train manually?",
    "How long does training take?",
    "Will training impact players?",
    "What happens if training fails?",
    "Can I change the schedule?",
    "How do I disable automated training?",
    "Where are models deployed?",
    "How do I verify models are being used?",
)


def first_cells(text: str) -> list[str]:
    lines = [line for line in text.splitlines() if line.startswith("|")]
    return [line.strip("| ").split(" | ")[0] for line in lines[2:]]


def below(heading: str) -> list[str]:
    """The headings of a part of the page."""
    part = PAGE.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    return re.findall(r"^### (.+)$", part, re.MULTILINE)


def test_every_setting_of_the_document_has_its_place_in_the_table() -> None:
    """Exactly those that are brought over, and the sections that are not."""
    told = []
    for cell in first_cells(SETTINGS):
        names = re.findall(r"`([^`]+)`", cell)
        section = names[0].partition(".")[0]
        told += [name if "." in name else f"{section}.{name}" for name in names]
    assert told == list(dict.fromkeys(told))
    assert set(told) == {*KEYS, *(f"{section}.*" for section in NEEDLESS)}


def test_every_place_of_a_key_is_named_where_the_key_is() -> None:
    """The last word of it stands in the same row."""
    rows = [line for line in SETTINGS.splitlines() if line.startswith("| `")]
    for key, known in KEYS.items():
        section, _, name = key.partition(".")
        (row,) = [
            row
            for row in rows
            if row.startswith(f"| `{section}.") and re.search(rf"\b{name}`", row)
        ]
        place = known.place.split(".")
        if place[0] == "campaign":
            assert f"`{place[1]}" in row or f"`{'.'.join(place[:-1])}`" in row
        elif place[0] == "guard":
            assert f"`{place[1]}`" in row


def test_every_script_of_the_document_has_its_command() -> None:
    """What somebody typed there has a row."""
    assert {cell.strip("`") for cell in first_cells(SCRIPTS)} == set(SCRIPTS_THERE)


@pytest.mark.parametrize(
    ("heading", "word"),
    [
        ("Timer not running", "supervisor doctor"),
        ("Can I change the schedule?", "systemctl edit training-supervisor-analyze-usage.timer"),
        ("How do I disable automated training?", "systemctl disable --now training-supervisor-"),
        ("What if the server is off at the scheduled time?", "`Persistent=true`"),
    ],
)
def test_what_the_document_says_of_its_timer_is_said_of_ours(heading: str, word: str) -> None:
    """By the names that our timers have."""
    assert word in PAGE.partition(f"### {heading}\n")[2].partition("\n### ")[0]
    for unit in re.findall(r"training-supervisor-[a-z-]+\.timer", PAGE):
        assert (DOCS.parent / "systemd" / unit).exists(), unit


def test_the_page_has_every_trouble_and_every_question() -> None:
    """In the words and the order of the document."""
    assert below("Trouble") == list(TROUBLE)
    assert below("Questions") == list(QUESTIONS)


@pytest.mark.parametrize("heading", [*TROUBLE, *QUESTIONS])
def test_each_is_answered_with_a_command_of_ours(heading: str) -> None:
    """That there are such commands is seen to for all pages."""
    answer = PAGE.partition(f"### {heading}\n")[2].partition("\n#")[0]
    assert re.search(r"^\$ supervisor [a-z]|`supervisor [a-z]", answer, re.MULTILINE)
