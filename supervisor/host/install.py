"""Putting the supervisor where it starts at boot, and taking it away again.

Four kinds, for what a machine has: a service of the machine, a service of one
user, cron, or the login profile. Each is a plan of steps that can be shown
before anything is done, and every step knows whether it is done already:
installing twice changes nothing.
"""

from __future__ import annotations

import os
import pwd
import re
import shlex
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal, NamedTuple, get_args

from supervisor.errors import SupervisorError
from supervisor.host.home import SERVICE, SYSTEM_HOME, UNITS, Home, expanded, own_home
from supervisor.host.owner import NotYours, owned
from supervisor.programs import ROOT
from trainers import durable

Kind = Literal["system", "user", "cron", "profile"]

BOOT_SERVICE = "training-supervisor-boot.service"
SETTINGS = Path("/etc/training-supervisor/supervisor.toml")
ACCOUNT = Path("/etc/sysusers.d/training-supervisor.conf")
NOTE_BOOT = Path("/usr/local/lib/training-supervisor/note-boot")
COMMAND = "/opt/training-supervisor/bin/supervisor"
"""the command as the unit files have it; the real one takes its place"""
HIDDEN = tuple(Path(path) for path in ("/home", "/root", "/run/user"))
"""what the unit's ProtectHome=tmpfs empties"""
BEGIN, END = "# >>> training-supervisor >>>", "# <<< training-supervisor <<<"
WITH_FILE, WITH_LINE_END = " and the file", " and the line end before it"
IN_EMPTY = " and no more"
"""behind the first mark: what else is ours"""
OURS = " run --plain"
"""what every line has that starts the supervisor"""
LOCATION = """\
# What the service runs from lies in a home, which it does not see otherwise.
[Service]
BindReadOnlyPaths={}
"""
FIRST_SETTINGS = """\
# Settings of the training supervisor. Every key is optional, and a change is taken over at once.
# `supervisor check-config` checks them.
"""


class CannotInstall(SupervisorError):
    """This kind of installation is not possible here."""

    exit_code = 2


class Step(NamedTuple):
    """Something to do that is done once."""

    text: str
    """in the imperative"""
    is_done: Callable[[], bool]
    do: Callable[[], None]
    details: str = ""
    """what a person wants to see before it is done"""


class Plan(NamedTuple):
    """One kind of installation on this machine."""

    kind: Kind
    home: Path
    is_installed: Callable[[], bool]
    steps: Callable[[], tuple[Step, ...]]
    """Raises CannotInstall where the machine lacks what the kind needs."""
    undo: Callable[[], tuple[Step, ...]]
    after: str
    """what to know once it is installed"""
    kept: str
    """what taking it away leaves, and how to remove that"""


def best_kind() -> tuple[Kind, str]:
    """The best kind that this machine has, and why it is the best."""
    if _systemd_runs():
        if os.geteuid() == 0:
            return "system", "systemd runs this machine, and you are root"
        return "user", "systemd runs this machine, and you are not root"
    if shutil.which("crontab") and _cron_runs():
        return "cron", "there is cron, and no systemd"
    return "profile", "there is neither systemd nor cron"


def plan(kind: Kind, home: Path | None) -> Plan:
    """How to install that kind here, and how to take it away.

    Args:
        kind: where it starts.
        home: where state, runs and logs shall lie; None: where that kind has them.

    Raises:
        NotYours: root would write into the home of another account.
    """
    if kind == "system":
        return _system(home or SYSTEM_HOME)
    own = home or own_home()
    if os.geteuid() == 0 and (owner := owned(own).owner) != 0:
        raise NotYours(own, owner)
    own = own.resolve()
    return {"user": _user, "cron": _cron, "profile": _profile}[kind](own)


def carry_out(steps: tuple[Step, ...], *, dry_run: bool) -> Iterator[str]:
    """Do what is not done yet; a line about each step.

    Raises:
        CannotInstall: a step failed; those before it are done.
    """
    for step in steps:
        if step.is_done():
            yield f"already: {step.text}"
        elif dry_run:
            yield f"would {step.text}"
            shown = _encoded(step.details).decode(errors="replace")
            yield from (f"    {line}" for line in shown.splitlines())
        else:
            step.do()
            yield f"done: {step.text}"


