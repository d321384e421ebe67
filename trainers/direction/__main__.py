"""`python -m trainers.direction`: makes days of quotes, builds features, scores models."""

from __future__ import annotations

import argparse
import sys
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import msgspec

from trainers.contract import EXIT_BAD_SPEC, NAME, BadSpec
from trainers.direction import quotes, scoring
from trainers.direction.options import day_of

RATE_MAX = 1000
"""quotes in a second: more would not lie in different milliseconds"""


def main(arguments: list[str] | None = None) -> int:
    """Do what is asked; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m trainers.direction", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, act, text in (
        ("quotes", _quotes, "make days of quotes up"),
        ("features", _features, "build the features of days of quotes"),
    ):
        one = commands.add_parser(name, help=text, description=text)
        one.set_defaults(act=act)
        one.add_argument("home", type=Path, help="the folder in which they have their places")
        one.add_argument("--symbol", type=_symbol, default="btcusdt", help="(btcusdt)")
        one.add_argument("--date", type=_day, required=True, help="such as 20251228, in UTC")
        one.add_argument("--days", type=_count, default=1, help="with that day as the last one (1)")
        if name == "quotes":
            one.add_argument("--seed", type=int, default=1, help="(1)")
            one.add_argument(
                "--per-second", type=_rate, default=quotes.PER_S, help="on average (1)"
            )
    text = "tell how good a model is on given rows, as JSON"
    one = commands.add_parser("score", help=text, description=text)
    one.set_defaults(act=_score)
    one.add_argument("model", type=Path, help="model.ubj of a run, or what was exported of one")
    one.add_argument("rows", type=Path, help="features or quotes: a file, or a folder of files")
    one.add_argument("--begin", type=_moment, help="the first time that is judged, in ISO 8601")
    one.add_argument("--end", type=_moment, help="the last one")
    options = parser.parse_args(arguments)
    try:
        options.act(options)
    except (BadSpec, OSError) as error:
        sys.stderr.write(f"trainers.direction: {error}\n")
        return EXIT_BAD_SPEC if isinstance(error, BadSpec) else 1
    return 0


def _quotes(options: argparse.Namespace) -> None:
    for on in _days(options):
        file = quotes.put(
            options.home, options.symbol, on, seed=options.seed, per_s=options.per_second
        )
        sys.stdout.write(f"{file}\n")


def _features(options: argparse.Namespace) -> None:
    for on in _days(options):
        sys.stdout.write(f"{quotes.build(options.home, options.symbol, on)}\n")


def _score(options: argparse.Namespace) -> None:
    found = scoring.score(options.model, options.rows, begin=options.begin, end=options.end)
    sys.stdout.write(f"{msgspec.json.format(msgspec.json.encode(found), indent=2).decode()}\n")


def _days(options: argparse.Namespace) -> list[date]:
    last: date = options.date
    return [last - timedelta(days=back) for back in reversed(range(options.days))]


def _day(text: str) -> date:
    try:
        return day_of(text)
    except BadSpec as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _symbol(text: str) -> str:
    if not NAME.fullmatch(text):
        raise argparse.ArgumentTypeError(f"{text!r} is no name: letters, digits, '-' and '_'")
    return text


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 1 on")
    return int(text)


def _rate(text: str) -> float:
    try:
        rate = float(text)
    except ValueError:
        rate = 0.0
    if not 0 < rate < RATE_MAX:
        raise argparse.ArgumentTypeError(f"{text!r} is no number above 0 and below {RATE_MAX}")
    return rate


def _moment(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no time in ISO 8601") from None
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment


if __name__ == "__main__":
    sys.exit(main())
