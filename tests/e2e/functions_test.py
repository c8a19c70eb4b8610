"""POST /functions/NAME: plain JSON and pictures; and the models people bring."""

from __future__ import annotations

import io

import numpy as np
from case import NodeCase
from node import MODELS, ROOT, expected
from PIL import Image


class FunctionsTest(NodeCase):
    functions = {
        "iris": "iris",
        "logistic": "logistic",
        "zipmap": "logistic_zipmap",
        "digits": "mlp1m",
        "orientation": "ocr_orientation",
        "image": "image_input",
        "planes": "image_planes",
        "upper": "string_upper",
        "multi_rank": "multi_rank",
        "random": "random_normal",
        "reshape": "reshape",
    }

    def test_named_inputs_in_and_named_outputs_out(self) -> None:
        reply = self.node.request(
            "POST", "/functions/iris", (ROOT / "examples/iris/input.json").read_bytes()
        )
        self.assertServed(reply)
        self.assertEqual(reply.json()["label"], ["setosa", "versicolor", "virginica"])
        self.assertEqual(np.array(reply.json()["probabilities"]).shape, (3, 3))

    def test_the_examples_say_what_their_readme_says(self) -> None:
        cases = (
            ("logistic", "breast-cancer", [0, 1, 0], lambda reply: reply["label"]),
            (
                "digits",
                "digits",
                [0, 1, 2, 3],
                lambda reply: [int(np.argmax(r)) for r in reply["probabilities"]],
            ),
        )
        for name, folder, answer, read in cases:
            reply = self.node.request(
                "POST",
                f"/functions/{name}",
                (ROOT / "examples" / folder / "input.json").read_bytes(),
            )
            self.assertServed(reply)
            self.assertEqual(read(reply.json()), answer)

    def test_v2_answers_agree_with_the_independent_reference(self) -> None:
        models = {
            "iris": "iris",
            "logistic": "logistic",
            "zipmap": "logistic_zipmap",
            "digits": "mlp1m",
            "orientation": "ocr_orientation",
            "upper": "string_upper",
            "multi_rank": "multi_rank",
        }
        for name, model in models.items():
            with self.subTest(name):
                reply = self.node.example(name, model)
                self.assertServed(reply)
                document = expected(model)
                for output in document["outputs"]:
                    self.assertClose(
                        reply.output(output["name"]),
                        output["data"],
                        document["parameters"]["tolerance"],
                    )

    def test_a_final_zipmap_is_served_as_its_tensor(self) -> None:
        reply = self.node.request("GET", "/v2/models/zipmap")
        outputs = {
            tensor["name"]: (tensor["datatype"], tensor["shape"])
            for tensor in reply.json()["outputs"]
        }
        self.assertEqual(outputs["probabilities"], ("FP32", [-1, 2]))

    def test_pictures(self) -> None:
        for name, right in (("upright", 0), ("upside-down", 1)):
            content = (MODELS / "ocr_orientation" / f"{name}.png").read_bytes()
            reply = self.picture("orientation", content, "image/png")
            self.assertServed(reply)
            self.assertGreater(reply.json()["orientation"][0][right], 0.9)
            jpeg = io.BytesIO()
            Image.open(io.BytesIO(content)).save(jpeg, "JPEG", quality=95)
            reply = self.picture("orientation", jpeg.getvalue(), "image/jpeg")
            self.assertServed(reply)
            self.assertGreater(reply.json()["orientation"][0][right], 0.9)

    def test_pixels_arrive_in_order_for_rows_and_for_planes(self) -> None:
        pixels = np.zeros((32, 32, 3), np.uint8)
        pixels[..., 0], pixels[..., 1], pixels[..., 2] = 10, 20, 30
        png = io.BytesIO()
        Image.fromarray(pixels).save(png, "PNG")
        for name in ("image", "planes"):
            reply = self.picture(name, png.getvalue(), "image/png")
            self.assertServed(reply)
            self.assertClose(np.ravel(reply.json()["mean"]), [10, 20, 30], 1e-5)

    def test_broken_and_unfit_pictures_are_refused(self) -> None:
        png = (MODELS / "ocr_orientation" / "upright.png").read_bytes()
        small = io.BytesIO()
        Image.new("RGB", (8, 8)).save(small, "PNG")
        self.assertRefused(self.picture("orientation", png[:200], "image/png"), 400)
        self.assertServed(self.picture("orientation", small.getvalue(), "image/png"))  # resized
        self.assertRefused(self.picture("orientation", b"", "image/png"), 400)
        self.assertEqual(self.picture("iris", png, "image/png").status, 415)
        self.assertEqual(self.picture("orientation", png, "image/tiff").status, 415)

    def test_wrong_plain_input_is_refused_by_name(self) -> None:
        whole = {"sepal_length": [1], "sepal_width": [1], "petal_length": [1], "petal_width": [1]}
        for change, text in (
            ({"petal_width": None}, "petal_width"),
            ({"age": [1]}, "age"),
            ({"petal_width": ["x"]}, "petal_width"),
        ):
            body = {key: value for key, value in (whole | change).items() if value is not None}
            self.assertRefused(self.node.post_json("/functions/iris", body), 400, text=text)

    def test_unseeded_noise_differs_between_instances(self) -> None:
        self.node.configure("random", idle_timeout="100ms")
        noise = []
        for _ in range(3):
            reply = self.node.example("random", "random_normal")
            self.assertServed(reply)
            noise.append(tuple(reply.output("noise")))
            self.node.wait_until(lambda: self.node.running("random")[0] == 0, "the instance ends")
        self.assertEqual(len(set(noise)), 3)

    def test_invoke_reads_json_a_file_and_stdin(self) -> None:
        path = ROOT / "examples/iris/input.json"
        for arguments, stdin in (
            (["-d", path.read_text()], None),
            (["-d", f"@{path}"], None),
            (["-d", "@-"], path.read_bytes()),
        ):
            done = self.node.cli("invoke", "iris", *arguments, stdin=stdin)
            self.assertIn(b"virginica", done.stdout)

    def picture(self, name: str, content: bytes, kind: str):
        return self.node.request("POST", f"/functions/{name}", content, {"Content-Type": kind})

    def assertClose(self, answer, right, tolerance: float) -> None:
        if tolerance == 0:
            self.assertEqual(list(answer), list(right))
        else:
            right = np.array(right)
            if right.dtype.kind in "US":
                self.assertEqual(list(answer), right.tolist())
            else:
                self.assertLessEqual(
                    np.abs(np.array(answer) - right).max(), tolerance * np.abs(right).max()
                )