def installed(home: Path | None) -> tuple[Plan, ...]:
    """The kinds that are installed here, as far as this user can change them."""
    plans = (plan(kind, home) for kind in get_args(Kind))
    return tuple(one for one in plans if one.is_installed())


# The four kinds


def _system(home: Path) -> Plan:
    units = (UNITS / SERVICE, UNITS / BOOT_SERVICE)
    location = UNITS / f"{SERVICE}.d/10-location.conf"
    limits = location.with_name("50-limits.conf")
    link = SYSTEM_HOME / "supervisor.toml"

    def steps() -> tuple[Step, ...]:
        if os.geteuid() != 0:
            raise CannotInstall("a service of the machine needs root: sudo, or take another kind")
        if not _systemd_runs():
            raise CannotInstall("systemd does not run this machine: take --cron or --profile")
        if home != SYSTEM_HOME:
            raise CannotInstall(f"the service of the machine has its home at {SYSTEM_HOME}")
        if Home(own_home()).holder() is not None:
            raise CannotInstall(
                f"a supervisor runs on {own_home()}, and two would compete: "
                f"supervisor --home {own_home()} stop"
            )
        hidden = [str(place) for place in _places() if _is_hidden(place)]
        files = [_write(unit, _unit(unit.name)) for unit in units]
        binds = LOCATION.format(" ".join(hidden))
        files.append(_write(location, binds) if hidden else _remove(location))
        account = "training-supervisor"
        return (
            _write(ACCOUNT, _shipped("training-supervisor.conf")),
            _run("systemd-sysusers", str(ACCOUNT), unless=lambda: _succeeds("id", account)),
            _run(
                *("install", "-d", "-m", "0750", "-o", account, "-g", account, str(SYSTEM_HOME)),
                unless=SYSTEM_HOME.is_dir,
            ),
            _write(SETTINGS, FIRST_SETTINGS, keep=True),
            # -T: whatever the account has put there meanwhile, nothing is made inside it.
            _run("ln", "-sT", str(SETTINGS), str(link), unless=lambda: os.path.lexists(link)),
            _write(NOTE_BOOT, _shipped("note-boot"), executable=True),
            _write(limits, _shipped("limits.conf"), keep=True),
            *files,
            _tuned(home),
            *_started(("systemctl",), changed=not all(step.is_done() for step in files)),
        )

    return Plan(
        kind="system",
        home=home,
        is_installed=units[0].exists,
        steps=steps,
        undo=lambda: (
            _stopped(("systemctl",)),
            _remove(limits, only=_shipped("limits.conf")),
            *(_remove(path) for path in (location, *units, NOTE_BOOT, ACCOUNT)),
            _run("systemctl", "daemon-reload"),
        ),
        after=(
            f"settings: {SETTINGS}; home: {SYSTEM_HOME}; look with `supervisor show-state` and "
            "`journalctl -u training-supervisor`"
        ),
        kept=(
            "kept: runs, settings, limits that you have set, and the account; to remove what is in "
            f"the first two, and the account, too: rm -r {SYSTEM_HOME} "
            f"{SETTINGS.parent}; userdel training-supervisor"
        ),
    )


def _user(home: Path) -> Plan:
    manager = ("systemctl", "--user")
    folder = expanded(os.environ.get("XDG_CONFIG_HOME") or "~/.config") / "systemd/user"
    note_boot = home / "note-boot"

    def steps() -> tuple[Step, ...]:
        if not _succeeds(*manager, "show", "--property=Version"):
            raise CannotInstall(
                "no systemd of this user can be reached: log in as that user, not with su or sudo; "
                "or take --cron or --profile"
            )
        files = [
            _write(folder / unit, _unit(f"user/{unit}", home, note_boot))
            for unit in (SERVICE, BOOT_SERVICE)
        ]
        name = pwd.getpwuid(os.getuid()).pw_name
        lingering = Path("/var/lib/systemd/linger") / name
        return (
            _write(note_boot, _shipped("note-boot"), executable=True),
            *files,
            _run("loginctl", "enable-linger", name, unless=lingering.exists),
            _tuned(home),
            *_started(manager, changed=not all(step.is_done() for step in files)),
        )

    return Plan(
        kind="user",
        home=home,
        is_installed=(folder / SERVICE).exists,
        steps=steps,
        undo=lambda: (
            _stopped(manager),
            *(_remove(path) for path in (folder / SERVICE, folder / BOOT_SERVICE, note_boot)),
            _run(*manager, "daemon-reload"),
        ),
        after=f"home: {home}; look with `supervisor show-state`",
        kept=f"{_kept(home)}; loginctl disable-linger",
    )


