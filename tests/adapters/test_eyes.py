"""What the service of the machine sees, may read and may write to."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import pytest

from modes import SHIPPED
from supervisor.config import Config
from supervisor.doctor import unseen_by
from supervisor.host.install import eyes
from supervisor.host.install.eyes import Eyes, of_unit, troubles
from supervisor.host.install.units import shipped
from trainers.contract import Need

STRANGER = "no-such-account"
"""has the rights of others"""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A machine: `home` is hidden, `tmp` is another one, `var` is the home, `opt` is seen."""
    for folder in ("home/ada/project/.venv/bin", "tmp", "var", "opt/program"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "home/ada/project/train.py").touch()
    (tmp_path / "opt/program/run").touch(0o755)
    return tmp_path


def service(place: Path, *shown: str, writable: tuple[str, ...] = ()) -> Eyes:
    """The eyes of a service there, for which nothing above that machine is closed."""
    bare = Eyes(
        home=place / "var",
        account=STRANGER,
        hidden=(place / "home", *place.parents, place),
        private=(place / "tmp",),
        shown=(place / "opt",),
    )
    return bare.with_places((place / one for one in shown), (place / one for one in writable))


def need(path: Path | str, use: str = "read", within: Path | None = None) -> Need:
    folder = Path(path).parent if within is None else within
    return Need(path=str(path), what="it", use=use, within=str(folder))


def said(eyes_: Eyes, *needs: Need) -> list[str]:
    return [trouble.text for _, trouble in troubles(eyes_, needs)]


def test_what_lies_in_a_home_is_named_with_the_folder_to_show(place: Path) -> None:
    """With the very command; once it is shown, nothing is said any more."""
    script = place / "home/ada/project/train.py"
    (text,) = said(service(place), need(script))
    assert f"{script} (it): the service does not see it" in text
    assert f"supervisor install --system --bind {script.parent} (or take install --user)" in text
    assert said(service(place, "home/ada/project"), need(script)) == []


def test_one_folder_is_shown_for_all_that_lies_in_it(place: Path) -> None:
    """The outermost of what is needed, and never more than somebody has named."""
    project = place / "home/ada/project"
    venv = project / ".venv"
    texts = said(service(place), need(venv / "bin/python", "run", venv), need(project / "train.py"))
    assert all(f"--bind {project} " in text for text in texts)
    assert len(texts) == 2


def test_what_a_link_leads_to_must_be_seen_too(place: Path) -> None:
    """As the Python of a virtual environment leads to the one that it was made from."""
    real = place / "home/bob/python/bin/python3"
    real.parent.mkdir(parents=True)
    real.touch(0o755)
    link = place / "home/ada/project/.venv/bin/python"
    link.symlink_to(real)
    python = need(link, "run", link.parents[1])
    (text,) = said(service(place, "home/ada/project"), python)
    assert f"which leads to {real}," in text
    assert f"--bind {real.parent} " in text
    assert said(service(place, "home/ada/project", "home/bob/python"), python) == []


def test_a_link_that_is_shown_shows_what_it_leads_to(place: Path) -> None:
    """A mount goes by the link, so its target need not be shown again."""
    (place / "home/ada/link").symlink_to(place / "home/ada/project")
    script = need(place / "home/ada/link/train.py")
    assert said(service(place, "home/ada/link"), script) == []


def test_a_folder_for_temporary_files_is_another_one(place: Path) -> None:
    """Nothing can show it, so it has to move."""
    (text,) = said(service(place, "tmp"), need(place / "tmp/train.py"))
    assert f"a {place / 'tmp'} of its own: move it elsewhere" in text
    assert "--bind" not in text


@pytest.mark.parametrize(
    ("path", "mode", "use"),
    [
        ("opt/program/run", 0o754, "run"),
        ("opt/program/run", 0o751, "read"),
        ("opt/program", 0o750, "enter"),
        ("opt/program", 0o754, "enter"),
        ("opt/program", 0o750, "read"),
        ("home/ada/project/train.py", 0o600, "read"),
        ("home/ada/project", 0o700, "read"),
    ],
)
def test_what_the_account_may_not_read_is_named(
    place: Path, path: str, mode: int, use: str
) -> None:
    """With the command that opens it; nobody's rights are changed by us."""
    closed = place / path
    closed.chmod(mode)
    wanted = closed / "train.py" if closed.is_dir() and use == "read" else closed
    wanted.touch()
    (text,) = said(service(place, "home/ada/project"), need(wanted, use))
    assert f"may not read {closed}: chmod o+rX {closed}" in text
    closed.chmod(0o755)
    assert said(service(place, "home/ada/project"), need(wanted, use)) == []


def test_the_folders_above_what_is_shown_may_be_closed(place: Path) -> None:
    """A home that nobody else may enter: the service meets a folder that systemd has made."""
    (place / "home/ada").chmod(0o700)
    assert said(service(place, "home/ada/project"), need(place / "home/ada/project/train.py")) == []


def test_what_is_its_own_needs_nothing(place: Path) -> None:
    """Its home is there for it, also where it holds nothing yet."""
    assert said(service(place), need(place / "var/train.py"), need(place / "var", "write")) == []


@pytest.mark.parametrize("use", ["write", "named"])
def test_it_writes_nowhere_else(place: Path, use: str) -> None:
    """A word may mean what is written, if nothing is there yet: then it is told, and no more."""
    path = place / "opt/out"
    found = list(troubles(service(place), [need(path, use, path)]))
    assert [trouble.sure for _, trouble in found] == [use == "write"]
    folder = path if use == "write" else path.parent
    made = f"mkdir -p {path} && " if use == "write" else ""
    assert f": {made}supervisor install --system --writable {folder} " in found[0][1].text
    assert said(service(place, writable=(str(folder.relative_to(place)),)), found[0][0]) == []


