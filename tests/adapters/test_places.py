"""What a service of the machine is shown beside its home, as the drop-in has it."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from supervisor.host import install
from supervisor.host.home import SERVICE, SYSTEM_HOME
from supervisor.host.install import Asked, eyes, system
from supervisor.host.install.steps import CannotInstall, Step
from supervisor.host.install.units import shipped


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Root, systemd, and units of its own; homes are in `home`, temporary files in `tmp`."""
    for folder in ("home/ada/project/out", "tmp/x", "data", "units"):
        (tmp_path / folder).mkdir(parents=True)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(system, "systemd_runs", lambda: True)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "own"))
    monkeypatch.setattr(system, "RUNS_FROM", (Path("/usr"),))
    for module in (system, eyes):
        monkeypatch.setattr(module, "UNITS", tmp_path / "units")
        monkeypatch.setattr(module, "HIDDEN", (tmp_path / "home",))
        monkeypatch.setattr(module, "PRIVATE", (tmp_path / "tmp",))
    return tmp_path


def step(*, bind: tuple[Path, ...] = (), writable: tuple[Path, ...] = ()) -> Step | None:
    """What an installation does about the drop-in."""
    asked = Asked(tuple(map(str, bind)), tuple(map(str, writable)))
    found = [
        one
        for one in install.plan("system", SYSTEM_HOME, asked).steps()
        if "write" in one.text and "places" in one.text
    ]
    return found[0] if found else None


def lines(drop_in: str) -> list[str]:
    """What it tells systemd of places."""
    return [line for line in drop_in.splitlines() if "Paths=" in line]


def test_what_is_asked_for_is_added_to_what_is_there(machine: Path) -> None:
    """Installing again without a word about it changes nothing; the same again is done already."""
    project, out, data = (
        machine / "home/ada/project",
        machine / "home/ada/project/out",
        machine / "data",
    )
    assert step() is None
    first = step(bind=(project,))
    assert first is not None
    assert lines(first.details) == [f"BindReadOnlyPaths=-{project}"]
    first.do()
    assert step() is None
    again = step(bind=(project,))
    assert again is not None
    assert again.is_done()
    more = step(writable=(out, data))
    assert more is not None
    assert lines(more.details) == [
        f"BindReadOnlyPaths=-{project}", f"BindPaths=-{out}", f"ReadWritePaths=-{data}"
    ]  # fmt: skip
    more.do()
    changed = step(bind=(out,))
    assert changed is not None
    assert f"BindReadOnlyPaths=-{out}" in lines(changed.details)
    assert f"BindPaths=-{out}" not in lines(changed.details)


def test_a_line_that_a_person_has_deleted_stays_away(machine: Path) -> None:
    """The file is theirs to edit; what is added later is added to what they have left."""
    project, data = machine / "home/ada/project", machine / "data"
    one = step(bind=(project, data))
    assert one is not None
    one.do()
    file = machine / f"units/{SERVICE}.d/20-places.conf"
    file.write_text(file.read_text().replace(f"BindReadOnlyPaths=-{project}\n", ""))
    other = step(writable=(data,))
    assert other is not None
    assert lines(other.details) == [f"ReadWritePaths=-{data}"]


@pytest.mark.parametrize(
    ("named", "why"),
    [
        ("/", "only what it needs"),
        ("{}/home", "only what it needs"),
        ("{}", "only what it needs"),
        ("{}/tmp/x", "a boot may empty it"),
        (str(SYSTEM_HOME / "runs"), "which it has anyway"),
        (str(SYSTEM_HOME.parent), "only what it needs"),
        ("{}/no/such", "no such place"),
        ("{}/home/../tmp", "a boot may empty it"),
        ("{}/home/a b", "letters, digits"),
    ],
)
def test_what_cannot_be_shown_is_refused_before_anything_is_done(
    machine: Path, named: str, why: str
) -> None:
    """By its name, and with the reason."""
    for flag in ("bind", "writable"):
        with pytest.raises(CannotInstall, match=why):
            step(**{flag: (Path(named.format(machine)),)})


def test_settings_that_the_service_would_not_read_are_told_before_it_trains_without_them(
    machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where its own are not there yet; how they get there is said."""
    monkeypatch.setattr(system, "SETTINGS", machine / "etc/supervisor.toml")
    own = machine / "own/training-supervisor/supervisor.toml"
    own.parent.mkdir(parents=True)
    own.write_text("[guard]\n")
    with pytest.raises(CannotInstall, match=f"install -D -m 644 {own} {system.SETTINGS}"):
        step()
    system.SETTINGS.parent.mkdir()
    system.SETTINGS.write_text("[guard]\n")
    assert step() is None


def test_a_place_to_which_the_account_has_no_rights_is_told_with_what_gives_them(
    machine: Path,
) -> None:
    """Nobody's files are changed by us."""
    out = machine / "home/ada/project/out"
    machine.chmod(0o700)
    (said,) = install.unwritable(Asked(writable=(str(out),)))
    assert said.startswith(f"{out}: training-supervisor, the account of the service, may not enter")
    assert install.unwritable(Asked(writable=("/dev/shm",))) == ()  # noqa: S108 - of all


def test_the_service_sees_what_it_will_be_given(machine: Path) -> None:
    """So what is asked for in the very call is not told to be missing."""
    project = machine / "home/ada/project"
    assert not install.seeing(Asked()).sees(project)
    assert install.seeing(Asked(bind=(str(project),))).sees(project)
    assert install.seeing(Asked(writable=(str(project),))).writes(project / "out")


def test_systemd_has_nothing_to_say_against_the_drop_in(machine: Path) -> None:
    """Beside the shipped unit, whose commands are ones that exist."""
    found = shutil.which("systemd-analyze")
    if found is None:
        pytest.skip("NOT TESTED: the drop-in; there is no systemd-analyze here")
    unit = machine / "units" / SERVICE
    text = shipped(SERVICE).replace("/opt/training-supervisor/bin/supervisor", "/bin/true")
    unit.write_text(text)
    one = step(bind=(machine / "home/ada/project",), writable=(machine / "data",))
    assert one is not None
    one.do()
    command = [found, "verify", "--system", "--man=no", str(unit)]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    said = [line for line in answer.stderr.splitlines() if "boot.service" not in line]
    assert (answer.returncode, answer.stdout, said) == (0, "", [])
