"""`import-settings`, as a person types it, in a home with settings and without."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from testkit.accounts import STRANGER, common_ground, needs_root
from testkit.machine import Machine

SECRET = "marked-3f9c1e"  # noqa: S105 - a made-up one
GUARDED = "training:\n  max_cpu_before_training: 25\n"
DATABASE = f"""
database:
  mariadb_host: 127.0.0.1
  mariadb_database: ragnarok
  mariadb_user: ragnarok
  mariadb_password: {SECRET}
"""


@pytest.fixture
def document(tmp_path: Path) -> Path:
    path = tmp_path / "scheduler_config.yaml"
    path.write_text(GUARDED + DATABASE)
    return path


def files(home: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in home.rglob("*") if path.is_file()}


def holding(home: Path) -> list[str]:
    """The files that hold the password."""
    return [path.name for path, content in files(home).items() if SECRET.encode() in content]


def refused(told: subprocess.CompletedProcess[str], code: int, why: str) -> None:
    assert (told.returncode, told.stdout) == (code, "")
    assert why in told.stderr
    assert all(line.startswith("supervisor: ") for line in told.stderr.splitlines())
    assert SECRET not in told.stderr


def test_what_is_there_stays_word_for_word(machine: Machine, document: Path) -> None:
    """New tables stand behind it; the password lies in a file of its own, and nowhere else."""
    settings = machine.home / "supervisor.toml"
    before = settings.read_bytes().rstrip() + b" # mine"
    settings.write_bytes(before)
    settings.chmod(0o640)
    (machine.home / ".git").mkdir()
    done = machine("import-settings", str(document))
    assert (done.returncode, done.stderr) == (0, "")
    assert SECRET not in done.stdout
    assert settings.read_bytes().startswith(before + b"\n")
    assert stat.S_IMODE(settings.stat().st_mode) == 0o640
    assert holding(machine.home) == ["mariadb-password"]
    assert stat.S_IMODE((machine.home / "mariadb-password").stat().st_mode) == 0o600
    assert "for .gitignore: /mariadb-password" in done.stdout
    told = {line.split(" ")[0] for line in done.stdout.splitlines()}
    assert {"training.max_cpu_before_training", "database.mariadb_password"} <= told
    assert machine("check-config").returncode == 0
    asked = machine("analyze-usage", "--dry-run")
    assert asked.returncode == 75  # nobody answers there
    assert SECRET not in asked.stdout + asked.stderr

    again = files(machine.home)
    refused(machine("import-settings", str(document)), 2, "has [guard] already")
    assert files(machine.home) == again


def test_a_dry_run_prints_and_writes_nothing(machine: Machine, document: Path) -> None:
    """Whether there are settings, or not even a home."""
    before = files(machine.home)
    shown = machine("import-settings", "--dry-run", str(document))
    assert (shown.returncode, shown.stderr) == (0, "")
    assert "\n[guard]\nstart_cpu_percent = 25\n" in shown.stdout
    assert SECRET not in shown.stdout
    assert files(machine.home) == before
    new = machine.home.parent / "new"
    assert machine("--home", str(new), "import-settings", "--dry-run", str(document)).stdout
    assert not new.exists()
    assert machine("--home", str(new), "import-settings", str(document)).returncode == 0
    assert holding(new) == ["mariadb-password"]


def test_a_table_that_is_there_is_refused_by_name(machine: Machine, document: Path) -> None:
    """With the keys of the document that want it; runs would become other ones by a campaign."""
    document.write_text("training:\n  epochs: 50\n")
    before = files(machine.home)
    refused(
        machine("import-settings", str(document)),
        2,
        "has [campaign] already, which stays as it is: take it out, or take training.epochs out",
    )
    assert files(machine.home) == before
    machine.configure('[run.mine]\ntrainer = "drill"\n')
    refused(machine("import-settings", str(document)), 2, "has [run] already")


def test_a_password_that_is_there_is_not_replaced(machine: Machine, document: Path) -> None:
    """The same one may be there; another is another person's."""
    password = machine.home / "mariadb-password"
    password.write_text("theirs")
    password.chmod(0o600)
    before = files(machine.home)
    refused(machine("import-settings", str(document)), 2, "holds another password")
    assert files(machine.home) == before
    password.write_text(f"{SECRET}\n")
    password.chmod(0o644)
    refused(machine("import-settings", str(document)), 2, "is not closed to others")
    password.chmod(0o600)
    assert machine("import-settings", str(document)).returncode == 0


