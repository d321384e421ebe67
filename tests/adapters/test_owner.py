"""Whose a place is, found out without being fooled; and becoming that account."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from supervisor.host.owner import Exchangeable, Owned, become, owned
from testkit.accounts import ANOTHER, STRANGER, apart, common_ground, needs_root

pytestmark = needs_root


@pytest.fixture
def ground() -> Iterator[Path]:
    with common_ground() as folder:
        yield folder


def folder(path: Path, owner: int = 0, mode: int = 0o755) -> Path:
    path.mkdir()
    path.chmod(mode)
    os.chown(path, owner, owner)
    return path


def link(path: Path, target: Path | str, owner: int = 0) -> Path:
    path.symlink_to(target)
    os.chown(path, owner, owner, follow_symlinks=False)
    return path


def test_roots_own_is_roots(ground: Path):
    """Also through its links, where nothing lies yet, and below a sticky folder like /tmp."""
    folder(ground / "home")
    for named in ("home", "missing", "missing/deep", "home/../home", "home/../missing/../home"):
        assert owned(ground / named).owner == 0
    assert owned(link(ground / "link", "home")).owner == 0


def test_the_first_account_on_the_way_is_the_owner(ground: Path):
    """What lies below is in its hands, whoever owns that."""
    below = folder(folder(ground / "ada", STRANGER) / "home", ANOTHER)
    folder(below / "deeper")
    for named in (below, below / "deeper", below / "missing/too", ground / "ada/missing"):
        assert owned(named) == Owned(STRANGER, named, ground / "ada")


def test_a_link_is_its_owners(ground: Path):
    """Wherever it leads at this moment; where root's leads, counts."""
    folder(ground / "roots")
    folder(ground / "ada", STRANGER)
    assert owned(link(ground / "l1", "roots", STRANGER) / "home").owner == STRANGER
    assert owned(link(ground / "l2", "l1")).owner == STRANGER
    assert owned(link(ground / "l3", "ada")).path == ground / "ada"
    assert owned(link(ground / "l4", "/nowhere", STRANGER)).owner == STRANGER
    link(ground / "ada/back", ground / "roots")
    assert owned(ground / "ada/back/home").owner == STRANGER


def test_a_way_back_is_gone_as_the_kernel_goes_it(ground: Path):
    """`..` after a link leads up from where the link leads."""
    folder(folder(ground / "ada", STRANGER) / "deep")
    folder(folder(ground / "roots") / "deep")
    link(ground / "to", "roots/deep")
    assert owned(ground / "to/../../ada/home").owner == STRANGER
    assert owned(ground / "to/../home").owner == 0


def test_a_relative_path_is_gone_from_here(ground: Path, monkeypatch):
    """However it was named, it is one place."""
    folder(ground / "ada", STRANGER)
    folder(ground / "roots")
    monkeypatch.chdir(ground / "roots")
    assert owned(Path("../ada/home")) == Owned(STRANGER, ground / "ada/home", ground / "ada")
    monkeypatch.chdir(ground / "ada")
    assert owned(Path("home")).owner == STRANGER


@pytest.mark.parametrize(("mode", "group"), [(0o777, 0), (0o775, STRANGER), (0o702, 0)])
def test_a_folder_that_others_write_to_is_nobodys(ground: Path, mode: int, group: int):
    """They could exchange what lies in it, so root does not go there; a start closes a home."""
    place = folder(ground / "shared", mode=mode)
    os.chown(place, 0, group)
    with pytest.raises(Exchangeable):
        owned(place / "home")
    with pytest.raises(Exchangeable):
        owned(place)
    assert owned(place, itself=False).owner == 0
    place.chmod(mode | 0o1000)
    assert owned(place / "home").owner == 0


def test_links_in_a_ring_end(ground: Path):
    """With the error of the kernel."""
    link(ground / "a", "b")
    link(ground / "b", "a")
    with pytest.raises(OSError, match="symbolic links"):
        owned(ground / "a")


def test_whoever_became_the_owner_has_no_right_beyond(ground: Path, monkeypatch):
    """Neither uid nor group nor environment of root is left, and no way back."""
    home = folder(ground / "ada", STRANGER)
    secret = folder(ground / "secret", mode=0o700)
    (secret / "key").write_text("s3cret")
    monkeypatch.setenv("TOKEN", "s3cret")

    def give_up() -> str:
        os.setgroups([0, 4])
        become(STRANGER, home)
        (home / "mine").touch()
        said = [f"{os.getresuid()} {os.environ.get('TOKEN')} {os.environ['HOME']}"]
        said.append("root's group" if {0, 4} & set(os.getgroups()) else "its groups")
        for act in ((secret / "key").read_text, lambda: os.setuid(0)):
            try:
                said.append(f"could {act()}")
            except OSError as error:
                said.append(type(error).__name__)
        return "\n".join(said)

    ids, groups, *refusals = apart(give_up).split("\n")
    assert ids.startswith(f"({STRANGER}, {STRANGER}, {STRANGER})")
    assert " None /" in ids
    assert groups == "its groups"
    assert refusals == ["PermissionError", "PermissionError"]
    assert (home / "mine").stat().st_uid == STRANGER


def test_a_folder_that_is_shown_too_is_seen_and_hinders_nobody(ground: Path):
    """What the service is shown; one that only its group may enter is left as it is."""
    home = folder(ground / "ada", STRANGER)
    closed = folder(ground / "closed", mode=0o700)
    (folder(closed / "project") / "file").touch()
    (folder(closed / "other") / "file").touch()
    of_group = folder(ground / "of-group", mode=0o750)

    def give_up() -> str:
        become(STRANGER, home, (closed / "project", of_group, ground / "nowhere"))
        return f"{(closed / 'project/file').exists()} {(closed / 'other').exists()}"

    assert apart(give_up) == "True False"


def test_a_closed_folder_of_roots_above_is_passed_and_shows_nothing_else(ground: Path):
    """The owner gets to its home and to the program; what lies beside them stays root's."""
    closed = folder(ground / "closed", mode=0o700)
    home = folder(closed / "home", STRANGER)
    (folder(closed / "other") / "file").write_text("s3cret")

    def give_up() -> str:
        become(STRANGER, home)
        (home / "mine").touch()
        return str((closed / "other/file").exists())

    assert apart(give_up) == "False"
    assert (home / "mine").exists()
    assert (closed / "other/file").exists(), "only that process sees it so"
