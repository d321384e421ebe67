#!/usr/bin/env python3
"""Mutation testing of the policy: small faults, each of which a test must notice.

    python benchmarks/mutants.py                   all of them, some minutes
    python benchmarks/mutants.py --module ledger   those of one module
    python benchmarks/mutants.py --only budget     those that speak of a budget

A mutant is the module with one comparison, sum, number, condition, or keyword argument
another. Sentences for people (f-strings and lambdas) are left alone: they decide nothing.

pytest collects the quick tests once and runs them once, to see which of them come by which
line. Then each mutant is run in a fork: the module is executed anew in its place, and the tests
that come by the mutated lines are run until one fails. Nothing is written to disk.
"""

from __future__ import annotations

import argparse
import ast
import importlib
import os
import signal
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import CodeType, FrameType, ModuleType
from typing import Any, NamedTuple

import pytest
from hypothesis import Phase, settings

ROOT = Path(__file__).resolve().parent.parent
MODULES = ("policy", "answers", "ledger")
TESTS = (
    "tests/core/test_ledger.py",
    "tests/core/test_ledger_policy.py",
    "tests/core/test_policy.py",
    "tests/core/test_boot_loop.py",
    "tests/core/test_golden_timelines.py",
    "tests/core/test_golden_ledger.py",
)
QUIETLY = ("-o", "addopts=--import-mode=importlib", "-s", "-p", "no:terminal")
PATIENCE_S = 30
"""a mutant that takes longer loops for ever, and is noticed by that"""

TIE = "a tie of two floats that come from different sums: no life meets it"
TINY = "both branches agree there to nine digits"
SHORT_CUT = "a short cut, which the longer way agrees with"
EQUIVALENT = {
    "_bears: crashes_per_h < _worth_per_h(facts) -> crashes_per_h <= _worth_per_h(facts)": TIE,
    "_climb: worth <= 0 -> worth < 0": TIE,
    "crashes_evenly: aftershock_rate(known).low_per_h <= BURST_FACTOR * alone.mean_per_h"
    " -> aftershock_rate(known).low_per_h < BURST_FACTOR * alone.mean_per_h": TIE,
    "boot_loop: until_s is not None and until_s != facts.goal.idle_until_s"
    " -> until_s is not None": "the goal stays the same, so nothing is enacted; a sentence differs",
    "entry: if running_h -> if True": "where nothing ran, no worth earns anything",
    "cool_down_h: facts.now_s if known.bad_since_s is None else known.bad_since_s"
    " -> known.bad_since_s": "a visit that fails has a bad spell: that branch is for mypy",
    "cool_down_h: 60 -> 61": "2**60 hours are above every bound that can be set",
    "_fading: fade < 1e-09 -> fade <= 1e-09": TINY,
    "_fading: 1e-09 -> 1.1000000000000001e-09": TINY,
    "_faded: if keep == 1.0 -> if False": SHORT_CUT,
    "_faded: 1.0 -> 1.1": SHORT_CUT,
    "_paces: if len(names) < 2 -> if False": SHORT_CUT,
}
"""mutant: why it can change no decision"""

COMPARISONS: dict[type[ast.cmpop], tuple[type[ast.cmpop], ...]] = {
    ast.Lt: (ast.LtE, ast.GtE),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.LtE),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
}
OPERATORS: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.Pow: ast.Mult,
}
NO_CODE = {"annotation", "returns", "decorator_list", "strict"}
"""fields and keywords that decide nothing"""


class Mutant(NamedTuple):
    """One fault."""

    module: ModuleType
    line: int
    last_line: int
    name: str
    """the function, and what has become of what"""
    code: CodeType


def mutants(module: ModuleType) -> Iterator[Mutant]:
    """Every fault of a module, one after the other."""
    path = Path(module.__file__ or "")
    tree = ast.parse(path.read_text())
    for node, put, where in _places(tree, ""):
        for other in _variants(node):
            ast.fix_missing_locations(ast.copy_location(other, node))
            put(other)
            code = compile(tree, str(path), "exec", dont_inherit=True)
            name = f"{where or 'module'}: {_said(node, other)}"
            yield Mutant(module, node.lineno, node.end_lineno or node.lineno, name, code)
        put(node)


