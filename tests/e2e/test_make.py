"""`make run` sets up what is missing, and sees when what it has set up does not hold any more."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest

from testkit.patience import PATIENCE_S, until

MAKEFILE = Path(__file__).parents[2] / "Makefile"
PROJECT = """\
[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]
[project]
name = "training-supervisor"
version = "1.0"
"""
CLI = """\
import lamp
main = lambda: print("trains in", __file__)
"""
# Builds what pip asks for without a network: a wheel that leads back to the checkout.
BACKEND = """\
import time, zipfile
from pathlib import Path

def build_editable(folder, settings=None, metadata=None):
    if Path("no-network").exists():
        raise SystemExit("there is no network")
    while Path("slow").exists():
        Path("building").touch()
        time.sleep(0.01)
    needs = "Requires-Dist: lamp>=2\\n" + "".join(
        f"Provides-Extra: {extra}\\n" for extra in ("atari", "live", "completion"))
    command = "[console_scripts]\\nsupervisor = supervisor.cli:main\\n"
    return wheel(folder, "training_supervisor-1.0", needs, {
        "here.pth": f"{Path.cwd()}\\n",
        "training_supervisor-1.0.dist-info/entry_points.txt": command})

def wheel(folder, name, needs, files):
    path, notes = Path(folder, f"{name}-py3-none-any.whl"), f"{name}.dist-info"
    title, _, version = name.partition("-")
    about = f"Name: {title}\\nVersion: {version}\\n{needs}"
    files |= {
        f"{notes}/METADATA": f"Metadata-Version: 2.1\\n{about}",
        f"{notes}/WHEEL": "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n"}
    files[f"{notes}/RECORD"] = "".join(f"{name},,\\n" for name in [*files, f"{notes}/RECORD"])
    with zipfile.ZipFile(path, "w") as made:
        for name, text in files.items():
            made.writestr(name, text)
    return path.name
"""

# Stands for python3. What costs most in the making of a venv, unpacking pip, was done before.
PYTHON = """\
#!/bin/sh
case "$*" in
    "-m venv "*) {python} "$@" --without-pip && ln -s {pip} .venv/lib/python3*/site-packages ;;
    *) exec {python} "$@" ;;
