"""The pages say what the code does: tables, commands, events, links."""

from __future__ import annotations

import json
import re
import shlex
import tomllib
from pathlib import Path

import msgspec
import pytest

from modes import ModeFile
from supervisor import recipients
from supervisor.commands import EPILOG, build_parser
from supervisor.core.campaign import Campaign, OneRun
from supervisor.core.events import Event
from supervisor.core.guard import Guard
from supervisor.core.job_settings import Jobs, JobTenant
from supervisor.core.policy import RULES
from supervisor.core.quiet_hours import QuietHours, UsageSource
from supervisor.core.recovery import RecoveryLimits
from supervisor.core.settings import (
    Checkpoints,
    Logs,
    Notify,
    Policy,
    Samples,
    Settings,
    Warm,
)
from supervisor.core.web_settings import Web
from trainers import atari, command, direction, drill, neural, sb3, tabular
from trainers.direction.options import Dataset, Params

ROOT = Path(__file__).parents[2]
OPERATING = (ROOT / "docs/operating.md").read_text(encoding="utf-8")
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]

TABLES = {
    "Top level": Settings,
    "policy": Policy,
    "recovery": RecoveryLimits,
    "campaign": Campaign,
    "run.LABEL": OneRun,
    "jobs": Jobs,
    "web": Web,
    "jobs.tenants.NAME": JobTenant,
    "checkpoints": Checkpoints,
    "warm": Warm,
    "guard": Guard,
    "logs": Logs,
    "samples": Samples,
    "notify": Notify,
    "quiet_hours": QuietHours,
    "quiet_hours.sources.NAME": UsageSource,
    "Mode files": ModeFile,
    "What a mode lays upon games": atari.Load,
    "What a mode lays upon environments": sb3.Load,
    "Quotes of a direction": Dataset,
    "Rounds of a direction": Params,
}
ALONE = ("run", "guard")
"""parts of the settings that are there only where a person has written them"""
OPTIONS = {
    "atari": atari.Options,
    "command": command.Options,
    "direction": direction.Options,
    "drill": drill.Options,
    "neural": neural.Options,
    "sb3": sb3.Options,
    "tabular": tabular.Options,
}


def section(title: str) -> str:
    """The text below a heading, up to the next one."""
    found = re.search(
        rf"^#+ {re.escape(title)}\n(.*?)(?=^#+ |\Z)", OPERATING, re.MULTILINE | re.DOTALL
    )
    assert found, f"there is no section {title!r}"
    return found[1]


