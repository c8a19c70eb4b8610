"""What `deploy` is given, as the files and options of a version."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Union

import numpy as np

from . import _convert
from ._exchange import PIECE, Body, FileBody
from ._settings import read_toml
from .errors import InvalidArgument

SETTINGS_FILE = "mayfly.toml"
EXAMPLE_FILE = "example.json"


@dataclass(frozen=True)
class ArtifactFile:
    path: str  # inside the artifact
    content: Union[bytes, Path]
    size: int

    def digest(self) -> str:
        """Of a file in pieces: nothing is held whole."""
        if isinstance(self.content, bytes):
            return hashlib.sha256(self.content).hexdigest()
        hash = hashlib.sha256()
        try:
            with open(self.content, "rb") as file:
                while piece := file.read(PIECE):
                    hash.update(piece)
        except OSError as error:
            raise InvalidArgument(f"{self.content}: {error.strerror}") from error
        return hash.hexdigest()

    def body(self, offset: int) -> Body:
        if isinstance(self.content, bytes):
            return [memoryview(self.content)[offset:]]
        return FileBody(self.content, offset, self.size)


@dataclass
class Artifact:
    files: List[ArtifactFile]
    options: Dict[str, Any] = field(default_factory=dict)


def read_artifact(model: Any, example: Any, options: Optional[Mapping[str, Any]]) -> Artifact:
    """`model`: bytes of ONNX, an onnx.ModelProto, a path, or a fitted estimator. Slow: it reads, and it may convert."""
    if isinstance(model, (str, os.PathLike)):
        artifact = _from_path(Path(model))
    elif isinstance(model, (bytes, bytearray, memoryview)):
        artifact = _from_bytes(bytes(model))
    elif hasattr(model, "SerializeToString"):
        artifact = _from_bytes(model.SerializeToString())
    else:
        converted = _convert.to_onnx(model, example)
        artifact, example = _from_bytes(converted.model), converted.example
    if example is not None:
        content = example_json(example)
        artifact.files = [file for file in artifact.files if file.path != EXAMPLE_FILE]
        artifact.files.append(ArtifactFile(EXAMPLE_FILE, content, len(content)))
        artifact.options["example"] = EXAMPLE_FILE
    artifact.options.update(options or {})
    return artifact


def example_json(example: Any) -> bytes:
    """Inputs by name, or the only input, as `POST /functions/NAME` takes them."""
    return json.dumps(_plain(example), ensure_ascii=False).encode()


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(name): _plain(item) for name, item in value.items()}
    if hasattr(value, "columns") and hasattr(value, "to_dict"):  # a pandas DataFrame
        return {str(name): _plain(value[name]) for name in value.columns}
    if hasattr(value, "tolist") or isinstance(value, (list, tuple)):
        return np.asarray(value).tolist()
    return value


def _from_bytes(model: bytes) -> Artifact:
    if not model:
        raise InvalidArgument("the model is empty: expected the bytes of an ONNX file")
    return Artifact([ArtifactFile("model.onnx", model, len(model))], {"model": "model.onnx"})


def _from_path(path: Path) -> Artifact:
    if not path.is_dir():
        return Artifact([_local_file(path, path.name)], {"model": path.name})
    settings = path / SETTINGS_FILE
    options = read_toml(settings) if settings.exists() else {}
    return Artifact(_list_folder(path), options)


def _list_folder(folder: Path) -> List[ArtifactFile]:
    files = []
    for parent, folders, names in os.walk(folder, onerror=_refuse):
        linked = [name for name in folders if Path(parent, name).is_symlink()]
        for name in sorted(names + linked):
            inside = Path(parent, name).relative_to(folder).as_posix()
            if inside != SETTINGS_FILE:
                files.append(_local_file(Path(parent, name), inside))
        folders.sort()
    if not files:
        raise InvalidArgument(f"{folder}: the folder is empty")
    return files


def _local_file(file: Path, inside: str) -> ArtifactFile:
    if file.is_symlink():
        raise InvalidArgument(
            f"{file}: symbolic links are not followed; put the file itself into the folder"
        )
    if not file.exists():
        raise InvalidArgument(f"{file}: no such file or folder")
    if not file.is_file():
        raise InvalidArgument(f"{file}: not a file")
    return ArtifactFile(inside, file, file.stat().st_size)


def _refuse(error: OSError) -> None:
    raise InvalidArgument(f"{error.filename}: {error.strerror}") from error
