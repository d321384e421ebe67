"""Installing for every boot, and taking it away, as an ordinary user without systemd does."""

from __future__ import annotations

import os
import re
import stat
import subprocess
from pathlib import Path

import pytest

from testkit.machine import SETTINGS, Machine

CRONTAB = """\
#!/bin/sh
# A stand-in that keeps one user's table in a file.
case "$1" in
-l) cat "$TABLE" 2>/dev/null || { echo "no crontab" >&2; exit 1; } ;;
-r) rm "$TABLE" ;;
-) cat >"$TABLE" ;;
esac
"""
MINE = b"alias mine='theirs'  # f\xfcr mich"
"""somebody's own line, in whatever encoding"""


class Account:
    """A user with a home folder, a login shell and a crontab of its own."""

    def __init__(self, machine: Machine, folder: Path) -> None:
        self.machine = machine
        self.home = folder / "account"
        self.table = folder / "table"
        programs = folder / "bin"
        for place in (self.home, programs):
            place.mkdir()
        crontab = programs / "crontab"
        crontab.write_text(CRONTAB)
        crontab.chmod(crontab.stat().st_mode | stat.S_IXUSR)
        machine.extra |= {
            "HOME": str(self.home),
            "TABLE": str(self.table),
            "PATH": f"{programs}:{os.environ['PATH']}",
        }

    def login(self) -> None:
        """Log in, as a program does that waits for all output."""
        login = ["bash", "-lc", "true"]
        subprocess.run(login, env=self.machine.environment(), capture_output=True, check=True)

    def trigger_cron(self) -> None:
        """Do what cron does at a boot, and five minutes later."""
        for line in self.table.read_text().splitlines():
            if "supervisor" not in line.partition(" ")[2]:
                continue
            command = line.removeprefix("@reboot ").removeprefix("*/5 * * * * ")
            subprocess.Popen(
                ["sh", "-c", command.replace("\\%", "%")], env=self.machine.environment()
            )


@pytest.fixture
def account(machine: Machine, tmp_path: Path) -> Account:
    return Account(machine, tmp_path)


def lines(machine: Machine, *arguments: str) -> list[str]:
    answer = machine(*arguments)
    assert answer.returncode == 0, answer.stderr
    return answer.stdout.splitlines()


def holder(machine: Machine) -> int | None:
    return machine.state()["daemon"]["pid"]


def test_a_dry_run_shows_everything_and_does_nothing(account: Account) -> None:
    """Each file is shown with its content, each command as it would be run."""
    said = lines(account.machine, "install", "--profile", "--dry-run")
    assert f"would write {account.home}/.profile" in said
    assert any(re.search("supervisor'? --home", line) for line in said)
    assert "would try which way of calculating is quickest" in said
    assert list(account.home.iterdir()) == []
    assert holder(account.machine) is None


@pytest.mark.parametrize("flag", ["--bind", "--writable"])
def test_only_a_service_of_the_machine_is_shown_anything(account: Account, flag: str) -> None:
    """All other kinds see what their user sees."""
    answer = account.machine("install", "--profile", flag, "/usr")
    assert answer.returncode == 2
    assert "are for --system" in answer.stderr
    assert list(account.home.iterdir()) == []


def test_settings_that_the_next_boot_would_not_read_are_refused(account: Account) -> None:
    """What is installed reads the settings of its home: others are not left out in silence."""
    answer = account.machine("--config", "/elsewhere.toml", "install", "--profile")
    assert answer.returncode == 2
    assert "leave --config" in answer.stderr
    assert list(account.home.iterdir()) == []


@pytest.mark.parametrize("shell_file", [".profile", ".bash_profile", ".bash_login"])
def test_a_profile_starts_one_supervisor_however_often_one_logs_in(
    account: Account, shell_file: str
) -> None:
    """Installed, installed again, three logins, a kill: one supervisor; uninstalled: none."""
    machine, profile = account.machine, account.home / shell_file
    profile.write_bytes(MINE)
    lines(machine, "install", "--profile", "--dry-run")
    lines(machine, "install", "--profile")
    assert (machine.home / "tuning.json").exists(), "tried before the first start"
    machine.until(lambda: holder(machine), "it runs")
    machine.until_steps("A")
    once, first = profile.read_bytes(), holder(machine)
    assert once.startswith(MINE)
    again = lines(machine, "install", "--profile")
    assert [line for line in again if line.startswith("done")] == []
    for _ in range(3):
        account.login()
    assert (profile.read_bytes(), holder(machine)) == (once, first)
    assert len(machine.trainers()) == 2
    os.kill(first or 0, 9)
    machine.until(lambda: holder(machine) not in (None, first), "it comes back by itself")
    lines(machine, "uninstall")
    assert profile.read_bytes() == MINE
    assert machine.trainers() == {}
    account.login()
    assert holder(machine) is None
    assert lines(machine, "uninstall") == ["nothing is installed"]


def test_cron_starts_one_supervisor_however_often_it_is_triggered(account: Account) -> None:
    """The user's own lines stay; both of ours start the same one supervisor."""
    machine = account.machine
    account.table.write_text("0 4 * * * true\n")
    lines(machine, "install", "--cron")
    machine.until(lambda: holder(machine), "it runs")
    first = holder(machine)
    table = account.table.read_text()
    assert table.startswith("0 4 * * * true\n")
    assert table.count("@reboot") == 1
    lines(machine, "install", "--cron")
    assert account.table.read_text() == table
    account.trigger_cron()
    assert holder(machine) == first
    assert lines(machine, "stop")
    assert holder(machine) is None
    account.trigger_cron()
    machine.until(lambda: holder(machine), "cron has started it")
    machine.until(lambda: len(machine.trainers()) == 2, "both train again")
    lines(machine, "uninstall")
    assert account.table.read_text() == "0 4 * * * true\n"
    assert machine.trainers() == {}


