"""Reads the lines of a scanned page, or of the pictures that are named."""

from __future__ import annotations

import sys
from pathlib import Path

import mayfly

LINES = Path(__file__).resolve().parents[2] / "build" / "examples" / "ocr" / "lines"

for picture in map(Path, sys.argv[1:] or sorted(LINES.glob("*.png"))):
    reply = mayfly.call("ocr", picture)
    text = "".join(reply["characters"])
    print(f"{picture.name:8} {text:54} confidence {reply['confidence'].mean():.2f}")
