"""What a Python function does, without Mayfly: the same imports, the same load() and predict() in a plain python3 process.

    python3 python_function.py make FOLDER           fits the model, writes FOLDER/model.pickle and example.json
    python3 python_function.py first FOLDER          one prediction; its result on standard output
    python3 python_function.py fork FOLDER COUNT     os.fork() of the warmed process, COUNT times: microseconds, as JSON
"""

import gc
import json
import os
import sys
import time


def make(folder):
    import pickle

    from sklearn.datasets import make_classification
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    x, y = make_classification(2000, 30, random_state=7)
    with open(os.path.join(folder, "model.pickle"), "wb") as file:
        pickle.dump(make_pipeline(StandardScaler(), LogisticRegression()).fit(x, y), file)
    with open(os.path.join(folder, "example.json"), "w") as file:
        json.dump({"x": [[round(float(value), 3) for value in x[0]]]}, file)


class Context:
    def __init__(self, folder):
        self.folder = folder

    def path(self, name):
        return os.path.join(self.folder, name)


def loaded(folder):
    """The function's module as it is deployed, its state, and one row."""
    sys.path.insert(0, folder)
    import function

    import numpy

    state = function.load(Context(folder))
    with open(os.path.join(folder, "example.json")) as file:
        row = numpy.array(json.load(file)["x"], dtype="f4")
    return lambda: function.predict({"x": row}, state, None)["probability"].tolist()


def first(folder):
    print(loaded(folder)(), flush=True)
    os._exit(0)  # how it ends is nobody's wait


def fork(folder, count):
    predict = loaded(folder)
    for _ in range(20):
        predict()
    gc.collect()
    gc.freeze()
    times = []
    for _ in range(count):
        begun = time.perf_counter_ns()
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            os.write(writing, json.dumps(predict()).encode())
            os._exit(0)
        os.close(writing)
        os.read(reading, 4096)
        times.append((time.perf_counter_ns() - begun) / 1000)
        os.close(reading)
        os.waitpid(child, 0)
    print(json.dumps({"us": times}))


if __name__ == "__main__":
    what, folder, *rest = sys.argv[1:]
    {"make": make, "first": first, "fork": fork}[what](folder, *map(int, rest))
