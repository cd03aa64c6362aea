"""What is asked of figures, and what they say: medians, spreads, and ratios paired round by round."""

import dataclasses
import math
import statistics

# Two-sided 95 % of Student's t, by degrees of freedom.
STUDENT = {1: 12.71, 2: 4.30, 3: 3.18, 4: 2.78, 5: 2.57, 6: 2.45, 7: 2.36, 8: 2.31, 9: 2.26}
STUDENT_LARGE = 2.2


@dataclasses.dataclass
class Goal:
    """A figure to reach: of one subject, or against another."""

    what: str
    subject: str
    field: str
    least: float | None = None
    most: float | None = None
    stretch: float | None = None
    against: str | None = None
    scale: float = 1.0
    unit: str = ""
    digits: int = 2

    def of(self, figures):
        """Median and interval: of the values, or of the ratios that the rounds give; `None` where a side is missing."""
        mine = [one[self.field] * self.scale for one in figures.get(self.subject, [])]
        if self.against is None:
            return (statistics.median(mine), min(mine), max(mine)) if mine else None
        other = [one[self.field] * self.scale for one in figures.get(self.against, [])]
        pairs = [a / b for a, b in zip(mine, other) if a > 0 and b > 0]
        return ratio(pairs) if pairs else None

    def verdict(self, middle):
        bound = self.least if self.least is not None else self.most
        better = (lambda a, b: a >= b) if self.least is not None else (lambda a, b: a <= b)
        if self.stretch is not None and better(middle, self.stretch):
            return "stretch"
        return "reached" if better(middle, bound) else "**not reached**"

    def asked(self):
        sign, bound = ("≥", self.least) if self.least is not None else ("≤", self.most)
        times = " ×" if self.against else f" {self.unit}".rstrip()
        stretch = f" ({number(self.stretch)})" if self.stretch is not None else ""
        return f"{sign} {number(bound)}{stretch}{times}"

    def said(self, found):
        middle, low, high = (f"{value:,.{self.digits}f}" for value in found)
        times = " ×" if self.against else f" {self.unit}".rstrip()
        return f"{middle}{times} ({low} to {high})"


def ratio(pairs):
    """The geometric mean of the ratios with its 95 % interval; of one round, the ratio itself."""
    logs = [math.log(pair) for pair in pairs]
    middle = statistics.mean(logs)
    if len(logs) < 2:
        return math.exp(middle), math.exp(middle), math.exp(middle)
    half = STUDENT.get(len(logs) - 1, STUDENT_LARGE) * statistics.stdev(logs) / math.sqrt(len(logs))
    return math.exp(middle), math.exp(middle - half), math.exp(middle + half)


def number(value):
    return f"{value:,.0f}" if value >= 100 or value == int(value) else f"{value:g}"


def spread(values, digits):
    median, least, greatest = (f"{value:,.{digits}f}" for value in (statistics.median(values), min(values), max(values)))
    return median if len(values) == 1 else f"{median} ({least} to {greatest})"
