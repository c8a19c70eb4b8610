"""Fitted estimators answer on a node as they answer in the notebook."""

from __future__ import annotations

import numpy as np
import pandas
from sklearn.compose import make_column_transformer
from sklearn.datasets import load_diabetes, load_iris
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from xgboost import Booster, DMatrix, XGBClassifier, XGBRegressor, train

import mayfly
from sdk_case import SdkCase

IRIS, SPECIES = load_iris(return_X_y=True)
IRIS = IRIS.astype(np.float32)
DIABETES, PROGRESS = load_diabetes(return_X_y=True)
DIABETES = DIABETES.astype(np.float32)


def close(actual, wanted) -> None:
    np.testing.assert_allclose(actual, wanted, rtol=1e-4, atol=1e-5)


class ConvertTest(SdkCase):
    def test_classifiers_of_scikit_learn_and_xgboost(self) -> None:
        for estimator in (
            make_pipeline(StandardScaler(), LogisticRegression(max_iter=500)),
            RandomForestClassifier(20, random_state=1),
            XGBClassifier(n_estimators=10),
            make_pipeline(StandardScaler(), XGBClassifier(n_estimators=10)),
        ):
            with self.subTest(estimator=estimator):
                estimator.fit(IRIS, SPECIES)
                self.mayfly.deploy("species", estimator, example=IRIS)
                reply = self.mayfly.call("species", IRIS)
                labels, probabilities = reply.values()
                # A scaled value within a rounding of a tree's threshold may fall on its other side.
                self.assertGreaterEqual((labels == estimator.predict(IRIS)).mean(), 0.99)
                wanted = estimator.predict_proba(IRIS)
                alike = np.isclose(probabilities, wanted, rtol=1e-4, atol=1e-5).all(axis=1)
                self.assertGreaterEqual(alike.mean(), 0.99)

    def test_regressors_need_no_example(self) -> None:
        for estimator in (RandomForestRegressor(20, random_state=1), XGBRegressor(n_estimators=10)):
            with self.subTest(estimator=estimator):
                estimator.fit(DIABETES, PROGRESS)
                self.mayfly.deploy("progress", estimator)
                (value,) = self.mayfly.call("progress", DIABETES).values()
                np.testing.assert_allclose(value[:, 0], estimator.predict(DIABETES), rtol=1e-3)

    def test_a_booster(self) -> None:
        names = [f"f{n}" for n in range(DIABETES.shape[1])]
        booster: Booster = train({}, DMatrix(DIABETES, PROGRESS, feature_names=names), 10)
        self.mayfly.deploy("booster", booster, example=DIABETES)
        (value,) = self.mayfly.call("booster", DIABETES).values()
        wanted = booster.predict(DMatrix(DIABETES, feature_names=names))
        np.testing.assert_allclose(value[:, 0], wanted, rtol=1e-3)
        self.assertEqual(booster.feature_names, names)

    def test_a_pipeline_over_named_columns_of_several_types(self) -> None:
        rng = np.random.default_rng(1)
        frame = pandas.DataFrame(
            {
                "income": rng.normal(100, 30, 300).astype(np.float32),
                "age": rng.integers(18, 80, 300),
                "home": rng.choice(["rent", "owner", "parents"], 300),
            }
        )
        good = (frame.income > 90) & (frame.home != "rent")
        columns = make_column_transformer(
            (OneHotEncoder(), ["home"]), (StandardScaler(), ["income", "age"])
        )
        model = make_pipeline(columns, LogisticRegression()).fit(frame, good.astype(int))
        self.mayfly.deploy("credit", model, example=frame)
        inputs = {str(spec) for spec in self.mayfly.describe("credit").inputs}
        self.assertEqual(inputs, {"income FP32 [-1, 1]", "age INT64 [-1, 1]", "home BYTES [-1, 1]"})
        reply = self.mayfly.call("credit", frame)
        close(list(reply.values())[1], model.predict_proba(frame))
        one = self.mayfly.call("credit", {"income": 120, "age": 40, "home": "owner"})
        self.assertEqual(list(one.values())[0].tolist(), [1])

    def test_what_cannot_be_converted_says_so(self) -> None:
        self.assertFails(
            mayfly.InvalidArgument,
            self.mayfly.deploy,
            "x",
            LogisticRegression(),
            text="fit it first",
        )
        self.assertFails(
            mayfly.InvalidArgument,
            self.mayfly.deploy,
            "x",
            LogisticRegression(),
            example=IRIS,
            text="skl2onnx cannot convert",
        )


class AsyncConvertTest(ConvertTest):
    asynchronous = True
