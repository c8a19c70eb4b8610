"""The blocking client."""

from __future__ import annotations

import os
import time
from datetime import datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, Dict, Iterator, List, Mapping, Optional, Sequence, Type, TypeVar, Union

from . import _jobs as jobs
from . import _operations as operations
from . import _traffic as routing
from . import _training as training
from ._control import Progress
from ._exchange import Patience, Pause, Request, Step, Steps, Work
from ._http import Limits
from ._jobs import BatchOptions, Columns, Keep
from ._settings import find_settings
from ._sync_transport import SyncTransport
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

DEPLOY_TIMEOUT = 3600.0
FOLLOW_TIMEOUT = 120.0  # the node sends an empty line now and then


class Client:
    """A node, and who we are to it. Threads may share one; it keeps connections between calls.

    What is not given is found as the command line finds it: MAYFLY_URL, MAYFLY_KEY, MAYFLY_CA, MAYFLY_CLIENT_CERT,
    MAYFLY_CLIENT_KEY, the `server.listen` of the node's configuration file, http://127.0.0.1:8080.

    `timeout` is in seconds for a whole call. A call is made again, up to `retries` times within that, only when it surely
    did not begin: the node was not reached, or answered 429 or 503 and said when to come back. Replies of more than
    `max_reply` bytes are refused.
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
    ) -> None:
        self._settings = find_settings(url, key, ca, client_cert, client_key)
        self._patience = Patience(timeout, retries)
        self._signatures = operations.Signatures()
        self._transport = SyncTransport(self._settings, Limits(connect_timeout, max_reply))

    @property
    def url(self) -> str:
        return self._settings.url

    def close(self) -> None:
        """Closes what is open; a later call opens it again."""
        self._transport.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self,
        kind: Optional[Type[BaseException]],
        error: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"mayfly.Client({self.url!r})"

    def call(
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
        """Predicts. `name`: a function, or one version of it as "iris@3" or "iris@champion". Returns a Prediction: a dict of
        NumPy arrays, and how it came to be.

        `inputs`: a dict of arrays, lists or numbers by the model's names; a pandas DataFrame with a column for each; the
        only input by itself; or a picture, as a Path or as bytes with `content_type`. Numbers become the element types
        that the model takes. `outputs`: those wanted; all. `timeout`: seconds, told to the node too. `key`: equal ones meet
        the same version while traffic is split. `priority`: 1 is the most urgent, 1000 the least.

        A function without types is sent `inputs` as JSON, or bytes as they are, and answers with what its JSON says (an object
        is a Prediction too) or with bytes. `outputs` and `priority` do not go with it; one that streams is for `stream`.
        """
        return self._run(
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

    def stream(
        self,
        name: str,
        inputs: Any,
        *,
        timeout: Optional[float] = None,
        key: Optional[str] = None,
        request_id: Optional[str] = None,
    ) -> Iterator[Any]:
        """Asks a function that streams: each chunk when it comes, a value of JSON, or a dict of arrays where the function
        says its types. Nothing is asked before the first chunk is. `timeout`: seconds that each may take. A stream that is
        not read to its end, but closed, ends the function's work. An error after the first chunk is raised like any other.
        """
        request, chunks = self._run(
            operations.stream(
                self._signatures, self._patience, name, inputs, timeout, key, request_id
            )
        )
        for line in self._transport.lines(request):
            yield from chunks.read(line)

    def call_async(
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
        return self._run(
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

    def result(self, event: Union[str, Event], *, timeout: Optional[float] = None) -> Any:
        """What an event, or the id of one, came to, as `call` returns it, and a list of all chunks of a function without types
        that streams; waits for it up to `timeout` seconds, 0 not at all."""
        return self._run(operations.result(self._signatures, self._patience, event, timeout))

    def event(self, event: Union[str, Event]) -> Event:
        """As it is now."""
        return self._run(operations.event_of(self._patience, event))

    def events(self, name: str, *, state: Optional[str] = None, limit: int = 100) -> List[Event]:
        """Those of a function, the newest first."""
        return self._run(operations.events(self._patience, name, state, limit))

    def cancel(self, event: Union[str, Event]) -> Event:
        """What has ended stays as it ended."""
        return self._run(operations.cancel(self._patience, event))

    def redrive(self, event: Union[str, Event]) -> Event:
        """Gives a dead letter all its attempts again."""
        return self._run(operations.redrive(self._patience, event))

    def run(
        self,
        name: str,
        inputs: Any = None,
        *,
        wait: bool = True,
        timeout: Optional[float] = None,
        max_age: Union[None, str, timedelta] = None,
        keep_for: Union[None, str, timedelta] = None,
    ) -> Job:
        """Runs the run(inputs, ctx) of a Python function as a job. `inputs`: what JSON can say. `wait`: until it is over, up to
        `timeout` seconds, raising JobFailed where it failed; else the job is on the node's disk when this returns. `max_age`:
        what has not ended by then expires. `keep_for`: how long what it made is kept.
        """
        job = Job(
            self, self._run(jobs.submit_run(self._patience, name, inputs, max_age, keep_for))
        )
        return job.wait(timeout) if wait else job

    def jobs(
        self, function: Optional[str] = None, state: Optional[str] = None, *, limit: int = 100
    ) -> List[Job]:
        """The newest first. Their `files` are told to who asks one: `refresh`."""
        found = self._run(jobs.jobs(self._patience, function, state, limit))
        return [Job(self, status) for status in found]

    def job(self, id: str) -> Job:
        return Job(self, self._run(jobs.job(self._patience, id)))

    def batch(
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
        """Predicts for every row of `data`: the path of a .csv, .jsonl or .parquet file, whose predictions go to a file at
        `output` (a BatchResult says how it went), or a pandas DataFrame, which comes back as one: the columns of `keep`
        ("*": all) and the outputs, in its order, NaN where a row failed; `frame.attrs["errors"]` has those rows. `columns`:
        which make an input, where names do not say so. `chunk_rows`: of one request. `max_errors`: failed rows that are put
        up with. `timeout`: seconds to wait for the job, which goes on.
        """
        options = BatchOptions(columns, keep, chunk_rows, max_errors, timeout, on_progress)
        return self._run(
            jobs.batch(self._signatures, self._patience, name, data, output, options)
        )

    def put(
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
        """Makes a snapshot of a dataset: of a file (.csv, .tsv, .jsonl, .parquet, .arff, .npz, or a .zip of images), or of a
        pandas DataFrame. `target`: the column that is to be predicted. `types`: of columns, where what is found is not wanted
        ({"zip": "category"}). `split`: {"by": "group", "column": "customer", "test": 0.2}. `append`: the rows of the newest
        snapshot and these. The same again makes no new one. `timeout`: seconds to wait for the job, which goes on.
        """
        options = training.DataOptions(target, types, drop, split, append)
        return self._run(
            training.put(self._patience, name, data, options, timeout, on_progress)
        )

    def train(
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
    ) -> Job:
        """Trains a model for the function `name`, which need not exist yet, on `data`: a dataset ("credit"), a snapshot of one
        ("credit@3"), or a table as `put` takes it, which becomes the dataset `name` first. `goal`: "auc >= 0.70". `search`:
        within `trials`, `time` ("10m") or `cost`, over `space`; who does not say searches for a goal without `params`. `trainer_function`: the train(ctx) of a Python function of yours
        ("logistic", "logistic@3") instead of a `trainer`. `group`: of a recommendation the users, of a ranking whose rows
        belong together. `deploy`: through gate and rollout, once it is registered. What is not said follows from the data.
        `wait`: until it is over and its rollout, too, with a line for `on_progress` whenever something changes; JobFailed
        where it failed. `result["outcome"]` says whether the goal was reached, `result["version"]` what came of it,
        `result["rollout"]` whether it serves: "promoted", "rolled_back", "held" …
        """
        options = training.TrainOptions(
            target, goal, search, trials, time, cost, trainer, trainer_function, params, space, metric, task, group, columns,
            drop, seed, threads, workers, deploy,
        )
        return Job(
            self,
            self._run(
                training.train(self._patience, name, data, options, wait, timeout, on_progress)
            ),
        )

    def deploy(
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
        """Publishes the next version of a function, which is made if there is none.

        `model`: bytes of ONNX, an onnx.ModelProto, the path of a file or folder (with an optional mayfly.toml), or a fitted
        estimator of scikit-learn or XGBoost. `example`: inputs for the trial run; for an estimator some rows as it was
        fitted on, which also say the types of its inputs. `options`: as in mayfly.toml. `traffic`: percent of the requests
        for the new version. `rollout`: "auto" or a plan: it climbs by itself.
        """
        return self._run(
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

    def functions(self) -> List[Function]:
        return self._run(operations.functions(self._patience))

    def versions(self, name: str) -> List[Version]:
        return self._run(operations.versions(self._patience, name))

    def describe(self, name: str) -> Description:
        """Of the current version, or of "iris@3"."""
        return self._run(operations.describe(self._patience, name))

    def delete(self, name: str, *, force: bool = False) -> None:
        """The function with all its versions. `force`: also when it was called in the last ten minutes."""
        self._run(operations.delete(self._patience, name, force))

    def logs(self, name: str) -> List[LogLine]:
        """What its processes printed: the last lines, kept until the node ends."""
        return self._run(operations.logs(self._patience, name))

    def follow(self, name: str) -> Iterator[LogLine]:
        """What its processes printed, and what they print from now on."""
        request = operations.logs_request(name, follow=True, timeout=FOLLOW_TIMEOUT)
        return map(operations.log_line, self._transport.lines(request))

    def usage(
        self,
        since: Union[None, str, datetime, timedelta] = None,
        *,
        function: Optional[str] = None,
    ) -> Usage:
        """What was used, priced. `since`: a time, or how long back; all."""
        return self._run(operations.usage(self._patience, since, function))

    def configure(self, name: str, **settings: Any) -> Dict[str, Any]:
        """Changes settings of a function without a deploy; returns all of them."""
        return self._run(operations.configure(self._patience, name, settings))

    def evict(self, name: str) -> int:
        """To zero now: idle processes end. Returns how many are still busy."""
        return self._run(operations.evict(self._patience, name))

    def traffic(
        self,
        name: str,
        weights: Optional[Mapping[int, int]] = None,
        *,
        shadows: Optional[Mapping[int, int]] = None,
        sticky_header: Optional[str] = None,
    ) -> Traffic:
        """Shows which versions get the requests, or splits them: `{1: 95, 2: 5}`. A change replaces all three: what is not
        given ends."""
        return self._run(routing.traffic(self._patience, name, weights, shadows, sticky_header))

    def alias(self, name: str, alias: str, version: Optional[int], *, why: str = "") -> Traffic:
        """Moves an alias to a version, or removes it with `version=None`."""
        return self._run(routing.alias(self._patience, name, alias, version, why))

    def rollback(self, name: str) -> Traffic:
        """Ends a split in favour of the champion, or goes back to the version before it."""
        return self._run(routing.rollback(self._patience, name))

    def is_ready(self) -> bool:
        """Whether the node serves predictions; False also while nothing answers."""
        return self._run(operations.is_ready(self._patience))

    def _run(self, operation: Steps[T]) -> T:
        answer: Any = None
        error: Optional[Exception] = None
        try:
            while True:
                step = operation.send(answer) if error is None else operation.throw(error)
                answer, error = None, None
                try:
                    answer = self._do(step)
                except Exception as raised:  # the operation knows what to make of it
                    error = raised
        except StopIteration as done:
            result: T = done.value
            return result

    def _do(self, step: Step) -> Any:
        if isinstance(step, Request):
            return self._transport.send(step)
        if isinstance(step, Work):
            return step.run()
        if isinstance(step, Pause):
            time.sleep(step.seconds)
        return None


class Job(JobView):
    """A job of this node: as it was when it was last asked. What follows asks again, and returns it as it is then."""

    def __init__(self, client: Client, status: JobStatus) -> None:
        super().__init__(status)
        self._client = client

    def refresh(self) -> Job:
        return self._take(jobs.job(self._client._patience, self.id))

    def wait(self, timeout: Optional[float] = None) -> Job:
        """Until it is over, or for `timeout` seconds: then TimedOut, and it goes on. Raises JobFailed where it ended without a
        result. A node that is started again meanwhile is waited for."""
        self._take(jobs.wait(self._client._patience, self.id, timeout))
        jobs.done(self.status)
        return self

    def cancel(self) -> Job:
        """What runs of it ends at once."""
        return self._take(jobs.cancel(self._client._patience, self.id))

    def pause(self) -> Job:
        """At its next checkpoint, if it runs."""
        return self._take(jobs.pause(self._client._patience, self.id))

    def resume(self) -> Job:
        return self._take(jobs.resume(self._client._patience, self.id))

    def download(self, name: str, path: Union[str, os.PathLike[str]]) -> Path:
        """One of its `files`, to a path or into a folder that is there. Returns where it is."""
        return self._client._run(jobs.download(self._client._patience, self.id, name, path))

    def _take(self, operation: Steps[JobStatus]) -> Job:
        self.status = self._client._run(operation)
        return self