def _cron(home: Path) -> Plan:
    now = _crontab()
    place = f"mkdir -p {shlex.quote(str(home))}"
    run = f"{_command(home)} run --plain >/dev/null 2>{_start_log(home)}"
    start = f"{place}; {_unless_running(home)} {run}"
    start = start.replace("%", r"\%")  # a bare one ends a line of a crontab

    def edit(wanted: str) -> Step:
        # An empty table would be one all the same.
        how = "-" if wanted else "-r"
        return _run("crontab", how, unless=lambda: _crontab() == wanted, given=wanted)

    def steps() -> tuple[Step, ...]:
        if shutil.which("crontab") is None:
            raise CannotInstall("there is no cron here (no `crontab`): take --profile")
        if now is None:
            raise CannotInstall(
                "your crontab cannot be read (look with `crontab -l`): take --profile"
            )
        table = _with_lines(_without_ours(now)[0], f"@reboot {start}", f"*/5 * * * * {start}")
        return (edit(table), _tuned(home), _start_now(home))

    return Plan(
        kind="cron",
        home=home,
        is_installed=lambda: now is not None and BEGIN in now,
        steps=steps,
        undo=lambda: (edit(_without_ours(now or "")[0]), _stop_now(home)),
        after=f"home: {home}; cron starts it at boot, and within five minutes if it was killed",
        kept=_kept(home),
    )


def _profile(home: Path) -> Plan:
    def is_ours(path: Path) -> bool:
        return path.is_file() and BEGIN in _text(path)

    def steps() -> tuple[Step, ...]:
        chosen, line = _login_line(_login_shell(), _start_apart(home))
        if chosen.is_symlink() and not chosen.exists():
            raise CannotInstall(f"{chosen} is a link that leads nowhere")
        rest, whole = _without_ours(_text(chosen)) if chosen.exists() else ("", True)
        content = _with_lines(rest, line, note=WITH_FILE if whole else IN_EMPTY)
        others = (path for path in _profiles() if path != chosen and is_ours(path))
        return (_write(chosen, content), *map(_taken_out, others), _tuned(home), _start_now(home))

    return Plan(
        kind="profile",
        home=home,
        is_installed=lambda: any(map(is_ours, _profiles())),
        steps=steps,
        undo=lambda: (*map(_taken_out, filter(is_ours, _profiles())), _stop_now(home)),
        after=(
            f"home: {home}; it starts at the first login after a boot, and within seconds if it "
            "was killed; a machine that nobody logs in to needs systemd or cron"
        ),
        kept=_kept(home),
    )


def _login_shell() -> str:
    """The program that a login of this account starts."""
    try:
        return pwd.getpwuid(os.getuid()).pw_shell or "/bin/sh"
    except KeyError:  # an account that the machine does not know: what started us may have said it
        return os.environ.get("SHELL", "/bin/sh")


def _login_line(shell: str, start: str) -> tuple[Path, str]:
    """The file that this shell reads at a login, and the line for it that starts the supervisor.

    Raises:
        CannotInstall: nobody here knows what that shell reads.
    """
    name = Path(shell).name
    if name == "bash":  # the first that is there, and no other
        names = map(_in_home, (".bash_profile", ".bash_login"))
        return next(filter(Path.is_file, names), _in_home(".profile")), start
    if name in ("sh", "dash", "ash", "ksh", "ksh93", "mksh"):
        return _in_home(".profile"), start
    if name == "zsh":
        return _zsh_folder() / ".zprofile", start
    if name == "fish":
        quoted = start.replace("\\", "\\\\").replace("'", "\\'")
        return _fish_file(), f"status is-login; and sh -c '{quoted}'"
    raise CannotInstall(
        f"the login shell of this account is {shell}, and what that reads is not known here: "
        "take --cron, or call `supervisor run` where it starts your programs"
    )


