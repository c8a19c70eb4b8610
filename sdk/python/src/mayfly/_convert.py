"""Fitted estimators of scikit-learn and XGBoost → ONNX, through their own converters."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Any, Dict, List, Optional, Tuple

import numpy as np

from .errors import InvalidArgument, MissingPackage

_EXAMPLE_ROWS = 3


@dataclass(frozen=True)
class Converted:
    model: bytes
    example: Optional[Dict[str, Any]]  # inputs by the names that the model has for them


def to_onnx(estimator: Any, example: Any) -> Converted:
    """`example`: some rows as the estimator was fitted on; without, all its features are float32."""
    if _is_of(estimator, "xgboost", "Booster"):
        return _booster_to_onnx(estimator, example)
    if not _is_of(estimator, "sklearn.base", "BaseEstimator"):
        raise InvalidArgument(
            f"a {type(estimator).__module__}.{type(estimator).__qualname__} cannot be deployed",
            "deploy takes bytes of ONNX, an onnx.ModelProto, a path, or a fitted estimator of scikit-learn or XGBoost",
        )
    skl2onnx = _need("skl2onnx", "to deploy estimators of scikit-learn")
    _teach_xgboost(estimator, skl2onnx)
    rows = None if example is None else _rows(example)
    types = _input_types(estimator, rows)
    options = {"zipmap": False} if _is_classifier(estimator) else None
    try:
        model = skl2onnx.convert_sklearn(
            estimator, initial_types=types, options=options, target_opset=_opsets()
        )
    except Exception as error:
        raise InvalidArgument(
            f"skl2onnx cannot convert this {type(estimator).__name__}: {error}",
            "" if example is not None else "pass example=: some rows as it was fitted on",
        ) from error
    return Converted(model.SerializeToString(), _named_example(types, rows))


def _booster_to_onnx(booster: Any, example: Any) -> Converted:
    onnxmltools = _need("onnxmltools", "to deploy a Booster of XGBoost")
    skl2onnx = _need("skl2onnx", "to deploy a Booster of XGBoost")
    tensors = skl2onnx.common.data_types
    types = [("X", tensors.FloatTensorType([None, int(booster.num_features())]))]
    names = booster.feature_names
    booster.feature_names = None  # the converter knows only numbered features
    try:
        model = onnxmltools.convert_xgboost(booster, initial_types=types)
    except Exception as error:
        raise InvalidArgument(f"onnxmltools cannot convert this Booster: {error}") from error
    finally:
        booster.feature_names = names
    rows = None if example is None else np.asarray(_rows(example), dtype=np.float32)
    return Converted(model.SerializeToString(), _named_example(types, rows))


def _input_types(estimator: Any, rows: Any) -> List[Tuple[str, Any]]:
    """One input a column of a DataFrame, else one input "X" of all features."""
    tensors = importlib.import_module("skl2onnx.common.data_types")
    if hasattr(rows, "columns"):
        return [(str(name), _column_type(tensors, rows[name])) for name in rows.columns]
    if rows is not None:
        rows = np.asarray(rows)
        guess = tensors.guess_data_type(rows)[0][1]
        return [("X", type(guess)([None, *rows.shape[1:]]))]
    features = getattr(estimator, "n_features_in_", None)
    if features is None:
        raise InvalidArgument(
            f"how many features this {type(estimator).__name__} takes is not known",
            "fit it first; if it is fitted, pass example=: some rows as it was fitted on",
        )
    return [("X", tensors.FloatTensorType([None, int(features)]))]


def _column_type(tensors: Any, column: Any) -> Any:
    kind = column.dtype.kind if isinstance(column.dtype, np.dtype) else "O"
    if kind in "OUS":
        return tensors.StringTensorType([None, 1])
    if kind == "b":
        return tensors.BooleanTensorType([None, 1])
    return (tensors.Int64TensorType if kind in "iu" else tensors.FloatTensorType)([None, 1])


def _named_example(types: List[Tuple[str, Any]], rows: Any) -> Optional[Dict[str, Any]]:
    if rows is None:
        return None
    if hasattr(rows, "columns"):
        return {name: [[value] for value in rows[name].tolist()] for name, _ in types}
    return {types[0][0]: np.asarray(rows)}


def _rows(example: Any) -> Any:
    """The first rows; of a DataFrame a DataFrame."""
    if hasattr(example, "iloc"):
        rows = example.iloc[:_EXAMPLE_ROWS]
        return rows if hasattr(rows, "columns") else rows.to_numpy()
    return np.asarray(example)[:_EXAMPLE_ROWS]


def _is_classifier(estimator: Any) -> bool:
    return hasattr(estimator, "predict_proba") or hasattr(estimator, "decision_function")


def _teach_xgboost(estimator: Any, skl2onnx: Any) -> None:
    """Makes skl2onnx know XGBoost's estimators, alone or as a step of a pipeline."""
    if not any(kind.__module__.split(".")[0] == "xgboost" for kind in map(type, _parts(estimator))):
        return
    _need("onnxmltools", "to deploy estimators of XGBoost")
    xgboost = importlib.import_module("xgboost")
    convert = importlib.import_module("onnxmltools.convert.xgboost.operator_converters.XGBoost")
    shapes = importlib.import_module("skl2onnx.common.shape_calculator")
    skl2onnx.update_registered_converter(
        xgboost.XGBClassifier,
        "XGBoostXGBClassifier",
        shapes.calculate_linear_classifier_output_shapes,
        convert.convert_xgboost,
        options={"nocl": [True, False], "zipmap": [True, False, "columns"]},
    )
    skl2onnx.update_registered_converter(
        xgboost.XGBRegressor,
        "XGBoostXGBRegressor",
        shapes.calculate_linear_regressor_output_shapes,
        convert.convert_xgboost,
    )


def _parts(estimator: Any) -> List[Any]:
    """The estimator and those inside it."""
    parts = [estimator]
    for value in estimator.get_params(deep=True).values():
        if hasattr(value, "get_params"):
            parts.append(value)
    return parts


def _opsets() -> Dict[str, int]:
    """The newest that the converters are known to write well and every ONNX Runtime since 1.14 reads."""
    return {"": 17, "ai.onnx.ml": 3}


def _is_of(value: Any, module: str, name: str) -> bool:
    """isinstance, without importing the package of a class that the value then cannot be of."""
    return any(
        kind.__name__ == name and (kind.__module__ + ".").startswith(module + ".")
        for kind in type(value).__mro__
    )


def _need(package: str, why: str) -> Any:
    try:
        return importlib.import_module(package)
    except ImportError as error:
        missing = (error.name or package).partition(".")[0]
        through = "" if missing == package else f" by {package}"
        raise MissingPackage(
            f"the package {missing} is needed{through} {why}, and is not installed",
            f"pip install {missing}",
        ) from error
