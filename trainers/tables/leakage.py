"""What tells a model what it cannot know when it forecasts, looked for before anything is trained.

What is built here from lags and windows is right by its making, so values are looked at of columns
alone; their names are looked at in any case.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from trainers.tables import features
from trainers.tables.config import Config, leakage, named_lag, oldest_unknown, young_lag
from trainers.tables.errors import ConfigValidationError
from trainers.tables.features import Feature
from trainers.tables.split import Split
from trainers.tables.table import Series
from trainers.tables.times import DAY, HOUR, Spacing

NEAR = 0.999
"""two columns of a greater correlation are copies of each other"""
EXACT = 1e-9
"""what is missing to a correlation of 1 where one is computed from the other"""
SURE = 0.5
"""a copy of what cannot be known must miss less than this share of what the best likeness misses
among what can be known: neighbours in a smooth series are alike, too"""
ROUNDING = 1e-12
"""of correlations: what misses less misses nothing"""
LIKENESS_ROWS = 1000
"""are looked at first"""
ORDERED_ROWS = 200_000
"""of which the order is looked at: to put all of a long series in order takes much memory"""
PERHAPS = 0.99
"""of these: what is less alike is no copy, and not looked at in all rows"""
SHIFTS_MAX = 1024
"""steps into the future and into the past among which near copies are looked for"""
FAR = 1e-6
"""what is missing to a correlation of 1 in a copy of what is farther away: among so many shifts
smooth series are alike somewhere by chance"""
PIECE = 0.1
"""of the series is a piece of a column that is slid along the target"""
PIECE_ROWS = 1000
PIECE_MIN_ROWS = 30
PIECES = (0.0, 0.3)
"""where pieces begin, by share of the column: of what lies ahead its end cannot be a copy"""
BLOCK = 2**16
"""places that a piece is slid over at once"""
WINDOWS = (2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 20, 21, 24, 28, 30, 48, 60, 90, 96, 168, 336)
"""steps that people take means over, beside a day and a week"""
ENOUGH = 0.5
"""of the rows both must have, for a correlation to say anything"""
UNIQUE_SHARE = 0.95
LARGE_ROWS = 500_000
"""of the training part: of more, less is looked at"""
USUAL_TIMES = 2
"""as many copies over the split as within the training part are no leak, but such a table"""
UNIQUE_MIN_ROWS = 100
SCALED = 1e-6

Floats = NDArray[np.float64]
Rows = NDArray[np.int64]


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that was found."""

    feature: str
    kind: Literal[
        "target",
        "labels",
        "short_lag",
        "ahead",
        "copy",
        "future",
        "window",
        "duplicates",
        "scaled",
        "unique",
    ]
    severity: Literal["error", "warning", "allowed"]
    line: str


def look_at_names(config: Config, plan: Sequence[Feature]) -> None:
    """Refuse what its name alone gives away; no row is needed for it.

    Raises:
        ConfigValidationError: features that nobody has allowed.
    """
    refuse(_by_name(config, plan, None))


def look(config: Config, series: Series, plan: Sequence[Feature], parts: Split) -> list[Finding]:
    """What was found and is no reason to refuse, or is allowed.

    Raises:
        ConfigValidationError: features that nobody has allowed.
    """
    found = _by_name(config, plan, series.spacing)
    named = {one.feature for one in found}
    columns = [one for one in plan if one.kind == "column" and one.name not in named]
    rows = np.concatenate(parts)
    for judged in (config.target, config.labels):
        if judged is not None:
            found += _likenesses(config, series, columns, rows, judged)
    found += _windows(config, series, columns, rows)
    for feature in columns:
        values = series.past[feature.column or ""].values
        found += _unique(series, feature, values[rows])
        found += _scaled(feature, values[series.spacing.positions], values[parts.train])
    found += _duplicates(config, series, plan, parts)
    refuse(found)
    return found


def known_ahead(plan: Sequence[Feature]) -> list[str]:
    """Features that whoever forecasts must have for the time that is forecast."""
    return [feature.name for feature in plan if feature.kind == "column"]