def test_a_folder_that_is_written_to_is_not_shown_for_reading_alone(place: Path) -> None:
    """One command is enough where a program writes beside its script."""
    project = place / "home/ada/project"
    texts = said(service(place), need(project / "train.py"), need(project, "write", project))
    assert len(texts) == 2
    assert all(f"install --system --writable {project} " in text for text in texts)


def test_writing_needs_rights_too(place: Path) -> None:
    """They are named, with what gives them to the account."""
    out = place / "home/ada/out"
    out.mkdir(0o755)
    seen = service(place, writable=("home/ada/out",))
    (text,) = said(seen, need(out, "write", out))
    assert f"chgrp -R {STRANGER} {out} && chmod -R g+rwX {out}" in text
    out.chmod(0o777)
    assert said(seen, need(out, "write", out)) == []


def test_what_is_only_named_is_no_refusal(place: Path) -> None:
    """Whether it is read or written, who has written the word knows."""
    data = place / "home/ada/mnist"
    ((_, trouble),) = troubles(service(place), [need(data, "named", data)])
    assert not trouble.sure
    assert "--writable instead of --bind if it writes there" in trouble.text
    assert said(Eyes(), need("/v1/no-path-at-all", "named")) == []


def test_a_program_that_is_in_no_folder_of_the_services_path(place: Path) -> None:
    """A person's PATH may have it."""
    (text,) = said(service(place), need("uv", "run"))
    assert "none in the PATH of the service" in text


@pytest.mark.parametrize(
    ("entries", "may"),
    [
        ([(eyes.USER, 5, 65_534), (eyes.MASK, 7, 0)], True),
        ([(eyes.USER, 5, 65_534), (eyes.MASK, 1, 0)], False),
        ([(eyes.GROUP, 5, 4242), (eyes.MASK, 5, 0)], True),
        ([(eyes.GROUP, 4, 4242), (eyes.MASK, 7, 0)], False),
        ([(eyes.USER, 5, 1), (eyes.MASK, 7, 0)], False),
    ],
)
def test_an_acl_gives_what_the_mode_does_not(
    place: Path, monkeypatch: pytest.MonkeyPatch, entries: list[tuple[int, int, int]], may: bool
) -> None:
    """As `setfacl -m u:training-supervisor:rX` has written it, within its mask."""
    raw = struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *one) for one in entries)
    monkeypatch.setattr(os, "getxattr", lambda *_: raw)
    monkeypatch.setattr(eyes, "_ids", lambda _: (65_534, frozenset({4242})))
    folder = place / "opt/program"
    folder.chmod(0o750)
    assert Eyes().may(folder.stat(), folder, eyes.READ | eyes.ENTER) == may


def test_the_group_of_a_file_may_what_its_mode_says(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The account may be in it; and its owner has the rights of an owner, and no others."""
    folder = place / "opt/program"
    folder.chmod(0o750)
    status = folder.stat()
    for ids, may in (
        ((-1, frozenset({status.st_gid})), True),
        ((-1, frozenset()), False),
        ((status.st_uid, frozenset()), True),
    ):
        monkeypatch.setattr(eyes, "_ids", lambda _, ids=ids: ids)
        assert Eyes().may(status, folder, eyes.READ | eyes.ENTER) == may


def test_what_the_settings_name_is_looked_at_too(place: Path) -> None:
    """Folders of trainers and modes, and what is run in the end; of a run that asks for nothing."""
    home = place / "home/ada"
    settings = place / "var/supervisor.toml"
    settings.write_text(
        f'trainers_dir = "{home}/project"\nmodes_dir = "{SHIPPED}"\n'
        f'[notify]\nwhen_done = ["{home}/done.sh"]\n[run.a]\ntrainer = "drill"\n'
    )
    found = unseen_by(service(place)._replace(hidden=(place / "home",)), Config(settings))
    assert all(one.run is None and one.sure for one in found)
    texts = [one.text for one in found if one.text.startswith(str(home))]
    assert [text.partition(": ")[0].partition("(")[2] for text in texts] == [
        "trainers_dir)", "notify.when_done)"
    ]  # fmt: skip


def test_the_shipped_unit_says_what_it_hides() -> None:
    """The defaults here are the ones of the unit."""
    assert of_unit([shipped("training-supervisor.service")]) == Eyes()


@pytest.mark.parametrize(
    ("drop_in", "changed"),
    [
        ("ProtectHome=no", {"hidden": ()}),
        ("ProtectHome=read-only", {"hidden": ()}),
        ("PrivateTmp=no", {"private": ()}),
        ("ProtectSystem=full", {"strict": False}),
        ("User=ada", {"account": "ada"}),
        ("BindReadOnlyPaths=-/home/a /home/b:/x", {"shown": (Path("/home/a"), Path("/home/b"))}),
        ("BindPaths=/home/a", {"shown": (Path("/home/a"),), "writable": (Path("/home/a"),)}),
        ("ReadWritePaths=-/data", {"writable": (Path("/data"),)}),
        ("ReadWritePaths=/data\nReadWritePaths=", {}),
        ("# User=ada", {}),
    ],
)
def test_what_was_changed_in_the_unit_counts(drop_in: str, changed: dict[str, object]) -> None:
    """A person who has edited the service is told of what it sees then."""
    unit = shipped("training-supervisor.service")
    assert of_unit([unit, f"[Service]\n{drop_in}\n"]) == Eyes(**changed)
