"""docs/openapi.yaml is true: its examples are answered as it says, and what comes back fits its schemas.

That it names every route and no other is a unit test's business (src/gateway/openapi_test.cc)."""

from __future__ import annotations

import json
import os
import re
import urllib.parse
from pathlib import Path

import yaml
from case import NodeCase
from node import MODELS, ROOT

SPECIFICATION = yaml.safe_load((ROOT / "docs" / "openapi.yaml").read_text())
METHODS = ("get", "head", "post", "put", "patch", "delete")
TYPES = {
    "object": dict,
    "array": list,
    "string": str,
    "integer": int,
    "number": (int, float),
    "boolean": bool,
    "null": type(None),
}


JOB_EXAMPLE = "019a5d3e-6c0f-7a31-9d52-3f0d8f1f7a11"

class OpenApiTest(NodeCase):
    functions = {"iris": "iris"}
    arguments = ("--client-shm-uid", str(os.geteuid()))

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        segment = Path("/dev/shm/mayfly.default.example")
        segment.write_bytes(bytes(64))
        cls.addClassCleanup(segment.unlink)

    def test_every_example_is_answered_as_documented(self) -> None:
        for path, method, operation in sorted(operations(), key=lambda each: (each[1] == "delete", -len(each[0]))):
            with self.subTest(f"{method.upper()} {path}"):
                reply, success = self.ask(path, method, operation)
                self.assertIn(reply.status, success, reply.body[:500])
                self.assertDocumented(path, method, reply)
        self.node.deploy("iris")  # for the other tests: the last example deleted it

    def test_refusals_are_documented(self) -> None:
        unknown = "0" * 64
        for method, path, template, body, status in [
            ("POST", "/v2/models/iris/infer", "/v2/models/{name}/infer", b"{", 400),
            ("POST", "/v2/models/nope/infer", "/v2/models/{name}/infer", b"{}", 404),
            ("POST", "/functions/iris", "/functions/{name}", b'{"sepal_length": [1]}', 400),
            ("GET", "/v2/models/nope", "/v2/models/{name}", None, 404),
            ("POST", "/v1/models/iris:predict", "/v1/models/{name}:predict", b'{"instances": []}', 400),
            ("POST", "/v1/models/nope:predict", "/v1/models/{name}:predict", b"{}", 404),
            ("GET", "/v1/models/nope", "/v1/models/{name}", None, 404),
            ("GET", "/v1/models/nope/metadata", "/v1/models/{name}/metadata", None, 404),
            ("GET", "/api/v1/functions/nope", "/api/v1/functions/{name}", None, 404),
            ("GET", "/api/v1/functions/NOPE", "/api/v1/functions/{name}", None, 400),
            ("DELETE", "/api/v1/functions/nope", "/api/v1/functions/{name}", None, 404),
            ("PATCH", "/api/v1/functions/iris/settings", "/api/v1/functions/{name}/settings", b'{"x": 1}', 400),
            ("POST", "/api/v1/functions/iris/versions", "/api/v1/functions/{name}/versions", deploy(unknown), 404),
            ("HEAD", f"/api/v1/blobs/{unknown}", "/api/v1/blobs/{digest}", None, 404),
            ("GET", "/api/v1/usage?since=yesterday", "/api/v1/usage", None, 400),
            ("POST", "/api/v1/backup", "/api/v1/backup", b'{"directory": "here"}', 400),
        ]:
            with self.subTest(f"{method} {path}"):
                reply = self.node.request(method, path, body)
                self.assertEqual(reply.status, status, reply.body[:500])
                self.assertDocumented(template, method.lower(), reply)
        for path, method, _ in operations():
            reply = self.node.request(method.upper(), concrete(path), headers={"Host": "evil.example"})
            self.assertEqual(reply.status, 403)
            self.assertDocumented(path, method, reply)

    def test_every_option_and_setting_stands_in_the_configuration_guide(self) -> None:
        guide = (ROOT / "docs" / "configuration.md").read_text()
        settings = self.node.cli_json("configure", "iris")
        options = self.node.cli_json("describe", "iris")["options"]
        for key in [*settings, *options]:
            self.assertIn(f"| `{key}` |", guide)

    def ask(self, path: str, method: str, operation: dict):
        """The reply to the documented example, and the statuses that count as success."""
        if "unsupported" in operation["tags"]:
            return self.node.request(method.upper(), concrete(path)), (501,)
        if "/generate" in path:  # iris is no function that streams: streams_test.py asks one
            return self.node.request(method.upper(), concrete(path), b"{}"), (501,)
        if path.startswith("/api/v1/keys") and method != "get":
            # This node stays without keys: keys_test.py makes and revokes them.
            body = json.dumps({"scopes": "admin"}).encode() if method == "post" else None
            return self.node.request(method.upper(), concrete(path), body), (403, 404)
        content = operation.get("requestBody", {}).get("content", {})
        kind, media = next(iter(content.items()), ("", {}))
        body = media.get("example")
        if path == "/api/v1/backup":
            body = {"directory": str(self.folder / "backup")}  # a folder that may be written
        if path.endswith("/versions") and method == "post":
            body = json.loads(deploy(self.upload((MODELS / "iris" / "model.onnx").read_bytes())))
        text = body if isinstance(body, str) or body is None else json.dumps(body)
        headers = {"Content-Type": kind} if kind else {}
        query = {}
        for parameter in map(resolved, operation.get("parameters", [])):
            if "example" in parameter and parameter["in"] == "header":
                headers[parameter["name"]] = str(parameter["example"])
            if "example" in parameter and parameter["in"] == "query":
                query[parameter["name"]] = str(parameter["example"]).lower()
        target = concrete(path) + (f"?{urllib.parse.urlencode(query)}" if query else "")
        if method == "head":  # something to find
            self.upload(b"abc")
        if "/rollout" in path and method != "get":
            self.prepare_rollout(begin=method == "delete" or not path.endswith("/rollout"))
        if "/datasets" in path or path.endswith("/trainings"):
            newest = self.prepare_dataset()
            target = target.replace("latest", newest) if method == "delete" else target
        if "/schedules" in path:
            self.prepare_schedule(there="{schedule}" in path)
        if "jobs" in path:
            target = concrete(path).replace(JOB_EXAMPLE, self.prepare_job(path)) + target[len(concrete(path)):]
        if "/invocations/" in path:
            if self.node.request("GET", "/api/v1/functions/iris").status == 404:
                self.node.deploy("iris")  # an example deleted it
            asked = self.node.request("POST", "/v2/models/iris/infer", (MODELS / "iris" / "example.json").read_bytes())
            target = path.format(id=asked.headers["Mayfly-Invocation"])
        if path == "/api/v1/jobs/{id}/register":  # only trainings can be: training_record_test.py has one
            return self.node.request(method.upper(), target, text.encode(), headers), (409,)
        if "{id}" in path and "/events/" in path:
            event = self.prepare_event(good=not path.endswith("/redrive"), told=path.endswith("/redeliver"))
            target = path.format(id=event)
        reply = self.node.request(method.upper(), target, text and text.encode(), headers)
        return reply, [int(status) for status in operation["responses"] if status.startswith("2")]

    def prepare_event(self, good: bool, told: bool) -> str:
        """An event that has a reply, or is a dead letter; of which somebody was told."""
        if self.node.request("GET", "/api/v1/functions/iris").status == 404:
            self.node.deploy("iris")  # an example deleted it
        self.node.configure("iris", on_success="function:iris" if told else "")
        body = (MODELS / "iris" / "example.json").read_bytes() if good else b"{"
        sent = self.node.request("POST", "/v2/models/iris/infer", body, {"Prefer": "respond-async"})
        event = sent.json()["id"]
        over = lambda: self.node.request("GET", f"/api/v1/events/{event}").status != 202
        self.node.wait_until(over, "the event ends")
        state = lambda: self.node.request("GET", f"/api/v1/events/{event}/state").json()
        if told:
            self.node.wait_until(lambda: "settled" in state()["deliveries"][0], "somebody is told")
        return event

    def prepare_job(self, path: str) -> str:
        """A job that is not over, paused where it is to be resumed; or one that is done, where its file is asked for."""
        if self.node.request("GET", "/api/v1/functions/iris").status == 404:
            self.node.deploy("iris")  # an example deleted it
        if "{id}" not in path:
            return self.upload(b"abc")
        for job in self.node.cli_json("jobs")["jobs"]:  # of examples before
            self.node.request("DELETE", f"/api/v1/jobs/{job['id']}")
        if path.endswith(("/file", "/events")):  # events of a job end with it
            header = b"sepal_length,sepal_width,petal_length,petal_width\n5.1,3.5,1.4,0.2\n"
            wish, function = {"kind": "batch", "input": {"sha256": self.upload(header)}}, "iris"
        else:
            self.deploy_sleeper()
            wish, function = {"kind": "run"}, "sleeper"
        job = self.node.post_json(f"/api/v1/functions/{function}/jobs", wish).json()["id"]
        if path.endswith("/file"):
            self.node.wait_until(lambda: self.node.request("GET", f"/api/v1/jobs/{job}").json()["state"] == "done",
                                 "the batch ends")
        if path.endswith("/resume"):
            self.node.request("POST", f"/api/v1/jobs/{job}/pause")
        return job

    def deploy_sleeper(self) -> None:
        folder = self.folder / "sleeper"
        folder.mkdir(exist_ok=True)
        (folder / "function.py").write_text("import time\ndef run(inputs, ctx): time.sleep(600)\n")
        self.node.deploy("sleeper", folder)

    def prepare_dataset(self) -> str:
        """The number of the newest snapshot of `credit`, which is there."""
        self.upload(b"abc")
        table = self.folder / "credit.csv"
        ages = "".join(f"{age},{'good' if age % 3 else 'bad'}\n" for age in range(20, 80))
        table.write_text("age,class\n" + ages)
        self.node.cli("data", "put", "credit", str(table), "--split", "seed=1")
        return str(self.node.cli_json("data", "describe", "credit")["number"])

    def prepare_schedule(self, there: bool) -> None:
        if self.node.request("GET", "/api/v1/functions/iris").status == 404:
            self.node.deploy("iris")  # an example deleted it
        self.node.request("DELETE", "/api/v1/schedules/nightly")
        if there:
            wish = json.dumps({"name": "nightly", "function": "iris", "cron": "@yearly"}).encode()
            self.assertEqual(self.node.request("POST", "/api/v1/schedules", wish).status, 201)

    def prepare_rollout(self, begin: bool) -> None:
        """iris has two versions, the first is the champion, and the second is being rolled out or not."""
        api = "/api/v1/functions/iris"
        self.node.request("DELETE", f"{api}/rollout")
        while len(self.node.versions("iris")) < 2:
            self.node.deploy("iris")
        self.node.request("PUT", f"{api}/traffic", b'{"weights": {"1": 100}}')
        if begin:
            self.assertEqual(self.node.request("POST", f"{api}/rollout", b'{"version": 2}').status, 200)

    def upload(self, content: bytes) -> str:
        reply = self.node.request("POST", "/api/v1/blobs", content)
        self.assertEqual(reply.status, 201)
        return reply.json()["sha256"]

    def assertDocumented(self, path: str, method: str, reply) -> None:
        """Status, headers, content type and body are those of the specification."""
        responses = SPECIFICATION["paths"][path][method]["responses"]
        self.assertIn(str(reply.status), responses)
        response = resolved(responses[str(reply.status)])
        for header in response.get("headers", {}):
            if header != "Retry-After":
                self.assertIn(header, reply.headers)
        if method == "head" or not reply.body:
            return
        kind = reply.headers["Content-Type"].split(";")[0]
        self.assertIn(kind, response["content"])
        schema = response["content"][kind]["schema"]
        if kind == "application/json":
            self.assertEqual(problems(reply.json(), schema), [])
        if kind == "application/x-ndjson":
            for line in filter(None, reply.body.splitlines()):
                self.assertEqual(problems(json.loads(line), schema), [])


