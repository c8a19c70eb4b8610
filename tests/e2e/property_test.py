"""What a property-based run finds out (schemathesis, over /openapi.json): no 500, nothing undocumented."""

from __future__ import annotations

import json
import os
import subprocess

from openapi_spec_validator import OpenAPIV31SpecValidator

from case import NodeCase
from node import ROOT

SCHEMATHESIS = ROOT / ".deps" / "venv" / "bin" / "schemathesis"
CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
)
# What writes where it is told to, never ends, or takes away what the other operations are asked about.
LEFT_OUT = {
    ("POST", "/api/v1/backup"),
    ("GET", "/api/v1/functions/{name}/logs"),
    ("GET", "/api/v1/jobs/{id}/events"),
    ("DELETE", "/api/v1/functions/{name}"),
    # These functions do not stream: 501. streams_test.py asks one that does.
    *(("POST", f"/v2/models/{{name}}{version}/{verb}")
      for version in ("", "/versions/{version}") for verb in ("generate", "generate_stream")),
}


class PropertyTest(NodeCase):
    functions = {"iris": "iris", "adder": "adder"}
    arguments = ("--client-shm-uid", str(os.geteuid()))

    def document(self) -> dict:
        reply = self.node.request("GET", "/openapi.json")
        self.assertEqual(reply.status, 200)
        self.assertEqual(reply.headers["Content-Type"], "application/json")
        return reply.json()

    def test_the_document_is_valid_and_names_every_function(self) -> None:
        document = self.document()
        self.assertEqual([str(error) for error in OpenAPIV31SpecValidator(document).iter_errors()], [])
        for path in ("/functions/iris", "/functions/adder", "/v2/models/iris/infer"):
            self.assertIn(path, document["paths"])
        schema = document["paths"]["/functions/iris"]["post"]["requestBody"]["content"]["application/json"]["schema"]
        self.assertIn("sepal_length", schema["required"])

    def test_no_request_ends_in_500_or_in_something_undocumented(self) -> None:
        document = self.document()
        for method, path in LEFT_OUT:
            del document["paths"][path][method.lower()]
        schema = self.folder / "openapi.json"
        schema.write_text(json.dumps(document))
        run = subprocess.run(
            [
                SCHEMATHESIS, "run", schema, "--url", self.node.url, "--checks", ",".join(CHECKS),
                "--exclude-tag", "unsupported", "--phases", "examples,coverage,fuzzing", "--max-examples", "15",
                "--seed", "1", "--generation-database", "none", "--request-timeout", "20", "--no-color",
            ],
            cwd=self.folder, capture_output=True, text=True, timeout=600, check=False,
        )
        self.assertEqual(run.returncode, 0, run.stdout[-6000:] + run.stderr[-2000:])
        # Some of them said how little the project may take.
        limits = document["components"]["schemas"]["Quotas"]["properties"]
        limits = {name: "0" if limit.get("type") == "string" else 0 for name, limit in limits.items()}
        self.assertEqual(self.node.request("PATCH", "/api/v1/projects/default/quotas", json.dumps(limits)).status, 200)
        reply = self.node.request("POST", "/functions/iris", self.example("iris"))
        self.assertEqual(reply.status, 200, reply.json())

    def example(self, model: str) -> bytes:
        inputs = json.loads((ROOT / "build" / "models" / model / "example.json").read_text())["inputs"]
        return json.dumps({one["name"]: one["data"] for one in inputs}).encode()