esac
"""


class Checkout:
    """A project as small as can be, with our Makefile: one command, and one package it needs."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Type `make run` there."""
        # What another make, which runs these tests, was told is not told to this one.
        told = ("PYTHON", "MAKEFLAGS", "MAKELEVEL", "MFLAGS", "MAKEOVERRIDES")
        environment = {key: value for key, value in os.environ.items() if key not in told}
        settings = {
            "PATH": f"{self.place / 'bin'}:{os.environ['PATH']}",
            "PIP_NO_INDEX": "1",
            "PIP_FIND_LINKS": (self.place / "packages").as_uri(),
        }
        return subprocess.Popen(
            ["make", "-C", str(self.place), "run", *arguments],
            env=environment | settings,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def run(self, *arguments: str) -> str:
        """The same to its end, which is a good one; what it says."""
        making = self.start(*arguments)
        said, _ = making.communicate(timeout=PATIENCE_S)
        assert making.returncode == 0, said
        assert f"trains in {self.place}/supervisor/cli.py" in said
        return said

    @property
    def python(self) -> Path:
        return self.place / ".venv/bin/python3"

    @property
    def packages(self) -> Path:
        (found,) = self.place.glob(".venv/lib/python3*/site-packages")
        return found


@pytest.fixture(scope="module")
def pip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package of pip: the one that is here, or that of a new venv."""
    if here := find_spec("pip"):
        assert here.origin is not None
        return Path(here.origin).parent
    venv = tmp_path_factory.mktemp("pip")
    subprocess.run([sys.executable, "-m", "venv", venv], check=True)
    (found,) = venv.glob("lib/python3*/site-packages/pip")
    return found


def _quoted(**paths: object) -> dict[str, str]:
    """Paths as a shell takes them, whatever stands in them."""
    return {name: shlex.quote(str(path)) for name, path in paths.items()}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory, pip: Path) -> Checkout:
    """A checkout in which everything is set up; it lies in a folder with a space in its name."""
    place = tmp_path_factory.mktemp("a place") / "checkout"
    for folder in ("supervisor", "packages", "bin"):
        (place / folder).mkdir(parents=True)
    (place / "bin/python3").write_text(
        PYTHON.format(**_quoted(python=sys._base_executable, pip=pip))
    )
    (place / "bin/python3").chmod(0o755)
    shutil.copy(MAKEFILE, place)
    (place / "pyproject.toml").write_text(PROJECT)
    (place / "constraints.txt").touch()
    (place / "backend.py").write_text(BACKEND)
    (place / "supervisor/__init__.py").touch()
    (place / "supervisor/cli.py").write_text(CLI)
    for version in ("1.0", "2.0"):
        code = (
            f"from backend import wheel; wheel('packages', 'lamp-{version}', '', {{'lamp.py': ''}})"
        )
        subprocess.run([sys.executable, "-c", code], cwd=place, check=True)
    checkout = Checkout(place)
    assert "Setting up" in checkout.run()
    return checkout


def test_what_holds_is_left_alone(base: Checkout) -> None:
    """A second call sets nothing up."""
    assert "Setting up" not in base.run()


def dead(base: Checkout) -> None:
    """The Python below it was upgraded away."""
    for python in (base.place / ".venv/bin").glob("python*"):
        python.unlink()
        python.symlink_to("/usr/bin/python3.0")


def another(base: Checkout) -> None:
    """The Python below it has become another version, whose packages would lie elsewhere."""
    folder = base.packages.parent
    folder.rename(folder.with_name("python3.0"))


def moved(base: Checkout) -> None:
    place = base.place.with_name("moved")
    base.place = base.place.rename(place)


def lacking(base: Checkout) -> None:
    """A package that it needs is gone."""
    for path in base.packages.glob("lamp*"):
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def old(base: Checkout) -> None:
    """Somebody has replaced a package with an older one."""
    pip = [base.python, "-m", "pip", "install", "-q", "--no-deps", "--no-index", "--find-links"]
    subprocess.run([*pip, base.place / "packages", "lamp==1.0"], check=True)


def without_its_command(base: Checkout) -> None:
    (base.place / ".venv/bin/supervisor").unlink()


@pytest.mark.parametrize("happen", [dead, another, moved, lacking, old, without_its_command])
def test_what_does_not_hold_is_made_anew(
    base: Checkout, happen: Callable[[Checkout], None]
) -> None:
    """Whatever happens to the set-up, the next call sees it, says it, and trains."""
    happen(base)
    said = base.run()
    assert ".venv is made anew: " in said
    assert "Traceback" not in said
    assert "Setting up" not in base.run()


def test_a_copied_checkout_runs_its_own_code(base: Checkout) -> None:
    """A copy has a set-up of its own, and that of the original stays as it is."""
    copy = Checkout(base.place.with_name("copy"))
    shutil.copytree(base.place, copy.place, symlinks=True)
    assert "made anew" in copy.run()
    assert "made anew" not in base.run()


def test_an_installation_that_was_cut_off_begins_anew(base: Checkout) -> None:
    """After `kill -9` of everybody in the middle of an upgrade, nothing half-installed is used."""
    (base.place / "slow").touch()
    (base.place / "pyproject.toml").touch()
    making = base.start()
    until((base.place / "building").exists, "it installs")
    os.killpg(making.pid, signal.SIGKILL)
    making.communicate()
    (base.place / "slow").unlink()
    assert "cut off" in base.run()


def test_an_upgrade_that_fails_costs_nothing(base: Checkout) -> None:
    """With the network away the old set-up still stands, and the next call tries again."""
    (base.place / "no-network").touch()
    (base.place / "pyproject.toml").touch()
    for _ in range(2):
        making = base.start()
        assert "there is no network" in making.communicate(timeout=PATIENCE_S)[0]
        assert making.returncode != 0
        assert subprocess.run([base.place / ".venv/bin/supervisor"], check=False).returncode == 0
    (base.place / "no-network").unlink()
    said = base.run()
    assert "Setting up" in said
    assert "made anew" not in said


def test_of_two_calls_at_once_one_sets_up(base: Checkout) -> None:
    """The other waits until everything is there."""
    shutil.rmtree(base.place / ".venv")
    both = [base.start(), base.start()]
    said = [one.communicate(timeout=PATIENCE_S)[0] for one in both]
    assert [one.returncode for one in both] == [0, 0], said
    assert "".join(said).count("Setting up") == 1


def test_a_python_that_is_named_is_the_one_that_is_taken(base: Checkout, tmp_path: Path) -> None:
    """Named as it is, nothing changes; where another is named, the old one does not stay."""
    assert "made anew" not in base.run(f"PYTHON={base.python.resolve()}")
    other = tmp_path / "python"
    pretend = "import sys; sys.prefix = sys.base_prefix = '/other'; $2"
    other.write_text(f'#!/bin/sh\nexec "{sys.executable}" -c "{pretend}"\n')
    other.chmod(0o755)
    making = base.start(f"PYTHON={other}")
    assert "another Python" in making.communicate(timeout=PATIENCE_S)[0]
