"""What calls return. Values of replies that have no field here are in `raw`, as the node sent them."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Tuple

Json = Any
Raw = Mapping[str, Any]


def parse_time(text: str) -> datetime:
    """RFC 3339 in UTC, with up to nine digits of a second; Python 3.9's fromisoformat knows neither Z nor nine."""
    whole, _, fraction = text.rstrip("Zz").partition(".")
    micros = int(fraction[:6].ljust(6, "0")) if fraction else 0
    return datetime.fromisoformat(whole).replace(microsecond=micros, tzinfo=timezone.utc)


class Prediction(Dict[str, Any]):
    """The outputs by name, NumPy arrays, or the object that a function without types answered; and how it came to be."""

    version: int = 0  # which one answered
    start: str = ""  # "hot", "template", "environment" or "cold": how its instance came
    invocation: str = ""  # the key of its record in the ledger
    request_id: str = ""
    queue_ms: float = 0.0
    start_ms: float = 0.0
    run_ms: float = 0.0
    batch: int = 1  # requests that ran together
    cached: bool = False  # a kept reply of an equal request


@dataclass(frozen=True)
class TensorSpec:
    name: str
    datatype: str  # as Open Inference v2 spells it: "FP32"
    shape: Tuple[int, ...]  # -1: any

    @staticmethod
    def of(raw: Raw) -> TensorSpec:
        return TensorSpec(raw["name"], raw["datatype"], tuple(raw["shape"]))

    def __str__(self) -> str:
        return f"{self.name} {self.datatype} {list(self.shape)}"


@dataclass(frozen=True)
class Signature:
    inputs: Tuple[TensorSpec, ...]
    outputs: Tuple[TensorSpec, ...]

    @staticmethod
    def of(raw: Raw) -> Signature:
        return Signature(
            tuple(map(TensorSpec.of, raw["inputs"])), tuple(map(TensorSpec.of, raw["outputs"]))
        )


@dataclass(frozen=True)
class Deployment:
    """A version that was published."""

    function: str
    version: int
    traffic: int  # percent of the requests
    rollout: bool  # whether it climbs by itself
    notes: Tuple[str, ...]  # what the deployer should know
    measured: Raw = field(repr=False)

    @staticmethod
    def of(raw: Raw) -> Deployment:
        return Deployment(
            raw["function"],
            raw["version"],
            raw["traffic"],
            raw["rollout"],
            tuple(raw["notes"]),
            raw["measured"],
        )


@dataclass(frozen=True)
class Function:
    name: str
    version: int  # the current one
    versions: int  # how many there are
    state: str  # "running", "template" or "zero"
    instances: int
    templates: int
    queued: int
    created: datetime

    @staticmethod
    def of(raw: Raw) -> Function:
        return Function(
            raw["name"],
            raw["version"],
            raw["versions"],
            raw["state"],
            raw["instances"],
            raw["templates"],
            raw["queued"],
            parse_time(raw["created"]),
        )


@dataclass(frozen=True)
class Version:
    version: int
    current: bool
    weight: int  # percent of the requests
    shadow: int  # percent of the requests whose copies it gets
    aliases: Tuple[str, ...]
    state: str
    created: datetime
    deployed_by: str
    raw: Raw = field(repr=False)

    @staticmethod
    def of(raw: Raw) -> Version:
        return Version(
            raw["version"],
            raw["current"],
            raw["weight"],
            raw["shadow"],
            tuple(raw["aliases"]),
            raw["state"],
            parse_time(raw["created"]),
            raw["deployed_by"],
            raw,
        )


@dataclass(frozen=True)
class Description:
    name: str
    version: int
    state: str
    inputs: Tuple[TensorSpec, ...]
    outputs: Tuple[TensorSpec, ...]
    options: Raw
    settings: Raw
    created: datetime
    raw: Raw = field(repr=False)  # also what was measured, its processes and the last decisions

    @staticmethod
    def of(raw: Raw) -> Description:
        signature = Signature.of(raw)
        return Description(
            raw["name"],
            raw["version"],
            raw["state"],
            signature.inputs,
            signature.outputs,
            raw["options"],
            raw["settings"],
            parse_time(raw["created"]),
            raw,
        )


