"""A line of the table: what was measured, what it has to be, and whether it is."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median
from typing import Literal


@dataclass(frozen=True)
class Mark:
    """What a figure has to be.

    Attributes:
        bound: whether the figure may not be smaller or not be larger, or is shown for itself.
        limit: the smallest or largest that will do.
        unit: printed behind the figure, with a space before it where there is to be one.
        digits: after the decimal point.
    """

    bound: Literal["at least", "at most", "no mark"]
    limit: float
    unit: str
    digits: int = 2

    def is_met(self, figure: float) -> bool:
        """Tell whether a figure will do."""
        match self.bound:
            case "at least":
                return figure >= self.limit
            case "at most":
                return figure <= self.limit
            case "no mark":
                return True

    def show(self, figure: float) -> str:
        """Return a figure with its unit."""
        return f"{figure:,.{self.digits}f}{self.unit}"

    def __str__(self) -> str:
        return "" if self.bound == "no mark" else f"{self.bound} {self.limit:g}{self.unit}"


@dataclass(frozen=True)
class Line:
    """What one line of the table says.

    Attributes:
        what: is measured.
        ours: what this pipeline took or reached, in words.
        against: what it is compared with, and what that took or reached.
        figures: what the mark is about, one for each turn; empty if this machine can't tell.
        mark: what their median has to be.
        limits: what keeps the figure from being better, in sentences; or why there is none.
    """

    what: str
    ours: str
    against: str
    figures: tuple[float, ...]
    mark: Mark
    limits: str

    def figure(self) -> str:
        """Return the median of the turns, with the lowest and the highest."""
        if not self.figures:
            return "not measured"
        shown = self.mark.show(median(self.figures))
        if len(self.figures) == 1:
            return shown
        lowest, highest = (f"{bound(self.figures):,.{self.mark.digits}f}" for bound in (min, max))
        return f"{shown} ({lowest} to {highest})"

    def verdict(self) -> str:
        """Return whether the mark is met, and else by how much it is missed."""
        if not self.figures:
            return self.limits
        if self.mark.bound == "no mark":
            return ""
        figure = median(self.figures)
        if self.mark.is_met(figure):
            return "met"
        return f"missed by {self.mark.show(abs(figure - self.mark.limit))}"


def at_rate(rates: tuple[float, ...]) -> str:
    """Return the median of some rates, as images a second."""
    return f"{median(rates):,.0f} images/s"


def in_seconds(seconds: tuple[float, ...]) -> str:
    """Return the median of some times."""
    return f"{median(seconds):,.2f} s"
