"""One surface three times: both clients and the module have the same calls, with the same parameters."""

from __future__ import annotations

import inspect
import pickle
import unittest

import mayfly
import sdk_case  # noqa: F401
from mayfly import errors


def calls(owner) -> dict[str, inspect.Signature]:
    found = inspect.getmembers(owner, inspect.isfunction)
    names = {name: value for name, value in found if not name.startswith("_")}
    return {name: inspect.signature(value) for name, value in names.items()}


def without_self(signature: inspect.Signature) -> list[str]:
    return [str(p) for p in signature.parameters.values() if p.name != "self"]


class SurfaceTest(unittest.TestCase):
    def test_both_clients_have_the_same_calls(self) -> None:
        blocking, awaited = calls(mayfly.Client), calls(mayfly.AsyncClient)
        self.assertEqual(blocking.keys(), awaited.keys())
        for name in blocking:
            self.assertEqual(without_self(blocking[name]), without_self(awaited[name]), name)
            if name not in ("follow", "stream"):
                self.assertReturnsAlike(blocking[name], awaited[name])

    def assertReturnsAlike(self, blocking: inspect.Signature, awaited: inspect.Signature) -> None:
        self.assertEqual(
            blocking.return_annotation, awaited.return_annotation.replace("AsyncJob", "Job")
        )

    def test_both_jobs_have_the_same_calls(self) -> None:
        blocking, awaited = calls(mayfly.Job), calls(mayfly.AsyncJob)
        self.assertEqual(blocking.keys(), awaited.keys())
        for name in blocking:
            self.assertEqual(without_self(blocking[name]), without_self(awaited[name]), name)
            self.assertReturnsAlike(blocking[name], awaited[name])

    def test_the_module_has_the_calls_of_a_client(self) -> None:
        module, client = calls(mayfly), calls(mayfly.Client)
        module = {name: module[name] for name in module.keys() & set(mayfly.__all__)}
        del module["default_client"], client["close"]
        self.assertEqual(module.keys(), client.keys())
        for name in client:
            self.assertEqual(without_self(module[name]), without_self(client[name]), name)
            self.assertEqual(module[name].return_annotation, client[name].return_annotation)

    def test_what_the_module_names_is_there(self) -> None:
        for name in mayfly.__all__:
            self.assertTrue(hasattr(mayfly, name), name)

    def test_every_reason_with_a_hint_is_one_of_the_node(self) -> None:
        headers = (sdk_case.ROOT / "src" / "core").glob("*reason.h")
        known = "".join(header.read_text() for header in headers)
        for reason in errors._HINTS:
            self.assertIn(f'"{reason}"', known)

    def test_a_prediction_survives_a_pickle(self) -> None:
        prediction = mayfly.Prediction(x=1)  # type: ignore[arg-type]
        prediction.version = 3
        back = pickle.loads(pickle.dumps(prediction))
        self.assertEqual((back, back.version), (prediction, 3))


if __name__ == "__main__":
    unittest.main()
