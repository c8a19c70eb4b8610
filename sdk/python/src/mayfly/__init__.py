"""Deploy models to a Mayfly node and call them.

    import mayfly

    mayfly.deploy("iris", classifier, example=X)      # a fitted estimator, bytes of ONNX, or a folder
    mayfly.call("iris", {"X": X[:3]})["probabilities"]

These functions use one client, found in the environment as the command line finds its node; `Client` and `AsyncClient` are
for everything else. docs/python-sdk.md has the whole.
"""

from __future__ import annotations

import os
import threading
from datetime import datetime, timedelta
from typing import Any, Dict, Iterator, List, Mapping, Optional, Sequence, Tuple, Union

from ._control import Progress
from ._jobs import Columns, Keep
from ._settings import Settings, find_settings
from .aio import AsyncClient, AsyncJob
from .client import DEPLOY_TIMEOUT, Client, Job
from .errors import (
    BadReply,
    Busy,
    Conflict,
    ConnectionFailed,
    DeadlineExceeded,
    EventFailed,
    ExecutionFailed,
    InvalidArgument,
    InvalidRequest,
    JobFailed,
    MayflyError,
    MissingPackage,
    NodeError,
    NotFound,
    PermissionDenied,
    TimedOut,
    Unauthenticated,
    Unsupported,
)
from .types import (
    BatchError,
    BatchErrors,
    BatchResult,
    Deployment,
    Description,
    Event,
    Function,
    JobFile,
    JobProgress,
    JobStatus,
    LogLine,
    Prediction,
    Snapshot,
    TensorSpec,
    Traffic,
    Usage,
    UsageRow,
    Version,
)

__version__ = "0.1.0"

_lock = threading.Lock()
_default: Optional[Tuple[Settings, Client]] = None


def default_client() -> Client:
    """The client of these functions; another one once the environment says something else."""
    global _default
    settings = find_settings()
    with _lock:
        if _default is None or _default[0] != settings:
            _default = (settings, Client())
        return _default[1]


def call(
    name: str,
    inputs: Any,
    *,
    outputs: Optional[Sequence[str]] = None,
    timeout: Optional[float] = None,
    content_type: Optional[str] = None,
    key: Optional[str] = None,
    request_id: Optional[str] = None,
    priority: Optional[int] = None,
) -> Any:
    """`Client.call` of the default client."""
    return default_client().call(
        name,
        inputs,
        outputs=outputs,
        timeout=timeout,
        content_type=content_type,
        key=key,
        request_id=request_id,
        priority=priority,
    )


def stream(
    name: str,
    inputs: Any,
    *,
    timeout: Optional[float] = None,
    key: Optional[str] = None,
    request_id: Optional[str] = None,
) -> Iterator[Any]:
    """`Client.stream` of the default client."""
    return default_client().stream(name, inputs, timeout=timeout, key=key, request_id=request_id)


def call_async(
    name: str,
    inputs: Any,
    *,
    outputs: Optional[Sequence[str]] = None,
    content_type: Optional[str] = None,
    key: Optional[str] = None,
    request_id: Optional[str] = None,
    priority: Optional[int] = None,
    idempotency_key: Optional[str] = None,
) -> Event:
    """`Client.call_async` of the default client."""
    return default_client().call_async(
        name,
        inputs,
        outputs=outputs,
        content_type=content_type,
        key=key,
        request_id=request_id,
        priority=priority,
        idempotency_key=idempotency_key,
    )


def result(event: Union[str, Event], *, timeout: Optional[float] = None) -> Any:
    """`Client.result` of the default client."""
    return default_client().result(event, timeout=timeout)


def event(event: Union[str, Event]) -> Event:
    """`Client.event` of the default client."""
    return default_client().event(event)


def events(name: str, *, state: Optional[str] = None, limit: int = 100) -> List[Event]:
    """`Client.events` of the default client."""
    return default_client().events(name, state=state, limit=limit)


def cancel(event: Union[str, Event]) -> Event:
    """`Client.cancel` of the default client."""
    return default_client().cancel(event)


def redrive(event: Union[str, Event]) -> Event:
    """`Client.redrive` of the default client."""
    return default_client().redrive(event)


def run(
    name: str,
    inputs: Any = None,
    *,
    wait: bool = True,
    timeout: Optional[float] = None,
    max_age: Union[None, str, timedelta] = None,
    keep_for: Union[None, str, timedelta] = None,
) -> Job:
    """`Client.run` of the default client."""
    return default_client().run(
        name, inputs, wait=wait, timeout=timeout, max_age=max_age, keep_for=keep_for
    )


def jobs(
    function: Optional[str] = None, state: Optional[str] = None, *, limit: int = 100
) -> List[Job]:
    """`Client.jobs` of the default client."""
    return default_client().jobs(function, state, limit=limit)


def job(id: str) -> Job:
    """`Client.job` of the default client."""
    return default_client().job(id)


def batch(
    name: str,
    data: Any,
    *,
    output: Union[None, str, os.PathLike[str]] = None,
    columns: Optional[Columns] = None,
    keep: Keep = None,
    chunk_rows: Optional[int] = None,
    max_errors: Optional[int] = None,
    timeout: Optional[float] = None,
    on_progress: Optional[Progress] = None,
) -> Any:
    """`Client.batch` of the default client."""
    return default_client().batch(
        name,
        data,
        output=output,
        columns=columns,
        keep=keep,
        chunk_rows=chunk_rows,
        max_errors=max_errors,
        timeout=timeout,
        on_progress=on_progress,
    )


