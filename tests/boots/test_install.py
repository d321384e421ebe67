"""Installing as a new user does it, in each of the four kinds, and taking it away again."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from testkit.boot_lab import COMMAND, PYTHON, SERVICE, SETTINGS, Machine

OWN_HOME = "/home/ada/.local/share/training-supervisor"
ACCOUNT_FILES = {
    f"etc/{name}{old}" for name in ("passwd", "group", "shadow", "gshadow") for old in ("", "-")
}
"""what an account changes; that of the service is kept, as it owns the home"""

Typing = Callable[[str], str]
"""types a command in a login shell; gives what it prints"""

CRONTAB = """\
#!/bin/sh
# A stand-in for crontab(1): -l prints this user's table, -r removes it, - replaces it.
table=/var/spool/cron/crontabs/$(id -un)
case $1 in
    -l) exec cat "$table" ;;
    -r) exec rm "$table" ;;
    -) exec cat >"$table" ;;
esac
"""
CRON = """\
#!/bin/sh
# A stand-in for cron(8): runs now what the tables have for the time $1.
cd /var/spool/cron/crontabs || exit
for user in *; do
    sed -n "s/^$1 //p" "$user" | sed 's/\\\\%/%/g' | while read -r command; do
        setpriv --reuid="$user" --regid="$user" --init-groups \\
            env -i HOME="/home/$user" LOGNAME="$user" PATH=/usr/bin:/bin \\
            sh -c "$command" >/dev/null 2>&1 &
    done
done
"""
EVERY_FIVE_MINUTES = r"*\/5 \* \* \* \*"
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
def ada(bare: Machine) -> Typing:
    """The login shell of a new, ordinary user."""
    bare.run("useradd", "--create-home", "--shell=/bin/bash", "ada")
    # The interpreter may lie in somebody's closed home.
    for folder in (bare.disk / str(folder)[1:] for folder in PYTHON.parents):
        folder.chmod(folder.stat().st_mode | 0o005)
    bare.write(f"{OWN_HOME}/supervisor.toml", SETTINGS)
    bare.run("chown", "-R", "ada:", "/home/ada")
    bare.home_path = OWN_HOME
    login = ("systemd-run", "--quiet", "--pipe", "--wait", "--uid=ada", "--property=PAMName=login")
    return lambda command: bare.run(*login, "bash", "-lc", command).stdout


def install(machine: Machine, types: Typing, kind: str) -> None:
    """Install it, with timers where there can be some; and look first, and do it twice."""
    before, usage = machine.changes(), "" if kind == "profile" else " --with usage"
    assert "would" in types(f"{COMMAND} install --{kind}{usage} --dry-run")
    assert machine.changes() == before
    said = types(f"{COMMAND} install --{kind}{usage}")
    assert "done: " in said
    assert "to undo: supervisor uninstall" in said
    until_one(machine)
    assert "done: " not in types(f"{COMMAND} install --{kind}")


def until_one(machine: Machine) -> int:
    """Wait until its runs train, and only one supervisor lives; its pid."""
    machine.until_steps("drill-A")
    machine.until_steps("drill-B")
    machine.until(lambda: len(machine.supervisors()) == 1, "one supervisor")
    (one,) = machine.supervisors()
    assert len(machine.trainers()) == 2
    return one


def survive(machine: Machine, wake: Callable[[], object] = lambda: None) -> None:
    """After a power cut, and after a reboot with every run saved, one comes back, and knows."""
    machine.power_cut()
    machine.boot()
    wake()
    until_one(machine)
    machine.shut_down("reboot")
    assert_saved(machine)
    machine.boot()
    wake()
    until_one(machine)
    flags = [line["evidence"]["crash"] for line in machine.events("boot.recorded")]
    assert flags == [False, True, False]


def uninstall(machine: Machine, types: Typing, before: dict[str, bytes]) -> None:
    """Take it away: nobody is left, and nothing but what was there before."""
    assert "kept: " in types(f"{COMMAND} uninstall")
    assert machine.supervisors() == []
    assert machine.trainers() == {}
    assert_saved(machine)
    after = machine.changes()
    changed = {name for name in before | after if before.get(name) != after.get(name)}
    assert changed <= ACCOUNT_FILES
    assert "nothing is installed" in types(f"{COMMAND} uninstall")


def assert_saved(machine: Machine) -> None:
    """Every run stands in a checkpoint with its last step."""
    for run in ("drill-A", "drill-B"):
        last = machine.heartbeat(run)
        assert (last["status"], last["checkpoint_step"]) == ("stopped", last["step"])


def test_a_service_of_the_machine(bare: Machine) -> None:
    """`install --system`: at boot, under an account of its own, and only once."""

    def types(command: str) -> str:
        return bare.run("bash", "-lc", command).stdout

    bare.configure(SETTINGS)
    before = bare.changes()
    install(bare, types, "system")
    one = until_one(bare)
    for _ in range(3):
        bare.systemctl("start", SERVICE)
        assert bare.run(COMMAND, "run", check=False).returncode == 73  # it is of its account
    assert until_one(bare) == one
    survive(bare)
    uninstall(bare, types, before)
    bare.shut_down("reboot")
    bare.boot()
    assert bare.supervisors() == []


def test_a_service_of_a_user(bare: Machine, ada: Typing) -> None:
    """`install --user`: at boot, before anybody logs in; a restart keeps its trainers."""
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
    survive(bare)
    uninstall(bare, ada, before)
    bare.shut_down("reboot")
    bare.boot()
    ada("true")
    assert bare.supervisors() == []


@pytest.mark.parametrize("cron", ["real", "stand-in"])
def test_cron(bare: Machine, ada: Typing, cron: str) -> None:
    """`install --cron`: at boot, and again within minutes where it is gone; the table is kept."""
    table = ""
    if cron == "stand-in":
        bare.write("/usr/local/bin/crontab", CRONTAB, executable=True)
        bare.write("/usr/local/sbin/cron", CRON, executable=True)
        bare.write("/etc/systemd/system/cron.service", CRON_SERVICE)
        bare.run("install", "-d", "-m", "1777", "/var/spool/cron/crontabs")
        table = "MAILTO=nobody\n"
        ada(f"printf '{table}' | crontab -")
    elif not (bare.disk / "usr/sbin/cron").exists():
        pytest.skip("NOT TESTED: the real cron, only a stand-in; it is not installed here")
    bare.systemctl("enable", "--now", "cron")
    before = bare.changes()
    install(bare, ada, "cron")
    one = until_one(bare)
    for _ in range(3):
        assert "already runs" in ada(f"{COMMAND} run 2>&1; test $? = 75")
    if cron == "stand-in":  # the real one would take minutes
        bare.run("cron", EVERY_FIVE_MINUTES)
        assert until_one(bare) == one
        bare.kill(one)
        bare.run("cron", EVERY_FIVE_MINUTES)
        assert until_one(bare) != one
    survive(bare)
    uninstall(bare, ada, before)
    assert ada("crontab -l 2>/dev/null || true") == table
    bare.shut_down("reboot")
    bare.boot()
    assert bare.supervisors() == []


def test_the_login_profile(bare: Machine, ada: Typing) -> None:
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

    def log_in_twice() -> None:
        assert bare.supervisors() == []
        ada("true")
        ada("true")

    survive(bare, log_in_twice)
    uninstall(bare, ada, before)
    ada("true")
    assert bare.supervisors() == []
