"""Installing as a new user does it, in each of the four kinds, and taking it away again."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from boot_lab import COMMAND, HOME, SERVICE, SETTINGS, SETTINGS_FILE, Machine

OWN_HOME = "/home/ada/.local/share/training-supervisor"
ACCOUNTS = {f"etc/{name}{old}" for name in ("passwd", "group", "shadow", "gshadow") for old in ("", "-")}
"""what adding an account changes: it is kept, as it owns what the home keeps"""

CRONTAB = """\
#!/bin/sh
# A stand-in for crontab(1): -l prints this user's table, - replaces it.
table=/var/spool/cron/crontabs/$(id -un)
case $1 in
    -l) exec cat "$table" ;;
    -) exec cat >"$table" ;;
esac
"""
CRON = """\
#!/bin/sh
# A stand-in for cron(8): runs now what the tables have for the time $1.
cd /var/spool/cron/crontabs || exit
for user in *; do
    sed -n "s/^$1 //p" "$user" | sed 's/\\\\%/%/g' | while read -r command; do
        runuser -u "$user" -- env -i HOME="/home/$user" LOGNAME="$user" PATH=/usr/bin:/bin \\
            sh -c "$command" >/dev/null 2>&1 &
    done
done
"""
CRON_SERVICE = """\
[Service]
Type=oneshot
RemainAfterExit=yes
KillMode=process
ExecStart=/usr/local/sbin/cron @reboot
[Install]
WantedBy=multi-user.target
"""


@pytest.fixture
def ada(bare: Machine) -> Callable[..., str]:
    """Types a command in a login shell of a new, ordinary user; gives what it prints."""
    bare.run("useradd", "--create-home", "--shell=/bin/bash", "ada")
    # The interpreter may lie in somebody's closed home.
    bare.run("sh", "-c", f'p={COMMAND}; while p=$(dirname "$p"); test "$p" != /; do chmod o+x "$p"; done')
    bare.run("chmod", "o+x", "/root")
    bare.write(f"{OWN_HOME}/supervisor.toml", SETTINGS)
    bare.run("chown", "-R", "ada:", "/home/ada")
    bare.home_path = OWN_HOME
    login = ("systemd-run", "--quiet", "--pipe", "--wait", "--uid=ada", "--property=PAMName=login")
    return lambda command: bare.run(*login, "bash", "-lc", command).stdout


def install(machine: Machine, types: Callable[..., str], kind: str) -> None:
    """Install it; and look first, and do it twice."""
    before = machine.changes()
    assert "would" in types(f"{COMMAND} install --{kind} --dry-run")
    assert machine.changes() == before
    said = types(f"{COMMAND} install --{kind}")
    assert "done: " in said
    assert "to undo: supervisor uninstall" in said
    until_one(machine)
    assert "done: " not in types(f"{COMMAND} install --{kind}")


def until_one(machine: Machine) -> int:
    """Wait until its runs train, and only one supervisor lives; its pid."""
    machine.until_steps("A")
    machine.until_steps("B")
    machine.until(lambda: len(machine.supervisors()) == 1, "one supervisor")
    (one,) = machine.supervisors()
    assert len(machine.trainers()) == 2
    return one


def uninstall(machine: Machine, types: Callable[..., str]) -> None:
    """Take it away; nobody is left, now and after the next boot."""
    said = types(f"{COMMAND} uninstall")
    assert "kept: " in said
    assert machine.supervisors() == []
    assert machine.trainers() == {}
    for name in ("A", "B"):
        last = machine.heartbeat(name)
        assert (last["status"], last["checkpoint_step"]) == ("stopped", last["step"])
    assert "nothing is installed" in types(f"{COMMAND} uninstall")


def test_a_service_of_the_machine(bare: Machine) -> None:
    """`install --system`: starts at boot under its own account, once; `uninstall` takes all away."""

    def types(command: str) -> str:
        return bare.run("bash", "-lc", command).stdout

    bare.write(SETTINGS_FILE, SETTINGS)
    before = bare.changes()
    install(bare, types, "system")
    one = until_one(bare)
    for _ in range(3):
        bare.systemctl("start", SERVICE)
        assert bare.run(COMMAND, "run", check=False).returncode == 75
    assert until_one(bare) == one
    bare.power_cut()
    bare.boot()
    until_one(bare)
    state = bare.state()
    assert (state["boots_total"], state["crashes_total"]) == (2, 1)
    uninstall(bare, types)
    left = bare.changes() - before
    assert {path for path in left if not path.startswith(HOME[1:])} <= ACCOUNTS
    bare.shut_down("reboot")
    bare.boot()
    assert bare.supervisors() == []


def test_a_service_of_a_user(bare: Machine, ada: Callable[..., str]) -> None:
    """`install --user`: starts at boot before anybody logs in; planned ends are no crashes."""
    before = bare.changes()
    install(bare, ada, "user")
    one = until_one(bare)
    for _ in range(3):
        ada(f"systemctl --user start {SERVICE}; {COMMAND} run; test $? = 75")
    assert until_one(bare) == one
    mains = bare.mains()
    ada(f"systemctl --user restart {SERVICE}")
    assert until_one(bare) != one
    assert bare.mains() == mains
    bare.power_cut()
    bare.boot()
    until_one(bare)
    bare.shut_down("reboot")
    assert bare.heartbeat("A")["status"] == "stopped"
    bare.boot()
    until_one(bare)
    flags = [line["evidence"]["crash"] for line in bare.events("boot.recorded")]
    assert flags == [False, True, False]
    uninstall(bare, ada)
    assert bare.changes() == before
    bare.shut_down("reboot")
    bare.boot()
    ada("true")
    assert bare.supervisors() == []


@pytest.mark.parametrize("cron", ["real", "stand-in"])
def test_cron(bare: Machine, ada: Callable[..., str], cron: str) -> None:
    """`install --cron`: cron starts it at boot and whenever it is gone, once."""
    if cron == "real":
        if not (bare.disk / "usr/sbin/cron").exists():
            pytest.skip("NOT TESTED: the real cron, only a stand-in; it is not installed here")
    else:
        bare.write("/usr/local/bin/crontab", CRONTAB, executable=True)
        bare.write("/usr/local/sbin/cron", CRON, executable=True)
        bare.write("/etc/systemd/system/cron.service", CRON_SERVICE)
        bare.run("install", "-d", "-m", "1777", "/var/spool/cron/crontabs")
        ada("printf 'MAILTO=\"\"\\n' | crontab -")
    bare.systemctl("enable", "--now", "cron")
    before = bare.changes()
    install(bare, ada, "cron")
    one = until_one(bare)
    for _ in range(3):
        assert "already runs" in ada(f"{COMMAND} run 2>&1; test $? = 75")
        if cron == "stand-in":
            bare.run("cron", "*\\/5 \\* \\* \\* \\*")
    assert until_one(bare) == one
    if cron == "stand-in":
        bare.kill(one)
        bare.run("cron", "*\\/5 \\* \\* \\* \\*")
        assert until_one(bare) != one
    bare.power_cut()
    bare.boot()
    until_one(bare)
    assert [line["evidence"]["crash"] for line in bare.events("boot.recorded")] == [False, True]
    uninstall(bare, ada)
    assert bare.changes() == before
    if cron == "stand-in":
        assert ada("crontab -l") == 'MAILTO=""\n'
    bare.shut_down("reboot")
    bare.boot()
    assert bare.supervisors() == []


def test_the_login_profile(bare: Machine, ada: Callable[..., str]) -> None:
    """`install --profile`: the first login after a boot starts it, further logins do not."""
    before = bare.changes()
    install(bare, ada, "profile")
    one = until_one(bare)
    for _ in range(3):
        ada("true")
    assert until_one(bare) == one
    bare.kill(one)
    bare.until(lambda: bare.supervisors() not in ([], [one]), "it comes back by itself")
    until_one(bare)
    bare.power_cut()
    bare.boot()
    assert bare.supervisors() == []
    ada("true")
    ada("true")
    until_one(bare)
    assert [line["evidence"]["crash"] for line in bare.events("boot.recorded")] == [False, True]
    uninstall(bare, ada)
    assert bare.changes() == before
    ada("true")
    assert bare.supervisors() == []