def put(
    name: str,
    data: Any,
    *,
    target: Optional[str] = None,
    types: Optional[Mapping[str, str]] = None,
    drop: Optional[Sequence[str]] = None,
    split: Optional[Mapping[str, Any]] = None,
    append: bool = False,
    timeout: Optional[float] = None,
    on_progress: Optional[Progress] = None,
) -> Snapshot:
    """`Client.put` of the default client."""
    return default_client().put(
        name,
        data,
        target=target,
        types=types,
        drop=drop,
        split=split,
        append=append,
        timeout=timeout,
        on_progress=on_progress,
    )


def train(
    name: str,
    data: Any,
    *,
    target: Optional[str] = None,
    goal: Optional[str] = None,
    search: Optional[bool] = None,
    trials: Optional[int] = None,
    time: Union[None, str, timedelta] = None,
    cost: Optional[float] = None,
    trainer: Optional[str] = None,
    trainer_function: Optional[str] = None,
    params: Optional[Mapping[str, Any]] = None,
    space: Optional[Mapping[str, Any]] = None,
    metric: Optional[str] = None,
    task: Optional[str] = None,
    group: Optional[str] = None,
    columns: Optional[Sequence[str]] = None,
    drop: Optional[Sequence[str]] = None,
    seed: Optional[int] = None,
    threads: Optional[int] = None,
    workers: Optional[int] = None,
    deploy: bool = True,
    wait: bool = True,
    timeout: Optional[float] = None,
    on_progress: Optional[Progress] = None,
) -> Job:
    """`Client.train` of the default client."""
    return default_client().train(
        name,
        data,
        target=target,
        goal=goal,
        search=search,
        trials=trials,
        time=time,
        cost=cost,
        trainer=trainer,
        trainer_function=trainer_function,
        params=params,
        space=space,
        metric=metric,
        task=task,
        group=group,
        columns=columns,
        drop=drop,
        seed=seed,
        threads=threads,
        workers=workers,
        deploy=deploy,
        wait=wait,
        timeout=timeout,
        on_progress=on_progress,
    )


def deploy(
    name: str,
    model: Any,
    *,
    example: Any = None,
    options: Optional[Mapping[str, Any]] = None,
    traffic: int = 100,
    rollout: Union[None, str, Mapping[str, Any]] = None,
    on_progress: Optional[Progress] = None,
    timeout: float = DEPLOY_TIMEOUT,
) -> Deployment:
    """`Client.deploy` of the default client."""
    return default_client().deploy(
        name,
        model,
        example=example,
        options=options,
        traffic=traffic,
        rollout=rollout,
        on_progress=on_progress,
        timeout=timeout,
    )


def functions() -> List[Function]:
    """`Client.functions` of the default client."""
    return default_client().functions()


def versions(name: str) -> List[Version]:
    """`Client.versions` of the default client."""
    return default_client().versions(name)


def describe(name: str) -> Description:
    """`Client.describe` of the default client."""
    return default_client().describe(name)


def delete(name: str, *, force: bool = False) -> None:
    """`Client.delete` of the default client."""
    default_client().delete(name, force=force)


def logs(name: str) -> List[LogLine]:
    """`Client.logs` of the default client."""
    return default_client().logs(name)


def follow(name: str) -> Iterator[LogLine]:
    """`Client.follow` of the default client."""
    return default_client().follow(name)


def usage(
    since: Union[None, str, datetime, timedelta] = None, *, function: Optional[str] = None
) -> Usage:
    """`Client.usage` of the default client."""
    return default_client().usage(since, function=function)


def configure(name: str, **settings: Any) -> Dict[str, Any]:
    """`Client.configure` of the default client."""
    return default_client().configure(name, **settings)


def evict(name: str) -> int:
    """`Client.evict` of the default client."""
    return default_client().evict(name)


def traffic(
    name: str,
    weights: Optional[Mapping[int, int]] = None,
    *,
    shadows: Optional[Mapping[int, int]] = None,
    sticky_header: Optional[str] = None,
) -> Traffic:
    """`Client.traffic` of the default client."""
    return default_client().traffic(name, weights, shadows=shadows, sticky_header=sticky_header)


def alias(name: str, alias: str, version: Optional[int], *, why: str = "") -> Traffic:
    """`Client.alias` of the default client."""
    return default_client().alias(name, alias, version, why=why)


def rollback(name: str) -> Traffic:
    """`Client.rollback` of the default client."""
    return default_client().rollback(name)


def is_ready() -> bool:
    """`Client.is_ready` of the default client."""
    return default_client().is_ready()


__all__ = [
    "AsyncClient",
    "AsyncJob",
    "BadReply",
    "BatchError",
    "BatchErrors",
    "BatchResult",
    "Busy",
    "Client",
    "Conflict",
    "ConnectionFailed",
    "DeadlineExceeded",
    "Deployment",
    "Description",
    "Event",
    "EventFailed",
    "ExecutionFailed",
    "Function",
    "InvalidArgument",
    "InvalidRequest",
    "Job",
    "JobFailed",
    "JobFile",
    "JobProgress",
    "JobStatus",
    "LogLine",
    "MayflyError",
    "MissingPackage",
    "NodeError",
    "NotFound",
    "PermissionDenied",
    "Prediction",
    "Progress",
    "Snapshot",
    "TensorSpec",
    "TimedOut",
    "Traffic",
    "Unauthenticated",
    "Unsupported",
    "Usage",
    "UsageRow",
    "Version",
    "alias",
    "batch",
    "call",
    "call_async",
    "cancel",
    "configure",
    "default_client",
    "delete",
    "deploy",
    "describe",
    "event",
    "events",
    "evict",
    "follow",
    "functions",
    "is_ready",
    "job",
    "jobs",
    "logs",
    "put",
    "redrive",
    "result",
    "rollback",
    "run",
    "stream",
    "traffic",
    "train",
    "usage",
    "versions",
]
