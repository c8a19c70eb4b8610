"""Films like those that somebody liked: similarities of films, learned from who rated both."""

import numpy as np


def load(ctx):
    tables = np.load(ctx.path("films.npz"))
    titles = [title.decode() for title in tables["titles"]]
    return {
        "titles": titles,
        "places": {title.lower(): place for place, title in enumerate(titles)},
        "neighbours": tables["neighbours"],  # of each film, the most similar first
        "similarities": tables["similarities"],
    }


def predict(inputs, state, ctx):
    """{"liked": ["Toy Story", …], "count": 5} → the films that fit best, and how well."""
    liked, unknown = [], []
    for title in inputs["liked"]:
        place = state["places"].get(str(title).lower())
        (unknown.append(str(title)) if place is None else liked.append(place))
    scores = np.zeros(len(state["titles"]))
    for place in liked:
        scores[state["neighbours"][place]] += state["similarities"][place]
    scores[liked] = 0
    best = np.argsort(-scores)[: int(inputs.get("count", 5))]
    return {
        "films": [state["titles"][place] for place in best if scores[place] > 0],
        "scores": [round(float(scores[place]), 3) for place in best if scores[place] > 0],
        "unknown": unknown,
    }