def _profiles() -> tuple[Path, ...]:
    """Every file in which this version or an earlier one may have put a line."""
    names = (".profile", ".bash_profile", ".bash_login", ".zprofile")
    return tuple(dict.fromkeys((*map(_in_home, names), _zsh_folder() / ".zprofile", _fish_file())))


def _in_home(name: str) -> Path:
    return expanded(f"~/{name}")


def _zsh_folder() -> Path:
    return expanded(os.environ.get("ZDOTDIR") or "~")


def _fish_file() -> Path:
    folder = expanded(os.environ.get("XDG_CONFIG_HOME") or "~/.config") / "fish/conf.d"
    return folder / "training-supervisor.fish"


def _taken_out(path: Path) -> Step:
    """The file without our lines; not at all, where it was ours."""
    rest, ours = _without_ours(_text(path))
    return _remove(path) if not rest and ours and not path.is_symlink() else _write(path, rest)


# What the machine has


def _systemd_runs() -> bool:
    # As sd_booted(3) defines it.
    return Path("/run/systemd/system").is_dir()


def _cron_runs() -> bool:
    names = []
    for entry in Path("/proc").glob("[0-9]*/comm"):
        try:
            names.append(_text(entry).strip())
        except OSError:
            continue
    return any(name in ("cron", "crond", "fcron", "busybox-crond") for name in names)


# Units


def _shipped(name: str) -> str:
    """A file of `systemd/`: of the checkout, or where the package has put it."""
    checkout = ROOT / "systemd" / name
    packaged = Path(sys.prefix) / "share/training-supervisor/systemd" / name
    return (checkout if checkout.exists() else packaged).read_text(encoding="utf-8")


def _unit(name: str, home: Path = SYSTEM_HOME, note_boot: Path = NOTE_BOOT) -> str:
    command = Path(sys.prefix) / "bin/supervisor"
    for path in (command, home):
        _check_name(path)
    text = _shipped(name).replace(COMMAND, str(command))
    return text.replace(str(NOTE_BOOT), str(note_boot)).replace(str(SYSTEM_HOME), str(home))


def _places() -> tuple[Path, ...]:
    """The folders that the supervisor runs from.

    Raises:
        CannotInstall: the account of the service could not read one of them.
    """
    folders = (Path(sys.prefix), ROOT, Path(sys.base_prefix).resolve())
    for folder in folders:
        if any(folder.is_relative_to(place) for place in ("/tmp", "/var/tmp")):  # noqa: S108
            raise CannotInstall(
                f"{folder} lies where a boot may empty it, and where the service sees nothing: "
                "install into /opt/training-supervisor"
            )
    outer = [one for one in dict.fromkeys(folders) if not any(p in folders for p in one.parents)]
    for folder in folders:
        _check_name(folder)
        for part in (folder, *folder.parents):
            # Above what is bound into a hidden folder, the service sees no folder of ours.
            seen = not _is_hidden(part) or any(part.is_relative_to(place) for place in outer)
            if seen and part not in HIDDEN and part.stat().st_mode & 0o005 != 0o005:
                raise CannotInstall(
                    f"the service has an account of its own, which may not read {part}: "
                    f"chmod o+rx {shlex.quote(str(part))}, or install into /opt/training-supervisor"
                )
    return tuple(outer)


def _check_name(path: Path) -> None:
    """Whether a unit file can name `path` as it is.

    Raises:
        CannotInstall: it holds a letter that means something there.
    """
    if not re.fullmatch(r"[A-Za-z0-9._/@+-]+", str(path)):
        raise CannotInstall(
            f"a unit file cannot name {path}: use a path of letters, digits and . _ / @ + -"
        )


