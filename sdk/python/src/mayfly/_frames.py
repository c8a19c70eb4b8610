"""A pandas DataFrame as a file for a batch, and predictions as columns beside it."""

from __future__ import annotations

import importlib
import importlib.util
import json
import math
from pathlib import Path
from typing import Any, Dict, Iterator, List, Sequence, Set, Union

import numpy as np

from ._tensors import DTYPES
from .errors import BadReply, InvalidArgument
from .types import BatchErrors, TensorSpec

_ROWS = 1 << 16  # written at a time


def is_frame(data: Any) -> bool:
    return hasattr(data, "columns") and hasattr(data, "iloc")


def write_frame(frame: Any, folder: Path, documents: bool) -> Path:
    """Parquet where there is pyarrow, else CSV; without the index. A NaN among floats is NaN to a function with types, as in
    `call`, and null to one without (`documents`): JSON has no NaN."""
    names = [str(column) for column in frame.columns]
    if len(set(names)) != len(names):
        raise InvalidArgument("the DataFrame has two columns of one name")
    frame = frame.set_axis(names, axis="columns")
    if importlib.util.find_spec("pyarrow") is not None:
        return _write_parquet(frame, folder / "input.parquet", documents)
    if documents and len(names) == 1 and len(frame):
        return _write_lines(frame[names[0]], names[0], folder / "input.jsonl")
    path = folder / "input.csv"
    with open(path, "w", encoding="utf-8", newline="") as file:
        file.write(",".join(map(_quoted, names)) + "\n")
        for begin in range(0, len(frame), _ROWS):
            part = frame.iloc[begin : begin + _ROWS]
            fields = [_fields(part[name], name, documents) for name in names]
            # Of one column a missing text would be an empty line, which is no row.
            file.writelines((",".join(row) or '""') + "\n" for row in zip(*fields))
    return path


def _write_lines(column: Any, name: str, path: Path) -> Path:
    """One column with null where a value is missing: in CSV that would be an empty line, which is no row."""
    blank = column.isna().tolist()
    with open(path, "w", encoding="utf-8") as file:
        for value, is_blank in zip(column.tolist(), blank):
            if isinstance(value, float) and math.isinf(value):
                value = repr(value)  # as in CSV: JSON has none
            row = {name: None if is_blank else value}
            file.write(json.dumps(row, default=_plain) + "\n")
    return path


def _plain(value: Any) -> Any:
    return value.tolist() if hasattr(value, "tolist") else str(value)


def _write_parquet(frame: Any, path: Path, documents: bool) -> Path:
    arrow = importlib.import_module("pyarrow")
    parquet = importlib.import_module("pyarrow.parquet")
    arrays = {}
    for name in frame.columns:
        column = frame[name]
        floats = _is_floats(column) and not documents
        try:
            values = column.to_numpy() if floats else column
            arrays[name] = arrow.array(values, from_pandas=not floats)
        except (arrow.ArrowException, ValueError, TypeError) as error:
            raise InvalidArgument(f"column '{name}' has no form in Parquet: {error}") from error
    parquet.write_table(arrow.table(arrays), path)
    return path


def _fields(column: Any, name: str, documents: bool) -> Iterator[str]:
    """Numbers and booleans plain, texts in quotes: a function without types then gets what was in the DataFrame."""
    missing = "nan" if _is_floats(column) and not documents else ""
    blank = column.isna()
    for value, is_blank in zip(column.tolist(), blank.tolist()):
        if is_blank:
            yield missing
        elif isinstance(value, bool):
            yield "true" if value else "false"
        elif isinstance(value, (int, float)):
            yield repr(value)
        elif isinstance(value, (list, tuple, dict, set, bytes)) or hasattr(value, "tolist"):
            raise InvalidArgument(
                f"column '{name}' holds a {type(value).__name__}, which CSV cannot",
                "pip install pyarrow: it goes up as Parquet then",
            )
        else:
            yield _quoted(str(value))


def _is_floats(column: Any) -> bool:
    """NumPy's: what is missing in pandas' own types is no NaN."""
    return isinstance(column.dtype, np.dtype) and column.dtype.kind == "f"


def _quoted(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'


def read_frame(
    made: Path,
    frame: Any,
    keep: Union[None, str, List[str]],
    errors: BatchErrors,
    outputs: Sequence[TensorSpec],
) -> Any:
    """The frame's kept columns, as they are in it, and the predictions beside them. `outputs`: those of a function with
    types."""
    pandas = importlib.import_module("pandas")
    names = [str(column) for column in frame.columns]
    kept = names if keep == "*" else keep or []
    if made.suffix == ".parquet":
        found = _read_parquet(pandas, made)
    else:
        found = _read_lines(pandas, made, {spec.name for spec in outputs if _has_nan(spec)})
    if not len(found):
        found = _with_columns(pandas, found, outputs)
    if len(found) != len(frame):
        raise BadReply(f"the node predicted {len(found)} rows of {len(frame)}")
    found = found.drop(columns=[name for name in found.columns if name in kept])
    found.index = frame.index
    result = pandas.concat([frame.iloc[:, [names.index(name) for name in kept]], found], axis=1)
    result.attrs["errors"] = errors
    return result


def _read_parquet(pandas: Any, path: Path) -> Any:
    table = importlib.import_module("pyarrow.parquet").read_table(path)
    found = table.to_pandas()
    for name in found.columns:
        found[name] = _with_nan(found[name])
    return found


def _read_lines(pandas: Any, path: Path, floats: Set[str]) -> Any:
    """JSON has null for a row that failed, and for the NaN of a float (`floats`: the columns that are some), also in lists."""
    columns: Dict[str, List[Any]] = {}
    rows = 0
    with open(path, encoding="utf-8") as lines:
        for line in lines:
            for name, value in json.loads(line).items():
                if value is None or name in floats:
                    value = _nan_for_null(value)
                columns.setdefault(name, []).append(value)
            rows += 1
    if any(len(values) != rows for values in columns.values()):
        raise BadReply("the node's rows have not the same columns")
    return pandas.DataFrame(columns, index=range(rows))


def _nan_for_null(value: Any) -> Any:
    if isinstance(value, list):
        return [_nan_for_null(item) for item in value]
    return math.nan if value is None else value


def _has_nan(spec: TensorSpec) -> bool:
    return spec.datatype.startswith(("FP", "BF"))


def _with_columns(pandas: Any, found: Any, outputs: Sequence[TensorSpec]) -> Any:
    """No row says which outputs there are, nor their types: what they are made of otherwise."""
    made = {name: found[name] for name in found.columns}
    for spec in outputs:
        type_of: Any = object
        if len(spec.shape) <= 1 and spec.datatype != "BYTES":
            kind = "f" if _has_nan(spec) else DTYPES[spec.datatype].kind
            type_of = {"f": np.float64, "b": np.bool_}.get(kind, np.int64)
        made.setdefault(spec.name, pandas.Series(dtype=type_of))
    return pandas.DataFrame(made, index=found.index)


def _with_nan(column: Any) -> Any:
    """Objects that are missing are None to pyarrow."""
    return column.where(column.notna(), math.nan) if column.dtype == object else column
