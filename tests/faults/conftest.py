"""Every test here lives in a world of its own, where the machine can make one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from testkit import worlds
from testkit.machine import Machine


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run the test where nothing that it does can stay behind."""
    if not worlds.can_be_made():
        return None  # right here, then; what needs a disk of its own skips itself
    wanted = pyfuncitem._fixtureinfo.argnames
    arguments = {name: pyfuncitem.funcargs[name] for name in wanted}
    outcome = worlds.live(
        lambda: pyfuncitem.obj(**arguments),
        lambda: str(pyfuncitem.repr_failure(pytest.ExceptionInfo.from_current())),
    )
    if outcome.kind == "skipped":
        pytest.skip(outcome.text)
    if outcome.kind == "failed":
        pytest.fail(outcome.text, pytrace=False)
    return True


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    """One machine, switched off after the test."""
    machine = Machine(tmp_path / "home")
    yield machine
    machine.crash()
    machine.think_again()