def _is_hidden(place: Path) -> bool:
    return any(place.is_relative_to(hidden) for hidden in HIDDEN)


def _started(manager: tuple[str, ...], *, changed: bool) -> tuple[Step, ...]:
    """Both units enabled, running, and as they now stand in their files."""
    units = (SERVICE, BOOT_SERVICE)

    def runs() -> bool:
        return not changed and all(
            _succeeds(*manager, verb, "--quiet", unit)
            for unit in units
            for verb in ("is-enabled", "is-active")
        )

    return (
        _run(*manager, "daemon-reload", unless=runs),
        _run(*manager, "enable", *units, unless=runs),
        # Training goes on across a restart.
        _run(*manager, "restart", SERVICE, unless=runs),
    )


def _stopped(manager: tuple[str, ...]) -> Step:
    return _run(*manager, "disable", "--now", SERVICE, BOOT_SERVICE)


# Lines of shells


def _command(home: Path) -> str:
    command = Path(sys.prefix) / "bin/supervisor"
    return f"{shlex.quote(str(command))} --home {shlex.quote(str(home))}"


def _kept(home: Path) -> str:
    return f"kept: the runs; to remove them, too: rm -r {shlex.quote(str(home))}"


def _start_log(home: Path) -> str:
    return shlex.quote(str(home / "start.log"))


def _unless_running(home: Path) -> str:
    """A prefix that costs next to nothing while the supervisor runs and holds its lock.

    Without `flock` the supervisor itself finds out, in a tenth of a second.
    """
    lock = shlex.quote(str(home / durable.LOCK))
    return f"[ -f {lock} ] && flock -nsE 99 {lock} true; [ $? = 99 ] ||"


def _start_apart(home: Path) -> str:
    """Starts the supervisor apart from the login, and again when it was killed."""
    run = f"{_command(home)} run --plain 2>{_start_log(home)}"
    again = f"until {run}; do [ $? = 75 ] && exit; sleep 5; done"
    return (
        # The whole group in the background lets go of the login's streams, and waits for no disk.
        f"({{ mkdir -p {shlex.quote(str(home))}; {_unless_running(home)} "
        f"exec setsid sh -c {shlex.quote(again)}; }} </dev/null >/dev/null 2>&1 &)"
    )


def _with_lines(text: str, *lines: str, note: str = "") -> str:
    """A person's file with lines of ours at its end; the note says of an empty one whose it is."""
    if text and not text.endswith("\n"):
        text, note = f"{text}\n", WITH_LINE_END
    elif text:
        note = ""
    return "\n".join([f"{text}{BEGIN}{note}", *lines, END, ""])


def _without_ours(text: str) -> tuple[str, bool]:
    """A person's file without our lines, and whether the whole file was of our making.

    Ours are the marks and, between them, the lines that start the supervisor: whatever else stands
    there is the person's.
    """
    kept: list[str] = []
    within, whole_file, line_end = False, False, False
    for line in re.findall(r"[^\n]*\n|[^\n]+", text):
        bare = line.rstrip()
        if bare.startswith(BEGIN):
            within, note = True, bare.removeprefix(BEGIN)
            # Earlier versions made no note of a file that they had made.
            whole_file, line_end = note in ("", WITH_FILE), note == WITH_LINE_END
        elif within and bare == END:
            within = False
        elif not (within and OURS in line):
            kept.append(line)
            line_end = line_end and within  # behind other lines, it is needed
    rest = "".join(kept)
    return rest.removesuffix("\n") if line_end else rest, whole_file


def _crontab() -> str | None:
    """The table of this user, which may be empty; None: it cannot be read."""
    if shutil.which("crontab") is None:
        return ""
    environment = {**os.environ, "LC_ALL": "C"}
    listed = subprocess.run(["crontab", "-l"], capture_output=True, check=False, env=environment)
    if listed.returncode == 0:
        return _decoded(listed.stdout)
    said = _decoded(listed.stderr).lower()
    return "" if "no crontab" in said or "no such file" in said else None


# Steps