def _said(node: ast.AST, other: ast.AST) -> str:
    """What has become of what."""
    match node, other:
        case ast.If(test=test), ast.If(test=answer):
            return f"if {ast.unparse(test)} -> if {ast.unparse(answer)}"
        case ast.Call(keywords=keywords), ast.Call(func=func) if len(keywords) > len(
            other.keywords
        ):
            (gone,) = (each.arg for each in keywords if each not in other.keywords)
            return f"{ast.unparse(func)}(...) without {gone}"
    return f"{ast.unparse(node)} -> {ast.unparse(other)}"


def _places(parent: ast.AST, where: str) -> Iterator[tuple[Any, Callable[[ast.AST], None], str]]:
    """Everything below `parent` that can be another, how to put that there, and its function."""
    if isinstance(parent, (ast.FunctionDef, ast.ClassDef)):
        where = f"{where}.{parent.name}".lstrip(".")
    for child, put in _children(parent):
        if isinstance(child, (ast.JoinedStr, ast.Lambda)):
            continue
        if isinstance(child, (ast.expr, ast.stmt)):
            yield child, put, where
        yield from _places(child, where)


def _children(parent: ast.AST) -> Iterator[tuple[ast.AST, Callable[[ast.AST], None]]]:
    """What decides something, directly below, and how to put something else there."""
    if isinstance(parent, ast.Call) and ast.unparse(parent.func) == "round":
        yield parent.args[0], partial(parent.args.__setitem__, 0)  # to how many digits is no matter
        return
    if isinstance(parent, ast.keyword) and parent.arg in NO_CODE:
        return
    for field, value in ast.iter_fields(parent):
        if field in NO_CODE:
            continue
        if isinstance(value, ast.AST):
            yield value, partial(setattr, parent, field)
        elif isinstance(value, list):
            for at, child in enumerate(value):
                if isinstance(child, ast.AST):
                    yield child, partial(value.__setitem__, at)


def _variants(node: ast.AST) -> Iterator[ast.AST]:  # noqa: C901, PLR0912 - a table of cases
    """What could stand there by mistake."""
    match node:
        case ast.Compare():
            for at, op in enumerate(node.ops):
                for other in COMPARISONS[type(op)]:
                    ops = [*node.ops[:at], other(), *node.ops[at + 1 :]]
                    yield ast.Compare(node.left, ops, node.comparators)
        case ast.BoolOp():
            yield ast.BoolOp(ast.Or() if isinstance(node.op, ast.And) else ast.And(), node.values)
            for at in range(len(node.values)):
                rest = [*node.values[:at], *node.values[at + 1 :]]
                yield rest[0] if len(rest) == 1 else ast.BoolOp(node.op, rest)
        case ast.BinOp(op=op) if type(op) in OPERATORS:
            yield ast.BinOp(node.left, OPERATORS[type(op)](), node.right)
        case ast.AugAssign(op=op) if type(op) in OPERATORS:
            yield ast.AugAssign(node.target, OPERATORS[type(op)](), node.value)
        case ast.UnaryOp(op=ast.Not() | ast.USub()):
            yield node.operand
        case ast.Constant(value=bool(value)):
            yield ast.Constant(not value)
        case ast.Constant(value=int(value)):
            yield ast.Constant(value + 1)
        case ast.Constant(value=float(value)):
            yield ast.Constant(value * 1.1 if value else 1.0)
        case ast.Call(func=ast.Name(id="min" | "max" as name)):
            other_name = ast.Name("max" if name == "min" else "min", ast.Load())
            yield ast.Call(other_name, node.args, node.keywords)
        case ast.Call():
            for at, keyword in enumerate(node.keywords):
                if keyword.arg not in NO_CODE:
                    rest = [*node.keywords[:at], *node.keywords[at + 1 :]]
                    yield ast.Call(node.func, node.args, rest)
        case ast.If():
            for answer in (True, False):
                yield ast.If(ast.Constant(answer), node.body, node.orelse)
        case ast.IfExp():
            yield node.body
            yield node.orelse