def test_what_would_be_no_settings_is_not_written(machine: Machine, document: Path) -> None:
    """It is judged by what reads settings, and told in their name."""
    document.write_text(DATABASE + "training:\n  max_cpu_before_training: 250\n")
    before = files(machine.home)
    wrong = machine("import-settings", str(document))
    refused(wrong, 78, f"{machine.home}/supervisor.toml: guard.start_cpu_percent = 250")
    document.write_text("training: {max_cpu_before_training: 90, pause_threshold_cpu: 80}")
    refused(machine("import-settings", str(document)), 78, "lies above")
    assert files(machine.home) == before


def test_a_typo_is_named_before_anything_is_written(machine: Machine, document: Path) -> None:
    """Unless somebody says that it may be left out."""
    document.write_text(f"{GUARDED}  max_cpu: 5\n{DATABASE}")
    before = files(machine.home)
    refused(machine("import-settings", str(document)), 1, "there is no key training.max_cpu")
    assert files(machine.home) == before
    skipped = machine("import-settings", "--skip-unknown", str(document))
    assert skipped.returncode == 0
    assert "training.max_cpu -> not brought over" in skipped.stdout


def test_a_program_that_is_named_has_to_be_there(machine: Machine, document: Path) -> None:
    """That of the document may come later, which is noted; one that a person names may not."""
    machine.configure("[policy]\n")
    document.write_text("training:\n  archetypes: aggressive\n  epochs: 5\n")
    missing = f"{sys.executable} {{home}}/none.py {{name}}"
    refused(machine("import-settings", "--command", missing, str(document)), 78, "none.py")
    shown = machine("import-settings", "--dry-run", str(document))
    assert "note: run aggressive: options.command: there is no file" in shown.stdout
    (machine.home / "train.py").write_text("raise SystemExit(0)\n")
    there = f"{sys.executable} {{home}}/train.py {{name}}"
    assert machine("import-settings", "--command", there, str(document)).returncode == 0
    assert machine("run", "--plain", "--until-done").returncode == 0


def test_settings_that_are_a_link_stay_one(machine: Machine, document: Path) -> None:
    """As those of the machine's service are; what they name is still found from the home."""
    settings, real = machine.home / "supervisor.toml", machine.home.parent / "real.toml"
    (machine.home / "mine").mkdir()
    real.write_text('trainers_dir = "mine"\n')
    settings.unlink()
    settings.symlink_to(real)
    assert machine("import-settings", str(document)).returncode == 0
    assert settings.is_symlink()
    assert "[guard]" in real.read_text()


@needs_root
def test_settings_of_roots_are_not_written_with_the_rights_of_a_service(machine: Machine) -> None:
    """Those of the machine's service lie in /etc: it is said how they get there."""
    with common_ground() as ground:
        home, real, document = ground / "home", ground / "etc/real.toml", ground / "theirs.yaml"
        document.write_text(GUARDED)
        real.parent.mkdir()
        real.write_text("# Settings.\n")
        home.mkdir()
        (home / "supervisor.toml").symlink_to(real)
        os.chown(home, STRANGER, STRANGER)
        told = machine("--home", str(home), "import-settings", str(document))
        refused(told, 2, "another home (--home FOLDER), and copy what is there")
        assert real.read_text() == "# Settings.\n"


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"a: " + b"x" * 10_000_000, "larger than"),
        (f"a: &a {SECRET}\nb: *a".encode(), "line 1: & and *"),
        (f"mariadb_password: '{SECRET}".encode(), "no valid YAML"),
        (b"\xff\xfe\x00", "no text in UTF-8"),
        (b"", "none of the sections"),
    ],
    ids=["large", "aliases", "broken", "bytes", "empty"],
)
def test_hostile_documents_are_one_line(
    machine: Machine, document: Path, content: bytes, why: str
) -> None:
    """And write nothing."""
    document.write_bytes(content)
    before = files(machine.home)
    refused(machine("import-settings", str(document)), 1, why)
    assert files(machine.home) == before


def test_a_document_that_cannot_be_read_is_a_line(machine: Machine, tmp_path: Path) -> None:
    """Missing, or a folder."""
    refused(machine("import-settings", str(tmp_path / "none.yaml")), 1, "none.yaml: No such file")
    refused(machine("import-settings", str(tmp_path)), 1, "not a regular file")
