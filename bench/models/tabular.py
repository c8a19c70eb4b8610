"""Models of tables: trained with scikit-learn on the data sets it carries, exported with skl2onnx."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import helper
from skl2onnx import to_onnx
from skl2onnx.common.data_types import FloatTensorType
from sklearn.datasets import load_breast_cancer, load_iris, make_classification
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from .folder import FREE, IR_VERSION, OPSET, Folder, constant, model_of, strings, tensor

SEED = 20260101
IRIS_COLUMNS = ("sepal_length", "sepal_width", "petal_length", "petal_width")
IRIS_ROWS = (0, 50, 100)  # the first row of each species
CANCER_ROWS = (0, 19, 100)  # malignant, benign, malignant


def iris(folder: Folder) -> None:
    """Four named measurements in, the species and its probabilities out: the demo's first function."""
    rows, truth, names = iris_data()
    classifier = _scaled_logistic().fit(rows, names[truth])
    model = _export(classifier, "iris", features=4, zipmap=False)
    _split_input(model.graph, IRIS_COLUMNS)
    folder.write_model(model)
    chosen = rows[list(IRIS_ROWS)]
    inputs = {name: chosen[:, i] for i, name in enumerate(IRIS_COLUMNS)}
    folder.write_example(inputs, _answers(classifier, chosen, strings), tolerance=1e-5)


def iris_forest(folder: Folder) -> None:
    """The same question answered by a random forest: a next version of iris, about as good."""
    rows, truth, names = iris_data()
    classifier = RandomForestClassifier(n_estimators=50, random_state=SEED).fit(rows, names[truth])
    model = _export(classifier, "iris_forest", features=4, zipmap=False)
    _split_input(model.graph, IRIS_COLUMNS)
    folder.write_model(model)


def logistic(folder: Folder) -> None:
    """StandardScaler and LogisticRegression over 30 measurements of breast-cancer cells."""
    classifier, chosen = _cancer_classifier()
    folder.write_model(_export(classifier, "logistic", features=30, zipmap=False))
    folder.write_example({"X": chosen}, _answers(classifier, chosen, np.int64), tolerance=1e-5)


def logistic_zipmap(folder: Folder) -> None:
    """The same as skl2onnx exports it by default: probabilities as a sequence of maps, made by a final ZipMap.

    Mayfly serves the tensor in front of the ZipMap, so the expected probabilities are a tensor here too.
    """
    classifier, chosen = _cancer_classifier()
    folder.write_model(_export(classifier, "logistic_zipmap", features=30, zipmap=True))
    folder.write_example({"X": chosen}, _answers(classifier, chosen, np.int64), tolerance=1e-5)


def gbdt(folder: Folder) -> None:
    """500 boosted trees of depth 6 over 30 features: one TreeEnsemble node of about 2.4 MB."""
    rows, labels = make_classification(
        n_samples=50_000,
        n_features=30,
        n_informative=24,
        n_redundant=0,
        flip_y=0.3,
        n_clusters_per_class=8,
        random_state=SEED,
    )
    classifier = HistGradientBoostingClassifier(
        max_iter=500,
        max_depth=6,
        max_leaf_nodes=64,
        min_samples_leaf=1,
        learning_rate=0.05,
        early_stopping=False,
        random_state=SEED,
    )
    rows = rows.astype(np.float32)
    classifier.fit(rows, labels)
    folder.write_model(_trees_model(classifier, features=30))
    chosen = rows[:3]
    folder.write_example({"X": chosen}, _answers(classifier, chosen, np.int64), tolerance=1e-4)


