"""What a benchmark reports: records, and the table made of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass

from .machine import cpu_model, kernel
from .pairs import Figures, Ratio, Series

AT_MOST = "at most"
AT_LEAST = "at least"


@dataclass(frozen=True)
class Target:
    limit: float
    sense: str

    def met_by(self, ratio: float) -> bool:
        return ratio <= self.limit if self.sense == AT_MOST else ratio >= self.limit


def at_most(limit: float) -> Target:
    return Target(limit, AT_MOST)


def at_least(limit: float) -> Target:
    return Target(limit, AT_LEAST)


@dataclass(frozen=True)
class Record:
    """`ratio` decides `met`; `value` and `rival_value` are printed beside it. No target: reported only."""

    bench: str
    model: str
    metric: str
    value: float
    unit: str
    rival: str
    rival_value: float | None
    ratio: float | None
    target: float | None
    sense: str | None
    met: bool | None
    ratio_q1: float | None
    ratio_q3: float | None
    pairs: int
    repeated: int
    steal: float
    foreign: float
    cpu: str
    kernel: str


class Report:
    """Collects the records of one bench."""

    def __init__(self, bench: str):
        self.bench = bench
        self.records: list[Record] = []

    def paired(
        self,
        model: str,
        metric: str,
        series: Series,
        *,
        value: float,
        unit: str,
        rival: str,
        rival_value: float,
        ratio: Callable[[dict[str, Figures]], float],
        target: Target | None = None,
    ) -> None:
        self._add(
            model, metric, value, unit, rival, rival_value, series.ratio(ratio), target, series
        )

    def single(
        self,
        model: str,
        metric: str,
        *,
        value: float,
        unit: str,
        rival: str = "",
        rival_value: float | None = None,
        target: Target | None = None,
    ) -> None:
        """A figure that no windows were alternated for: a count, a size. The ratio is value / rival_value."""
        ratio = None if rival_value is None else _ratio(value, rival_value)
        made = None if ratio is None else Ratio(ratio, ratio, ratio)
        self._add(model, metric, value, unit, rival, rival_value, made, target, None)

    def _add(
        self,
        model: str,
        metric: str,
        value: float,
        unit: str,
        rival: str,
        rival_value: float | None,
        ratio: Ratio | None,
        target: Target | None,
        series: Series | None,
    ) -> None:
        self.records.append(
            Record(
                bench=self.bench,
                model=model,
                metric=metric,
                value=value,
                unit=unit,
                rival=rival,
                rival_value=rival_value,
                ratio=ratio.median if ratio else None,
                target=target.limit if target else None,
                sense=target.sense if target else None,
                met=target.met_by(ratio.median) if target and ratio else None,
                ratio_q1=ratio.q1 if ratio else None,
                ratio_q3=ratio.q3 if ratio else None,
                pairs=len(series.pairs) if series else 0,
                repeated=series.repeated if series else 0,
                steal=series.steal if series else 0.0,
                foreign=series.foreign if series else 0.0,
                cpu=cpu_model(),
                kernel=kernel(),
            )
        )


def _ratio(value: float, rival_value: float) -> float:
    """Beside nothing, nothing is equal and anything is beyond every target; JSON knows no infinity."""
    if rival_value:
        return value / rival_value
    return 1.0 if value == 0 else 1e9


def as_json(records: list[Record]) -> list[dict]:
    return [asdict(record) for record in records]


COLUMNS = "bench model metric value rival ratio quartiles target met pairs".split()


def table(records: list[Record]) -> str:
    rows = [COLUMNS, *(_row(record) for record in records)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(COLUMNS))]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
    return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:]])


def _row(record: Record) -> list[str]:
    sign = {"at most": "<=", "at least": ">=", None: ""}[record.sense]
    rival = record.rival
    if record.rival_value is not None:
        rival += f" {_number(record.rival_value)}"
    pairs = str(record.pairs) if record.pairs else ""
    if record.repeated:
        pairs += f" (+{record.repeated})"
    return [
        record.bench,
        record.model,
        record.metric,
        f"{_number(record.value)} {record.unit}",
        rival,
        "" if record.ratio is None else _number(record.ratio),
        f"{_number(record.ratio_q1)}..{_number(record.ratio_q3)}" if record.pairs else "",
        "" if record.target is None else f"{sign} {record.target:g}",
        {True: "yes", False: "NO", None: ""}[record.met],
        pairs,
    ]


def _number(value: float) -> str:
    """Three digits that matter."""
    if value == 0:
        return "0"
    if abs(value) >= 100:
        return f"{value:.0f}"
    return f"{value:.3g}"