@dataclass(frozen=True)
class Traffic:
    function: str
    champion: int
    weights: Mapping[int, int]  # version → percent of the requests
    shadows: Mapping[int, int]  # version → percent of the requests whose copies it gets
    aliases: Mapping[str, int]
    sticky_header: str
    raw: Raw = field(repr=False)  # also how shadows compare

    @staticmethod
    def of(raw: Raw) -> Traffic:
        return Traffic(
            raw["function"],
            raw["champion"],
            {int(version): share for version, share in raw["weights"].items()},
            {int(version): share for version, share in raw["shadows"].items()},
            dict(raw["aliases"]),
            raw["sticky_header"],
            raw,
        )


@dataclass(frozen=True)
class LogLine:
    time: datetime
    source: str  # "iris@1"
    text: str

    @staticmethod
    def of(raw: Raw) -> LogLine:
        return LogLine(parse_time(raw["time"]), raw["source"], raw["text"])

    def __str__(self) -> str:
        return f"{self.time:%Y-%m-%d %H:%M:%S} {self.source} {self.text}"


@dataclass(frozen=True)
class UsageRow:
    """One version of one function; docs/billing.md defines every figure."""

    project: str
    function: str
    version: int
    requests: int  # served by an instance
    errors: int  # of those
    refused: int  # served by none, and free
    run_us: int
    cpu_us: int
    gb_seconds: Decimal
    cpu_seconds: Decimal
    price: Decimal
    raw: Raw = field(repr=False)

    @staticmethod
    def of(raw: Raw) -> UsageRow:
        return UsageRow(
            raw["project"],
            raw["function"],
            raw["version"],
            raw["requests"],
            raw["errors"],
            raw["refused"],
            raw["run_us"],
            raw["cpu_us"],
            Decimal(raw["gb_seconds"]),
            Decimal(raw["cpu_seconds"]),
            Decimal(raw["price"]),
            raw,
        )


@dataclass(frozen=True)
class Usage:
    """The bill: a pure function of the ledger."""

    rows: Tuple[UsageRow, ...]
    total: Decimal
    since: Optional[datetime]  # the hour it begins with; None: all

    @staticmethod
    def of(raw: Raw) -> Usage:
        since = parse_time(raw["since"]) if raw["since"] else None
        return Usage(tuple(map(UsageRow.of, raw["rows"])), Decimal(raw["total"]), since)


@dataclass(frozen=True)
class Event:
    """A prediction that nobody waits for."""

    id: str
    function: str
    state: str  # "waiting", "running", "done", "dead", "cancelled" or "expired"
    attempts: int  # that count
    max_attempts: int
    accepted: datetime
    expires: datetime  # what has not ended by then expires
    reason: str  # of the last attempt that failed
    error: str  # the same, for people
    raw: Raw = field(repr=False)

    @property
    def is_over(self) -> bool:
        return self.state not in ("waiting", "running")

    @staticmethod
    def of(raw: Raw) -> Event:
        return Event(
            raw["id"],
            raw["function"],
            raw["state"],
            raw["attempts"],
            raw["max_attempts"],
            parse_time(raw["accepted"]),
            parse_time(raw["expires"]),
            raw.get("reason", ""),
            raw.get("error", ""),
            raw,
        )


@dataclass(frozen=True)
class JobFile:
    """A file that a job made."""

    name: str  # a relative path
    size: int
    sha256: str

    @staticmethod
    def of(raw: Raw) -> JobFile:
        return JobFile(raw["name"], raw["size"], raw["sha256"])


