"""A line in the login profile of one user, as the login shell reads it."""

from __future__ import annotations

import os
import pwd
from pathlib import Path

from supervisor.host.home import expanded
from supervisor.host.install.lines import (
    BEGIN,
    IN_EMPTY,
    SERVE,
    WITH_FILE,
    serve_now,
    serves,
    start_apart,
    start_now,
    stop_now,
    with_lines,
    without_ours,
)
from supervisor.host.install.serving import ended, see_packages
from supervisor.host.install.steps import (
    Beside,
    CannotInstall,
    Plan,
    Step,
    kept,
    remove,
    text_of,
    tuned,
    write,
)

UNQUOTED = str.maketrans("", "", "'\"\\")
"""leaves out of a line what shells, one within another, quote a path with"""


def plan(home: Path, beside: Beside) -> Plan:
    """How to have each login start it where it does not run."""

    def is_ours(path: Path) -> bool:
        return path.is_file() and BEGIN in text_of(path)

    def steps() -> tuple[Step, ...]:
        if beside.usage:
            raise CannotInstall(
                "a login profile has no timers: a supervisor that runs has usage analysed every "
                "seven days by itself, and `supervisor sample-usage` is for whatever can call it "
                "every five minutes; or take --cron"
            )
        see_packages(wanted=beside.api)
        chosen, line = _login_line(_login_shell(), start_apart(home))
        served = serves_api(home)
        serve = served if beside.api is None else beside.api
        more = [_login_line(_login_shell(), start_apart(home, SERVE))[1]] if serve else []
        if chosen.is_symlink() and not chosen.exists():
            raise CannotInstall(f"{chosen} is a link that leads nowhere")
        rest, whole = without_ours(text_of(chosen)) if chosen.exists() else ("", True)
        content = with_lines(rest, line, *more, note=WITH_FILE if whole else IN_EMPTY)
        others = (path for path in _profiles() if path != chosen and is_ours(path))
        of_api = [serve_now(home)] if serve else [ended(home)] if served else []
        return (
            write(chosen, content),
            *map(_taken_out, others),
            tuned(home),
            start_now(home),
            *of_api,
        )

    return Plan(
        kind="profile",
        home=home,
        is_installed=lambda: any(map(is_ours, _profiles())),
        steps=steps,
        undo=lambda: (*map(_taken_out, filter(is_ours, _profiles())), ended(home), stop_now(home)),
        after=(
            f"home: {home}; it starts at the first login after a boot, and within seconds if it "
            "was killed; a machine that nobody logs in to needs systemd or cron"
        ),
        kept=kept(home),
    )


def serves_api(home: Path) -> bool:
    """Whether a login starts the API of a home."""
    words = f"--home {home} {SERVE} 2>".translate(UNQUOTED)
    texts = (text_of(path) for path in _profiles() if path.is_file())
    return any(serves(text) and words in text.translate(UNQUOTED) for text in texts)


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
    rest, ours = without_ours(text_of(path))
    return remove(path) if not rest and ours and not path.is_symlink() else write(path, rest)