def verdict(found: Sequence[Finding]) -> str:
    """What all of it comes to: `clean`, `warned` or `allowed`."""
    if any(one.severity == "allowed" for one in found):
        return "allowed"
    return "warned" if found else "clean"


def refuse(found: Sequence[Finding], field: str = "features") -> None:
    """Refuse what was found and nobody has allowed.

    Raises:
        ConfigValidationError: there is some.
    """
    errors = [one for one in found if one.severity == "error"]
    if errors:
        lines = "; ".join(one.line for one in errors)
        raise ConfigValidationError(
            field, leakage(lines), leakage=[msgspec.to_builtins(one) for one in errors]
        )


def _grave(config: Config, name: str) -> Literal["error", "allowed"]:
    return "allowed" if name in config.allow_leakage else "error"


def _by_name(config: Config, plan: Sequence[Feature], spacing: Spacing | None) -> list[Finding]:
    found: list[Finding] = []
    for feature in plan:
        name, severity = feature.name, _grave(config, feature.name)
        if name in (config.target, config.labels):
            kind: Literal["target", "labels"] = "target" if name == config.target else "labels"
            line = f"{name} is the {kind} itself"
            found.append(Finding(feature=name, kind=kind, severity=severity, line=line))
            continue
        lag = named_lag(name)
        if lag is None:
            continue
        steps: int | None = lag[1]
        if lag[2]:
            steps = spacing.steps_in(lag[1] * HOUR) if spacing is not None else None
        if steps is not None and steps < oldest_unknown(config, lag[0]):
            line = young_lag(name, steps, config.horizon)
            found.append(Finding(feature=name, kind="short_lag", severity=severity, line=line))
    return found


def _likenesses(
    config: Config, series: Series, columns: Sequence[Feature], rows: Rows, judged: str
) -> list[Finding]:
    """Columns that are the target, or what it was or will be when nobody can know it yet."""
    if not columns or len(rows) < 3:
        return []
    target = series.columns[judged].values
    horizon = config.horizon if judged == config.target else 0
    reach = _reach(series.spacing, len(target), horizon)
    unknown = np.arange(min(0, 1 - horizon), reach + 1)
    known = -np.arange(max(1, horizon), horizon + reach + 1)
    shifts = np.concatenate((unknown, known))
    some = rows[np.linspace(0, len(rows) - 1, min(len(rows), LIKENESS_ROWS)).astype(np.int64)]
    there = _at(target, some + shifts[:, None])
    few = rows[np.linspace(0, len(rows) - 1, min(len(rows), ORDERED_ROWS)).astype(np.int64)]
    # Who takes a logarithm of the target still has the target: it has the same order.
    looks = ((False, there, rows), (True, _places(there), few))
    found: list[Finding] = []
    for feature in columns:
        values, labels = series.past[feature.column or ""]
        if labels is not None or np.isnan(values[some]).all():
            continue
        far = _from_afar(config, series, feature, rows, judged, reach)
        if far is not None:
            found.append(far)
            continue
        for by_order, sought, all_rows in looks:
            shown = _places if by_order else np.asarray
            alike = _alike(sought, shown(values[some]))
            best = int(unknown[np.argmax(alike[: len(unknown)])])
            if alike[: len(unknown)].max() < PERHAPS:
                continue
            had = shown(values[all_rows])
            likeness = float(_alike(shown(_at(target, all_rows + best)), had)[0])
            if likeness <= NEAR:
                continue
            other = int(known[np.argmax(alike[len(unknown) :])])
            rival = float(_alike(shown(_at(target, all_rows + other)), had)[0])
            if _is_more(likeness, rival):
                found.append(_copy(config, feature.name, judged, best, likeness, by_order=by_order))
                break
    return found


