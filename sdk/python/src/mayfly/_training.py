"""Datasets and trainings, as operations (`_exchange`) that both clients drive."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Sequence, Union

from . import _frames, _jobs
from ._artifact import ArtifactFile
from ._control import Progress, json_body, plain_value, read_as, upload
from ._exchange import Patience, Pause, Request, Steps, Work, exchange, json_of
from ._paths import function_path, segment
from .errors import Busy, ConnectionFailed, InvalidArgument, TimedOut
from .types import JobStatus, Snapshot

FORMATS = {
    **_jobs.FORMATS,
    ".tsv": "tsv",
    ".pq": "parquet",
    ".arff": "arff",
    ".npz": "npz",
    ".zip": "images",
}


ROLLOUT_LOOK = 0.5  # seconds
# That find it held or ended: a hold may pass by itself, and how it ended is written a moment later.
STEADY_LOOKS = 10
ROLLOUT_ENDS = {
    "done": "promoted",
    "rollback": "rolled_back",
    "abort": "aborted",
    "superseded": "superseded",
    "ended": "ended",  # its traffic was moved by hand, or the node ended meanwhile
    "not_started": "not_started",
}


@dataclass(frozen=True)
class DataOptions:
    target: Optional[str] = None
    types: Optional[Mapping[str, str]] = None
    drop: Optional[Sequence[str]] = None
    split: Optional[Mapping[str, Any]] = None
    append: bool = False

    def request(self, format: str, sources: List[Dict[str, str]]) -> Dict[str, Any]:
        wanted: Dict[str, Any] = {
            "format": format,
            "sources": sources,
            "target": self.target,
            "columns": self.types,
            "drop": None if self.drop is None else list(self.drop),
            "split": self.split,
            "append": self.append or None,
        }
        return {name: value for name, value in wanted.items() if value is not None}


def put(
    patience: Patience,
    name: str,
    data: Any,
    options: DataOptions,
    timeout: Optional[float],
    on_progress: Optional[Progress],
) -> Steps[Snapshot]:
    if isinstance(data, (str, os.PathLike)):
        path = Path(data)
        return (yield from _put_file(patience, name, path, options, timeout, on_progress))
    if not _frames.is_frame(data):
        raise InvalidArgument(
            f"a {type(data).__module__}.{type(data).__qualname__} is no table",
            "put takes the path of a file, or a pandas DataFrame",
        )
    folder = Path((yield Work(lambda: tempfile.mkdtemp(prefix="mayfly-put-"))))
    try:
        path = yield Work(lambda: _frames.write_frame(data, folder, documents=True))
        return (yield from _put_file(patience, name, path, options, timeout, on_progress))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _put_file(
    patience: Patience,
    name: str,
    path: Path,
    options: DataOptions,
    timeout: Optional[float],
    on_progress: Optional[Progress],
) -> Steps[Snapshot]:
    format = FORMATS.get(path.suffix.lower())
    if format is None:
        raise InvalidArgument(
            f"{path}: its name does not say what it is", f"call it {', '.join(FORMATS)}"
        )
    if not path.is_file():
        raise InvalidArgument(f"{path}: {'not a file' if path.exists() else 'no such file'}")
    told: Progress = on_progress or (lambda line: None)
    file = ArtifactFile(path.name, path, path.stat().st_size)
    digest: str = yield Work(file.digest)
    slow = Patience(max(patience.timeout, _jobs.TRANSFER_TIMEOUT), patience.retries)
    yield from upload(slow, file, digest, told)
    wanted = options.request(format, [{"name": path.name, "sha256": digest}])
    target = f"/api/v1/datasets/{segment(name)}/snapshots"
    accepted = yield from _send(patience, target, wanted)
    if "snapshot" not in accepted:  # else it is there already
        job = yield from _jobs.wait(patience, str(accepted["id"]), timeout, told)
        accepted = dict(_jobs.done(job).result)
    return read_as(Snapshot.of, {**accepted, "dataset": name})


@dataclass(frozen=True)
class TrainOptions:
    target: Optional[str]
    goal: Optional[str]
    search: Optional[bool]
    trials: Optional[int]
    time: Union[None, str, timedelta]
    cost: Optional[float]
    trainer: Optional[str]
    trainer_function: Optional[str]
    params: Optional[Mapping[str, Any]]
    space: Optional[Mapping[str, Any]]
    metric: Optional[str]
    task: Optional[str]
    group: Optional[str]
    columns: Optional[Sequence[str]]
    drop: Optional[Sequence[str]]
    seed: Optional[int]
    threads: Optional[int]
    workers: Optional[int]
    deploy: bool

    def request(self, data: str) -> Dict[str, Any]:
        span = f"{int(self.time.total_seconds())}s" if isinstance(self.time, timedelta) else self.time
        budget = {"trials": self.trials, "time": span, "cost": self.cost}
        wanted: Dict[str, Any] = {
            "data": data,
            "target": self.target,
            "goal": self.goal,
            "search": self.search,
            "budget": {name: value for name, value in budget.items() if value is not None} or None,
            "trainer": self.trainer or (self.trainer_function and "function"),
            "function": self.trainer_function,
            "params": self.params,
            "space": self.space,
            "metric": self.metric,
            "task": self.task,
            "group": self.group,
            "columns": None if self.columns is None else list(self.columns),
            "drop": None if self.drop is None else list(self.drop),
            "seed": self.seed,
            "threads": self.threads,
            "workers": self.workers,
            "deploy": None if self.deploy else False,
        }
        return {name: value for name, value in wanted.items() if value is not None}


def train(
    patience: Patience,
    name: str,
    data: Any,
    options: TrainOptions,
    wait: bool,
    timeout: Optional[float],
    on_progress: Optional[Progress],
) -> Steps[JobStatus]:
    """`data`: the name of a dataset, "credit@3", a Snapshot; or a table, which becomes a snapshot of the dataset `name`."""
    if not isinstance(data, (str, Snapshot)) or (isinstance(data, str) and Path(data).is_file()):
        table = DataOptions(target=options.target)
        data = yield from put(patience, name, data, table, timeout, on_progress)
    wanted = options.request(str(data))
    accepted = yield from _send(patience, function_path(name) + "/trainings", wanted)
    status: JobStatus = read_as(JobStatus.of, accepted)
    if not wait:
        return status
    deadline = None if timeout is None else time.monotonic() + timeout
    ended = _jobs.done((yield from _jobs.wait(patience, status.id, timeout, on_progress)))
    begun = ended.result.get("rollout") if isinstance(ended.result, dict) else None
    if begun and begun["state"] == "started":
        version = ended.result["version"]
        end = yield from follow_rollout(patience, name, version, deadline, on_progress)
        ended.result["rollout"] = end
    return ended


def follow_rollout(
    patience: Patience,
    name: str,
    version: int,
    deadline: Optional[float],
    on_progress: Optional[Progress],
) -> Steps[Dict[str, Any]]:
    """How the rollout of the version has ended, or that it waits for a person."""
    answered, steady, said = time.monotonic(), 0, ""
    while True:
        try:
            response = yield from exchange(
                Request("GET", function_path(name) + "/rollout", repeatable=True), patience
            )
            answered = time.monotonic()
            now = rollout_of(json_of(response), version)
            steady = steady + 1 if now["state"] in ("held", "ended") else 0
            if now["state"] not in ("running", "held", "ended") or steady == STEADY_LOOKS:
                return now
            line = f"version {version} is rolled out: {now['why']}"
            if on_progress is not None and line != said:
                on_progress(line)
            said = line
        except (ConnectionFailed, Busy):
            if time.monotonic() - answered > patience.timeout:
                raise
        if deadline is not None and time.monotonic() + ROLLOUT_LOOK > deadline:
            raise TimedOut(f"the rollout of version {version} of {name} has not ended", "it goes on by itself")
        yield Pause(ROLLOUT_LOOK)


def rollout_of(about: Mapping[str, Any], version: int) -> Dict[str, Any]:
    if about["state"] == "running" and about["version"] == version:
        held = about.get("held")
        return {"state": "held" if held else "running", "why": held or about["decision"]["why"]}
    for line in about["decisions"]:  # the newest comes first
        change = line["change"]
        if change["version"] != version:
            continue
        if change["what"] in ROLLOUT_ENDS:
            end = {"state": ROLLOUT_ENDS[change["what"]], "why": change.get("why", "")}
            return {**end, **({"judged_on": change["judged_on"]} if "judged_on" in change else {})}
        return {"state": "ended", "why": "it is under way no more, and the history does not say how it ended"}
    return {"state": "running", "why": "it begins"}


def _send(patience: Patience, path: str, wanted: Mapping[str, Any]) -> Steps[Dict[str, Any]]:
    body = json_body(wanted, plain_value)
    request = Request("POST", path, {"Content-Type": "application/json"}, [body])
    response = yield from exchange(request, patience)
    found: Dict[str, Any] = json_of(response)
    return found
