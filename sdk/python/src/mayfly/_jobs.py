"""Jobs and batches, as operations (`_exchange`) that both clients drive."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import time
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple, Union
from urllib.parse import urlencode

from . import _frames
from ._artifact import ArtifactFile
from ._control import (
    FIRST_LOOK,
    LONGEST_LOOK,
    Progress,
    get_json,
    json_body,
    plain_value,
    read_as,
    send_json,
    upload,
)
from ._documents import takes_json
from ._exchange import Patience, Pause, Request, Steps, Work, exchange, json_of
from ._operations import Signatures
from ._paths import function_path, segment
from .errors import BadReply, Busy, ConnectionFailed, InvalidArgument, JobFailed, TimedOut
from .types import BatchError, BatchErrors, BatchResult, JobStatus, TensorSpec

TRANSFER_TIMEOUT = 3600.0  # seconds for a file, up or down
FORMATS = {".csv": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl", ".parquet": "parquet"}
ERRORS_FILE = "errors.jsonl"
_PREDICTION = TensorSpec("prediction", "BYTES", (-1,))  # of a function without types: any values

Columns = Mapping[str, Union[str, Sequence[str]]]
Keep = Union[None, str, Sequence[str]]


def submit_run(
    patience: Patience,
    name: str,
    inputs: Any,
    max_age: Union[None, str, timedelta],
    keep_for: Union[None, str, timedelta],
) -> Steps[JobStatus]:
    wanted: Dict[str, Any] = {"kind": "run"}
    if inputs is not None:
        wanted["inputs"] = inputs
    for key, span in (("max_age", max_age), ("keep_for", keep_for)):
        if span is not None:
            seconds = isinstance(span, timedelta) and f"{int(span.total_seconds())}s"
            wanted[key] = seconds or span
    return (yield from _submit(patience, name, wanted))


def _submit(patience: Patience, name: str, wanted: Mapping[str, Any]) -> Steps[JobStatus]:
    body = json_body(wanted, plain_value)
    request = Request(
        "POST", function_path(name) + "/jobs", {"Content-Type": "application/json"}, [body]
    )
    response = yield from exchange(request, patience)
    return read_as(JobStatus.of, json_of(response))


def jobs(
    patience: Patience, function: Optional[str], state: Optional[str], limit: int
) -> Steps[List[JobStatus]]:
    query = {"limit": str(limit), "function": function or "", "state": state or ""}
    given = {name: value for name, value in query.items() if value}
    path = "/api/v1/jobs?" + urlencode(given)
    return get_json(path, patience, lambda raw: list(map(JobStatus.of, raw["jobs"])))


def job(patience: Patience, id: str) -> Steps[JobStatus]:
    return get_json(_job_path(id), patience, JobStatus.of)


def cancel(patience: Patience, id: str) -> Steps[JobStatus]:
    return send_json("DELETE", _job_path(id), None, patience, JobStatus.of)


def pause(patience: Patience, id: str) -> Steps[JobStatus]:
    return send_json("POST", _job_path(id) + "/pause", None, patience, JobStatus.of)


def resume(patience: Patience, id: str) -> Steps[JobStatus]:
    return send_json("POST", _job_path(id) + "/resume", None, patience, JobStatus.of)


def wait(
    patience: Patience,
    id: str,
    timeout: Optional[float],
    on_progress: Optional[Progress] = None,
) -> Steps[JobStatus]:
    """The job once it is over, however it ended. It outlives its node: one that does not answer is asked again for as long as
    a call may take."""
    deadline = None if timeout is None else time.monotonic() + timeout
    answered, look, said = time.monotonic(), FIRST_LOOK, ""
    while True:
        state = "not known"
        try:
            found = yield from job(patience, id)
            answered, state = time.monotonic(), found.state
            if found.is_over:
                return found
            line = ", ".join(filter(None, (found.state, str(found.progress))))
            if on_progress is not None and line != said:
                on_progress(line)
            said = line
        except (ConnectionFailed, Busy):
            if time.monotonic() - answered > patience.timeout:
                raise
        if deadline is not None and time.monotonic() + look > deadline:
            raise TimedOut(
                f"the job {id} is not over: its state is {state}",
                f"it goes on by itself: job('{id}').wait()",
            )
        yield Pause(look)
        look = min(2 * look, LONGEST_LOOK)


def done(status: JobStatus) -> JobStatus:
    """Raises JobFailed for one that ended otherwise."""
    if status.is_over and status.state != "done":
        raise JobFailed(status.id, status.state, status.reason, status.error)
    return status


def download(
    patience: Patience, id: str, name: str, path: Union[str, os.PathLike[str]]
) -> Steps[Path]:
    """`path`: the file's, or that of a folder which is there, for one of the same name."""
    into = Path(path)
    if into.is_dir():
        into = into / Path(name).name
    target = f"{_job_path(id)}/file?{urlencode({'name': name})}"
    slow = Patience(max(patience.timeout, TRANSFER_TIMEOUT), patience.retries)
    yield from exchange(Request("GET", target, into=into, repeatable=True), slow)
    return into


def _job_path(id: str) -> str:
    if not id:
        raise InvalidArgument("a job's id is empty")
    return "/api/v1/jobs/" + segment(id)


# Batches


