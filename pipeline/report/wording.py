"""Figures as people read them; what is not known is a dash."""

from __future__ import annotations

UNKNOWN = "–"


def count(value: float | None) -> str:
    """`24.6 M`, `1.11 G`, `512`: parameters and multiply-accumulates."""
    if value is None:
        return UNKNOWN
    for limit, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= limit:
            return f"{_three(value / limit)} {unit}"
    return f"{value:.0f}"


def megabytes(value: float | None) -> str:
    """`98.05`, `2.67`: millions of bytes."""
    return UNKNOWN if value is None else f"{value:.2f}"


def milliseconds(value: float | None) -> str:
    """`24.2`, `2.91`, `0.351`: three digits that count."""
    return UNKNOWN if value is None else _three(value)


def percent(share: float | None, digits: int = 2) -> str:
    """`97.92 %` for 0.9792."""
    return UNKNOWN if share is None else f"{100 * share:.{digits}f} %"


def points(difference: float, sign: bool = True) -> str:
    """`-0.27` for a change of -0.0027: percentage points."""
    # Adding 0 turns a rounded -0.0 into 0.0.
    rounded = round(100 * difference, 2) + 0.0
    return f"{rounded:+.2f}" if sign and rounded else f"{rounded:.2f}"


def interval(difference: float, low: float, high: float) -> str:
    """`-0.27 (-0.62 to +0.07)`, in percentage points: a change and its confidence interval."""
    return f"{points(difference)} ({points(low)} to {points(high)})"


def times(ratio: float | None) -> str:
    """`8.3x`, `36.7x`, `0.95x`."""
    if ratio is None:
        return UNKNOWN
    return f"{ratio:.1f}x" if ratio >= 10 else f"{ratio:.2f}x"


def _three(value: float) -> str:
    """A value above 0 with three digits that count, all digits before the point kept."""
    return (
        f"{value:.0f}"
        if value >= 100
        else f"{value:.1f}"
        if value >= 10
        else f"{value:.2f}"
        if value >= 1
        else f"{value:.3f}"
    )