def operations():
    for path, item in SPECIFICATION["paths"].items():
        for method in METHODS:
            if method in item:
                yield path, method, item[method]


def concrete(path: str) -> str:
    """The path with its parameters' examples."""
    for parameter in map(resolved, SPECIFICATION["paths"][path].get("parameters", [])):
        path = path.replace(f"{{{parameter['name']}}}", str(parameter["example"]))
    return path


def deploy(digest: str) -> bytes:
    size = (MODELS / "iris" / "model.onnx").stat().st_size
    return json.dumps({"files": [{"path": "model.onnx", "sha256": digest, "size": size}]}).encode()


def resolved(node: dict) -> dict:
    while "$ref" in node:
        target = SPECIFICATION
        for name in node["$ref"].removeprefix("#/").split("/"):
            target = target[name]
        node = target
    return node


def problems(value, schema: dict, where: str = "body") -> list[str]:
    """What of JSON Schema the specification uses: types, required and known keys, enumerations, patterns."""
    schema = resolved(schema)
    if "oneOf" in schema:
        fits = [choice for choice in schema["oneOf"] if not problems(value, choice)]
        return [] if len(fits) == 1 else [f"{where} fits {len(fits)} of oneOf: {value!r}"]
    found = [p for part in schema.get("allOf", []) for p in problems(value, part, where)]
    if "enum" in schema and value not in schema["enum"]:
        found.append(f"{where}: {value!r} is none of {schema['enum']}")
    kind = schema.get("type", [])
    kinds = [kind] if isinstance(kind, str) else kind
    is_bool = isinstance(value, bool)
    if kinds and not any(isinstance(value, TYPES[each]) and is_bool == (each == "boolean") for each in kinds):
        return [*found, f"{where}: {value!r} is no {kind}"]
    if isinstance(value, str) and not re.search(schema.get("pattern", ""), value):
        found.append(f"{where}: {value!r} does not match {schema['pattern']}")
    if isinstance(value, list) and "items" in schema:
        for i, item in enumerate(value):
            found += problems(item, schema["items"], f"{where}[{i}]")
    if isinstance(value, dict):
        known = schema.get("properties", {})
        found += [f"{where}: no {key}" for key in schema.get("required", []) if key not in value]
        for key, item in value.items():
            others = schema.get("additionalProperties")
            if key in known:
                found += problems(item, known[key], f"{where}.{key}")
            elif isinstance(others, dict):
                found += problems(item, others, f"{where}.{key}")
            elif others is False:
                found.append(f"{where}: {key} is not documented")
    return found
