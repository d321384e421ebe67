"""What others have written is as they wrote it, and an installed page has all of its files."""

import hashlib
import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "supervisor/page"
VENDOR = PAGE / "static/vendor"
TOLD = (VENDOR / "VENDORED.md").read_text(encoding="utf-8")


def test_each_vendored_file_hashes_to_what_is_told_of_it():
    """None is edited, none is there without its line."""
    told = dict(re.findall(r"^\| `([^`]+)` \| `[^`]+` \| `(\w{64})` \|$", TOLD, re.MULTILINE))
    found = {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in VENDOR.iterdir()
        if path.name != "VENDORED.md"
    }
    assert found == told


def test_the_script_says_the_version_that_is_told():
    """Once each, in its first line and in the heading."""
    first = (VENDOR / "uPlot.iife.min.js").read_text(encoding="utf-8").partition("\n")[0]
    (version,) = re.findall(r"\(v([\d.]+)\)", first)
    assert TOLD.startswith(f"# uPlot {version}\n")


def test_whatever_the_page_consists_of_is_installed_with_it():
    """A file that no pattern of the package names would be missed where it is installed."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    patterns = settings["tool"]["setuptools"]["package-data"]["supervisor.page"]
    named = {path for pattern in patterns for path in PAGE.glob(pattern)}
    others = {
        path
        for path in PAGE.rglob("*")
        if path.is_file() and path.suffix != ".py" and "__pycache__" not in path.parts
    }
    assert others
    assert others - named == set()