@dataclass(frozen=True)
class BatchOptions:
    columns: Optional[Columns]
    keep: Keep
    chunk_rows: Optional[int]
    max_errors: Optional[int]
    timeout: Optional[float]
    on_progress: Optional[Progress]

    def kept(self) -> Union[None, str, List[str]]:
        """"*", or names."""
        if self.keep is None or isinstance(self.keep, str):
            return [self.keep] if self.keep and self.keep != "*" else self.keep
        return [str(name) for name in self.keep]

    def request(self, format: str, output_format: str) -> Dict[str, Any]:
        wanted: Dict[str, Any] = {
            "kind": "batch",
            "format": format,
            "output_format": output_format,
            "keep": self.kept(),
            "chunk_rows": self.chunk_rows,
            "max_errors": self.max_errors,
        }
        if self.columns is not None:
            wanted["columns"] = {
                name: [columns] if isinstance(columns, str) else [str(c) for c in columns]
                for name, columns in self.columns.items()
            }
        return {name: value for name, value in wanted.items() if value is not None}


def batch(
    signatures: Signatures,
    patience: Patience,
    name: str,
    data: Any,
    output: Union[None, str, os.PathLike[str]],
    options: BatchOptions,
) -> Steps[Any]:
    if isinstance(data, (str, os.PathLike)):
        if output is None:
            raise InvalidArgument("where do the predictions go? pass output=: a .csv, .jsonl or .parquet")
        return (yield from _batch_file(patience, name, Path(data), Path(output), options))
    if not _frames.is_frame(data):
        raise InvalidArgument(
            f"a {type(data).__module__}.{type(data).__qualname__} is no batch",
            "batch takes the path of a .csv, .jsonl or .parquet file, or a pandas DataFrame",
        )
    if output is not None:
        raise InvalidArgument("output= is for files: of a DataFrame the predictions come back as one")
    return (yield from _batch_frame(signatures, patience, name, data, options))


def _batch_file(
    patience: Patience, name: str, data: Path, output: Path, options: BatchOptions
) -> Steps[BatchResult]:
    wanted = options.request(_format_of(data), _format_of(output))
    if not output.parent.is_dir():  # said before hours of work, not after
        raise InvalidArgument(f"{output.parent}: no such folder")
    yield Work(lambda: _check_other_file(data, output))
    ended = yield from _run_batch(patience, name, data, wanted, options)
    yield from download(patience, ended.id, str(ended.result["output"]), output)
    errors = BatchErrors()
    if ended.result["failed"]:
        errors = yield from _fetch_errors(patience, ended, _errors_beside(output))
    return BatchResult(output, ended.result["rows"], errors, ended)


def _batch_frame(
    signatures: Signatures, patience: Patience, name: str, data: Any, options: BatchOptions
) -> Steps[Any]:
    """Through files in a folder of its own: the predictions are read beside the frame's own columns, which did not travel
    back. That keeps their types, and the index."""
    signature = yield from signatures.get(name, patience)
    documents = takes_json(signature)
    outputs = (_PREDICTION,) if documents else signature.outputs
    folder = Path((yield Work(lambda: tempfile.mkdtemp(prefix="mayfly-batch-"))))
    try:
        source: Path = yield Work(lambda: _frames.write_frame(data, folder, documents))
        format = FORMATS[source.suffix]
        # Parquet says the types of what comes back, but has only the text of a JSON value; JSON lines can tell texts from
        # numbers, which CSV cannot.
        output_format = "parquet" if format == "parquet" and not documents else "jsonl"
        wanted = options.request(format, output_format)
        ended = yield from _run_batch(patience, name, source, wanted, options)
        made = yield from download(patience, ended.id, str(ended.result["output"]), folder)
        errors = BatchErrors()
        if ended.result["failed"]:
            errors = yield from _fetch_errors(patience, ended, folder / ERRORS_FILE)
        return (yield Work(lambda: _frames.read_frame(made, data, options.kept(), errors, outputs)))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _run_batch(
    patience: Patience, name: str, data: Path, wanted: Dict[str, Any], options: BatchOptions
) -> Steps[JobStatus]:
    told: Progress = options.on_progress or (lambda line: None)
    file, digest = yield Work(lambda: _digested(data))
    slow = Patience(max(patience.timeout, TRANSFER_TIMEOUT), patience.retries)
    yield from upload(slow, file, digest, told)
    wanted["input"] = {"sha256": digest}
    accepted = yield from _submit(patience, name, wanted)
    ended = done((yield from wait(patience, accepted.id, options.timeout, told)))
    if not isinstance(ended.result, dict) or not {"rows", "failed", "output"} <= ended.result.keys():
        raise BadReply("the node does not say what the batch made")
    return ended


def _check_other_file(data: Path, output: Path) -> None:
    """Under no other name or link either. The errors' file is told apart too."""
    for made in (output, _errors_beside(output)):
        if data.exists() and made.exists() and data.samefile(made):
            raise InvalidArgument(
                f"{made} is the file that is read: the predictions would be written over it",
                "give output= another name",
            )


def _errors_beside(output: Path) -> Path:
    return output.with_name(f"{output.name}.{ERRORS_FILE}")


def _digested(path: Path) -> Tuple[ArtifactFile, str]:
    if not path.is_file():
        raise InvalidArgument(f"{path}: {'not a file' if path.exists() else 'no such file'}")
    file = ArtifactFile(path.name, path, path.stat().st_size)
    return file, file.digest()


def _fetch_errors(patience: Patience, ended: JobStatus, into: Path) -> Steps[BatchErrors]:
    yield from download(patience, ended.id, ERRORS_FILE, into)

    def read() -> BatchErrors:
        with open(into, encoding="utf-8") as lines:
            return BatchErrors(BatchError.of(json.loads(line)) for line in lines)

    found: BatchErrors = read_as(lambda _: read(), None)
    return found


def _format_of(path: Path) -> str:
    known = FORMATS.get(path.suffix.lower())
    if known is None:
        raise InvalidArgument(
            f"{path}: its name does not say what it is", "call it .csv, .jsonl or .parquet"
        )
    return known
