"""The do-it-yourself answer: FastAPI, uvicorn and onnxruntime behind the same JSON as Mayfly's v2 endpoint.

As lean as it can be written without leaving the three: an async handler (no hop to a thread for 20 µs of work), the
body parsed once without a schema, sessions of one thread because there is a worker a core.
"""

import json
import os

import numpy as np
import onnxruntime
from fastapi import FastAPI, Request, Response

DATATYPES = {"FP32": np.float32, "INT64": np.int64}
NAMES = {"tensor(float)": "FP32", "tensor(int64)": "INT64"}

options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
session = onnxruntime.InferenceSession(os.environ["MODEL"], options)
outputs = [(output.name, NAMES[output.type]) for output in session.get_outputs()]

app = FastAPI()


@app.post("/")
async def infer(request: Request) -> Response:
    body = json.loads(await request.body())
    inputs = {
        tensor["name"]: np.asarray(tensor["data"], DATATYPES[tensor["datatype"]]).reshape(
            tensor["shape"]
        )
        for tensor in body["inputs"]
    }
    results = [
        {
            "name": name,
            "datatype": datatype,
            "shape": list(value.shape),
            "data": value.ravel().tolist(),
        }
        for (name, datatype), value in zip(outputs, session.run(None, inputs), strict=True)
    ]
    reply = {"model_name": "logistic", "model_version": "1", "outputs": results}
    return Response(json.dumps(reply), media_type="application/json")
