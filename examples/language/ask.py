"""Says in which language each argument is written."""

from __future__ import annotations

import sys
from pathlib import Path

import mayfly

LANGUAGES = (
    Path(__file__).resolve().parents[2] / "build" / "examples" / "language" / "languages.txt"
)
SENTENCES = [
    "Where can I find the nearest railway station?",
    "Der Zug nach München fährt heute nicht.",
    "Le train pour Paris est en retard.",
    "¿Dónde está la estación de tren?",
    "Pociąg do Krakowa jest spóźniony.",
    "Tåget är försenat.",
    "Поезд в Москву опаздывает.",
]

names = LANGUAGES.read_text().split()
texts = sys.argv[1:] or SENTENCES
reply = mayfly.call("language", {"text": texts})
for text, label, chances in zip(texts, reply["label"], reply["probabilities"]):
    second = names[chances.argsort()[-2]]
    print(f"{label}  {chances.max():6.1%}  {text}   (else {second})")
