"""Numbers as a person would write them, in the report, its figures and the terminal."""

from __future__ import annotations

import math
from collections.abc import Sequence

ABSENT = "-"


def percent(value: float) -> str:
    """Return such as ``97.31 %``."""
    return f"{value:.2f} %"


def points(value: float) -> str:
    """Return a difference in percentage points, with its sign; none for zero, a dash for none."""
    if math.isnan(value):
        return ABSENT
    text = f"{value:+.2f}"
    return "0.00" if float(text) == 0 else text


def spread(mean: float, sd: float) -> str:
    """Return such as ``97.31 ± 0.24``; for a single seed the mean alone."""
    return f"{mean:.2f}" if math.isnan(sd) else f"{mean:.2f} ± {sd:.2f}"


def interval_name(confidence: float) -> str:
    """Return such as ``98.75 % interval``."""
    return f"{100 * confidence:.4g} % interval"


def p_value(p: float) -> str:
    """Return such as ``0.42``, ``0.012`` or ``< 0.0001``; what is not known is a dash."""
    if math.isnan(p):
        return ABSENT
    if p < 0.0001:
        return "< 0.0001"
    return f"{p:.2f}" if p >= 0.095 else f"{p:.1g}" if p < 0.00095 else f"{p:.3f}"


def change(value: float, reference: float) -> str:
    """Return such as ``+0.2 %``: how `value` compares to `reference`; ``0 %`` if it rounds so."""
    percentage = 100 * (value / reference - 1)
    text = f"{percentage:+.{1 if abs(percentage) < 9.95 else 0}f}"
    return "0 %" if float(text) == 0 else f"{text} %"


def relative(value: float, reference: float, less: str = "less") -> str:
    """Return such as ``0.2 % more`` or ``no more``: how `value` compares to `reference`."""
    text = change(value, reference)
    return "no more" if text == "0 %" else f"{text[1:]} {'more' if text[0] == '+' else less}"


def listed(names: Sequence[str]) -> str:
    """Return such as ``a, b and c``."""
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))


def large(value: float) -> str:
    """Return a count with three digits and a unit of thousands, such as ``1.15 M``."""
    for unit, size in (("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= 0.9995 * size:  # what rounds to the unit is written in it
            return f"{value / size:.3g} {unit}"
    return f"{value:g}"


def latency(milliseconds: float) -> str:
    """Return a time for one image such as ``0.574 ms`` or ``1.23 s``."""
    if milliseconds >= 999.5:
        return f"{milliseconds / 1000:.3g} s"
    return f"{milliseconds:.3g} ms"


def duration(seconds: float) -> str:
    """Return a time such as ``0.8 s``, ``47 s``, ``12.5 min`` or ``3.1 h``."""
    if seconds < 100:
        return f"{seconds:.{1 if seconds < 10 else 0}f} s"
    return f"{seconds / 60:.1f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
