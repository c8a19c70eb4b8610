#!/usr/bin/env python3
"""Four clients that ask a function about the rows of a table, one row a request, a hundred times a second each, until SIGTERM.

    scripts/callers.py URL TABLE.csv TARGET SUMMARY

TARGET is the column that is not sent. Writes to SUMMARY how many were answered, by which version. Exits 1 when one was
not, or an answer was no number.
"""

from __future__ import annotations

import csv
import http.client
import json
import math
import random
import signal
import sys
import threading
from collections import Counter
from pathlib import Path
from urllib.parse import urlsplit


def main() -> int:
    url, rows, summary = urlsplit(sys.argv[1]), requests_of(Path(sys.argv[2]), sys.argv[3]), Path(sys.argv[4])
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    answered: Counter = Counter()
    failed: list[str] = []

    def ask(seed: int) -> None:
        try:
            for version in answers(url, rows, random.Random(seed), stop):
                answered[version] += 1
        except Exception as wrong:  # whatever it is, a caller noticed
            failed.append(repr(wrong))

    threads = [threading.Thread(target=ask, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    shares = ", ".join(f"{count} by version {version}" for version, count in sorted(answered.items()))
    said = f"{sum(answered.values())} requests were answered ({shares}); {len(failed)} failed"
    summary.write_text("\n".join([said, *failed, ""]), "utf-8")
    return 0 if answered and not failed else 1


def requests_of(table: Path, target: str) -> list[str]:
    with table.open(encoding="utf-8", newline="") as file:
        return [json.dumps({name: value_of(text) for name, text in row.items() if name != target}) for row in csv.DictReader(file)]


def value_of(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text


def answers(url, rows: list[str], rng: random.Random, stop: threading.Event):
    """Asks until `stop`; yields the version of each answer, raises for what is none."""
    connection = http.client.HTTPConnection(url.netloc, timeout=30)
    while not stop.wait(0.01):
        connection.request("POST", url.path, rng.choice(rows))
        reply = connection.getresponse()
        body = reply.read()
        version = reply.headers["Mayfly-Version"]
        if reply.status != 200 or not is_answer(body):
            raise ValueError(f"version {version} answered {reply.status}: {body[:200]!r}")
        yield version


def is_answer(body: bytes) -> bool:
    value = json.loads(body)["value"]
    return math.isfinite(value[0] if isinstance(value, list) else value)


if __name__ == "__main__":
    sys.exit(main())