def rows(text: str) -> list[list[str]]:
    """The cells of a table, without its head."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines[2:]]


def documented(text: str) -> dict[str, str]:
    """Key: default, as the table of a section says."""
    assert all(len(row) == 4 and all(row) for row in rows(text))
    return {row[0].strip("`"): row[1].strip("`") for row in rows(text)}


def coded(kind: type[msgspec.Struct]) -> dict[str, str]:
    """Key: default, as a Struct has them; its sub-tables have tables of their own."""
    found = {}
    for field in msgspec.structs.fields(kind):
        default = field.default
        if field.default_factory is not msgspec.NODEFAULT:
            default = field.default_factory()
        if isinstance(default, msgspec.Struct) or (kind is Settings and field.name in ALONE):
            continue
        if default is msgspec.NODEFAULT:
            found[field.name] = "required"
        else:
            found[field.name] = "unset" if default is None else json.dumps(default)
    return found


@pytest.mark.parametrize(("title", "kind"), TABLES.items())
def test_each_table_has_the_keys_and_defaults_of_the_code(title, kind):
    """No key is missing, none is invented, and each default is the real one."""
    assert documented(section(title)) == coded(kind)


@pytest.mark.parametrize(("trainer", "kind"), OPTIONS.items())
def test_each_trainer_has_its_options_in_a_table(trainer, kind):
    """The options of a trainer stand below its name."""
    _, _, text = section("Options of the trainers").partition(f"or `{trainer}`:")
    table = re.search(r"(^\|.*?)\n\n", f"{text}\n\n", re.MULTILINE | re.DOTALL)
    assert table
    assert documented(table[1]) == coded(kind)


def test_every_part_of_the_settings_has_a_table():
    """A new table of the settings file does not go unnoticed."""
    parts = {field.name for field in msgspec.structs.fields(Settings)}
    parts -= coded(Settings).keys()
    assert parts == {
        "policy",
        "recovery",
        "campaign",
        "run",
        "checkpoints",
        "warm",
        "guard",
        "logs",
        "samples",
        "notify",
        "web",
        "jobs",
    }


def commands() -> set[str]:
    parser = build_parser()
    (choices,) = [action.choices for action in parser._actions if action.dest == "command"]
    return set(choices)


def test_every_command_is_in_the_table_of_commands():
    """Exactly the commands of `supervisor --help`."""
    text = section("Commands").partition("All commands:")[2]
    assert {row[0].strip("`") for row in rows(text)} == commands()


def test_every_exit_code_of_the_help_is_told():
    """The table has every code that the help names."""
    codes = re.findall(r"\b(\d+) [a-z]", EPILOG.partition("exit codes:")[2])
    assert len(codes) == 6
    assert {row[0] for row in rows(section("Exit codes"))} >= set(codes)


def test_every_event_is_told():
    """The table has exactly the events that there are, each told as the code tells it."""
    told = {row[0].strip("`"): row[1] for row in rows(section("The decision log"))}
    assert list(told) == [row[0].strip("`") for row in rows(section("The decision log"))]
    assert set(told) == set(Event)
    assert [event for event in Event if not told[event].startswith(event.meaning)] == []


def test_the_addresses_that_are_shown_can_be_read():
    """As they stand there, by apprise itself."""
    (text,) = re.findall(r"```toml\n(.*?)```", section("Told elsewhere"), re.DOTALL)
    wanted = msgspec.toml.decode(text, type=Settings).notify
    assert len(wanted.urls) > 2
    assert list(recipients.troubles(wanted)) == []


def test_every_event_is_written_somewhere():
    """One that nothing writes any more is taken from the list."""
    code = "".join(
        path.read_text(encoding="utf-8")
        for path in (ROOT / "supervisor").rglob("*.py")
        # These name events that can be asked for, or told elsewhere.
        if path.name not in ("settings.py", "recipients.py")
    )
    assert [event for event in Event if f"Event.{event.name}" not in code] == []


def test_the_rules_that_change_a_mode_are_named():
    """A new rule is named where `mode.changed` is explained."""
    (row,) = [row for row in rows(section("The decision log")) if row[0] == "`mode.changed`"]
    named = set(re.findall(r"`(\w+)`", row[1])) - {"rule"}
    rules = {rule.__name__ for of_one in RULES.values() for rule in of_one}
    # These keep the mode as it is.
    assert named == rules - {"guarded", "quiet_hours", "bounded_by_person", "boot_loop", "proved"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    """Every link within the project has a file, and its heading, at the other end."""
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    for link in re.findall(r"\]\(([^)]+)\)", text):
        if link.startswith("https://"):
            continue
        name, _, heading = link.partition("#")
        target = (page.parent / name) if name else page
        assert target.exists(), link
        if heading:
            headings = re.findall(r"^#+ (.+)$", target.read_text(encoding="utf-8"), re.MULTILINE)
            anchors = {re.sub(r"[^\w\- ]", "", one).lower().replace(" ", "-") for one in headings}
            assert heading in anchors, link


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_in_code_blocks_parse(page):
    """What a page tells to type is understood by the command line or the Makefile."""
    targets = re.findall(
        r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE
    )
    blocks = re.findall(r"```(?:sh|text)\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    for line in "\n".join(blocks).splitlines():
        words = line.partition("#")[0].strip().removeprefix("$ ").split()
        if words[:1] == ["make"]:
            assert words[1] in targets, line
        elif words[:1] == ["supervisor"]:
            typed = shlex.split(line.strip().removeprefix("$ "), comments=True)
            build_parser().parse_args(typed[1:])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_supervisor_commands_in_running_text_exist(page):
    """`supervisor something` in running text is a command."""
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    for word in re.findall(r"`supervisor ([a-z][a-z-]*)", text):
        assert word in commands(), word


def test_the_map_of_the_tree_has_every_module():
    """Each module of the packages has its line in the map, and each line its module."""
    page = (ROOT / "docs/ARCHITECTURE.md").read_text(encoding="utf-8")
    tree = page.partition("```text")[2].partition("```")[0]
    told, within = set(), {}
    for line in filter(str.strip, tree.splitlines()):
        name, depth = line.split()[0], len(line) - len(line.lstrip())
        within = {at: folder for at, folder in within.items() if at < depth}
        if name.endswith("/"):
            within[depth] = name
        elif name.endswith(".py"):
            told.add(f"{''.join(within.values())}{name}")
    rooms = ("modes", "state", "trainers", "supervisor", "testkit")
    modules = {
        str(path.relative_to(ROOT))
        for room in rooms
        for path in (ROOT / room).rglob("*.py")
        if path.name != "__init__.py" or room == "modes" or path.parent.name == "runners"
    }
    modules |= {path.name for path in ROOT.glob("*.py")}
    assert told == modules


def test_the_layers_are_those_of_the_contracts():
    """Who may know whom is copied from the contracts that are enforced."""
    page = (ROOT / "docs/ARCHITECTURE.md").read_text(encoding="utf-8")
    told = page.partition("## Who may know whom")[2].partition("\n## ")[0]
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    contracts = settings["tool"]["importlinter"]["contracts"]
    layers = ["\n".join(one["layers"]) for one in contracts if one["type"] == "layers"]
    assert re.findall(r"```text\n(.*?)\n```", told, re.DOTALL) == layers