class Hunt:
    """The plugin that takes the place of pytest's own loop over the tests.

    Args:
        modules: their names in `supervisor.core`.
        only: a part of the names of the mutants that are wanted.
    """

    def __init__(self, modules: tuple[str, ...], only: str) -> None:
        self.modules = [importlib.import_module(f"supervisor.core.{name}") for name in modules]
        self.only = only
        self.ran = 0
        self.killed = 0
        self.known: list[str] = []
        self.survivors: list[str] = []
        self._failed = False
        self._visitors: dict[tuple[str, int], set[pytest.Item]] = defaultdict(set)
        self._took_s: dict[pytest.Item, float] = {}

    def pytest_collection(self) -> None:
        """No test is to look for the smallest example: one that fails is enough."""
        quick = settings(settings(), phases=(Phase.explicit, Phase.generate))
        settings.register_profile("mutants", quick, print_blob=False)
        settings.load_profile("mutants")

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Remember a failure."""
        self._failed |= report.failed

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Run every test once as it is, and then against each mutant."""
        for item in session.items:
            self._watch(item)
            if self._failed:
                raise pytest.UsageError(f"{item.nodeid} fails without any mutant")
        print(f"{len(session.items)} tests, {sum(self._took_s.values()):.1f} s", flush=True)
        for module in self.modules:
            for mutant in mutants(module):
                if self.only in mutant.name:
                    self._judge(mutant)
        return True

    def _watch(self, item: pytest.Item) -> None:
        """Run a test, and note where it comes by."""
        watched = {module.__file__ for module in self.modules}

        def trace(frame: FrameType, event: str, _: Any) -> Any:
            path = frame.f_code.co_filename
            if path not in watched:
                return None
            if event == "line":
                self._visitors[path, frame.f_lineno].add(item)
            return trace

        began_s = time.perf_counter()
        sys.settrace(trace)
        try:
            item.ihook.pytest_runtest_protocol(item=item, nextitem=None)
        finally:
            sys.settrace(None)
        self._took_s[item] = time.perf_counter() - began_s

    def _judge(self, mutant: Mutant) -> None:
        lines = range(mutant.line, mutant.last_line + 1)
        path = mutant.module.__file__ or ""
        visitors = set().union(*(self._visitors[path, line] for line in lines))
        if not visitors or mutant.name.startswith("module:"):
            visitors = set(self._took_s)  # it is executed once, as the module is loaded
        self.ran += 1
        if not self._survives(mutant, sorted(visitors, key=self._took_s.__getitem__)):
            self.killed += 1
        elif mutant.name in EQUIVALENT:
            self.known.append(mutant.name)
        else:
            self.survivors.append(mutant.name)
            print(f"SURVIVES {Path(path).name}:{mutant.line} {mutant.name}", flush=True)

    def _survives(self, mutant: Mutant, items: list[pytest.Item]) -> bool:
        child = os.fork()
        if child:
            return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        try:
            signal.alarm(PATIENCE_S)
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, 1)
            os.dup2(nowhere, 2)
            exec(mutant.code, mutant.module.__dict__)  # noqa: S102 - our own code, slightly wrong
            for item in items:
                item.ihook.pytest_runtest_protocol(item=item, nextitem=None)
                if self._failed:
                    break
        except BaseException:  # noqa: BLE001 - a mutant that cannot even be loaded is noticed
            self._failed = True
        os._exit(self._failed)


def main() -> int:
    """Hunt, and say what got away."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--module", choices=MODULES, help="only this one")
    parser.add_argument("--only", default="", metavar="TEXT", help="only mutants with it")
    asked = parser.parse_args()
    os.chdir(ROOT)
    hunt = Hunt((asked.module,) if asked.module else MODULES, asked.only)
    began_s = time.monotonic()
    pytest.main([*QUIETLY, *TESTS], plugins=[hunt])
    print(
        f"{hunt.ran} mutants in {time.monotonic() - began_s:.0f} s: {hunt.killed} killed, "
        f"{len(hunt.known)} known to change no decision, {len(hunt.survivors)} survive"
    )
    for name in hunt.known:
        print(f"  {name}\n    {EQUIVALENT[name]}")
    return 1 if hunt.survivors or not hunt.ran else 0


if __name__ == "__main__":
    sys.exit(main())
