"""Page and API beside the supervisor, where somebody asks for them: a service neither waits for.

Whatever becomes of one of the two, the other one goes on.
"""

from __future__ import annotations

from pathlib import Path

from supervisor.host import api
from supervisor.host.home import SERVICE, Home
from supervisor.host.install.steps import CannotInstall, Step, remove, run, write
from supervisor.host.install.units import Units, as_wanted, unit, unit_file

API = "api"


def settled(
    units: Units, wanted: bool | None, location: str = "", *, places: bool = False
) -> tuple[Step, ...]:
    """The service as somebody wants it.

    Args:
        units: where.
        wanted: whether it is to be there; None: as it is, but in the files of this version.
        location: a drop-in by which it sees what it runs from.
        places: the supervisor's own service has one by which it sees tables and trainers: then it
            sees those, too, whatever a person makes of that file.

    Raises:
        CannotInstall: it lacks packages.
    """
    there = units.have(API, "service")
    if wanted is False:
        return (*taken(units), run(*units.manager, "daemon-reload")) if there else ()
    if not wanted and not there:
        return ()
    see_packages(wanted=wanted)
    name = unit(API, "service")
    files = [write(units.file(API, "service"), unit_file(f"{_user(units)}{name}", units.home))]
    if not units.of_user:
        drop_in = units.location(API)
        files.append(write(drop_in, location) if location else remove(drop_in))
        if places:
            files.append(_linked(_places(units), Path("..", f"{SERVICE}.d", _places(units).name)))
    return as_wanted(units, files, [name], wanted=wanted)


def taken(units: Units) -> tuple[Step, ...]:
    """No API, and nothing of it."""
    if not units.have(API, "service"):
        return ()
    files = [units.file(API, "service")]
    files += [] if units.of_user else [units.location(API), _places(units)]
    return (run(*units.manager, "disable", "--now", unit(API, "service")), *map(remove, files))


def see_packages(*, wanted: bool | None) -> None:
    """See that what is wanted can start.

    Raises:
        CannotInstall: packages are missing.
    """
    if wanted and (package := api.page_lacks()) is not None:
        raise CannotInstall(
            f"the server lacks {package}: pip install 'training-supervisor[jobs]', or [web] for "
            "the page alone, and install again"
        )


def ended(home: Path) -> Step:
    """Nobody serves the API of a home that no systemd keeps."""
    return Step(
        "stop taking jobs in",
        lambda: not home.exists() or api.served(Home(home)) is None,
        lambda: api.end(Home(home)),
    )


def _user(units: Units) -> str:
    return "user/" if units.of_user else ""


def _places(units: Units) -> Path:
    return units.location(API).with_name("20-places.conf")


def _linked(path: Path, target: Path) -> Step:
    def do() -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.symlink_to(target)

    return Step(f"link {path} to {target}", path.is_symlink, do)