def _from_afar(
    config: Config, series: Series, feature: Feature, rows: Rows, judged: str, reach: int
) -> Finding | None:
    """A column that is what the target will be after more steps than near copies are looked for."""
    target, values = series.columns[judged].values, series.past[feature.column or ""].values
    length = min(PIECE_ROWS, int(PIECE * len(target)))
    there = np.flatnonzero(~np.isnan(values))
    if length < PIECE_MIN_ROWS or len(there) < length:
        return None
    for share in PIECES if len(target) < LARGE_ROWS else PIECES[:1]:
        begin = int(there[int(share * len(there))])
        ahead = _slid(values[begin : begin + length], target)[begin + reach + 1 :]
        if not len(ahead) or ahead.max() < PERHAPS:
            continue
        shift = reach + 1 + int(np.argmax(ahead))
        both = rows[rows + shift < len(target)]
        if len(both) < length:
            continue
        likeness = float(_alike(target[both + shift], values[both])[0])
        if 1 - likeness < FAR and not _repeats(config, target, values, both, judged, likeness):
            return _copy(config, feature.name, judged, shift, likeness)
    return None


def _repeats(
    config: Config, target: Floats, values: Floats, rows: Rows, judged: str, likeness: float
) -> bool:
    """Whether a column is as much like what was known by then, as in what repeats itself."""
    least = max(1, config.horizon if judged == config.target else 0)
    length = min(PIECE_ROWS, int(PIECE * len(target)))
    begin = int(rows[len(rows) // 2])
    before = _slid(values[begin : begin + length], target)[: max(0, begin - least + 1)]
    if not len(before):
        return False
    shift = int(np.argmax(before)) - begin
    rows = rows[rows + shift >= 0]
    rival = float(_alike(target[rows + shift], values[rows])[0])
    return not _is_more(likeness, rival)


def _is_more(likeness: float, rival: float) -> bool:
    """Whether a likeness to what nobody knows is more than that to what is known."""
    return 1 - likeness < SURE * (1 - rival) and 1 - rival > ROUNDING


def _slid(piece: Floats, series: Floats) -> Floats:
    """The correlation of a piece with the series at each place of it, of what both have.

    By the fast Fourier transform, block by block (overlap-save), of masked values (Padfield, 2012).
    """
    has = ~np.isnan(piece)
    if has.sum() < 3 or np.isnan(series).all():
        return np.zeros(0)
    one = np.where(has, piece - np.nanmean(piece), 0.0)
    along = max(BLOCK, 2 ** int(np.ceil(np.log2(2 * len(piece)))))
    ones, squares, counts = (
        np.conj(np.fft.rfft(part, along)) for part in (one, one**2, has.astype(np.float64))
    )
    places, step = len(series) - len(piece) + 1, along - len(piece) + 1
    found = np.zeros(max(0, places))
    middle, least = np.nanmean(series), EXACT * np.std(one) * np.nanstd(series)
    for at in range(0, places, step):
        part = series[at : at + along]
        known = ~np.isnan(part)
        other = np.where(known, part - middle, 0.0)
        sums, powers, masks = (
            np.fft.rfft(values, along) for values in (other, other**2, known.astype(np.float64))
        )

        def product(left: NDArray[np.complex128], right: NDArray[np.complex128]) -> Floats:
            return np.asarray(np.fft.irfft(left * right, along)[: min(step, places - at)])  # noqa: B023

        count = np.maximum(np.round(product(counts, masks)), 1)
        mine, theirs = product(ones, masks) / count, product(counts, sums) / count
        common = product(ones, sums) / count - mine * theirs
        spread = product(squares, masks) / count - mine**2
        spreads = product(counts, powers) / count - theirs**2
        size = np.sqrt(np.maximum(spread * spreads, 0.0))
        enough = (count >= max(3, ENOUGH * has.sum())) & (size > least)
        found[at : at + len(count)] = np.divide(
            np.abs(common), size, out=np.zeros_like(size), where=enough
        )
    return found


def _windows(
    config: Config, series: Series, columns: Sequence[Feature], rows: Rows
) -> list[Finding]:
    """Columns that are a statistic of the target over a window that ends within the horizon.

    The usual way to make one, without a shift, has the target itself in it.
    """
    if config.target is None or not columns:
        return []
    target, spacing = series.columns[config.target].values, series.spacing
    days = [spacing.steps_in(count * DAY) for count in (1, 7)]
    some = rows[np.linspace(0, len(rows) - 1, min(len(rows), LIKENESS_ROWS)).astype(np.int64)]
    values = {one.name: series.past[one.column or ""] for one in columns}
    left = {name: column.values[some] for name, column in values.items() if column.labels is None}
    reach = _reach(spacing, len(target), config.horizon)
    known = -np.arange(max(1, config.horizon), config.horizon + reach + 1)
    found: list[Finding] = []
    for window in sorted({*WINDOWS, *(steps for steps in days if steps)}):
        for before in sorted({0, min(1, config.horizon - 1), config.horizon - 1}):
            for statistic in ("mean", "std", "min", "max"):
                if before < 0 or (window <= 2 and statistic == "std"):
                    continue
                made = features.rolling(target, some - before, window, statistic)
                for name in [name for name in left if _same(made, left[name])]:
                    one = left[name]
                    rival = float(_alike(_at(target, some + known[:, None]), one).max())
                    both = ~(np.isnan(made) | np.isnan(one))
                    if not _is_more(float(_alike(made[both], one[both])[0]), rival):
                        continue
                    del left[name]
                    line = (
                        f"{name} is the {statistic} of {window} values of {config.target}, the "
                        f"last of them {before} steps old"
                    )
                    severity = _grave(config, name)
                    found.append(Finding(feature=name, kind="window", severity=severity, line=line))
    return found


def _same(made: Floats, values: Floats) -> bool:
    there = ~(np.isnan(made) | np.isnan(values))
    if there.sum() < max(3, ENOUGH * len(values)):
        return False
    return bool(1 - _alike(made[there], values[there])[0] < EXACT)


def _copy(
    config: Config, name: str, judged: str, shift: int, likeness: float, *, by_order: bool = False
) -> Finding:
    how = "is" if 1 - likeness < EXACT else f"is nearly (correlation {likeness:.6f})"
    if by_order:
        how = f"has the order (rank correlation {likeness:.6f}) of"
    when = "at the same time"
    if shift:
        when = f"{abs(shift)} steps {'later' if shift > 0 else 'earlier, within the horizon'}"
    return Finding(
        feature=name,
        kind="future" if shift > 0 else "copy",
        severity=_grave(config, name),
        line=f"{name} {how} {judged} {when}",
    )


def _places(values: Floats) -> Floats:
    """The place of each value in the order of its row; equal ones keep their own order."""
    found = np.full(np.shape(values), np.nan)
    for row, places in zip(np.atleast_2d(values), np.atleast_2d(found), strict=True):
        there = ~np.isnan(row)
        order = np.argsort(row[there], kind="stable")
        ranks = np.empty(len(order))
        ranks[order] = np.arange(len(order))
        places[there] = ranks
    return found


def _reach(spacing: Spacing, steps: int, horizon: int) -> int:
    week = spacing.steps_in(7 * DAY) or 0
    return max(1, min(SHIFTS_MAX, max(2 * horizon, week, 48), steps // 4))


def _at(column: Floats, positions: Rows) -> Floats:
    inside = (positions >= 0) & (positions < len(column))
    return np.where(inside, column[np.clip(positions, 0, len(column) - 1)], np.nan)


def _alike(many: Floats, one: Floats) -> Floats:
    """The sizes of the correlations of each row of `many` with `one`, of what both have."""
    one = one - np.nanmean(one)
    many = np.atleast_2d(many)
    if not np.isnan(many).all():
        many = many - np.nanmean(many)  # so that little is lost where means are large
    there, has = (~np.isnan(many)).astype(np.float64), (~np.isnan(one)).astype(np.float64)
    many, one = np.where(there > 0, many, 0.0), np.where(has > 0, one, 0.0)
    count = np.maximum(there @ has, 1)
    means, mean = many @ has / count, there @ one / count
    common = many @ one / count - means * mean
    spreads = np.square(many) @ has / count - np.square(means)
    spread = there @ np.square(one) / count - np.square(mean)
    product = np.sqrt(np.maximum(spreads * spread, 0.0))
    enough = (count >= max(3, ENOUGH * has.sum())) & (product > 0)
    return np.divide(np.abs(common), product, out=np.zeros_like(product), where=enough)


def _unique(series: Series, feature: Feature, values: Floats) -> list[Finding]:
    there = values[~np.isnan(values)]
    text = series.past[feature.column or ""].labels is not None
    if len(there) < UNIQUE_MIN_ROWS or not (text or np.all(there == np.floor(there))):
        return []
    different = len(np.unique(there))
    if different <= UNIQUE_SHARE * len(there):
        return []
    line = f"{feature.name} has {different:,} values in {len(there):,} rows, as an id has"
    return [Finding(feature=feature.name, kind="unique", severity="warning", line=line)]


def _scaled(feature: Feature, everything: Floats, train: Floats) -> list[Finding]:
    """Whether a column was scaled by what lies past the cut: whole only over all rows."""
    everything, train = everything[~np.isnan(everything)], train[~np.isnan(train)]
    if len(train) < 3 or len(np.unique(everything[:100])) < 3:
        return []
    past = _scalings(train)
    found = [words for words in _scalings(everything) if words not in past]
    return [
        Finding(
            feature=feature.name,
            kind="scaled",
            severity="warning",
            line=f"{feature.name} has {words} over all rows and not over the training part: it "
            "was scaled by rows that are held out",
        )
        for words in found[:1]
    ]


def _scalings(values: Floats) -> list[str]:
    """How values look to be scaled by their own statistics."""
    found = []
    spreads = (float(values.std()), float(values.std(ddof=1)))
    if abs(float(values.mean())) < SCALED and any(abs(one - 1) < SCALED for one in spreads):
        found.append("mean 0 and deviation 1")
    if abs(float(values.min())) < SCALED and abs(float(values.max()) - 1) < SCALED:
        found.append("lowest value 0 and highest 1")
    return found


def _duplicates(
    config: Config, series: Series, plan: Sequence[Feature], parts: Split
) -> list[Finding]:
    """Rows that are held out and were trained on, unless rows of this table repeat anyway."""
    used = [feature for feature in plan if feature.kind in ("column", "lag")]
    if not used:
        return []

    def hashes(positions: Rows) -> NDArray[np.uint64]:
        mixed = np.zeros(len(positions), dtype=np.uint64)
        for name in (config.target, config.labels):
            if name is not None:
                mixed = _mixed(mixed, series.columns[name].values[positions])
        for feature in used:
            mixed = _mixed(mixed, features.values(feature, series, positions, config))
        return mixed

    train, held_out = hashes(parts.train), hashes(np.concatenate(parts[1:]))
    # Of large tables a part: rows that are alike are in it together.
    every = np.uint64(max(1, len(train) // LARGE_ROWS))
    train, held_out = train[train % every == 0], held_out[held_out % every == 0]
    if not len(train):
        return []
    again = int(np.isin(held_out, train).sum())
    counts = np.unique(train, return_counts=True)[1]
    usual = float(counts[counts > 1].sum()) / len(train)
    if again <= USUAL_TIMES * usual * len(held_out):
        return []
    looked_at = " that were looked at" if every > 1 else ""
    line = (
        f"{again:,} of {len(held_out):,} rows that are held out{looked_at} are in the training "
        "part, too"
    )
    return [Finding(feature="*", kind="duplicates", severity="warning", line=line)]


def _mixed(hashes: NDArray[np.uint64], values: Floats) -> NDArray[np.uint64]:
    bits = (values + 0.0).view(np.uint64)
    mixed = (hashes ^ bits) * np.uint64(0xBF58476D1CE4E5B9)
    return np.asarray(mixed ^ (mixed >> np.uint64(29)), dtype=np.uint64)
