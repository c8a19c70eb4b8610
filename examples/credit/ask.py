"""Scores applications that were not learned from, and says what became of them."""

from __future__ import annotations

from data import load

import mayfly

_, others, _, truth = load()
chances = mayfly.call("credit", others)["probabilities"][:, 1]

print("chance  became  amount  income  job        home     records")
for row in chances.argsort()[:: len(others) // 8][:8]:
    one = others.iloc[row]
    became = "good" if truth.iloc[row] else "bad"
    print(
        f"{chances[row]:6.0%}  {became:6}  {one.amount:6.0f}  {one.income:6.0f}  "
        f"{one.job:9}  {one.home:7}  {one.records}"
    )
refused = chances < 0.5
print(f"below 50 %: {refused.sum()}, of which {1 - truth[refused].mean():.0%} went badly")
print(f"the others: {(~refused).sum()}, of which {1 - truth[~refused].mean():.0%} went badly")