class CorsTest(NodeCase):
    functions = {"f": "identity_fp32"}
    arguments = ("--cors-origins", "https://app.example")

    def test_pages_of_a_configured_origin_read_every_reply(self) -> None:
        for method, path in (
            ("GET", "/v2/models/f"),
            ("GET", "/v2/models/nowhere"),
            ("GET", "/nowhere"),
            ("POST", "/v2/models/f/infer"),
            ("GET", "/api/v1/functions"),
            ("GET", "/api/v1/functions/f/logs"),
            ("POST", "/api/v1/functions/f/versions"),
        ):
            with self.subTest(f"{method} {path}"):
                reply = self.node.request(method, path, headers={"Origin": "https://app.example"})
                self.assertEqual(
                    reply.headers["Access-Control-Allow-Origin"], "https://app.example"
                )
                self.assertIn("Mayfly-Start", reply.headers["Access-Control-Expose-Headers"])

    def test_pages_of_a_configured_origin_may_use_every_method(self) -> None:
        asked = {"Origin": "https://app.example", "Access-Control-Request-Method": "PUT"}
        reply = self.node.request("OPTIONS", "/api/v1/functions/f/traffic", headers=asked)
        self.assertEqual(reply.status, 204)
        methods = set(reply.headers["Access-Control-Allow-Methods"].split(", "))
        self.assertGreaterEqual(methods, {"GET", "POST", "PUT", "PATCH", "DELETE"})
        self.assertIn("Mayfly-Key", reply.headers["Access-Control-Allow-Headers"])

    def test_other_pages_read_and_control_nothing(self) -> None:
        headers = {"Origin": "https://evil.example"}
        reply = self.node.request("GET", "/v2/models/f", headers=headers)
        self.assertNotIn("Access-Control-Allow-Origin", reply.headers)
        reply = self.node.request("GET", "/api/v1/functions", headers=headers)
        self.assertRefused(reply, 403, "forbidden_origin")
        self.assertNotIn("Access-Control-Allow-Origin", reply.headers)
