"""A trainer says what it lacks before it is started, and not by dying of it again and again."""

import importlib.metadata
import re
import tomllib
from pathlib import Path

import pytest

from trainers import packages

CHECKOUT = Path(packages.__file__).parent.parent


@pytest.fixture(autouse=True)
def _read_anew():
    _forget()
    yield
    _forget()


def _forget():
    packages._minimums.cache_clear()
    packages.require.cache_clear()


@pytest.fixture
def installed(monkeypatch):
    """Makes pip know of other versions: `installed(numpy="1.0", torch=None)`."""

    def have(**versions):
        def version(name):
            found = versions.get(name.replace("-", "_"), "999")
            if found is None:
                raise importlib.metadata.PackageNotFoundError(name)
            return found

        monkeypatch.setattr(importlib.metadata, "version", version)

    return have


def test_the_packages_of_this_machine_will_do():
    """What the tests run with is new enough, and every package of the extra is looked at."""
    packages.require("atari")
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]
    extra = project["optional-dependencies"]["atari"]
    looked_at = dict(packages._minimums("atari"))
    assert len(looked_at) == len(extra)
    for words in extra:
        assert looked_at[re.match(r"[\w-]+", words)[0]] == words.rpartition(">=")[2]


@pytest.mark.parametrize(
    "name", ["ale-py", "gymnasium", "numpy", "pillow", "stable-baselines3", "tensorboard", "torch"]
)
def test_each_package_can_be_too_old(name, installed):
    """It is named with both versions, and with what to do."""
    installed(**{name.replace("-", "_"): "0.0.9"})
    with pytest.raises(
        packages.PackagesMissing, match=rf"^{name} 0\.0\.9 is too old, \S+ at least"
    ):
        packages.require("atari")


def test_everything_is_told_at_once(installed, monkeypatch):
    """Nobody installs one package after the other."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda module: None)
    installed(torch=None, numpy="1.2")
    with pytest.raises(packages.PackagesMissing) as refused:
        packages.require("atari")
    assert str(refused.value) == (
        "numpy 1.2 is too old, 1.26 at least; torch is not installed: "
        "pip install 'training-supervisor[atari]'"
    )


@pytest.mark.parametrize(
    ("there", "least", "will_do"),
    [
        ("0.12", "0.12", True),
        ("0.12", "0.12.0", True),
        ("0.11.2", "0.12", False),
        ("0.9", "0.12", False),
        ("2.13.0+cpu", "2.6", True),
        ("2.6.0a0+ecf3bae", "2.6", True),
        ("2.5.1+cu124", "2.6", False),
        ("1!0.1", "2.6", False),
        ("built by hand", "2.6", True),
        (None, "2.6", False),
    ],
)
def test_versions_are_numbers(there, least, will_do, installed, monkeypatch):
    """Whatever a vendor writes behind them; what has none is not judged."""
    monkeypatch.setattr(packages, "_minimums", lambda extra: (("no-such-package", least),))
    installed(no_such_package=there)
    if will_do:
        packages.require("atari")
    else:
        with pytest.raises(packages.PackagesMissing):
            packages.require("atari")


def test_a_package_under_another_name_will_do(installed):
    """Pillow comes as pillow-simd, too: what can be imported is there, of whatever version."""
    installed(pillow=None)
    packages.require("atari")


def test_without_a_checkout_the_installed_metadata_tell(tmp_path, monkeypatch):
    """The same packages with the same versions, whoever is asked."""
    of_the_file = packages._minimums("atari")
    packages._minimums.cache_clear()
    monkeypatch.setattr(packages, "PROJECT", tmp_path / "pyproject.toml")
    known = [
        *(f'{name}>={least}; extra == "atari"' for name, least in of_the_file),
        'rich>=13; extra == "live"',
        "psutil>=6",
    ]
    monkeypatch.setattr(importlib.metadata, "requires", lambda name: known)
    assert packages._minimums("atari") == of_the_file
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "other"\n')
    packages._minimums.cache_clear()
    assert packages._minimums("atari") == of_the_file
