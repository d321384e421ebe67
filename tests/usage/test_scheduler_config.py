"""What each key of a scheduler's document becomes, and what is refused of one."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from urllib.parse import quote

import pytest
import yaml

from modes.toml_file import read_toml
from supervisor.core.settings import Settings
from supervisor.scheduler_config import (
    KEYS,
    NEEDLESS,
    READ_MAX_BYTES,
    BadDocument,
    Brought,
    brought,
    parsed,
)
from supervisor.usage.passwords import hidden

SECRET = "marked-3f9c1e"  # noqa: S105 - a made-up one
DOCUMENT = {
    "database": {
        "mariadb_host": "127.0.0.1",
        "mariadb_port": 3306,
        "mariadb_database": "ragnarok",
        "mariadb_user": "ragnarok",
        "mariadb_password": SECRET,
        "postgres_host": "localhost",
        "postgres_port": 5432,
        "postgres_database": "ragnarok_ml",
        "postgres_user": "ml_user",
        "postgres_password": f"{SECRET}-too",
    },
    "training": {
        "archetypes": "aggressive defensive",
        "epochs": 50,
        "batch_size": 256,
        "learning_rate": 0.0003,
        "max_cpu_before_training": 30,
        "max_memory_before_training": 70,
        "max_gpu_memory_before_training": 1024,
        "pause_threshold_cpu": 80,
        "pause_threshold_memory": 90,
        "monitor_interval_seconds": 30,
        "auto_deploy": True,
        "rollback_on_failure": True,
    },
    "scheduling": {
        "window_hours": 8,
        "top_n_windows": 3,
        "preferred_day": 6,
        "preferred_start_hour": 3,
        "force_training": False,
    },
    "analysis": {
        "history_days": 30,
        "min_data_points": 100,
        "weight_players": 2.0,
        "weight_cpu": 0.5,
        "weight_memory": 0.3,
        "weight_monsters": 0.2,
    },
}
OTHERWISE = {
    "database.mariadb_host": "db.example.org",
    "database.mariadb_port": 3307,
    "database.mariadb_database": "other",
    "database.mariadb_user": "reader",
    "database.mariadb_password": f"{SECRET}-other",
    "database.postgres_host": "::1",
    "database.postgres_port": 5433,
    "database.postgres_database": "other",
    "database.postgres_user": "reader",
    "database.postgres_password": f"{SECRET}-other",
    "training.archetypes": ["support"],
    "training.epochs": 100,
    "training.batch_size": 512,
    "training.learning_rate": "1e-4",
    "training.max_cpu_before_training": 31,
    "training.max_memory_before_training": 71.5,
    "training.max_gpu_memory_before_training": 2048,
    "training.pause_threshold_cpu": 81,
    "training.pause_threshold_memory": 91,
    "training.monitor_interval_seconds": 5,
    "training.auto_deploy": False,
    "training.rollback_on_failure": False,
    "scheduling.window_hours": 6,
    "scheduling.top_n_windows": 2,
    "scheduling.preferred_day": 0,
    "scheduling.preferred_start_hour": 4,
    "scheduling.force_training": True,
    "analysis.history_days": 60,
    "analysis.min_data_points": 200,
    "analysis.weight_players": 3,
    "analysis.weight_cpu": 0.6,
    "analysis.weight_memory": 0.4,
    "analysis.weight_monsters": 0.1,
}


def of(content: object, *, skip_unknown: bool = False) -> Brought:
    text = content if isinstance(content, str) else yaml.safe_dump(content, sort_keys=False)
    return brought(parsed(text.encode()), None, skip_unknown=skip_unknown)


def but(key: str, value: object) -> dict[str, dict[str, object]]:
    """The document with another value of one key."""
    section, _, name = key.partition(".")
    return {**DOCUMENT, section: {**DOCUMENT.get(section, {}), name: value}}


def places(made: Brought) -> dict[str, object]:
    """Every value of the settings, by its whole name."""

    def flat(table: dict[str, object], prefix: str) -> dict[str, object]:
        found = {}
        for key, value in table.items():
            if isinstance(value, dict) and key not in ("target", "progress"):
                found |= flat(value, f"{prefix}{key}.")
            else:
                found[f"{prefix}{key}"] = value
        return found

    return flat(tomllib.loads("\n".join(made.tables.values())), "")


def refused(content: object, **how: bool) -> str:
    with pytest.raises(BadDocument) as told:
        of(content, **how)
    assert SECRET not in str(told.value)
    return str(told.value).removesuffix("\nnothing was written")


def test_both_documents_of_this_test_have_every_key() -> None:
    """None is forgotten."""
    flat = [f"{section}.{key}" for section, keys in DOCUMENT.items() for key in keys]
    assert set(flat) == set(OTHERWISE) == set(KEYS)


def test_the_whole_document_is_settings(tmp_path: Path) -> None:
    """They are read by what reads settings, and each of its keys is told of in a line."""
    made = of(DOCUMENT)
    path = tmp_path / "supervisor.toml"
    path.write_text("\n".join((*made.tables.values(), made.comments)))
    settings = read_toml(path, Settings)
    assert [run.id for run in settings.queue()] == ["command-aggressive", "command-defensive"]
    assert settings.guard is not None
    assert settings.quiet_hours is not None
    assert set(settings.quiet_hours.sources) == {"mariadb", "postgres"}
    assert [line.split()[0] for line in made.told] == list(KEYS)


@pytest.mark.parametrize("key", KEYS)
def test_a_key_changes_its_own_place_and_no_other(key: str) -> None:
    """With two values, of all that is written."""
    usual, other = of(DOCUMENT), of(but(key, OTHERWISE[key]))
    before, after = places(usual), places(other)
    changed = {place for place in before | after if before.get(place) != after.get(place)}
    place, kind = KEYS[key].place, KEYS[key].kind
    assert changed == ({place} if place and kind != "secret" else set())
    lines = zip(KEYS, usual.told, other.told, strict=True)
    told = {one for one, line, another in lines if line != another}
    group = {one for one in KEYS if KEYS[one].place == place and place.endswith(".url")}
    assert told == ({key} | group if kind != "secret" else set())
    assert (usual.passwords != other.passwords) == (kind == "secret")
    assert (usual.comments != other.comments) == (
        key in ("training.auto_deploy", "training.rollback_on_failure")
    )


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize(
    "value",
    [[SECRET, 1], {SECRET: 1}, float("nan"), float("inf"), "2026-01-21", 10**30],
    ids=["list", "table", "nan", "infinite", "date", "huge"],
)
def test_a_value_of_another_kind_is_a_line_that_does_not_repeat_it(key: str, value: object) -> None:
    """Whatever stands there may be a password in the wrong place."""
    text = yaml.safe_dump(but(key, value), sort_keys=False)
    told = refused(text.replace("'2026-01-21'", "2026-01-21"))
    assert told.startswith(f"{key} is to be ")
    assert "\n" not in told


@pytest.mark.parametrize("key", KEYS)
def test_a_key_without_a_value_is_told_and_does_nothing(key: str) -> None:
    """But for what an address cannot be without, and runs, which need names."""
    if key.endswith("_database"):
        assert refused(but(key, None)) == f"{key} is missing"
        return
    (line,) = [line for line in of(but(key, None)).told if line.startswith(f"{key} ->")]
    assert "needs names" in line if key == "training.archetypes" else "not needed" in line


def test_all_needs_names() -> None:
    """Nobody knows here which ones there are: nothing is trained, and that is said."""
    made = of(but("training.archetypes", "all"))
    assert places(made)["campaign.runs"] == []
    (line,) = [line for line in made.told if line.startswith("training.archetypes")]
    assert '"all" needs names' in line


@pytest.mark.parametrize(
    ("value", "runs"),
    [
        ("aggressive", ["aggressive"]),
        ("aggressive,defensive", ["aggressive", "defensive"]),
        (" aggressive  defensive\n", ["aggressive", "defensive"]),
        (["aggressive", "defensive"], ["aggressive", "defensive"]),
        ([], []),
        ("", []),
        (["all"], []),
        ("all support", ["support"]),
    ],
)
def test_names_are_runs_however_they_are_listed(value: object, runs: list[str]) -> None:
    """Where `all` is among them, or none, it is said that names are missing."""
    made = of(but("training.archetypes", value))
    assert places(made)["campaign.runs"] == runs
    (line,) = [line for line in made.told if line.startswith("training.archetypes")]
    assert ("needs names" in line) == (not runs or "all" in value)


@pytest.mark.parametrize("key", [key for key in KEYS if KEYS[key].kind in ("whole", "number")])
@pytest.mark.parametrize("value", ["30", "0x1e", "", "thirty", True])
def test_a_number_in_quotes_is_no_number(key: str, value: object) -> None:
    """It is named; nobody has to guess what it was meant to be."""
    assert refused(but(key, value)).startswith(f"{key} is to be a ")


def test_training_in_any_hour_is_no_setting() -> None:
    """For it would forget the windows for good: the command for one night is named."""
    usual, forced = of(DOCUMENT), of(but("scheduling.force_training", True))
    (line,) = [line for line in forced.told if line.startswith("scheduling.force_training")]
    assert "train-now --for 8h" in line
    assert forced.tables == usual.tables


ODD_PASSWORDS = [
    'it\'s "quoted"',
    " with  blanks ",
    "50 % # of $HOME: {all} & *more* !",
    "back\\slash/and\ttab",
    "Pässwörd-密码-\U0001f511",
    "-",
    "null",
    "1e5",
]


@pytest.mark.parametrize("secret", ODD_PASSWORDS)
def test_a_password_is_kept_letter_by_letter(secret: str) -> None:
    """And stands in nothing that is shown or written beside its file."""
    made = of(but("database.mariadb_password", secret))
    assert made.passwords["mariadb-password"] == secret
    shown = "\n".join((*made.tables.values(), made.comments, *made.told))
    assert len(secret) < 5 or secret not in shown
    assert shown == "\n".join(
        (*of(DOCUMENT).tables.values(), of(DOCUMENT).comments, *of(DOCUMENT).told)
    )


@pytest.mark.parametrize("secret", ODD_PASSWORDS)
def test_whoever_repeats_a_password_is_not_repeated(secret: str) -> None:
    """As it is, as an address has it, or as a program shows text."""
    for said in (secret, quote(secret), quote(secret, safe=""), repr(secret), ascii(secret)):
        told = hidden(f"wrong password {said}\n(using {json.dumps(secret)})", secret)
        assert "***" in told
        for form in (secret, " ".join(secret.split()), quote(secret, safe="")):
            assert len(form) < 5 or form not in told


def test_an_editor_of_another_system_is_no_matter() -> None:
    """It ends lines otherwise, and marks the begin of a text."""
    plain = yaml.safe_dump(DOCUMENT, sort_keys=False, allow_unicode=True)
    other = b"\xef\xbb\xbf" + plain.replace("\n", "\r\n").encode()
    assert brought(parsed(other), None, skip_unknown=False) == of(plain)


@pytest.mark.parametrize("placeholder", ["YOUR_PASSWORD_HERE", "your_db_password", "CHANGE_ME"])
def test_a_placeholder_is_no_password(placeholder: str) -> None:
    """It is said, and the file that is to hold the password is named and not written."""
    made = of(but("database.mariadb_password", placeholder))
    assert "mariadb-password" not in made.passwords
    assert places(made)["quiet_hours.sources.mariadb.password_file"] == "mariadb-password"
    assert any("a placeholder" in line for line in made.told)


def test_an_empty_password_is_none() -> None:
    """The source has none then, and that is said."""
    made = of(but("database.mariadb_password", ""))
    assert set(made.passwords) == {"postgres-password"}
    assert "quiet_hours.sources.mariadb.password_file" not in places(made)
    assert any("_password -> empty" in line for line in made.told)


def test_a_database_without_a_host_is_not_asked() -> None:
    """PostgreSQL was optional there, too."""
    made = of(but("database.postgres_host", ""))
    assert not any("postgres" in place for place in places(made))
    assert set(made.passwords) == {"mariadb-password"}


@pytest.mark.parametrize("section", NEEDLESS)
def test_what_is_not_needed_is_named_whatever_stands_in_it(section: str) -> None:
    """Its values are repeated nowhere."""
    made = of({**DOCUMENT, section: {"any": SECRET, "more": {"deep": SECRET}}})
    lines = made.told[-2:]
    assert [line.split(" -> not needed")[0] for line in lines] == [
        f"{section}.any",
        f"{section}.more",
    ]
    assert not any(SECRET in line for line in lines)


def test_a_typo_does_not_vanish() -> None:
    """It is refused with what was meant, or named where that is asked for."""
    wrong = but("database.mariadb_pasword", SECRET)
    assert "did you mean database.mariadb_password?" in refused(wrong)
    assert "there is no key tranings" in refused({**DOCUMENT, "tranings.x": {"a": 1}})
    skipped = of(wrong, skip_unknown=True)
    assert any(line.startswith("database.mariadb_pasword -> not brought") for line in skipped.told)
    assert not any(SECRET in line for line in skipped.told)


def test_a_file_of_something_else_is_refused_briefly() -> None:
    """Thousands of keys that nobody knows are no thousands of lines."""
    told = refused({**DOCUMENT, "more": {f"key{n}": n for n in range(4000)}}).splitlines()
    assert len(told) == 21
    assert told[-1] == "there are 3980 more keys that nobody knows"


def test_a_key_that_lost_its_blank_shows_no_value() -> None:
    """`password:secret` is one word to YAML."""
    told = refused(f"database: {{mariadb_password:{SECRET}}}")
    assert "there is no key database.mariadb_password..." in told


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "none of the sections"),
        ("- 1\n- 2", "none of the sections"),
        ("training: 5", "keys of its own"),
        ("training:\n  epochs: 50\n  epochs: 60", "line 3: epochs is there twice"),
        (f"a: &a [{SECRET}]\nb: [*a, *a]", "line 1: & and *"),
        (f"database:\n  mariadb_password: *{SECRET}", "line 2: & and *"),
        (f"database:\n  mariadb_password: &{SECRET} x", "line 2: & and *"),
        (f"database:\n  mariadb_password: !{SECRET}", "line 2: ! at the begin"),
        ("a: !!python/object/apply:os.system [ls]", "line 1: ! at the begin"),
        ("training:\n  <<: {epochs: 5}", "line 2: << is no key"),
        (f"database:\n  mariadb_password: %{SECRET}", "no valid YAML in line 2"),
        (f"database:\n  mariadb_password: '{SECRET}", "no valid YAML in line"),
        (f"database:\n\tmariadb_password: {SECRET}", "no valid YAML in line 2"),
        ("? [a]\n: b", "no valid YAML in line 1"),
        ("a: 1\n---\na: 2", "no valid YAML in line"),
        ("a: \0", "a character or a number is none"),
        ("training:\n  epochs: " + "9" * 5000, "a character or a number is none"),
        ("a: 2026-99-99", "a character or a number is none"),
        ("[" * 20_000, "more than 8 levels"),
        ("- " * 20_000, "more than 8 levels"),
    ],
)  # fmt: skip
def test_hostile_text_is_one_line(text: str, told: str) -> None:
    """Which repeats nothing of it."""
    line = refused(text)
    assert told in line
    assert "\n" not in line


def test_bytes_that_are_no_text_are_one_line() -> None:
    """As an editor of another system may have saved them."""
    with pytest.raises(BadDocument, match="no text in UTF-8"):
        parsed("training:".encode("utf-16"))
    assert READ_MAX_BYTES < 10_000_000


@pytest.mark.parametrize(
    ("key", "value", "why"),
    [
        ("mariadb_host", f"me:{SECRET}@host", "is no name or address of a machine"),
        ("mariadb_user", f"me:{SECRET}", "is no name of an account"),
        ("mariadb_database", f"a?password={SECRET}", "is no name of one"),
        ("mariadb_port", 70_000, "is to be from 1 to 65535"),
        ("postgres_password", f"{SECRET}\n", "ends with a line break"),
        ("postgres_password", SECRET * 400, "is longer than 4096 bytes"),
    ],
)  # fmt: skip
def test_an_address_holds_no_more_than_one(key: str, value: object, why: str) -> None:
    """A password that was put into another key comes into no settings."""
    assert refused(but(f"database.{key}", value)) == f"database.{key} {why}"