@dataclass(frozen=True)
class JobProgress:
    """How far a job is, as it says itself."""

    fraction: Optional[float]  # 0 to 1; None: not known
    text: str
    metrics: Mapping[str, float]
    eta: Optional[float]  # seconds until its end, as things go

    @staticmethod
    def of(raw: Raw) -> JobProgress:
        return JobProgress(raw.get("fraction"), raw["text"], dict(raw["metrics"] or {}), raw.get("eta_s"))

    def __str__(self) -> str:
        share = None if self.fraction is None else f"{100 * self.fraction:.0f} %"
        left = None if self.eta is None else f"{self.eta:.0f} s left"
        return ", ".join(part for part in (self.text, share, left) if part)


@dataclass(frozen=True)
class JobStatus:
    """A job as it was when it was looked at."""

    id: str
    function: str  # or the dataset, of what puts one
    version: int  # settled when it was submitted; 0: of a training or a dataset
    kind: str  # "run", "batch", "train", …
    state: str  # "queued", "running", "paused", "done", "failed", "cancelled" or "expired"
    progress: JobProgress
    result: Any  # of a done one: what run() returned
    files: Tuple[JobFile, ...]  # of a done one; not told in lists of jobs
    reason: str  # why it failed; of one that goes on, its last slice that did
    error: str  # the same, for people
    submitted: datetime
    expires: datetime  # what has not ended by then expires
    raw: Raw = field(repr=False)

    @property
    def is_over(self) -> bool:
        return self.state not in ("queued", "running", "paused")

    @staticmethod
    def of(raw: Raw) -> JobStatus:
        return JobStatus(
            raw["id"],
            raw.get("function") or raw.get("dataset", ""),
            raw.get("version", 0),
            raw["kind"],
            raw["state"],
            JobProgress.of(raw["progress"]),
            raw.get("result"),
            tuple(map(JobFile.of, raw.get("files", ()))),
            raw.get("reason", ""),
            raw.get("error", ""),
            parse_time(raw["submitted"]),
            parse_time(raw["expires"]),
            raw,
        )


@dataclass(frozen=True)
class Snapshot:
    """A dataset as it was put: it never changes."""

    dataset: str
    number: int
    rows: Dict[str, int]  # "train", "valid" and "test"
    raw: Raw = field(repr=False)

    def __str__(self) -> str:
        return f"{self.dataset}@{self.number}"

    @staticmethod
    def of(raw: Raw) -> Snapshot:
        return Snapshot(raw["dataset"], raw["snapshot"], dict(raw["rows"]), raw)


class JobView:
    """What both clients' jobs say of themselves: as they were when they were last asked, in `status`."""

    def __init__(self, status: JobStatus) -> None:
        self.status = status

    @property
    def id(self) -> str:
        return self.status.id

    @property
    def function(self) -> str:
        return self.status.function

    @property
    def state(self) -> str:
        return self.status.state

    @property
    def is_over(self) -> bool:
        return self.status.is_over

    @property
    def progress(self) -> JobProgress:
        return self.status.progress

    @property
    def result(self) -> Any:
        return self.status.result

    @property
    def files(self) -> Tuple[JobFile, ...]:
        return self.status.files

    @property
    def reason(self) -> str:
        return self.status.reason

    @property
    def error(self) -> str:
        return self.status.error

    def __repr__(self) -> str:
        about = f"{self.status.function}@{self.status.version} {self.id} {self.state}"
        return f"<{type(self).__name__} {about}>"


class BatchError(NamedTuple):
    """A row that failed."""

    row: int  # counted from 1: frame.iloc[row - 1]
    reason: str
    error: str
    input: str = ""  # the row, where it is known

    @staticmethod
    def of(raw: Raw) -> BatchError:
        return BatchError(raw["row"], raw["reason"], raw["error"], str(raw.get("input", "")))


class BatchErrors(List[BatchError]):
    """The rows of a batch that failed, in their order. Plain enough for JSON: pandas writes `frame.attrs` as that."""


@dataclass(frozen=True)
class BatchResult:
    """A file of predictions that a batch made of another file."""

    output: Path
    rows: int
    errors: BatchErrors  # also in OUTPUT.errors.jsonl, where there are any
    job: JobStatus
