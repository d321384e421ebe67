"""What stands in a login profile: the account's shell reads it, and all else in it stays."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from supervisor.host import install
from supervisor.host.install import lines, profile
from supervisor.host.install.lines import BEGIN, END
from supervisor.host.install.steps import CannotInstall, Step
from testkit.patience import PATIENCE_S

NOBODY = 65534


class Account:
    """An account with a login shell, whose supervisor only leaves a mark when it is started."""

    def __init__(self, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.home = home
        self.mark = home / "started"
        self.shell = "/bin/bash"
        monkeypatch.setenv("HOME", str(home))
        for variable in ("ZDOTDIR", "XDG_CONFIG_HOME", "ENV", "BASH_ENV"):
            monkeypatch.delenv(variable, raising=False)
        monkeypatch.setattr(profile, "_login_shell", lambda: self.shell)
        start = f"echo >>'{self.mark}' #"
        monkeypatch.setattr(lines, "our_command", lambda _home: f"sh -c {self.quoted(start)}")
        self.plan = install.plan("profile", home / "it's home")

    @staticmethod
    def quoted(text: str) -> str:
        return "'" + text.replace("'", "'\\''") + "'"

    def edit(self) -> None:
        """Do what an installation does to files, and start nothing."""
        self._carry_out(install.plan("profile", self.plan.home).steps())

    def undo(self) -> None:
        """Do what taking it away does to files."""
        self._carry_out(install.plan("profile", self.plan.home).undo())

    @staticmethod
    def _carry_out(steps: tuple[Step, ...]) -> None:
        edits = tuple(step for step in steps if step.text.startswith(("write", "remove")))
        list(install.carry_out(edits, dry_run=False))

    def files(self) -> dict[str, bytes]:
        return {
            str(path.relative_to(self.home)): path.read_bytes()
            for path in self.home.rglob("*")
            if path.is_file() and path.name not in ("started", "start.log")
        }


@pytest.fixture
def account(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Account:
    home = tmp_path / "account"
    home.mkdir()
    return Account(home, monkeypatch)


@pytest.mark.parametrize("name", ["bash", "sh", "dash", "zsh", "fish"])
def test_a_login_starts_it_and_another_shell_does_not(account: Account, name: str) -> None:
    """The shell itself is asked which file it reads."""
    shell = shutil.which(name)
    if shell is None:
        pytest.skip(f"NOT TESTED: a login of {name}, which is not here")
    account.shell = shell
    account.edit()
    subprocess.run([shell, "-c", "true"], check=True, timeout=PATIENCE_S)
    subprocess.run([shell, "-l", "-c", "true"], check=True, timeout=PATIENCE_S)
    deadline = time.monotonic() + PATIENCE_S
    while not (account.mark.exists() and account.mark.read_text()):
        assert time.monotonic() < deadline, account.files()
        time.sleep(0.02)
    assert account.mark.read_text() == "\n"
    account.undo()
    assert account.files() == {}


@pytest.mark.parametrize(
    ("shell", "there", "chosen"),
    [
        ("/bin/bash", (), ".profile"),
        ("/bin/bash", (".profile", ".bash_login"), ".bash_login"),
        ("/usr/bin/bash", (".profile", ".bash_login", ".bash_profile"), ".bash_profile"),
        ("/bin/sh", (".bash_profile",), ".profile"),
        ("/usr/bin/zsh", (".profile",), ".zprofile"),
        ("/usr/bin/fish", (".profile",), ".config/fish/conf.d/training-supervisor.fish"),
    ],
)
def test_one_file_is_edited_and_it_is_the_one_that_is_read(
    account: Account, shell: str, there: tuple[str, ...], chosen: str
) -> None:
    """Each shell has its own, and bash reads the first of three; the others keep every byte."""
    account.shell = shell
    for name in there:
        (account.home / name).write_bytes(b"# theirs\n")
    account.edit()
    after = account.files()
    assert {name for name, content in after.items() if BEGIN.encode() in content} == {chosen}
    account.edit()
    assert account.files() == after
    account.undo()
    assert account.files() == dict.fromkeys(there, b"# theirs\n")


def test_zsh_is_followed_to_its_own_folder(
    account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ZDOTDIR says where zsh looks."""
    account.shell = "/bin/zsh"
    monkeypatch.setenv("ZDOTDIR", str(account.home / "dots"))
    account.edit()
    assert set(account.files()) == {"dots/.zprofile"}