def test_cron_learns_usage_where_it_is_asked_to(account: Account) -> None:
    """At the times that a person has chosen, which stay until they are taken away."""
    machine = account.machine
    account.table.write_text("0 4 * * * supervisor analyze-usage --timer\n")  # not ours

    def learns() -> list[str]:
        return [line for line in account.table.read_text().splitlines()[1:] if "--timer" in line]

    said = lines(machine, "install", "--cron", "--dry-run")
    assert [line.strip() for line in said if "--timer" in line] == [account.table.read_text()[:-1]]
    lines(machine, "install", "--cron", "--with", "usage")
    machine.until(lambda: holder(machine), "it runs")
    weekly, often = learns()
    assert weekly.startswith("0 3 * * 0 nice -n 19 ")
    assert weekly.endswith(f"--home {machine.home} analyze-usage --timer >/dev/null 2>&1")
    assert often.startswith("*/5 * * * * nice -n 19 ")
    account.table.write_text(account.table.read_text().replace("0 3 * * 0", "@daily"))
    for more in ((), ("--with", "usage")):
        again = lines(machine, "install", "--cron", *more)
        assert [line for line in again if line.startswith("done")] == []
    assert learns() == [weekly.replace("0 3 * * 0", "@daily"), often]
    account.table.write_text(
        account.table.read_text().replace("*/5 * * * * nice", "# 1 * * * * nice")
    )
    lines(machine, "install", "--cron")
    assert learns()[1] == often.replace("*/5 *", "# 1 *")
    lines(machine, "install", "--cron", "--with", "usage")
    assert learns()[1] == often.replace("*/5 *", "1 *")
    lines(machine, "install", "--cron", "--without", "usage")
    assert learns() == []
    lines(machine, "install", "--cron", "--with", "usage")
    lines(machine, "uninstall")
    assert account.table.read_text() == "0 4 * * * supervisor analyze-usage --timer\n"


@pytest.mark.parametrize("kind", ["cron", "profile"])
def test_the_api_is_started_beside_it_where_it_is_asked_for(account: Account, kind: str) -> None:
    """And stays until it is taken away, which stops it; the supervisor goes on all the while."""
    machine = account.machine
    machine.configure(f"{SETTINGS}\n[jobs]\nlisten = '127.0.0.1:0'\n")
    file = account.table if kind == "cron" else account.home / ".profile"
    lines(machine, "install", f"--{kind}")
    machine.until(lambda: holder(machine), "it runs")
    first, without = holder(machine), file.read_text()
    lines(machine, "install", f"--{kind}", "--with", "api")
    machine.until(lambda: machine.state()["api"], "it answers")
    assert file.read_text().count(" serve 2>") == (2 if kind == "cron" else 1)
    for more in ((), ("--with", "api")):
        again = lines(machine, "install", f"--{kind}", *more)
        assert [line for line in again if line.startswith("done")] == []
    told = [line for line in machine("doctor").stdout.splitlines() if " api " in line]
    assert "taken in at" in told[0]
    lines(machine, "install", f"--{kind}", "--without", "api")
    assert machine.state()["api"] is None
    assert (file.read_text(), holder(machine)) == (without, first)
    lines(machine, "install", f"--{kind}", "--with", "api")
    machine.until(lambda: machine.state()["api"], "it answers again")
    lines(machine, "uninstall")
    assert (machine.state()["api"], holder(machine)) == (None, None)
    assert not file.exists() or "supervisor" not in file.read_text()


def test_what_is_wanted_and_not_wanted_is_refused(account: Account) -> None:
    """In a line, and nothing is installed."""
    answer = account.machine("install", "--profile", "--with", "api", "--without", "api")
    assert (answer.returncode, "say one of the two" in answer.stderr) == (2, True)
    assert list(account.home.iterdir()) == []


def test_a_login_profile_has_no_timers(account: Account) -> None:
    """It is refused with what does the same, and nothing is installed."""
    answer = account.machine("install", "--profile", "--with", "usage")
    assert answer.returncode == 2
    assert "every seven days by itself" in answer.stderr
    assert "supervisor sample-usage" in answer.stderr
    assert list(account.home.iterdir()) == []


def test_settings_that_nobody_could_start_with_are_refused_first(account: Account) -> None:
    """What would end each start is said while somebody looks on, and nothing is installed."""
    account.machine.configure("[campaign]\nrunz = []\n")
    answer = account.machine("install", "--profile")
    assert answer.returncode == 78
    assert "runz" in answer.stderr
    assert list(account.home.iterdir()) == []


def test_a_trial_that_fails_holds_no_installation_up(account: Account) -> None:
    """What went wrong is said; training starts with every trainer's default."""
    machine = account.machine
    (machine.home / ".tuning.json.new").mkdir(parents=True)  # nothing can be kept
    answer = machine("install", "--profile")
    assert answer.returncode == 0
    assert answer.stderr
    assert "Traceback" not in answer.stderr
    machine.until_steps("A")
    lines(machine, "uninstall")


@pytest.mark.parametrize("kind", ["--system", "--user"])
@pytest.mark.skipif(Path("/run/systemd/system").exists(), reason="systemd runs this machine")
def test_what_the_machine_lacks_is_said(account: Account, kind: str) -> None:
    """Without systemd, a service is refused with what to take instead."""
    answer = account.machine("install", kind)
    assert answer.returncode == 2
    assert "--profile" in answer.stderr or "root" in answer.stderr
    assert "Traceback" not in answer.stderr
