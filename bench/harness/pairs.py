"""Pairs: windows of Mayfly and of its rivals in turn, so that what slows the machine slows both.

Only the ratio within a pair counts. The order turns with each pair. A pair during which more than 5 % of the processors
was stolen or used by others is measured again, at most three times; the quietest attempt is kept, and every repetition
is counted.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from .machine import Account
from .statistics import median, quantile

PAIRS = 7
QUIET = 0.05
REPEATS = 3

Figures = dict[str, float]
Window = Callable[[], Figures]


@dataclass(frozen=True)
class Pair:
    figures: dict[str, Figures]  # by window
    steal: float
    foreign: float


@dataclass(frozen=True)
class Ratio:
    """The median of the paired ratios, and its quartiles."""

    median: float
    q1: float
    q3: float


@dataclass
class Series:
    pairs: list[Pair] = field(default_factory=list)
    repeated: int = 0

    def value(self, window: str, figure: str) -> float:
        return median([pair.figures[window][figure] for pair in self.pairs])

    def ratio(self, of: Callable[[dict[str, Figures]], float]) -> Ratio:
        ratios = [of(pair.figures) for pair in self.pairs]
        return Ratio(median(ratios), quantile(ratios, 0.25), quantile(ratios, 0.75))

    @property
    def steal(self) -> float:
        return max(pair.steal for pair in self.pairs)

    @property
    def foreign(self) -> float:
        return max(pair.foreign for pair in self.pairs)


def measure_pairs(
    account: Account, windows: dict[str, Window], *, until: float, pairs: int = PAIRS
) -> Series:
    """`until`: time.monotonic() after which no pair is repeated any more."""
    series = Series()
    for i in range(pairs):
        order = list(windows.items())
        if i % 2:
            order.reverse()
        best = _measure_pair(account, order)
        for _ in range(REPEATS):
            if max(best.steal, best.foreign) <= QUIET or time.monotonic() > until:
                break
            series.repeated += 1
            again = _measure_pair(account, order)
            best = min(best, again, key=lambda pair: max(pair.steal, pair.foreign))
        series.pairs.append(best)
        print(".", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    return series


def _measure_pair(account: Account, order: list[tuple[str, Window]]) -> Pair:
    watch = account.watch()
    figures = {name: window() for name, window in order}
    disturbance = watch.stop()
    return Pair(figures, disturbance.steal, disturbance.foreign)