def _trees_model(classifier: HistGradientBoostingClassifier, *, features: int) -> onnx.ModelProto:
    """One TreeEnsembleClassifier, written by hand: skl2onnx 1.18 fails on this estimator's numpy booleans."""
    trees = [stage[0].nodes for stage in classifier._predictors]
    every = np.concatenate(trees)
    leaves = every["is_leaf"].astype(bool)
    tree_ids = np.repeat(np.arange(len(trees)), [len(tree) for tree in trees])
    node_ids = np.concatenate([np.arange(len(tree)) for tree in trees])
    where = {
        "nodes_treeids": tree_ids,
        "nodes_nodeids": node_ids,
        "nodes_featureids": every["feature_idx"],
        "nodes_truenodeids": every["left"],
        "nodes_falsenodeids": every["right"],
        "class_treeids": tree_ids[leaves],
        "class_nodeids": node_ids[leaves],
        "class_ids": np.zeros(leaves.sum(), int),
        "classlabels_int64s": np.array([0, 1]),
    }
    how = {
        "nodes_values": _round_down(np.where(leaves, 0, every["num_threshold"])),
        "class_weights": every["value"][leaves],
        "base_values": classifier._baseline_prediction.ravel(),
    }
    node = helper.make_node(
        "TreeEnsembleClassifier",
        ["X"],
        ["label", "probabilities"],
        domain="ai.onnx.ml",
        nodes_modes=["LEAF" if leaf else "BRANCH_LEQ" for leaf in leaves],
        post_transform="LOGISTIC",
        **{key: [int(v) for v in values] for key, values in where.items()},
        **{key: [float(v) for v in values] for key, values in how.items()},
    )
    return model_of(
        "gbdt",
        [node],
        [tensor("X", "FP32", [FREE, features])],
        [tensor("label", "INT64", [FREE]), tensor("probabilities", "FP32", [FREE, 2])],
        domains={"ai.onnx.ml": 3},
    )


def _round_down(thresholds: np.ndarray) -> np.ndarray:
    """As float32, never above: so that x <= threshold answers for float32 x as it does against the float64."""
    rounded = thresholds.astype(np.float32)
    return np.where(rounded > thresholds, np.nextafter(rounded, np.float32(-np.inf)), rounded)


def iris_data() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows, the index of the species of each, and the species' names."""
    data = load_iris()
    return data.data.astype(np.float32), data.target, data.target_names.astype(object)


def cancer_data() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows, the label of each (0 malignant, 1 benign), and the columns' names."""
    data = load_breast_cancer()
    return data.data.astype(np.float32), data.target, data.feature_names


def _cancer_classifier():
    rows, truth, _ = cancer_data()
    return _scaled_logistic().fit(rows, truth), rows[list(CANCER_ROWS)]


def _scaled_logistic():
    return make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000, random_state=SEED))


def _export(classifier, name: str, *, features: int, zipmap: bool) -> onnx.ModelProto:
    model = to_onnx(
        classifier,
        name=name,
        initial_types=[("X", FloatTensorType([None, features]))],
        target_opset={"": OPSET, "ai.onnx.ml": 3},
        options={"zipmap": zipmap},
    )
    model.ir_version = IR_VERSION
    _rename_outputs(model.graph, {"output_label": "label", "output_probability": "probabilities"})
    return model


def _rename_outputs(graph: onnx.GraphProto, names: dict[str, str]) -> None:
    """Gives the outputs our names. The exporter has used those within some graphs: there they get a prefix."""
    names = {output.name: names[output.name] for output in graph.output if output.name in names}
    names |= {taken: f"inner_{taken}" for taken in names.values()}
    for node in graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
    for output in graph.output:
        output.name = names.get(output.name, output.name)


def _split_input(graph: onnx.GraphProto, columns) -> None:
    """Replaces the matrix input X by one vector input a column."""
    nodes = [
        helper.make_node("Unsqueeze", [name, "axis_1"], [f"{name}_column"]) for name in columns
    ]
    nodes.append(helper.make_node("Concat", [f"{name}_column" for name in columns], ["X"], axis=1))
    nodes.extend(graph.node)
    graph.ClearField("node")
    graph.node.extend(nodes)
    graph.ClearField("input")
    graph.input.extend(tensor(name, "FP32", [FREE]) for name in columns)
    graph.initializer.append(constant("axis_1", np.array([1], np.int64)))


def _answers(classifier, rows: np.ndarray, label_type) -> dict[str, np.ndarray]:
    return {
        "label": label_type(classifier.predict(rows)),
        "probabilities": classifier.predict_proba(rows).astype(np.float32),
    }
