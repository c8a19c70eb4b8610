"""Traces: what a prediction spent its time on reaches an OpenTelemetry collector, as part of its caller's trace."""

from __future__ import annotations

import http.server
import json
import threading

import grpc
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc as rpc

from case import NodeCase
from node import MODELS, wait_until

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
CALLER = "00f067aa0ba902b7"


class Collector:
    """Takes OTLP over HTTP as a collector does, and keeps the spans by trace."""

    def __init__(self) -> None:
        self.spans: list[dict] = []
        self.resources: list[dict] = []
        collector = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.path == "/v1/traces" and self.headers["Content-Type"] == "application/json":
                    for resource in json.loads(body)["resourceSpans"]:
                        collector.resources.append(resource["resource"])
                        for scope in resource["scopeSpans"]:
                            collector.spans += scope["spans"]
                self.send_response(200)
                self.send_header("Content-Length", "2")
                self.end_headers()
                self.wfile.write(b"{}")

            def log_message(self, *_) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def of(self, trace: str) -> list[dict]:
        return [span for span in self.spans if span["traceId"] == trace]

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


def attributes(span: dict) -> dict:
    return {one["key"]: next(iter(one["value"].values())) for one in span["attributes"]}


class TracesTest(NodeCase):
    functions = {"iris": "iris"}

    @classmethod
    def setUpClass(cls) -> None:
        cls.collector = Collector()
        cls.addClassCleanup(cls.collector.close)
        cls.arguments = ("--trace-endpoint", cls.collector.url)
        super().setUpClass()

    def predict(self, traceparent: str | None = None, body: bytes | None = None):
        example = (MODELS / "iris" / "example.json").read_bytes()
        headers = {"traceparent": traceparent} if traceparent else {}
        return self.node.request("POST", "/v2/models/iris/infer", body or example, headers)

    def spans(self, trace: str, count: int) -> list[dict]:
        wait_until(lambda: len(self.collector.of(trace)) >= count, f"{count} spans of {trace} are there")
        return self.collector.of(trace)

    def test_a_prediction_is_its_callers_child_and_says_where_its_time_went(self) -> None:
        reply = self.predict(f"00-{TRACE}-{CALLER}-01")
        self.assertServed(reply)
        version, trace, own, flags = reply.headers["traceresponse"].split("-")
        self.assertEqual((version, trace, flags), ("00", TRACE, "01"))
        spans = {span["name"]: span for span in self.spans(TRACE, 3)}
        whole = spans["predict iris"]
        self.assertEqual((whole["spanId"], whole["parentSpanId"], whole["kind"]), (own, CALLER, 2))
        about = attributes(whole)
        self.assertEqual(about["mayfly.function"], "iris")
        self.assertEqual(about["mayfly.version"], "1")
        self.assertEqual(about["mayfly.invocation"], reply.headers["Mayfly-Invocation"])
        self.assertIn(about["mayfly.start"], ("cold", "template", "hot"))
        for part in ("queue", "run"):
            self.assertEqual(spans[part]["parentSpanId"], own)
            self.assertLessEqual(int(whole["startTimeUnixNano"]), int(spans[part]["startTimeUnixNano"]))
            self.assertLessEqual(int(spans[part]["endTimeUnixNano"]), int(whole["endTimeUnixNano"]))
        named = {one["key"]: one["value"]["stringValue"] for one in self.collector.resources[0]["attributes"]}
        self.assertEqual(named["service.name"], "mayfly")

    def test_who_does_not_record_the_trace_is_not_recorded(self) -> None:
        quiet = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
        self.assertNotIn("traceresponse", self.predict(f"00-{quiet}-{CALLER}-00").headers)
        alone = self.predict().headers["traceresponse"].split("-")[1]  # trace.sample = 1
        malformed = self.predict(f"00-{quiet}-xyz-01").headers["traceresponse"].split("-")[1]
        self.assertNotEqual(malformed, quiet)
        for trace in (alone, malformed):
            self.assertNotIn("parentSpanId", next(s for s in self.spans(trace, 1) if s["kind"] == 2))
        self.assertEqual(self.collector.of(quiet), [])

    def test_a_failed_prediction_says_why(self) -> None:
        trace = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
        self.assertEqual(self.predict(f"00-{trace}-{CALLER}-01", b"{").status, 400)
        self.assertEqual(self.spans(trace, 1)[0]["status"], {"code": 2, "message": "bad_request"})

    def test_over_grpc_too(self) -> None:
        trace = "cccccccccccccccccccccccccccccccc"
        with grpc.insecure_channel(self.node.grpc) as channel:
            call = rpc.GRPCInferenceServiceStub(channel).ModelInfer.with_call
            request = pb.ModelInferRequest(model_name="iris")
            for name, value in zip(
                ("sepal_length", "sepal_width", "petal_length", "petal_width"), (5.1, 3.5, 1.4, 0.2), strict=True
            ):
                tensor = request.inputs.add(name=name, datatype="FP32", shape=[1])
                tensor.contents.fp32_contents.append(value)
            _, ended = call(request, metadata=(("traceparent", f"00-{trace}-{CALLER}-01"),))
        self.assertIn(trace, dict(ended.trailing_metadata())["traceresponse"])
        self.assertIn("run", {span["name"] for span in self.spans(trace, 3)})


class NoCollectorTest(NodeCase):
    """A collector that is not there is nobody's business but the log's."""

    functions = {"iris": "iris"}
    arguments = ("--trace-endpoint", "http://127.0.0.1:9")

    def test_predictions_do_not_notice(self) -> None:
        example = (MODELS / "iris" / "example.json").read_bytes()
        for _ in range(50):
            self.assertServed(self.node.request("POST", "/v2/models/iris/infer", example))

    def test_an_endpoint_that_is_none_is_refused_at_the_start(self) -> None:
        for bad in (("--trace-endpoint", "collector"), ("--trace-sample", "2")):
            refused = self.node.cli(
                "serve", "--data", str(self.folder / "other"), "--listen", "127.0.0.1:0", *bad, check=False
            )
            self.assertEqual(refused.returncode, 2, refused.stderr)
            self.assertIn(b"trace.", refused.stderr)
