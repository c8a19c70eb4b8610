"""Recommends films to somebody who liked those that are named."""

from __future__ import annotations

import json
import os
import sys
import urllib.request

liked = sys.argv[1:] or ["Toy Story", "Finding Nemo"]
url = os.environ.get("MAYFLY_URL", "http://127.0.0.1:8080")
body = json.dumps({"liked": liked, "count": 5}).encode()
with urllib.request.urlopen(f"{url}/functions/recommend", data=body) as reply:
    told = json.load(reply)
print("liked:", ", ".join(liked))
for film, score in zip(told["films"], told["scores"]):
    print(f"  {score:5.2f}  {film}")
for title in told["unknown"]:
    print(f"  not known: {title}")