@pytest.mark.parametrize("shell", ["/bin/tcsh", "/usr/sbin/nologin", "/usr/bin/nu"])
def test_a_shell_that_nobody_here_knows_is_refused(account: Account, shell: str) -> None:
    """Better than a line that is never read."""
    account.shell = shell
    with pytest.raises(CannotInstall, match=shell):
        account.edit()
    assert account.files() == {}


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o444])
def test_a_profile_keeps_its_mode_and_its_owner(account: Account, mode: int) -> None:
    """A private file stays private, at the installation and after it."""
    profile = account.home / ".profile"
    profile.write_text("export TOKEN=secret\n")
    profile.chmod(mode)
    if os.geteuid() == 0:
        os.chown(profile, NOBODY, NOBODY)
    before = profile.stat()
    for act in (account.edit, account.undo):
        act()
        after = profile.stat()
        assert stat.S_IMODE(after.st_mode) == mode
        assert (after.st_uid, after.st_gid) == (before.st_uid, before.st_gid)
    assert profile.read_text() == "export TOKEN=secret\n"


def test_a_linked_profile_stays_a_link(account: Account) -> None:
    """Whoever keeps dotfiles in a folder of their own finds the line there."""
    kept = account.home / "dotfiles/profile"
    kept.parent.mkdir()
    kept.write_text("")
    link = account.home / ".profile"
    link.symlink_to("dotfiles/profile")
    account.edit()
    assert BEGIN in kept.read_text()
    account.undo()
    assert (link.is_symlink(), kept.read_text()) == (True, "")


def test_a_link_that_leads_nowhere_is_refused(account: Account) -> None:
    """What would be made at its other end is nobody's request."""
    account.shell = "/bin/sh"
    (account.home / ".profile").symlink_to("nowhere/profile")
    with pytest.raises(CannotInstall, match="leads nowhere"):
        account.edit()


OLD = (
    f"{BEGIN}\nmkdir -p /h; ({{ flock true; exec setsid sh -c 'supervisor run --plain'; }}"
    f" </dev/null >/dev/null 2>&1 &)\n{END}\n"
)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (f"mine\n{OLD}", "mine\n"),
        (f"mine\n{OLD}theirs", "mine\ntheirs"),
        (f"{OLD}mine\n{OLD}", "mine\n"),
        (OLD.replace(END, f"export OF=mine\n{END}"), "export OF=mine\n"),
        (f"mine\n{OLD.replace(END, '')}all the rest\n", "mine\n\nall the rest\n"),
        ("a\x0cb\u2028c\r\n\x85\n" + OLD, "a\x0cb\u2028c\r\n\x85\n"),
    ],
    ids=["behind", "between", "twice", "a line of theirs", "the end is lost", "odd letters"],
)
def test_exactly_our_lines_are_taken_away(account: Account, before: str, after: str) -> None:
    """Also those of earlier versions, from each file that one of them has edited."""
    for name in (".profile", ".bash_profile", ".bash_login", ".zprofile"):
        (account.home / name).write_bytes(before.encode())
    account.undo()
    assert set(account.files().values()) == {after.encode()}


@pytest.mark.parametrize("text", ["", "mine", "mine\n", "\n"])
def test_what_was_there_comes_back_to_the_byte(account: Account, text: str) -> None:
    """With or without a last line end, and an empty file stays one."""
    profile = account.home / ".bash_profile"
    profile.write_text(text)
    account.edit()
    account.undo()
    assert account.files() == {".bash_profile": text.encode()}


def test_an_earlier_installation_moves_to_the_file_that_is_read(account: Account) -> None:
    """Earlier versions put their line into several files."""
    for name in (".profile", ".bash_profile"):
        (account.home / name).write_text(f"mine\n{OLD}")
    account.edit()
    files = account.files()
    assert files[".profile"] == b"mine\n"
    assert files[".bash_profile"].count(BEGIN.encode()) == 1


@pytest.mark.parametrize(
    ("said", "installs"),
    [("no crontab for ada", True), ("crontab: /var/spool/cron: Permission denied", False)],
)
def test_a_crontab_that_cannot_be_read_is_not_replaced(
    account: Account, monkeypatch: pytest.MonkeyPatch, said: str, installs: bool
) -> None:
    """What cannot be seen would be lost: an empty table is another answer than none."""
    crontab = account.home / "bin/crontab"
    crontab.parent.mkdir()
    crontab.write_text(f"#!/bin/sh\necho '{said}' >&2; exit 1\n")
    crontab.chmod(0o755)
    monkeypatch.setenv("PATH", f"{crontab.parent}:{os.environ['PATH']}")
    steps: Callable[[], object] = install.plan("cron", account.plan.home).steps
    if installs:
        assert steps()
        return
    with pytest.raises(CannotInstall, match="cannot be read"):
        steps()
