#!/usr/bin/env python3
"""Four clients that ask for species of irises, each with flowers of its own, until SIGTERM.

    scripts/callers.py URL SUMMARY

Writes to SUMMARY how many were answered, by which version. Exits 1 when one was not, or an answer was no species with
probabilities.
"""

from __future__ import annotations

import http.client
import json
import random
import signal
import sys
import threading
from collections import Counter
from urllib.parse import urlsplit

TYPICAL = {  # centimetres, and how much flowers differ
    "sepal_length": (5.8, 0.8),
    "sepal_width": (3.0, 0.4),
    "petal_length": (3.8, 1.7),
    "petal_width": (1.2, 0.7),
}


def main() -> int:
    url, summary = urlsplit(sys.argv[1]), sys.argv[2]
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    answered: Counter = Counter()
    failed: list[str] = []

    def ask(seed: int) -> None:
        try:
            for version in answers(url, random.Random(seed), stop):
                answered[version] += 1
        except Exception as wrong:  # whatever it is, a caller noticed
            failed.append(repr(wrong))

    threads = [threading.Thread(target=ask, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    shares = ", ".join(f"{count} by version {version}" for version, count in sorted(answered.items()))
    with open(summary, "w", encoding="utf-8") as file:
        print(f"{sum(answered.values())} requests were answered ({shares}); {len(failed)} failed", *failed, sep="\n", file=file)
    return 0 if answered and not failed else 1


def answers(url, rng: random.Random, stop: threading.Event):
    """Asks until `stop`; yields the version of each answer, raises for what is none."""
    connection = http.client.HTTPConnection(url.netloc, timeout=30)
    while not stop.is_set():
        flower = {name: [max(0.1, rng.gauss(*typical))] for name, typical in TYPICAL.items()}
        connection.request("POST", url.path, json.dumps(flower))
        reply = connection.getresponse()
        body = reply.read()
        version = reply.headers["Mayfly-Version"]
        if reply.status != 200 or not is_answer(body):
            raise ValueError(f"version {version} answered {reply.status}: {body[:200]!r}")
        yield version


def is_answer(body: bytes) -> bool:
    reply = json.loads(body)
    return abs(sum(reply["probabilities"][0]) - 1) < 1e-3 and reply["label"][0] in ("setosa", "versicolor", "virginica")


if __name__ == "__main__":
    sys.exit(main())
