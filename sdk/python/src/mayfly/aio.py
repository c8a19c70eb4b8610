"""The client for asyncio: the same calls, awaited."""

from __future__ import annotations

import asyncio
import os
from datetime import datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, AsyncIterator, Dict, List, Mapping, Optional, Sequence, Type, TypeVar, Union

from . import _jobs as jobs
from . import _operations as operations
from . import _traffic as routing
from . import _training as training
from ._async_transport import AsyncTransport
from ._control import Progress
from ._exchange import Patience, Pause, Request, Step, Steps, Work
from ._http import Limits
from ._jobs import BatchOptions, Columns, Keep
from ._settings import find_settings
from .client import DEPLOY_TIMEOUT, FOLLOW_TIMEOUT
from .types import (
    Deployment,
    Description,
    Event,
    Function,
    JobStatus,
    JobView,
    LogLine,
    Snapshot,
    Traffic,
    Usage,
    Version,
)

T = TypeVar("T")


class AsyncClient:
    """As `Client`, for one event loop at a time: with another one it starts without connections.

    At most `max_connections` requests are under way at once; further ones wait for their turn, outside of their time.
    """

    def __init__(
        self,
        url: Optional[str] = None,
        *,
        key: Optional[str] = None,
        ca: Optional[str] = None,
        client_cert: Optional[str] = None,
        client_key: Optional[str] = None,
        timeout: float = 300.0,
        connect_timeout: float = 10.0,
        retries: int = 3,
        max_reply: int = 1 << 30,
        max_connections: int = 64,
    ) -> None:
        self._settings = find_settings(url, key, ca, client_cert, client_key)
        self._patience = Patience(timeout, retries)
        self._signatures = operations.Signatures()
        limits = Limits(connect_timeout, max_reply)
        self._transport = AsyncTransport(self._settings, limits, max_connections)

    @property
    def url(self) -> str:
        return self._settings.url

    async def close(self) -> None:
        """Closes what is open; a later call opens it again."""
        await self._transport.close()

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(
        self,
        kind: Optional[Type[BaseException]],
        error: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"mayfly.AsyncClient({self.url!r})"

    async def call(
        self,
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
        """As `Client.call`."""
        return await self._run(
            operations.call(
                self._signatures,
                self._patience,
                name,
                inputs,
                outputs=outputs,
                timeout=timeout,
                content_type=content_type,
                key=key,
                request_id=request_id,
                priority=priority,
            )
        )

    async def stream(
        self,
        name: str,
        inputs: Any,
        *,
        timeout: Optional[float] = None,
        key: Optional[str] = None,
        request_id: Optional[str] = None,
    ) -> AsyncIterator[Any]:
        """As `Client.stream`."""
        request, chunks = await self._run(
            operations.stream(
                self._signatures, self._patience, name, inputs, timeout, key, request_id
            )
        )
        lines = self._transport.lines(request)
        try:
            async for line in lines:
                for chunk in chunks.read(line):
                    yield chunk
        finally:
            await lines.aclose()

    async def call_async(
        self,
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
        """As `call`, but accepted instead of answered: it is on the node's disk when this returns, and runs when there is
        room. `idempotency_key`: a second call with it is the same event, so that a broken connection is no doubt.
        """
        return await self._run(
            operations.call_async(
                self._signatures,
                self._patience,
                name,
                inputs,
                outputs=outputs,
                content_type=content_type,
                key=key,
                request_id=request_id,
                priority=priority,
                idempotency_key=idempotency_key,
            )
        )

    async def result(self, event: Union[str, Event], *, timeout: Optional[float] = None) -> Any:
        """As `Client.result`."""
        return await self._run(operations.result(self._signatures, self._patience, event, timeout))

    async def event(self, event: Union[str, Event]) -> Event:
        """As it is now."""
        return await self._run(operations.event_of(self._patience, event))

    async def events(
        self, name: str, *, state: Optional[str] = None, limit: int = 100
    ) -> List[Event]:
        """Those of a function, the newest first."""
        return await self._run(operations.events(self._patience, name, state, limit))

    async def cancel(self, event: Union[str, Event]) -> Event:
        """What has ended stays as it ended."""
        return await self._run(operations.cancel(self._patience, event))

    async def redrive(self, event: Union[str, Event]) -> Event:
        """Gives a dead letter all its attempts again."""
        return await self._run(operations.redrive(self._patience, event))

    async def run(
        self,
        name: str,
        inputs: Any = None,
        *,
        wait: bool = True,
        timeout: Optional[float] = None,
        max_age: Union[None, str, timedelta] = None,
        keep_for: Union[None, str, timedelta] = None,
    ) -> AsyncJob:
        """As `Client.run`."""
        job = AsyncJob(
            self, await self._run(jobs.submit_run(self._patience, name, inputs, max_age, keep_for))
        )
        return await job.wait(timeout) if wait else job

    async def jobs(
        self, function: Optional[str] = None, state: Optional[str] = None, *, limit: int = 100
    ) -> List[AsyncJob]:
        """The newest first. Their `files` are told to who asks one: `refresh`."""
        found = await self._run(jobs.jobs(self._patience, function, state, limit))
        return [AsyncJob(self, status) for status in found]

    async def job(self, id: str) -> AsyncJob:
        return AsyncJob(self, await self._run(jobs.job(self._patience, id)))

    async def batch(
        self,
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
        """As `Client.batch`."""
        options = BatchOptions(columns, keep, chunk_rows, max_errors, timeout, on_progress)
        return await self._run(
            jobs.batch(self._signatures, self._patience, name, data, output, options)
        )

    async def put(
        self,
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
        """As `Client.put`."""
        options = training.DataOptions(target, types, drop, split, append)
        return await self._run(
            training.put(self._patience, name, data, options, timeout, on_progress)
        )

    async def train(
        self,
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
    ) -> AsyncJob:
        """As `Client.train`."""
        options = training.TrainOptions(
            target, goal, search, trials, time, cost, trainer, trainer_function, params, space, metric, task, group, columns,
            drop, seed, threads, workers, deploy,
        )
        return AsyncJob(
            self,
            await self._run(
                training.train(self._patience, name, data, options, wait, timeout, on_progress)
            ),
        )

    async def deploy(
        self,
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
        """As `Client.deploy`."""
        return await self._run(
            operations.deploy(
                Patience(timeout, self._patience.retries),
                name,
                model,
                example=example,
                options=options,
                traffic=traffic,
                rollout=rollout,
                on_progress=on_progress,
            )
        )

    async def functions(self) -> List[Function]:
        return await self._run(operations.functions(self._patience))

    async def versions(self, name: str) -> List[Version]:
        return await self._run(operations.versions(self._patience, name))

    async def describe(self, name: str) -> Description:
        """Of the current version, or of "iris@3"."""
        return await self._run(operations.describe(self._patience, name))

    async def delete(self, name: str, *, force: bool = False) -> None:
        """The function with all its versions. `force`: also when it was called in the last ten minutes."""
        await self._run(operations.delete(self._patience, name, force))

    async def logs(self, name: str) -> List[LogLine]:
        """What its processes printed: the last lines, kept until the node ends."""
        return await self._run(operations.logs(self._patience, name))

    async def follow(self, name: str) -> AsyncIterator[LogLine]:
        """What its processes printed, and what they print from now on."""
        request = operations.logs_request(name, follow=True, timeout=FOLLOW_TIMEOUT)
        async for line in self._transport.lines(request):
            yield operations.log_line(line)

    async def usage(
        self,
        since: Union[None, str, datetime, timedelta] = None,
        *,
        function: Optional[str] = None,
    ) -> Usage:
        """What was used, priced. `since`: a time, or how long back; all."""
        return await self._run(operations.usage(self._patience, since, function))

    async def configure(self, name: str, **settings: Any) -> Dict[str, Any]:
        """Changes settings of a function without a deploy; returns all of them."""
        return await self._run(operations.configure(self._patience, name, settings))

    async def evict(self, name: str) -> int:
        """To zero now: idle processes end. Returns how many are still busy."""
        return await self._run(operations.evict(self._patience, name))

    async def traffic(
        self,
        name: str,
        weights: Optional[Mapping[int, int]] = None,
        *,
        shadows: Optional[Mapping[int, int]] = None,
        sticky_header: Optional[str] = None,
    ) -> Traffic:
        """Shows which versions get the requests, or splits them: `{1: 95, 2: 5}`. A change replaces all three: what is not
        given ends."""
        return await self._run(
            routing.traffic(self._patience, name, weights, shadows, sticky_header)
        )

    async def alias(
        self, name: str, alias: str, version: Optional[int], *, why: str = ""
    ) -> Traffic:
        """Moves an alias to a version, or removes it with `version=None`."""
        return await self._run(routing.alias(self._patience, name, alias, version, why))

    async def rollback(self, name: str) -> Traffic:
        """Ends a split in favour of the champion, or goes back to the version before it."""
        return await self._run(routing.rollback(self._patience, name))

    async def is_ready(self) -> bool:
        """Whether the node serves predictions; False also while nothing answers."""
        return await self._run(operations.is_ready(self._patience))

    async def _run(self, operation: Steps[T]) -> T:
        answer: Any = None
        error: Optional[Exception] = None
        try:
            while True:
                step = operation.send(answer) if error is None else operation.throw(error)
                answer, error = None, None
                try:
                    answer = await self._do(step)
                except Exception as raised:  # the operation knows what to make of it
                    error = raised
        except StopIteration as done:
            result: T = done.value
            return result

    async def _do(self, step: Step) -> Any:
        if isinstance(step, Request):
            return await self._transport.send(step)
        if isinstance(step, Work):
            return await asyncio.to_thread(step.run)
        if isinstance(step, Pause):
            await asyncio.sleep(step.seconds)
        return None


class AsyncJob(JobView):
    """A job of this node, awaited: as it was when it was last asked. What follows asks again, and returns it as it is then."""

    def __init__(self, client: AsyncClient, status: JobStatus) -> None:
        super().__init__(status)
        self._client = client

    async def refresh(self) -> AsyncJob:
        return await self._take(jobs.job(self._client._patience, self.id))

    async def wait(self, timeout: Optional[float] = None) -> AsyncJob:
        """Until it is over, or for `timeout` seconds: then TimedOut, and it goes on. Raises JobFailed where it ended without a
        result. A node that is started again meanwhile is waited for."""
        await self._take(jobs.wait(self._client._patience, self.id, timeout))
        jobs.done(self.status)
        return self

    async def cancel(self) -> AsyncJob:
        """What runs of it ends at once."""
        return await self._take(jobs.cancel(self._client._patience, self.id))

    async def pause(self) -> AsyncJob:
        """At its next checkpoint, if it runs."""
        return await self._take(jobs.pause(self._client._patience, self.id))

    async def resume(self) -> AsyncJob:
        return await self._take(jobs.resume(self._client._patience, self.id))

    async def download(self, name: str, path: Union[str, os.PathLike[str]]) -> Path:
        """One of its `files`, to a path or into a folder that is there. Returns where it is."""
        return await self._client._run(jobs.download(self._client._patience, self.id, name, path))

    async def _take(self, operation: Steps[JobStatus]) -> AsyncJob:
        self.status = await self._client._run(operation)
        return self