def _write(path: Path, content: str, *, executable: bool = False, keep: bool = False) -> Step:
    """A file with this content; with `keep`, whatever a person has made of it is left alone."""

    def is_done() -> bool:
        if keep and path.exists():
            return True
        try:
            return _text(path) == content
        except (FileNotFoundError, NotADirectoryError):
            return False

    def do() -> None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            _replace(path.resolve(), _encoded(content), executable=executable)
        except OSError as error:
            leads = f" leads to {path.resolve()}, which" if path.is_symlink() else ""
            raise CannotInstall(f"{path}{leads} cannot be written: {error.strerror}") from error

    return Step(f"write {path}", is_done, do, content)


def _replace(path: Path, content: bytes, *, executable: bool) -> None:
    """Give a file other content at once; whose it is, and who may read it, stays.

    Raises:
        OSError: it cannot be written, or cannot be given back to its owner; it is as it was.
    """
    fresh = path.with_name(f".{path.name}.training-supervisor-{os.getpid()}")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
    before = path.stat() if path.exists() else None
    # Nobody reads it before it has the rights of the other.
    handle = os.open(fresh, flags, 0o600 if before else 0o644)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            if before is not None:
                new = os.fstat(handle)
                if (new.st_uid, new.st_gid) != (before.st_uid, before.st_gid):
                    os.fchown(handle, before.st_uid, before.st_gid)
                os.fchmod(handle, stat.S_IMODE(before.st_mode))
            if executable:
                os.fchmod(handle, 0o755)
            os.fsync(handle)
        fresh.replace(path)
    except BaseException:
        fresh.unlink(missing_ok=True)
        raise
    durable.sync_folder(path.parent)


def _remove(path: Path, only: str | None = None) -> Step:
    """No such file; with `only`, one with another content is left alone."""

    def is_done() -> bool:
        return not path.exists() or only not in (None, _text(path))

    def do() -> None:
        path.unlink()
        if path.parent.name.startswith("training-supervisor") and not any(path.parent.iterdir()):
            path.parent.rmdir()

    return Step(f"remove {path}", is_done, do)


def _run(*command: str, unless: Callable[[], bool] = lambda: False, given: str = "") -> Step:
    def do() -> None:
        try:
            done = subprocess.run(command, input=_encoded(given), capture_output=True, check=False)
        except OSError as error:
            raise CannotInstall(f"{command[0]}: {error.strerror}") from error
        if done.returncode != 0:
            said = _decoded(done.stderr or done.stdout).strip() or f"exit code {done.returncode}"
            raise CannotInstall(f"`{shlex.join(command)}` failed: {said}")

    return Step(f"run {shlex.join(command)}", unless, do, given)


def _tuned(home: Path) -> Step:
    """The first start's trials, while somebody looks on: they are a load, and may fail."""
    command = (*shlex.split(_command(home)), "tune", "--once")

    def do() -> None:
        # What goes wrong is said by the command; training starts all the same.
        subprocess.run(command, stdout=subprocess.DEVNULL, check=False)

    def is_done() -> bool:
        return Home(home).tuning.exists() or _holds(home)

    return Step("try which way of calculating is quickest", is_done, do, shlex.join(command))


def _start_now(home: Path) -> Step:
    """What the next boot will do, done today."""
    line = _start_apart(home)
    start = _run("sh", "-c", line, unless=lambda: _holds(home))
    return start._replace(text="start the supervisor", details=line)


def _stop_now(home: Path) -> Step:
    stop = _run(*shlex.split(_command(home)), "stop", unless=lambda: not home.exists())
    return stop._replace(text="save and stop every run, and the supervisor")


def _holds(home: Path) -> bool:
    try:
        return durable.is_held(home)
    except OSError:
        return False


def _text(path: Path) -> str:
    return _decoded(path.read_bytes())


def _decoded(raw: bytes) -> str:
    # A person's own lines, in whatever encoding, come back as they were.
    return raw.decode(errors="surrogateescape")


def _encoded(text: str) -> bytes:
    return text.encode(errors="surrogateescape")


def _succeeds(*command: str) -> bool:
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except OSError:
        return False
